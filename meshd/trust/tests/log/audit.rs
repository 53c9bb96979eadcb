//! Audits: an honest log has no findings, and each fault of a log has its own.

use std::collections::BTreeMap;

use meshd_trust::log::{
    Audit, AuditTerms, Beside, Checkpoint, Finding, Frontier, LogOrigin, RecordFault, Severity, TreeHash,
    TreeHead, VerifiedCheckpoint,
};
use meshd_wire::record::{EpochKey, NodeKeys};
use meshd_wire::{KeyId, Leaf, LeafKind, MeshId, NodeId, OrgId, PublicKey, RecordId, Subject, Timestamp};
use proptest::prelude::*;

const ORG: OrgId = OrgId([2; 32]);
const WITNESSES: [OrgId; 2] = [OrgId([3; 32]), OrgId([4; 32])];
const START: u64 = 1_800_000_000;
/// Period of the rotation.
const P: u64 = 12 * 3600;
const MINUTE: u64 = 60;

#[test]
fn an_honest_log_has_no_findings() {
    let mut log = Story::new();
    log.found();
    log.live(5);
    assert_eq!(log.audit(), []);
    assert_eq!(Story::new().audit(), [], "nor has an empty one");
}

#[test]
fn a_leaf_that_was_changed_dropped_or_moved_is_found() {
    let honest = {
        let mut log = Story::new();
        log.found();
        log.live(3);
        log
    };
    let last = honest.leaves.len() - 1;
    let mut changed = honest.clone();
    changed.leaves[4].0[5] ^= 1;
    let mut dropped = honest.clone();
    dropped.leaves.remove(4);
    let mut moved = honest.clone();
    moved.leaves.swap(4, 5);
    for log in [changed, dropped, moved] {
        let findings = log.audit();
        assert!(findings.iter().any(|finding| finding.code() == "ROOT"), "{findings:?}");
        assert_eq!(worst(&findings), Some(Severity::Tampering));
    }
    let mut cut = honest;
    cut.leaves.truncate(last);
    let missing = Finding::Missing { signed: last as u64 + 1, found: last as u64 };
    assert!(cut.audit().contains(&missing));
    assert_eq!(worst(&cut.audit()), Some(Severity::Incomplete));
}

#[test]
fn two_trees_of_one_size_are_a_fork() {
    let mut log = Story::new();
    log.found();
    let honest = log.checkpoints.last().unwrap().clone();
    let mut forged = honest.clone();
    forged.checkpoint.head.root = TreeHash::empty();
    let fork = Finding::Fork { one: honest.checkpoint.head, other: forged.checkpoint.head };
    log.checkpoints.push(forged.clone());
    assert_eq!(log.audit(), [fork]);
    let empty = TreeHead { size: 0, root: TreeHash::leaf(b"") };
    log.checkpoints.pop();
    log.checkpoints.push(VerifiedCheckpoint {
        checkpoint: Checkpoint { head: empty, ..forged.checkpoint },
        cosigned: BTreeMap::new(),
    });
    let nothing = TreeHead { size: 0, root: TreeHash::empty() };
    assert_eq!(log.audit(), [Finding::Root { signed: empty, found: nothing }]);
}

#[test]
fn a_leaf_that_hides_one_before_it_is_found() {
    let mut log = Story::new();
    log.found();
    let expected = log.lasts.insert(node(1), None).unwrap();
    log.rotate(1, 2);
    let index = 6;
    assert_eq!(log.audit(), [Finding::Chain { index, expected }]);
}

#[test]
fn leaves_that_cannot_be_read_are_named() {
    let mut log = Story::new();
    log.found();
    let kind = Leaf { kind: 999, prev: log.lasts[&node(1)], ..log.leaf(LeafKind::Enrol, 1, None) };
    log.push(kind.to_bytes(), None);
    log.push(vec![0x81, 0x02], None);
    log.push(b"garbage".to_vec(), None);
    let foreign = Leaf { org: WITNESSES[0], ..log.leaf(LeafKind::Enrol, 1, None) };
    log.push(foreign.to_bytes(), None);
    log.checkpoint();
    let unreadable: Vec<Finding> = (6..10).map(|index| Finding::Unreadable { index }).collect();
    assert_eq!(log.audit(), unreadable);
    assert_eq!(worst(&unreadable), Some(Severity::Incomplete));
}

#[test]
fn a_missing_epoch_is_a_gap() {
    let mut log = Story::new();
    log.found();
    log.rotate(1, 5);
    assert_eq!(log.audit(), [Finding::Gap { node: node(1), first: 2, last: 4 }]);
    let mut log = Story::new();
    log.found();
    // Announced, lost, and never used: named all the same.
    log.say(LeafKind::RotateAnnounce, 1, Some(2));
    log.rotate(1, 3);
    assert_eq!(log.audit(), []);
}

#[test]
fn one_key_in_two_epochs_or_at_two_nodes_is_reuse() {
    let mut log = Story::new();
    log.found();
    log.key_of = |_, epoch| PublicKey([u8::try_from(epoch % 2).unwrap(); 32]);
    log.rotate(1, 2);
    log.rotate(1, 3);
    log.rotate(1, 4);
    let key = Some(PublicKey([0; 32]));
    let first = Finding::Reuse { index: 12, key, before: (node(1), 2), again: (node(1), 4) };
    assert!(log.audit().contains(&first), "{:?}", log.audit());
    let mut log = Story::new();
    log.found();
    log.key_of = |_, _| PublicKey([9; 32]);
    log.rotate(1, 2);
    log.rotate(2, 2);
    let again =
        Finding::Reuse { index: 9, key: Some(PublicKey([9; 32])), before: (node(1), 2), again: (node(2), 2) };
    assert!(log.audit().contains(&again), "{:?}", log.audit());
}

#[test]
fn an_epoch_that_comes_back_is_reuse() {
    let mut log = Story::new();
    log.found();
    log.rotate(1, 2);
    log.say(LeafKind::RotateActivate, 1, Some(1));
    let again = Finding::Reuse { index: 9, key: None, before: (node(1), 2), again: (node(1), 1) };
    assert_eq!(log.audit(), [again]);
}

#[test]
fn an_epoch_that_is_used_unannounced_is_unlogged() {
    let mut log = Story::new();
    log.found();
    log.say(LeafKind::RotateActivate, 1, Some(2));
    log.say(LeafKind::KeyDestroy, 1, Some(1));
    log.checkpoint();
    let used = Some((log.key_of)(1, 2));
    let unlogged = Finding::Unlogged { index: 6, node: node(1), epoch: 2, announced: None, used };
    assert_eq!(log.audit(), [unlogged]);
    // What had to go at once is replaced by what was not announced.
    for gone in [LeafKind::KeyDestroy, LeafKind::KeyCompromised] {
        let mut log = Story::new();
        log.found();
        log.say(gone, 1, Some(1));
        log.say(LeafKind::RotateActivate, 1, Some(2));
        log.checkpoint();
        assert_eq!(log.audit(), [], "{gone:?}");
    }
}

#[test]
fn another_key_than_the_one_announced_is_unlogged() {
    let mut log = Story::new();
    log.found();
    log.say(LeafKind::RotateAnnounce, 1, Some(2));
    let announced = Some((log.key_of)(1, 2));
    log.key_of = |_, _| PublicKey([8; 32]);
    log.say(LeafKind::RotateActivate, 1, Some(2));
    log.say(LeafKind::KeyDestroy, 1, Some(1));
    log.checkpoint();
    let used = Some(PublicKey([8; 32]));
    let unlogged = Finding::Unlogged { index: 7, node: node(1), epoch: 2, announced, used };
    // The key before is also told by the second record, under its own number.
    assert_eq!(log.audit(), [unlogged]);
}

#[test]
fn what_is_said_again_changes_nothing() {
    let mut log = Story::new();
    log.found();
    for _ in 0..2 {
        log.say(LeafKind::RotateAnnounce, 1, Some(2));
    }
    for _ in 0..2 {
        log.say(LeafKind::RotateActivate, 1, Some(2));
    }
    for _ in 0..2 {
        log.say(LeafKind::KeyDestroy, 1, Some(1));
    }
    log.checkpoint();
    assert_eq!(log.audit(), []);
}

#[test]
fn an_epoch_beyond_its_period_is_overdue() {
    let longest = P + P / 10 + 10 * MINUTE;
    for (late, findings) in [(0, 0), (1, 1)] {
        let mut log = Story::new();
        log.found();
        let since = log.now;
        log.now = since + longest + late;
        log.rotate(1, 2);
        log.rotate(2, 2);
        let found = log.audit();
        assert_eq!(found.len(), 2 * findings, "{found:?}");
        for (finding, name) in found.into_iter().zip([1, 2]) {
            let (since, until) = (Timestamp(since), Timestamp(since + longest + late));
            assert_eq!(finding, Finding::Overdue { node: node(name), epoch: 1, since, until });
        }
    }
    let mut log = Story::new();
    log.found();
    log.say(LeafKind::Revoke, 1, None);
    log.checkpoint();
    log.now += longest + 1;
    let overdue = log.audit();
    assert!(matches!(overdue[..], [Finding::Overdue { node: late, .. }] if late == node(2)), "{overdue:?}");
}

#[test]
fn a_key_that_is_not_erased_in_an_hour_is_found() {
    for (late, expected) in [(0, 0), (1, 1)] {
        let mut log = Story::new();
        log.found();
        log.say(LeafKind::RotateAnnounce, 1, Some(2));
        log.say(LeafKind::RotateActivate, 1, Some(2));
        log.checkpoint();
        let since = Timestamp(log.now);
        log.now += 3600 + late;
        let never = log.audit();
        assert_eq!(never.len(), expected, "{never:?}");
        if late > 0 {
            assert_eq!(never, [Finding::Undestroyed { node: node(1), epoch: 1, since, destroyed: None }]);
        }
        log.say(LeafKind::KeyDestroy, 1, Some(1));
        log.checkpoint();
        let at_last = log.audit();
        assert_eq!(at_last.len(), expected, "{at_last:?}");
        if late > 0 {
            let destroyed = Some(Timestamp(log.now));
            assert_eq!(at_last, [Finding::Undestroyed { node: node(1), epoch: 1, since, destroyed }]);
        }
    }
}

#[test]
fn who_was_revoked_and_acts_is_found() {
    for kind in [LeafKind::Enrol, LeafKind::Renew, LeafKind::RotateAnnounce, LeafKind::RotateActivate] {
        let mut log = Story::new();
        log.found();
        log.say(LeafKind::Revoke, 1, None);
        log.say(LeafKind::RevokeEffect, 2, None);
        log.say(LeafKind::KeyDestroy, 1, Some(1));
        log.say(kind, 1, Some(2));
        log.checkpoint();
        let orphan = Finding::OrphanRevoke { subject: node(1), revoked: 6, index: 9 };
        assert_eq!(log.audit(), [orphan], "{kind:?}");
    }
}

#[test]
fn a_leaf_whose_time_nobody_else_saw_is_found() {
    for (seconds, findings) in [(300, 0), (301, 1), (-300, 0), (-301, 1)] {
        let mut log = Story::new();
        log.found();
        let honest = log.now;
        log.now = honest.checked_add_signed(seconds).unwrap();
        log.say(LeafKind::Renew, 1, None);
        let time = Timestamp(log.now);
        log.now = honest;
        log.say(LeafKind::Renew, 2, None);
        log.checkpoint();
        let found = log.audit();
        assert_eq!(found.len(), findings, "{seconds}: {found:?}");
        if findings > 0 {
            assert_eq!(found, [Finding::Clock { index: 6, time, witnessed: Timestamp(honest) }]);
        }
    }
}

#[test]
fn leaves_that_nobody_cosigned_are_judged_by_the_next_who_did() {
    let mut log = Story::new();
    log.found();
    let honest = log.now;
    log.now = honest + 301;
    log.say(LeafKind::Renew, 1, None);
    log.now = honest;
    log.checkpoint_by(&[]);
    log.say(LeafKind::Renew, 2, None);
    log.checkpoint();
    let (time, witnessed) = (Timestamp(honest + 301), Timestamp(honest));
    assert_eq!(log.audit(), [Finding::Clock { index: 6, time, witnessed }]);
}

#[test]
fn a_witness_that_is_silent_or_late_is_found() {
    let mut log = Story::new();
    log.found();
    log.checkpoint_by(&WITNESSES[..1]);
    let (org, size, since) = (WITNESSES[1], log.size(), Timestamp(log.now));
    log.checkpoints.retain(|one| one.checkpoint.head.size != size || one.cosigned.len() == 1);
    log.now += 10 * MINUTE;
    assert_eq!(log.audit(), [], "it has ten minutes");
    log.now += 1;
    assert_eq!(log.audit(), [Finding::Unwitnessed { org, size, since }]);
    // Whoever signs a later tree has seen the earlier one, but then it was late.
    log.say(LeafKind::Renew, 1, None);
    log.checkpoint();
    assert_eq!(log.audit(), [Finding::Unwitnessed { org, size, since }]);
    // The first of several cosignatures counts.
    let mut log = Story::new();
    log.found();
    log.now += 11 * MINUTE;
    log.checkpoint();
    assert_eq!(log.audit(), [], "an idle log is cosigned again and again");
}

#[test]
fn a_mesh_without_other_organisations_needs_no_witness() {
    let mut log = Story::new();
    log.witnesses = vec![];
    log.found();
    log.checkpoints.iter_mut().for_each(|one| one.cosigned.clear());
    log.now += 20 * MINUTE;
    assert_eq!(log.audit(), []);
}

#[test]
fn every_finding_has_a_code_of_its_own() {
    let head = TreeHead { size: 1, root: TreeHash::empty() };
    let (node, at) = (node(1), Timestamp(1));
    let all = [
        Finding::Fork { one: head, other: head },
        Finding::Root { signed: head, found: head },
        Finding::Chain { index: 1, expected: None },
        Finding::Missing { signed: 1, found: 0 },
        Finding::Unreadable { index: 1 },
        Finding::Gap { node, first: 1, last: 1 },
        Finding::Reuse { index: 1, key: None, before: (node, 1), again: (node, 1) },
        Finding::Overdue { node, epoch: 1, since: at, until: at },
        Finding::Undestroyed { node, epoch: 1, since: at, destroyed: None },
        Finding::OrphanRevoke { subject: node, revoked: 1, index: 2 },
        Finding::Clock { index: 1, time: at, witnessed: at },
        Finding::Unwitnessed { org: ORG, size: 1, since: at },
        Finding::Checkpoint { path: "checkpoint".into(), is_there: true },
        Finding::Checkpoint { path: "checkpoint".into(), is_there: false },
        Finding::Signer { path: "checkpoint".into(), name: "stranger".into() },
        Finding::Tile { path: "tile/0/000".into(), is_there: true },
        Finding::Tile { path: "tile/0/000".into(), is_there: false },
        Finding::Record { index: 1, fault: RecordFault::OtherId },
        Finding::Record { index: 1, fault: RecordFault::Absent },
        Finding::Authority { what: "a root".into(), is_there: true },
        Finding::Authority { what: "a root".into(), is_there: false },
        Finding::Absent { org: ORG },
        Finding::Unlogged { index: 1, node, epoch: 1, announced: None, used: None },
        Finding::LateLog { index: 1, node, epoch: 1, since: at, announced: at },
        Finding::Dormant { node, epoch: 1, since: at, certified: at },
    ];
    let codes = all.map(|finding| (finding.code(), finding.severity()));
    assert_eq!(
        codes,
        [
            ("FORK", Severity::Tampering),
            ("ROOT", Severity::Tampering),
            ("CHAIN", Severity::Rule),
            ("MISSING", Severity::Incomplete),
            ("UNREADABLE", Severity::Incomplete),
            ("GAP", Severity::Rule),
            ("REUSE", Severity::Rule),
            ("OVERDUE", Severity::Rule),
            ("UNDESTROYED", Severity::Rule),
            ("ORPHAN-REVOKE", Severity::Rule),
            ("CLOCK", Severity::Rule),
            ("UNWITNESSED", Severity::Rule),
            ("CHECKPOINT", Severity::Tampering),
            ("CHECKPOINT", Severity::Incomplete),
            ("SIGNER", Severity::Incomplete),
            ("TILE", Severity::Tampering),
            ("TILE", Severity::Incomplete),
            ("RECORD", Severity::Tampering),
            ("RECORD", Severity::Incomplete),
            ("AUTHORITY", Severity::Tampering),
            ("AUTHORITY", Severity::Incomplete),
            ("ABSENT", Severity::Incomplete),
            ("UNLOGGED", Severity::Rule),
            ("LATE-LOG", Severity::Rule),
            ("DORMANT", Severity::Notice),
        ]
    );
    assert!(Severity::Notice < Severity::Rule);
    assert!(Severity::Rule < Severity::Incomplete && Severity::Incomplete < Severity::Tampering);
}

proptest! {
    #[test]
    fn no_change_of_a_signed_leaf_is_missed(at in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let mut log = Story::new();
        log.found();
        log.live(2);
        let leaf = at.index(log.leaves.len());
        let bit = bit.index(log.leaves[leaf].0.len() * 8);
        log.leaves[leaf].0[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(worst(&log.audit()), Some(Severity::Tampering));
    }

    #[test]
    fn any_leaves_are_audited_without_a_panic(
        leaves in proptest::collection::vec((0u16..25, 0u8..3, any::<Option<u32>>(), any::<u64>(), any::<Option<u64>>()), 0..40),
        now in any::<u64>(),
        period_s in any::<u64>(),
    ) {
        let terms = AuditTerms { org: ORG, rotation_period_s: period_s, witnesses: WITNESSES.to_vec() };
        let mut audit = Audit::new(terms, []);
        for (kind, name, epoch, time, prev) in leaves {
            let leaf = Leaf::new(Timestamp(time), LeafKind::Enrol, ORG, node(name), KeyId([7; 32]));
            let leaf = Leaf { kind, epoch, prev, ..leaf };
            audit.leaf(&leaf.to_bytes(), Beside::Nothing);
        }
        audit.finish(Timestamp(now));
    }
}

/// A log as its steward writes it, with the records beside it.
#[derive(Clone)]
struct Story {
    now: u64,
    leaves: Vec<(Vec<u8>, Option<NodeKeys>)>,
    checkpoints: Vec<VerifiedCheckpoint>,
    lasts: BTreeMap<Subject, Option<u64>>,
    witnesses: Vec<OrgId>,
    key_of: fn(u8, u32) -> PublicKey,
}

impl Story {
    fn new() -> Self {
        Self {
            now: START,
            leaves: Vec::new(),
            checkpoints: Vec::new(),
            lasts: BTreeMap::new(),
            witnesses: WITNESSES.to_vec(),
            key_of: |name, epoch| {
                let mut key = [name; 32];
                key[..4].copy_from_slice(&epoch.to_be_bytes());
                PublicKey(key)
            },
        }
    }

    /// Root, steward, and two nodes with their first keys: six leaves.
    fn found(&mut self) {
        for kind in [LeafKind::RootRotate, LeafKind::StewardDelegate] {
            self.about(kind, Subject::from(ORG), None);
        }
        for name in [1, 2] {
            self.say(LeafKind::Enrol, name, None);
            self.say(LeafKind::RotateActivate, name, Some(1));
        }
        self.checkpoint();
    }

    /// Rotations of both nodes, on time.
    fn live(&mut self, rotations: u32) {
        for epoch in 2..2 + rotations {
            self.now += P;
            self.rotate(1, epoch);
            self.rotate(2, epoch);
        }
    }

    /// One rotation to an epoch: three leaves.
    fn rotate(&mut self, name: u8, epoch: u32) {
        self.say(LeafKind::RotateAnnounce, name, Some(epoch));
        self.say(LeafKind::RotateActivate, name, Some(epoch));
        self.say(LeafKind::KeyDestroy, name, Some(epoch - 1));
        self.checkpoint();
    }

    fn say(&mut self, kind: LeafKind, name: u8, epoch: Option<u32>) {
        let key = |epoch| EpochKey { epoch, key: (self.key_of)(name, epoch), since: Timestamp(self.now) };
        let keys = epoch.map(|epoch| NodeKeys {
            version: 1,
            node: NodeId([name; 32]),
            seq: 1,
            issued_at: Timestamp(self.now),
            suites: 1,
            post_quantum: 0,
            compromised: false,
            cur: key(if kind == LeafKind::RotateAnnounce { epoch - 1 } else { epoch }),
            next: (kind == LeafKind::RotateAnnounce).then(|| key(epoch)),
            prev: None,
            accept_until: None,
        });
        self.about_with(kind, node(name), epoch, keys);
    }

    fn about(&mut self, kind: LeafKind, subject: Subject, epoch: Option<u32>) {
        self.about_with(kind, subject, epoch, None);
    }

    fn about_with(&mut self, kind: LeafKind, subject: Subject, epoch: Option<u32>, keys: Option<NodeKeys>) {
        let prev = self.lasts.insert(subject, Some(self.size())).flatten();
        let leaf = Leaf::new(Timestamp(self.now), kind, ORG, subject, KeyId([7; 32]));
        let leaf = Leaf { epoch, prev, record: Some(RecordId([6; 32])), ..leaf };
        self.push(leaf.to_bytes(), keys);
    }

    /// A leaf that is not appended.
    fn leaf(&self, kind: LeafKind, name: u8, epoch: Option<u32>) -> Leaf {
        Leaf { epoch, ..Leaf::new(Timestamp(self.now), kind, ORG, node(name), KeyId([7; 32])) }
    }

    fn push(&mut self, leaf: Vec<u8>, keys: Option<NodeKeys>) {
        self.leaves.push((leaf, keys));
    }

    fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    fn checkpoint(&mut self) {
        self.checkpoint_by(&WITNESSES);
    }

    /// Signs the tree and has it cosigned at once.
    fn checkpoint_by(&mut self, witnesses: &[OrgId]) {
        let mut frontier = Frontier::new();
        self.leaves.iter().for_each(|(leaf, _)| frontier.append(TreeHash::leaf(leaf)));
        let origin = LogOrigin { mesh: MeshId([1; 32]), org: ORG };
        let cosigned = witnesses.iter().map(|org| (*org, Timestamp(self.now))).collect();
        let checkpoint = Checkpoint { origin, head: frontier.head() };
        self.checkpoints.push(VerifiedCheckpoint { checkpoint, cosigned });
    }

    /// Everything found now, the newest checkpoint first told.
    fn audit(&self) -> Vec<Finding> {
        let terms = AuditTerms { org: ORG, rotation_period_s: P, witnesses: self.witnesses.clone() };
        let mut audit = Audit::new(terms, self.checkpoints.iter().cloned());
        self.leaves.iter().for_each(|(leaf, keys)| {
            audit.leaf(leaf, keys.as_ref().map_or(Beside::Nothing, Beside::Keys));
        });
        audit.finish(Timestamp(self.now))
    }
}

fn node(name: u8) -> Subject {
    Subject::from(NodeId([name; 32]))
}

fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(Finding::severity).max()
}
