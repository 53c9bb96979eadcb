//! Randomness out of a seed.

use std::ops::Range;

/// The generator splitmix64: one seed is one sequence.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.draw() % (range.end - range.start)
    }

    /// One of so many.
    pub(super) fn one_of(&mut self, count: usize) -> usize {
        self.within(0..count as u64) as usize
    }

    pub(super) fn happens(&mut self, per_million: u64) -> bool {
        self.within(0..1_000_000) < per_million
    }

    pub(super) fn coin(&mut self) -> bool {
        self.happens(500_000)
    }
}
