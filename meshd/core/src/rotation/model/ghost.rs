//! What nobody in the model knows, and every invariant is about.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Content, Epoch};
use super::node::Node;

/// Name of a private key; no two are equal.
pub(super) type KeyName = u16;

/// What must always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Invariant {
    /// No packet arrives that can't be opened, and there is always a tunnel that both ends have.
    NoBlackHole,
    /// No node sends data under a key whose proof it does not hold.
    LogBeforeUse,
    /// Epochs grow, no key has two, one sequence is one record, at most one key comes next.
    NumbersGrow,
    /// A destroyed key is neither in memory nor on disk.
    Destroyed,
    /// At most two own keys and four tunnels per peer; the design allows one more of each.
    Bounded,
    /// Without faults a rotation ends within lead, overlap and silence.
    Ends,
    /// Who runs without faults uses no key for longer than a period and a rotation.
    InTime,
    /// Who knows any old record accepts the newest one, and in the end everybody has it and all is well.
    Recovers,
}

/// What a node has done so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Ghost {
    pub(super) keys_made: KeyName,
    records: BTreeMap<u64, Content>,
    keys: BTreeMap<Epoch, KeyName>,
    pub(super) destroyed: BTreeSet<Epoch>,
    /// Since when it rotates.
    pub(super) rotates_since: Option<u64>,
}

impl Ghost {
    pub(super) fn new(keys_made: KeyName) -> Self {
        Self { keys_made, ..Self::default() }
    }

    /// The newest record.
    pub(super) fn newest(&self) -> Option<Content> {
        self.records.last_key_value().map(|(_, content)| *content)
    }

    /// Nobody has heard of what came after this record, and who said it has forgotten.
    pub(super) fn forget_after(&mut self, content: Content) {
        self.records = BTreeMap::from([(content.seq, content)]);
        self.forget_given_up();
    }

    /// Nobody knows of keys beyond those that the newest record names.
    pub(super) fn forget_given_up(&mut self) {
        let Some(newest) = self.newest() else { return };
        self.keys.retain(|epoch, _| *epoch <= Node::highest(&newest));
    }

    /// Notes a record; false if it must not be.
    pub(super) fn publish(&mut self, content: Content, key_of: impl Fn(Epoch) -> Option<KeyName>) -> bool {
        let mut holds = self.newest().is_none_or(|newest| {
            let next_is_new = content.next.is_none_or(|next| {
                let known = [newest.next, Some(newest.cur), newest.prev.map(|(prev, _)| prev)];
                known.into_iter().flatten().all(|key| key.epoch <= next.epoch)
            });
            content.seq > newest.seq && content.cur.epoch >= newest.cur.epoch && next_is_new
        });
        let named = [content.prev.map(|(prev, _)| prev), Some(content.cur), content.next];
        let epochs: Vec<Epoch> = named.into_iter().flatten().map(|key| key.epoch).collect();
        holds &= epochs.is_sorted_by(|a, b| a < b);
        for epoch in epochs {
            let key = key_of(epoch);
            // A record without its key could not be signed.
            let Some(key) = key else { return false };
            holds &= self.keys.iter().all(|(known, name)| (*known == epoch) == (*name == key));
            self.keys.insert(epoch, key);
        }
        self.records.insert(content.seq, content);
        // The newest few tell all there is to tell.
        while self.records.len() > 1 {
            self.records.pop_first();
        }
        holds
    }
}
