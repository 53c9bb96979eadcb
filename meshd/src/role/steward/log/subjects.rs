//! Whom the leaves of a log are about: where each was named last, and what was said of it lately.

use std::collections::{BTreeSet, HashMap, VecDeque};

use meshd_wire::record::NodeKeys;
use meshd_wire::{Envelope, Leaf, LeafKind, RecordId, Subject};

/// Leaves of a subject that are told from a repetition: more than a node has under way at once.
const RECENT_MAX: usize = 16;

/// All subjects of a log.
#[derive(Debug, Default)]
pub(super) struct Subjects(HashMap<Subject, Said>);

/// What was said of one.
#[derive(Debug, Default)]
pub(super) struct Said {
    last: u64,
    recent: VecDeque<(Saying, u64)>,
    /// The key that came into use last.
    active: Option<(Saying, u64)>,
    /// What gave authority: it is said again at each start.
    authority: Vec<(Saying, u64)>,
    /// Highest epoch that was named.
    named: u32,
    /// Epochs that were named and are not destroyed.
    alive: BTreeSet<u32>,
    /// Record of its newest certificate.
    pub(super) certified: Option<RecordId>,
    pub(super) is_revoked: bool,
}

/// What tells a leaf from others about the same subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Saying {
    kind: u16,
    epoch: Option<u32>,
    /// Which key has the epoch, or which record says so. Records of one key are signed anew again and again.
    what: Option<[u8; 32]>,
}

impl Subjects {
    /// What was said of a subject.
    pub(super) fn of(&self, subject: &Subject) -> Option<&Said> {
        self.0.get(subject)
    }

    /// Index of the newest leaf about a subject.
    pub(super) fn last(&self, subject: &Subject) -> Option<u64> {
        self.of(subject).map(|said| said.last)
    }

    /// Index of the leaf that says the same, if it was said lately.
    pub(super) fn find(&self, leaf: &Leaf, record: &[u8]) -> Option<u64> {
        let (said, saying) = (self.of(&leaf.subject)?, Saying::of(leaf, record));
        let mut known = said.recent.iter().chain(&said.active).chain(&said.authority);
        known.find(|(known, _)| *known == saying).map(|(_, index)| *index)
    }

    /// Takes note of a leaf.
    pub(super) fn note(&mut self, leaf: &Leaf, record: &[u8], index: u64) {
        let said = self.0.entry(leaf.subject).or_default();
        said.last = index;
        if said.recent.len() == RECENT_MAX {
            said.recent.pop_front();
        }
        said.recent.push_back((Saying::of(leaf, record), index));
        if let (Some(LeafKind::RotateAnnounce | LeafKind::RotateActivate), Some(epoch)) =
            (leaf.known_kind(), leaf.epoch)
        {
            said.named = said.named.max(epoch);
            said.alive.insert(epoch);
        }
        match leaf.known_kind() {
            Some(LeafKind::Enrol | LeafKind::Renew) => said.certified = leaf.record,
            Some(LeafKind::RotateActivate) => said.active = said.recent.back().copied(),
            Some(LeafKind::Revoke) => said.is_revoked = true,
            Some(LeafKind::AgreementJoin | LeafKind::StewardDelegate) => {
                said.authority.extend(said.recent.back())
            }
            Some(LeafKind::KeyDestroy) => drop(leaf.epoch.map(|epoch| said.alive.remove(&epoch))),
            Some(_) | None => {}
        }
    }
}

impl Said {
    /// Whether a node may say this of an epoch after all that it has said.
    pub(super) fn allows(&self, kind: LeafKind, epoch: u32) -> bool {
        match kind {
            LeafKind::RotateAnnounce => epoch > self.named,
            LeafKind::RotateActivate => epoch >= self.named,
            LeafKind::KeyDestroy => self.alive.contains(&epoch),
            LeafKind::KeyCompromised => epoch <= self.named,
            _ => true,
        }
    }

    /// Whether any key of the subject is logged.
    pub(super) fn has_key(&self) -> bool {
        self.active.is_some()
    }
}

impl Saying {
    fn of(leaf: &Leaf, record: &[u8]) -> Self {
        let what = match leaf.known_kind() {
            Some(LeafKind::RotateAnnounce | LeafKind::RotateActivate) => key_of(leaf, record),
            Some(LeafKind::KeyDestroy | LeafKind::KeyCompromised) => None,
            Some(LeafKind::StateRollback) if leaf.epoch.is_some() => None,
            Some(_) | None => leaf.record.map(|record| record.0),
        };
        Self { kind: leaf.kind, epoch: leaf.epoch, what }
    }
}

/// The key that a leaf's record has under the leaf's epoch.
fn key_of(leaf: &Leaf, record: &[u8]) -> Option<[u8; 32]> {
    let keys: NodeKeys = Envelope::from_bytes(record).ok()?.record().ok()?;
    keys.all().find(|key| Some(key.epoch) == leaf.epoch).map(|key| key.key.0)
}
