//! Receiver indices: which number in an arriving message means which tunnel.

use std::collections::BTreeMap;

use crate::TunnelId;
use crate::rng::Rng;

/// All indices in use. A tunnel holds at most four: one handshake and three sessions.
#[derive(Debug)]
pub(crate) struct Indices {
    owners: BTreeMap<u32, TunnelId>,
    shards: u32,
}

impl Indices {
    pub(crate) fn new(shards: u8) -> Self {
        Self { owners: BTreeMap::new(), shards: u32::from(shards.max(1)) }
    }

    /// Draws an unused index. Its low bits name the shard that receives its messages; the rest is random, so
    /// that nobody who does not see messages can name a session.
    pub(crate) fn allocate(&mut self, rng: &mut Rng, tunnel: TunnelId) -> u32 {
        let mask = self.shards.next_power_of_two() - 1;
        let shard = (tunnel.0 % u64::from(self.shards)) as u32;
        loop {
            let index = (rng.number() & !mask) | shard;
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.owners.entry(index) {
                vacant.insert(tunnel);
                return index;
            }
        }
    }

    pub(crate) fn release(&mut self, index: u32) {
        self.owners.remove(&index);
    }

    pub(crate) fn owner(&self, index: u32) -> Option<TunnelId> {
        self.owners.get(&index).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }
}
