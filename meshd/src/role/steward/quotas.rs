//! How often each node may ask something that costs reads.

use std::collections::HashMap;
use std::time::Duration;

use meshd_core::bucket::TokenBucket;
use meshd_wire::{PublicKey, Timestamp};

/// Nodes that are counted.
const NODES_MAX: usize = 4096;

/// What nodes have left of their questions, by their transport keys.
#[derive(Debug)]
pub(super) struct Quotas {
    per_s: u32,
    at_once: u32,
    left: HashMap<PublicKey, TokenBucket>,
}

impl Quotas {
    pub(super) fn new(per_s: u32, at_once: u32) -> Self {
        Self { per_s, at_once, left: HashMap::new() }
    }

    /// Counts a question; false if it is one too many.
    pub(super) fn take(&mut self, peer: &PublicKey, now: Timestamp) -> bool {
        let now = Duration::from_secs(now.0);
        // Keys come and go; who loses count of a few loses nothing by it.
        if self.left.len() >= NODES_MAX && !self.left.contains_key(peer) {
            self.left.clear();
        }
        let bucket = self.left.entry(*peer);
        bucket.or_insert_with(|| TokenBucket::new(self.per_s, self.at_once, now)).take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_has_its_own_and_they_come_back() {
        let mut quotas = Quotas::new(1, 2);
        let [a, b] = [PublicKey([1; 32]), PublicKey([2; 32])];
        let now = Timestamp(1_000);
        assert!(quotas.take(&a, now) && quotas.take(&a, now) && !quotas.take(&a, now));
        assert!(quotas.take(&b, now));
        assert!(quotas.take(&a, now.plus(1)) && !quotas.take(&a, now.plus(1)));
    }

    #[test]
    fn a_crowd_of_keys_takes_no_more_room_than_these() {
        let mut quotas = Quotas::new(1, 1);
        for number in 0..2 * NODES_MAX as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            assert!(quotas.take(&PublicKey(key), Timestamp(1)));
            assert!(quotas.left.len() <= NODES_MAX);
        }
    }
}
