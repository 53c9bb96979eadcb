//! The transport keys that may use the registry at this moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use meshd_wire::PublicKey;

/// Registry connections of one member at a time. A daemon needs one, and dials several addresses for it;
/// without a bound one stolen node could use up the descriptors of the whole host.
pub(super) const CONNECTIONS_PER_MEMBER_MAX: usize = 32;

/// A set of transport keys, replaced as a whole by the event loop and read by every connection.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    keys: Arc<ArcSwap<BTreeSet<PublicKey>>>,
    /// Connections of each member that has any.
    seated: Arc<Mutex<BTreeMap<PublicKey, usize>>>,
}

impl Admission {
    /// Makes a set of these keys.
    pub fn new(keys: BTreeSet<PublicKey>) -> Self {
        Self { keys: Arc::new(ArcSwap::from_pointee(keys)), seated: Arc::default() }
    }

    /// Replaces the set; connections of keys that are gone end at their next read or write.
    pub fn replace(&self, keys: BTreeSet<PublicKey>) {
        self.keys.store(Arc::new(keys));
    }

    /// Whether this key is in the set.
    pub fn admits(&self, key: &PublicKey) -> bool {
        self.keys.load().contains(key)
    }

    /// Counts one more connection of a member; none if it has too many.
    pub(super) fn seat(&self, key: PublicKey) -> Option<Seat> {
        let mut seated = self.seated.lock().unwrap_or_else(PoisonError::into_inner);
        let count = seated.entry(key).or_default();
        if *count >= CONNECTIONS_PER_MEMBER_MAX {
            return None;
        }
        *count += 1;
        Some(Seat { seated: self.seated.clone(), key })
    }
}

/// One counted connection, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seated: Arc<Mutex<BTreeMap<PublicKey, usize>>>,
    key: PublicKey,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seated = self.seated.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = seated.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                seated.remove(&self.key);
            }
        }
    }
}
