//! The records that this node holds, as its channels read them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use meshd_wire::RecordDigest;
use tokio::sync::broadcast;

use crate::discovery::keyspace::Slot;

/// Places that changed and wait for a slow channel; one that missed some tells all that there is again.
const CHANGES_MAX: usize = 4096;

/// A value and its digest.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) value: Arc<[u8]>,
    pub(super) digest: RecordDigest,
}

/// Verified and stored records by their places. The event loop replaces them, every channel reads them.
#[derive(Debug)]
pub struct Holdings {
    records: Mutex<BTreeMap<Slot, Held>>,
    changes: broadcast::Sender<Slot>,
}

impl Default for Holdings {
    fn default() -> Self {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        Self { records: Mutex::default(), changes }
    }
}

impl Holdings {
    /// Replaces all of them, and tells the channels what is new.
    pub fn replace(&self, records: BTreeMap<Slot, Vec<u8>>) {
        let mut held = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|slot, _| records.contains_key(slot));
        for (slot, value) in records {
            if held.get(&slot).is_some_and(|held| *held.value == *value) {
                continue;
            }
            let digest = RecordDigest::of(&value);
            held.insert(slot, Held { value: value.into(), digest });
            // Without channels nobody is told.
            let _ = self.changes.send(slot);
        }
    }

    pub(super) fn get(&self, slot: &Slot) -> Option<Held> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).get(slot).cloned()
    }

    pub(super) fn digest(&self, slot: &Slot) -> Option<RecordDigest> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).get(slot).map(|held| held.digest)
    }

    /// What stands at every place.
    pub(super) fn digests(&self) -> Vec<(Slot, RecordDigest)> {
        let held = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().map(|(slot, held)| (*slot, held.digest)).collect()
    }

    /// Places that change from now on.
    pub(super) fn changes(&self) -> broadcast::Receiver<Slot> {
        self.changes.subscribe()
    }
}
