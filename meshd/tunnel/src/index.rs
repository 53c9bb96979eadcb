//! Receiver indices: which number in an arriving message means which tunnel.

use std::collections::BTreeMap;

use crate::TunnelId;
use crate::rng::Rng;

/// All indices in use. A tunnel holds few: one for its handshake and one for each session.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Chi² of 255 degrees of freedom stays below this but once in 10,000 draws.
    const CHI2_MAX: f64 = 347.0;

    #[test]
    fn bug18_indices_are_uniform_beyond_the_shard_and_never_twice_in_use() {
        const DRAWS: u32 = 100_000;
        let (mut indices, mut rng) = (Indices::new(16), Rng::new([4; 32]));
        let mut counts = [[0_u32; 256]; 3];
        for draw in 0..DRAWS {
            let tunnel = TunnelId(draw.into());
            let index = indices.allocate(&mut rng, tunnel);
            assert_eq!(index & 15, draw & 15, "the shard of the tunnel");
            assert_eq!(indices.owner(index), Some(tunnel));
            for (counts, shift) in counts.iter_mut().zip([24, 16, 4]) {
                counts[(index >> shift) as usize & 255] += 1;
            }
        }
        assert_eq!(indices.len(), DRAWS as usize);
        let expected = f64::from(DRAWS) / 256.0;
        for counts in counts {
            let chi2: f64 =
                counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
            assert!(chi2 < CHI2_MAX, "chi² {chi2}");
        }
    }

    #[test]
    fn a_number_of_shards_that_is_no_power_of_two_names_only_shards_that_exist() {
        let (mut indices, mut rng) = (Indices::new(3), Rng::new([5; 32]));
        for tunnel in 0..100 {
            assert!(indices.allocate(&mut rng, TunnelId(tunnel)) & 3 < 3);
        }
    }
}
