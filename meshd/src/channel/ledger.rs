//! What the two ends of a channel know of each other's records.

use std::collections::{BTreeMap, BTreeSet};

use meshd_wire::RecordDigest;

use crate::discovery::keyspace::Slot;

/// Places that are remembered of the other end: two for each node of the largest mesh, and then some. What is beyond is
/// neither asked for nor known to be there.
const PLACES_MAX: usize = 1 << 14;

/// What the other end holds, what it is owed, and what it has that is lacking here.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    theirs: BTreeMap<Slot, RecordDigest>,
    owed: BTreeSet<Slot>,
    lacking: BTreeSet<Slot>,
}

impl Ledger {
    /// The other end holds a value that this end may lack.
    pub(super) fn they_have(&mut self, slot: Slot, digest: RecordDigest, own: Option<RecordDigest>) {
        if !self.note(slot, digest) {
            return;
        }
        if own == Some(digest) {
            self.owed.remove(&slot);
        } else {
            self.lacking.insert(slot);
        }
    }

    /// The other end asks for a value. Only places that stand here are ever owed, so it can't make the list long.
    pub(super) fn they_want(&mut self, slot: Slot, own: Option<RecordDigest>) {
        if own.is_some() {
            self.owed.insert(slot);
        }
    }

    /// A value changed here; the other end gets it, unless it came from there.
    pub(super) fn changed(&mut self, slot: Slot, own: Option<RecordDigest>) {
        if own.is_some() && self.theirs.get(&slot) != own.as_ref() {
            self.owed.insert(slot);
        }
    }

    /// A value has come.
    pub(super) fn came(&mut self, slot: Slot, digest: RecordDigest) {
        self.note(slot, digest);
        self.lacking.remove(&slot);
    }

    /// A value was sent. What the other end has of the same place and this one still wants is not forgotten for it.
    pub(super) fn sent(&mut self, slot: Slot, digest: RecordDigest) {
        if !self.lacking.contains(&slot) {
            self.note(slot, digest);
        }
    }

    /// Whether the other end is known to hold a value.
    pub(super) fn is_theirs(&self, slot: &Slot, digest: RecordDigest) -> bool {
        self.theirs.get(slot) == Some(&digest)
    }

    /// Wants again what the other end has and this one did not take: what was refused may be good by now.
    pub(super) fn look_again(&mut self, own: impl Fn(&Slot) -> Option<RecordDigest>) {
        let differs = |(slot, digest): &(&Slot, &RecordDigest)| match own(slot) {
            // One of two that convict the same log is enough.
            Some(_) if matches!(slot, Slot::Evidence(_)) => false,
            held => held != Some(**digest),
        };
        self.lacking.extend(self.theirs.iter().filter(differs).map(|(slot, _)| *slot));
    }

    /// The next value to send.
    pub(super) fn next_owed(&mut self) -> Option<Slot> {
        self.owed.pop_first()
    }

    /// The next places to ask for.
    pub(super) fn take_lacking(&mut self, at_most: usize) -> Vec<Slot> {
        std::iter::from_fn(|| self.lacking.pop_first()).take(at_most).collect()
    }

    fn note(&mut self, slot: Slot, digest: RecordDigest) -> bool {
        let has_room = self.theirs.len() < PLACES_MAX || self.theirs.contains_key(&slot);
        if has_room {
            self.theirs.insert(slot, digest);
        }
        has_room
    }
}

#[cfg(test)]
mod tests;
