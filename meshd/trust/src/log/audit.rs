//! The audit of a log from its first leaf to its last, in one pass.

use std::collections::BTreeMap;

use meshd_wire::record::{NodeCert, NodeKeys};
use meshd_wire::{Leaf, LeafKind, OrgId, PublicKey, Subject, Timestamp};

use super::checkpoint::VerifiedCheckpoint;
use super::finding::Finding;
use super::frontier::{Frontier, TreeHead};
use super::hash::TreeHash;
use super::life::Life;

/// Difference between a leaf's time and that of its first cosignature that needs an explanation.
const CLOCK_DIFFERENCE_S: u64 = 5 * 60;
/// Time that a witness has.
const WITNESS_S: u64 = 10 * 60;

/// What is to be held against a log.
#[derive(Debug, Clone)]
pub struct AuditTerms {
    /// Organisation whose log it is.
    pub org: OrgId,
    /// Period in which a node renews its tunnel key.
    pub rotation_period_s: u64,
    /// Organisations that cosign.
    pub witnesses: Vec<OrgId>,
}

/// The record that a leaf names, once it was verified.
#[derive(Debug, Clone, Copy)]
pub enum Beside<'r> {
    /// None, or one that says nothing about keys.
    Nothing,
    /// A certificate.
    Cert(&'r NodeCert),
    /// Tunnel keys.
    Keys(&'r NodeKeys),
}

/// An audit under way.
///
/// Takes all checkpoints first, in any order, and then all leaves in theirs. It holds a few words for each node and
/// checkpoint, and each tunnel key; not the leaves.
#[derive(Debug)]
pub struct Audit {
    terms: AuditTerms,
    /// Heads that were signed, by size.
    signed: BTreeMap<u64, Signed>,
    frontier: Frontier,
    lives: BTreeMap<Subject, Life>,
    keys: BTreeMap<PublicKey, (Subject, u32)>,
    /// First key of each epoch.
    epochs: BTreeMap<(Subject, u32), PublicKey>,
    /// Earliest and latest of the leaves since the last cosigned checkpoint, with their times.
    times: Option<[(u64, Timestamp); 2]>,
    /// Time of the last leaf that could be read.
    time: Timestamp,
    /// First checkpoint that a witness has not cosigned yet.
    waiting: BTreeMap<OrgId, (u64, Timestamp)>,
    findings: Vec<Finding>,
}

/// A signed head, and when each organisation cosigned it first.
#[derive(Debug)]
struct Signed {
    root: TreeHash,
    cosigned: BTreeMap<OrgId, Timestamp>,
}

impl Audit {
    /// Begins with the checkpoints that were verified; two that exclude each other are found at once.
    pub fn new(terms: AuditTerms, checkpoints: impl IntoIterator<Item = VerifiedCheckpoint>) -> Self {
        let mut signed: BTreeMap<u64, Signed> = BTreeMap::new();
        let mut findings = Vec::new();
        for VerifiedCheckpoint { checkpoint, cosigned } in checkpoints {
            let head = checkpoint.head;
            let entry = signed
                .entry(head.size)
                .or_insert_with(|| Signed { root: head.root, cosigned: BTreeMap::new() });
            if entry.root != head.root {
                let one = TreeHead { size: head.size, root: entry.root };
                findings.push(Finding::Fork { one, other: head });
                continue;
            }
            for (org, at) in cosigned {
                let first = entry.cosigned.entry(org).or_insert(at);
                *first = at.min(*first);
            }
        }
        Self {
            terms,
            signed,
            frontier: Frontier::new(),
            lives: BTreeMap::new(),
            keys: BTreeMap::new(),
            epochs: BTreeMap::new(),
            times: None,
            time: Timestamp(0),
            waiting: BTreeMap::new(),
            findings,
        }
    }

    /// Takes the next leaf, and the record it names if that is there.
    pub fn leaf(&mut self, bytes: &[u8], beside: Beside<'_>) {
        self.read_leaf(TreeHash::leaf(bytes), Leaf::from_bytes(bytes).ok().as_ref(), beside);
    }

    /// Takes the next leaf by its hash and what its bytes say, none if that is no leaf of a known version.
    pub fn read_leaf(&mut self, hash: TreeHash, leaf: Option<&Leaf>, beside: Beside<'_>) {
        let index = self.frontier.size();
        self.frontier.append(hash);
        match leaf {
            Some(leaf) if leaf.org == self.terms.org => self.judge(index, leaf, beside),
            Some(_) | None => self.findings.push(Finding::Unreadable { index }),
        }
        let size = self.frontier.size();
        if let Some(signed) = self.signed.remove(&size) {
            self.close(size, &signed);
        }
    }

    /// Ends the audit at a time.
    pub fn finish(mut self, now: Timestamp) -> Vec<Finding> {
        if let Some(signed) = self.signed.remove(&0)
            && signed.root != TreeHash::empty()
        {
            let signed = TreeHead { size: 0, root: signed.root };
            let found = TreeHead { size: 0, root: TreeHash::empty() };
            self.findings.push(Finding::Root { signed, found });
        }
        if let Some((size, _)) = self.signed.last_key_value() {
            self.findings.push(Finding::Missing { signed: *size, found: self.frontier.size() });
        }
        for (org, (size, since)) in &self.waiting {
            if now > since.plus(WITNESS_S) {
                self.findings.push(Finding::Unwitnessed { org: *org, size: *size, since: *since });
            }
        }
        for (node, life) in self.lives {
            life.end(node, now, self.terms.rotation_period_s, &mut self.findings);
        }
        self.findings
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Size and root of the leaves so far.
    pub fn head(&self) -> TreeHead {
        self.frontier.head()
    }

    fn judge(&mut self, index: u64, leaf: &Leaf, beside: Beside<'_>) {
        let [earliest, latest] = self.times.unwrap_or([(index, leaf.time); 2]);
        self.times = Some([
            if leaf.time < earliest.1 { (index, leaf.time) } else { earliest },
            if leaf.time > latest.1 { (index, leaf.time) } else { latest },
        ]);
        self.time = leaf.time;
        let life = self.lives.entry(leaf.subject).or_default();
        let expected = life.follow(index);
        if leaf.prev != expected {
            self.findings.push(Finding::Chain { index, expected });
        }
        let Some(kind) = leaf.known_kind() else {
            self.findings.push(Finding::Unreadable { index });
            return;
        };
        life.take(index, kind, leaf, beside, self.terms.rotation_period_s, &mut self.findings);
        if let (LeafKind::RotateAnnounce | LeafKind::RotateActivate, Some(epoch), Beside::Keys(keys)) =
            (kind, leaf.epoch, beside)
        {
            self.remember(index, (leaf.subject, epoch), keys);
        }
    }

    /// Notes which key an epoch has: one key serves one epoch of one node, and one epoch has one key.
    fn remember(&mut self, index: u64, again: (Subject, u32), keys: &NodeKeys) {
        let Some(key) = keys.all().find(|key| key.epoch == again.1).map(|key| key.key) else { return };
        let before = *self.keys.entry(key).or_insert(again);
        if before != again {
            self.findings.push(Finding::Reuse { index, key: Some(key), before, again });
        }
        let first = *self.epochs.entry(again).or_insert(key);
        if first != key {
            let (node, epoch) = again;
            let (announced, used) = (Some(first), Some(key));
            self.findings.push(Finding::Unlogged { index, node, epoch, announced, used });
        }
    }

    /// Compares the leaves so far with a tree that was signed.
    fn close(&mut self, size: u64, signed: &Signed) {
        let (found, root) = (self.frontier.head(), signed.root);
        if found.root != root {
            self.findings.push(Finding::Root { signed: TreeHead { size, root }, found });
        }
        let witnessed = signed.cosigned.values().min();
        if let Some(witnessed) = witnessed
            && let Some(times) = self.times.take()
        {
            let differs = |(_, time): &(u64, Timestamp)| {
                time.since(*witnessed).max(witnessed.since(*time)) > CLOCK_DIFFERENCE_S
            };
            if let Some((index, time)) = times.into_iter().find(differs) {
                self.findings.push(Finding::Clock { index, time, witnessed: *witnessed });
            }
        }
        for org in &self.terms.witnesses {
            let (first, since) = *self.waiting.entry(*org).or_insert((size, self.time));
            let Some(at) = signed.cosigned.get(org) else { continue };
            self.waiting.remove(org);
            if *at > since.plus(WITNESS_S) {
                self.findings.push(Finding::Unwitnessed { org: *org, size: first, since });
            }
        }
    }
}
