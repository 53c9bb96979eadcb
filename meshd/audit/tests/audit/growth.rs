//! Logs that grow, and logs that do something else.

use meshd_audit::{Chain, Grown, Growth, Verdict, read_frames, write_frames};
use meshd_trust::SigningKey;
use meshd_trust::founding::{DelegationTerms, StewardPublicKeys, delegate};
use meshd_wire::Timestamp;
use meshd_wire::record::Roles;

use crate::made::{Dir, Mesh, PERIOD};

#[test]
fn what_is_appended_is_told_once_and_what_was_there_is_not() {
    let (mesh, later) = grown(1);
    let mut growth = begun(&mesh);
    let first = mesh.orgs[0].leaves.len();
    assert_eq!(growth.head().size, first as u64);
    let look = look(&mut growth, &later.orgs[0].dir());
    assert!(look.is_changed && look.findings.is_empty(), "{look:?}");
    let told: Vec<u64> = look.leaves.iter().map(|leaf| leaf.index).collect();
    assert_eq!(told, (first as u64..later.orgs[0].leaves.len() as u64).collect::<Vec<_>>());
    let leaf = &look.leaves[0];
    assert_eq!((leaf.kind.as_deref(), leaf.epoch), (Some("rotate-announce"), Some(3)));
    assert_eq!(leaf.subject, Some(later.nodes[0].id.to_string()));
    assert_eq!(leaf.time, Some(later.orgs[0].leaves[first].0.time.0));
    let again = self::look(&mut growth, &later.orgs[0].dir());
    assert!(!again.is_changed && again.leaves.is_empty());
}

#[test]
fn a_log_grows_over_many_tiles() {
    let (mesh, later) = grown(100);
    let (before, after) = (mesh.orgs[0].leaves.len(), later.orgs[0].leaves.len());
    assert!(before < 256 && after > 512, "{before} {after}");
    let mut growth = begun(&mesh);
    let look = look(&mut growth, &later.orgs[0].dir());
    assert_eq!((look.leaves.len(), growth.head().size), (after - before, after as u64));
    assert!(look.findings.is_empty());
}

#[test]
fn a_cosignature_that_comes_later_is_news_without_leaves() {
    let mut mesh = Mesh::lived(2, 1);
    mesh.now += 100;
    mesh.renew(0);
    let mut cosigned = mesh.clone();
    mesh.checkpoint_of(0, false);
    cosigned.checkpoint_of(0, true);
    let mut growth = begun(&mesh);
    let look = look(&mut growth, &cosigned.orgs[0].dir());
    assert!(look.is_changed && look.leaves.is_empty() && look.findings.is_empty(), "{look:?}");
}

#[test]
fn another_tree_of_the_same_size_is_a_fork() {
    let (_, later) = grown(1);
    let mut other = later.clone();
    let last = other.orgs[0].leaves.len() - 1;
    other.orgs[0].leaves[last].0.time = Timestamp(other.now + 1);
    other.orgs[0].notes.clear();
    other.checkpoint();
    let mut growth = begun(&later);
    tampered(&look(&mut growth, &other.orgs[0].dir()), "FORK");
}

#[test]
fn a_tree_that_does_not_begin_with_the_one_before_is_found() {
    let (mesh, mut later) = grown(1);
    later.orgs[0].leaves[3].0.time = Timestamp(5);
    later.orgs[0].notes.clear();
    later.checkpoint();
    let mut growth = begun(&mesh);
    let found = look(&mut growth, &later.orgs[0].dir());
    tampered(&found, "ROOT");
    assert!(found.leaves.is_empty(), "nothing of it is told as signed");
    assert_eq!(growth.head().size, mesh.orgs[0].leaves.len() as u64);
    tampered(&look(&mut growth, &later.orgs[0].dir()), "ROOT");
}

#[test]
fn leaves_that_are_not_those_that_were_signed_are_found_at_the_first_look() {
    let mesh = Mesh::lived(1, 1);
    let mut changed = mesh.clone();
    changed.orgs[0].leaves[3].0.time = Timestamp(5);
    let mut growth = new(&mesh);
    tampered(&look(&mut growth, &changed.orgs[0].dir()), "ROOT");
}

#[test]
fn a_log_that_shrinks_or_lost_its_leaves_is_told_at_the_second_look() {
    let (mesh, later) = grown(1);
    let without = |prefix: &str| {
        let mut dir = later.orgs[0].dir();
        dir.0.retain(|path, _| !path.starts_with(prefix));
        dir
    };
    let cases = [
        (begun(&later), mesh.orgs[0].dir(), "MISSING"),
        (begun(&mesh), without("tile/entries"), "MISSING"),
        (begun(&mesh), without("checkpoint"), "CHECKPOINT"),
    ];
    for (mut growth, less, code) in cases {
        let once = look(&mut growth, &less);
        assert!(once.findings.is_empty() && once.leaves.is_empty(), "{code}: it may be written just now");
        let twice = look(&mut growth, &less);
        assert_eq!(
            (twice.findings[0].code.as_str(), twice.findings[0].severity),
            (code, Verdict::Incomplete)
        );
        let back = look(&mut growth, &later.orgs[0].dir());
        assert!(back.findings.is_empty(), "{back:?}");
        assert_eq!(growth.head().size, later.orgs[0].leaves.len() as u64);
        assert!(look(&mut growth, &less).findings.is_empty(), "{code}: in doubt anew");
    }
}

#[test]
fn a_log_that_shrinks_and_goes_on_otherwise_is_found() {
    let (mesh, later) = grown(1);
    let mut other = mesh.clone();
    other.now += 2 * PERIOD;
    for _ in 0..20 {
        other.renew(0);
    }
    other.checkpoint();
    let mut growth = begun(&later);
    assert!(look(&mut growth, &mesh.orgs[0].dir()).findings.is_empty());
    tampered(&look(&mut growth, &other.orgs[0].dir()), "ROOT");
}

#[test]
fn a_checkpoint_that_the_log_has_not_signed_is_found() {
    let (mesh, mut later) = grown(1);
    later.orgs[0].log = SigningKey::from_seed([77; 32]);
    later.orgs[0].notes.clear();
    later.checkpoint();
    let mut growth = begun(&mesh);
    let once = look(&mut growth, &later.orgs[0].dir());
    assert!(once.findings.is_empty(), "a copy may be written just now");
    tampered(&look(&mut growth, &later.orgs[0].dir()), "CHECKPOINT");
}

#[test]
fn a_key_of_the_log_that_was_delegated_meanwhile_is_believed() {
    let (mesh, mut later) = grown(1);
    let log = SigningKey::from_seed([77; 32]);
    let org = &mut later.orgs[0];
    let keys = StewardPublicKeys {
        record: SigningKey::from_seed([78; 32]).public(),
        log: log.public(),
        witness: SigningKey::from_seed([79; 32]).public(),
        tls: SigningKey::from_seed([80; 32]).public(),
    };
    let now = Timestamp(later.now);
    let terms = DelegationTerms { org: org.id, root_version: 1, serial: 2, keys, roles: Roles::ALL, now };
    let delegation = delegate(&terms, &later.id, &[&org.root]).expect("a delegation");
    org.log = log;
    org.notes.clear();
    later.checkpoint();
    let mut dir = later.orgs[0].dir();
    let chain = mesh.chain();
    let mut records: Vec<Vec<u8>> =
        read_frames(&chain).expect("a chain").into_iter().map(<[u8]>::to_vec).collect();
    records.push(delegation.to_bytes());
    let chain = write_frames(records.iter().map(Vec::as_slice)).expect("they fit");
    dir.0.insert("chain".to_owned(), chain);
    let mut growth = begun(&mesh);
    let look = look(&mut growth, &dir);
    assert!(look.findings.is_empty() && !look.leaves.is_empty(), "{look:?}");
}

/// A log, and the same after some rotations more.
fn grown(rotations: u32) -> (Mesh, Mesh) {
    let mesh = Mesh::lived(1, 1);
    let mut later = mesh.clone();
    for _ in 0..rotations {
        later.now += PERIOD;
        later.rotate_all();
    }
    (mesh, later)
}

fn new(mesh: &Mesh) -> Growth {
    Growth::new(Chain::read(&mesh.chain(), Some(mesh.id)).expect("a chain"), mesh.orgs[0].id)
}

/// The log of a mesh under watch.
fn begun(mesh: &Mesh) -> Growth {
    let mut growth = new(mesh);
    let first = look(&mut growth, &mesh.orgs[0].dir());
    assert!(first.is_changed && first.leaves.is_empty() && first.findings.is_empty(), "{first:?}");
    growth
}

fn look(growth: &mut Growth, dir: &Dir) -> Grown {
    growth.look(dir).expect("in memory")
}

fn tampered(grown: &Grown, code: &str) {
    let found: Vec<_> = grown.findings.iter().map(|one| (one.code.as_str(), one.severity)).collect();
    assert_eq!(found, [(code, Verdict::Tampering)]);
}
