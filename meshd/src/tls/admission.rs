//! The transport keys that may use the registry at this moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use meshd_wire::PublicKey;

/// A set of transport keys, replaced as a whole by the event loop and read by every connection.
#[derive(Debug, Clone, Default)]
pub struct Admission(Arc<ArcSwap<BTreeSet<PublicKey>>>);

impl Admission {
    /// Makes a set of these keys.
    pub fn new(keys: BTreeSet<PublicKey>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// Replaces the set; connections of keys that are gone end at their next read or write.
    pub fn replace(&self, keys: BTreeSet<PublicKey>) {
        self.0.store(Arc::new(keys));
    }

    /// Whether this key is in the set.
    pub fn admits(&self, key: &PublicKey) -> bool {
        self.0.load().contains(key)
    }
}
