use meshd_trust::founding::{self, DelegationTerms};
use meshd_trust::log::{CheckpointKeys, TileAddress, read_entries};
use meshd_trust::{Roster, SigningKey};
use meshd_wire::enrol::{EnrolReply, EnrolRequest};
use meshd_wire::record::{NodeCert, Revocations, Roles};
use meshd_wire::{Envelope, Leaf, LeafKind, PublicKey, Record};

use super::super::fixture::{EXPORTER, Home, NOW, cert_of, copy_of, root, secrets};
use super::*;

/// Founding seed of these meshes.
const SEED: u8 = 1;

#[test]
fn the_keys_that_follow_stay_the_same_until_the_root_has_delegated_to_them() {
    let mut home = Home::found(SEED, 24);
    let next = next_keys(&mut home, 7);
    assert_ne!(next, home.steward.public_keys());
    assert_eq!(next_keys(&mut home, 8), next, "asked again");
    let mut home = reopened(home);
    assert_eq!(next_keys(&mut home, 9), next, "after a restart");
    let roster = home.roster(NOW);
    assert!(!home.steward.hand_over(&roster, &home.org).expect("looks"), "nobody has delegated to them");
    assert_ne!(home.steward.public_keys(), next);
}

#[test]
fn keys_that_have_taken_office_sign_all_that_is_in_force_and_nothing_is_left_of_those_before() {
    let mut home = Home::found(SEED, 24);
    let certs = [1, 2].map(|number| cert_of(&home.admit(&secrets(number), &format!("n{number}"))));
    let farewell = EnrolRequest::Leave { leave: secrets(2).sign_leave(&home.mesh, NOW).to_bytes() };
    let left = home.steward.answer(&PublicKey([0; 32]), &EXPORTER, &farewell, NOW);
    assert_eq!(left.reply, EnrolReply::Done);
    let mut roster = home.roster(NOW);
    roster.accept_all(&certs, NOW);
    let before = home.steward.public_keys();

    let next = next_keys(&mut home, 7);
    let signed = take_office(&mut home, &mut roster, next);
    assert_eq!(home.steward.public_keys(), next);
    let revocations: Revocations = record(&signed[0]);
    assert_eq!(revocations.nodes, [secrets(2).node()]);
    let cert: NodeCert = record(&signed[1]);
    assert_eq!((cert.node, cert.name.as_str()), (secrets(1).node(), "n1"));
    assert!(cert.serial > record::<NodeCert>(&certs[0]).serial);
    assert_eq!(signed.len(), 2, "who has left gets no certificate");
    for envelope in &signed {
        assert_eq!(signer(envelope), Some(next.record.key_id()));
    }
    assert_eq!(roster.accept_all(&signed, NOW), []);
    let state = home.steward.state(NOW.plus(60)).expect("signs");
    assert!(roster.accept(&state, NOW.plus(60)).is_ok());
    assert_eq!(home.steward.sign_anew(NOW.plus(60)).expect("looks"), Vec::<Vec<u8>>::new());

    let home = reopened(home);
    assert_eq!(home.steward.public_keys(), next);
    assert!(!home.dir.path().join("steward/next-keys.a").exists());
    let verifies = |keys: StewardPublicKeys| {
        let keys = CheckpointKeys { log: vec![keys.log], witnesses: Vec::new() };
        let log = home.steward.log.as_ref().expect("is open");
        keys.verify(log.note(), &log.origin()).is_ok()
    };
    assert!(verifies(next) && !verifies(before), "what was logged since is signed by the new key alone");
}

#[test]
fn until_something_is_logged_the_newest_checkpoint_is_signed_by_the_keys_before_and_the_next_ones() {
    let mut home = Home::found(SEED, 24);
    home.admit(&secrets(1), "n1");
    let (before, next) = (home.steward.public_keys(), next_keys(&mut home, 7));
    let seeds = home.steward.next.as_ref().expect("are there").seeds().clone();
    let log = home.steward.log.as_mut().expect("is open");
    for _again in 0..2 {
        log.countersign(&seeds.log()).expect("signs");
    }
    assert_eq!(log.note().signatures().len(), 2);
    for key in [before.log, next.log] {
        let keys = CheckpointKeys { log: vec![key], witnesses: Vec::new() };
        assert!(keys.verify(log.note(), &log.origin()).is_ok());
    }
    // The end may come here: both the old keys and the new ones open the log.
    assert!(reopened(home).steward.log.is_some());
}

#[test]
fn an_end_between_the_two_files_leaves_one_set_of_keys() {
    let mut home = Home::found(SEED, 24);
    let next = next_keys(&mut home, 7);
    let dir = home.dir.path().join("steward");
    home.steward.next.as_ref().expect("are there").seeds().store(&dir).expect("stores");
    let mut home = reopened(home);
    assert_eq!(home.steward.public_keys(), next);
    assert!(!dir.join("next-keys.a").exists());
    assert_ne!(next_keys(&mut home, 8), next, "others follow");
}

#[test]
fn a_witness_goes_on_from_what_it_cosigned_with_the_key_before() {
    let [mut alpha, mut beta] = Home::found_two(SEED);
    alpha.admit(&secrets(1), "n1");
    let [early, late] = [(), ()].map(|()| {
        let log = alpha.steward.log.as_mut().expect("is open");
        let asked = log.note().clone();
        alpha.admit(&secrets(2), "n2");
        asked
    });
    assert_ne!(early, late);
    let cosigned = |witness: &mut Home, old, note: &Note| {
        let size = |note: &Note| note.text().parse::<Checkpoint>().expect("reads").head;
        let log = alpha.steward.log.as_ref().expect("is open");
        let growth = match old {
            0 => Default::default(),
            _ => log.grown(size(&early).size, size(note).size).expect("reads").expect("grew").1,
        };
        let request = meshd_trust::log::CosignRequest { old, growth, note: note.clone() };
        let request = EnrolRequest::Cosign { request: request.to_string().into_bytes() };
        match witness.steward.answer(&PublicKey([1; 32]), &EXPORTER, &request, NOW).reply {
            EnrolReply::Cosigned { signature } => signature,
            other => panic!("not cosigned: {other:?}"),
        }
    };
    let size = early.text().parse::<Checkpoint>().expect("reads").head.size;
    let first = cosigned(&mut beta, 0, &early);

    let next = next_keys(&mut beta, 7);
    let mut roster = beta.roster(NOW);
    take_office(&mut beta, &mut roster, next);
    let name = beta.steward.own_origin().expect("has an office").to_string();
    let is_of_next = |signature: &[u8]| {
        let line = str::from_utf8(signature).expect("text");
        line.parse::<meshd_trust::log::NoteSignature>().expect("reads").is_of_witness(&name, &next.witness)
    };
    assert!(!is_of_next(&first));
    assert!(is_of_next(&cosigned(&mut beta, size, &early)), "the same once more");
    let mut beta = reopened(beta);
    beta.steward.merge(&[], NOW).expect("wakes");
    assert!(is_of_next(&cosigned(&mut beta, size, &late)), "what follows from it");
}

#[test]
fn whom_the_keys_before_took_back_stays_out_also_when_the_book_has_forgotten_it() {
    let mut home = Home::found(SEED, 24);
    for number in [1, 2] {
        home.admit(&secrets(number), &format!("n{number}"));
    }
    let backup = copy_of(&home.dir.path().join("steward"));
    let farewell = EnrolRequest::Leave { leave: secrets(1).sign_leave(&home.mesh, NOW).to_bytes() };
    let left = home.steward.answer(&PublicKey([0; 32]), &EXPORTER, &farewell, NOW);
    let mut roster = home.roster(NOW);
    assert_eq!(roster.accept_all(&left.publish, NOW), []);

    home.steward = Steward::open(backup.path()).expect("opens");
    let next = next_keys(&mut home, 7);
    let own_root = roster.org(&home.org).and_then(|org| org.root()).expect("has a root").clone();
    let heir = SigningKey::from_seed([9; 32]);
    let root = founding::next_root(&own_root, &[&root(SEED, 0)], &[&heir], 1, NOW).expect("signs");
    assert_eq!(roster.accept_all(&[root.to_bytes()], NOW), []);
    let signed = take_office_by(&mut home, &mut roster, (&heir, 2), next);
    let revocations: Revocations = record(&signed[0]);
    assert_eq!(revocations.nodes, [secrets(1).node()]);
    let certs: Vec<NodeCert> = signed[1..].iter().map(|envelope| record(envelope)).collect();
    assert_eq!(certs.iter().map(|cert| cert.node).collect::<Vec<_>>(), [secrets(2).node()]);
    assert_eq!(roster.accept_all(&signed, NOW), [], "and a newer root knows these keys alone");

    home.steward.state(NOW).expect("signs, and logs what is not logged yet");
    let said = logged(&home, backup.path());
    let count = |kind| said.iter().filter(|one| **one == Some(kind)).count();
    assert_eq!((count(LeafKind::RootRotate), count(LeafKind::StewardDelegate)), (1, 2));
    home.steward.state(NOW.plus(60)).expect("signs");
    assert_eq!(logged(&home, backup.path()), said, "once each");
}

/// Kinds of the leaves in a short log.
fn logged(home: &Home, steward: &std::path::Path) -> Vec<Option<LeafKind>> {
    let size = home.steward.log.as_ref().expect("is open").head().size;
    let tile = TileAddress::within(size, 0, 0).expect("a tile");
    let bytes = std::fs::read(steward.join("log").join(tile.entries_path())).expect("reads");
    let leaves = read_entries(&bytes, tile).expect("leaves");
    leaves.iter().map(|leaf| Leaf::from_bytes(leaf).expect("a leaf").known_kind()).collect()
}

#[test]
fn keys_stay_in_office_as_long_as_the_log_would_not_open_without_them() {
    let mut home = Home::found(SEED, 24);
    home.admit(&secrets(1), "n1");
    let (before, next) = (home.steward.public_keys(), next_keys(&mut home, 7));
    let mut roster = home.roster(NOW);
    delegate(&home, &mut roster, (&root(SEED, 0), 1), next);
    let tiles = home.dir.path().join("steward/log/tile");
    let aside = tiles.with_extension("aside");
    std::fs::rename(&tiles, &aside).expect("moves");
    home.steward.log = None;
    assert!(matches!(home.steward.is_ready(), Err(HandOverError::NoLog)));
    assert!(matches!(home.steward.hand_over(&roster, &home.org), Err(HandOverError::NoLog)));
    assert_eq!(stored_keys(&home), before);
    let _made = std::fs::remove_dir_all(&tiles);
    std::fs::rename(&aside, &tiles).expect("moves");
    assert!(home.steward.hand_over(&roster, &home.org).expect("hands over"));
    assert_eq!(stored_keys(&home), next);
}

#[test]
fn an_end_before_the_station_is_taken_up_is_made_good() {
    let mut home = Home::found(SEED, 24);
    let next = next_keys(&mut home, 7);
    let mut roster = home.roster(NOW);
    assert!(home.steward.is_adopted(&roster, &home.org));
    let (later, root) = (NOW.plus(3600), root(SEED, 0));
    let terms = DelegationTerms {
        org: home.org,
        root_version: 1,
        serial: 2,
        keys: next,
        roles: Roles::ALL,
        now: later,
    };
    let delegation = founding::delegate(&terms, &home.mesh, &[&root]).expect("signs").to_bytes();
    assert_eq!(roster.accept_all(&[delegation], later), []);
    assert!(home.steward.hand_over(&roster, &home.org).expect("hands over"));
    let mut home = reopened(home);
    assert!(!home.steward.is_adopted(&roster, &home.org));
    home.steward.adopt(&roster, &home.org).expect("adopts");
    let home = reopened(home);
    assert!(home.steward.is_adopted(&roster, &home.org));
}

#[test]
fn a_copy_of_the_keys_before_that_an_end_has_left_goes_at_the_next_start() {
    let mut home = Home::found(SEED, 24);
    next_keys(&mut home, 7);
    let dir = home.dir.path().join("steward");
    let read = |name: &str| std::fs::read(dir.join(name)).expect("reads");
    let old = read("keys.b");
    home.steward.next.as_ref().expect("are there").seeds().store(&dir).expect("stores");
    std::fs::write(dir.join("keys.b"), &old).expect("writes");
    let home = reopened(home);
    assert_ne!(read("keys.b"), old);
    assert_eq!(read("keys.a"), read("keys.b"));
    drop(home);
}

#[test]
fn next_keys_that_are_damaged_keep_nobody_from_working() {
    let mut home = Home::found(SEED, 24);
    let (before, lost) = (home.steward.public_keys(), next_keys(&mut home, 7));
    for name in ["next-keys.a", "next-keys.b"] {
        std::fs::write(home.dir.path().join("steward").join(name), b"dust").expect("writes");
    }
    let mut home = reopened(home);
    assert_eq!(home.steward.public_keys(), before);
    assert_ne!(next_keys(&mut home, 8), lost);
}

#[test]
fn a_certificate_that_nobody_heard_of_is_told_again() {
    let mut home = Home::found(SEED, 24);
    let cert = cert_of(&home.admit(&secrets(1), "n1"));
    let mut roster = home.roster(NOW);
    roster.accept_all(&[cert], NOW);
    assert_eq!(home.steward.certs_newer_than(&roster, NOW).expect("reads"), Vec::<Vec<u8>>::new());
    let next = next_keys(&mut home, 7);
    let signed = take_office(&mut home, &mut roster, next);
    assert_eq!(home.steward.certs_newer_than(&roster, NOW).expect("reads"), signed);
    let much_later = NOW.plus(30 * 86_400);
    assert_eq!(home.steward.certs_newer_than(&roster, much_later).expect("reads"), Vec::<Vec<u8>>::new());
}

#[test]
fn a_key_that_two_organisations_name_says_nothing_about_who_serves() {
    let [alpha, beta] = Home::found_two(SEED);
    let mut roster = alpha.roster(NOW);
    let tls = alpha.steward.public_keys().tls;
    let stranger = OrgId([8; 32]);
    assert_eq!(roster.org_that_serves(&tls, &stranger), Some(alpha.org));
    assert_eq!(roster.org_that_serves(&PublicKey([3; 32]), &alpha.org), None);
    let own = beta.steward.public_keys();
    delegate(&beta, &mut roster, (&root(SEED, 1), 1), StewardPublicKeys { tls, ..own });
    assert_eq!(roster.org_that_serves(&tls, &stranger), None);
    assert_eq!(roster.org_that_serves(&tls, &alpha.org), Some(alpha.org), "the own one is no stranger");
}

#[test]
fn a_head_that_another_one_follows_serves_no_more() {
    let mut home = Home::found(SEED, 24);
    let (before, next) = (home.steward.public_keys(), next_keys(&mut home, 7));
    let mut roster = home.roster(NOW);
    assert_eq!(roster.org(&home.org).expect("is there").tls_keys(), [before.tls]);
    take_office(&mut home, &mut roster, next);
    assert_eq!(roster.org(&home.org).expect("is there").tls_keys(), [next.tls]);
    assert!(roster.is_steward_tls(&home.org, &next.tls, NOW));
    assert!(!roster.is_steward_tls(&home.org, &before.tls, NOW), "a stolen one is worth nothing");
}

fn stored_keys(home: &Home) -> StewardPublicKeys {
    StewardSeeds::load(&home.dir.path().join("steward")).expect("reads").expect("are there").public_keys()
}

fn next_keys(home: &mut Home, random: u8) -> StewardPublicKeys {
    let mut seeds = Zeroizing::new([random; 128]);
    seeds.iter_mut().zip(0..).for_each(|(byte, at)| *byte ^= at);
    home.steward.next_keys(&seeds).expect("stores")
}

/// The root delegates to the next keys, and they take office.
fn take_office(home: &mut Home, roster: &mut Roster, keys: StewardPublicKeys) -> Vec<Vec<u8>> {
    let number = u8::from(roster.orgs().any(|org| org.id() == home.org && org.name() == "beta"));
    take_office_by(home, roster, (&root(SEED, number), 1), keys)
}

fn take_office_by(
    home: &mut Home,
    roster: &mut Roster,
    root: (&SigningKey, u32),
    keys: StewardPublicKeys,
) -> Vec<Vec<u8>> {
    delegate(home, roster, root, keys);
    assert!(home.steward.hand_over(roster, &home.org).expect("hands over"));
    home.steward.adopt(roster, &home.org).expect("adopts");
    home.steward.sign_anew(NOW).expect("signs")
}

fn delegate(
    home: &Home,
    roster: &mut Roster,
    (root, root_version): (&SigningKey, u32),
    keys: StewardPublicKeys,
) {
    let terms = DelegationTerms { org: home.org, root_version, serial: 2, keys, roles: Roles::ALL, now: NOW };
    let delegation = founding::delegate(&terms, &home.mesh, &[root]).expect("signs").to_bytes();
    assert_eq!(roster.accept_all(&[delegation], NOW), []);
}

fn reopened(home: Home) -> Home {
    let Home { dir, steward, mesh, org, tokens } = home;
    drop(steward);
    let steward = Steward::open(&dir.path().join("steward")).expect("opens");
    Home { dir, steward, mesh, org, tokens }
}

fn record<R: Record>(envelope: &[u8]) -> R {
    Envelope::from_bytes(envelope).and_then(|envelope| envelope.record()).expect("a record")
}
