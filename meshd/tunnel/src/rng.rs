//! All randomness of an engine: a stream of ChaCha20 from the seed it was started with.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng};
use zeroize::Zeroizing;

use std::time::Duration;

pub(crate) struct Rng(ChaCha20Rng);

impl Rng {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self(ChaCha20Rng::from_seed(seed))
    }

    pub(crate) fn secret(&mut self) -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0; 32]);
        self.0.fill_bytes(&mut *secret);
        secret
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn number(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A time from zero to `max`, both included, in whole microseconds.
    pub(crate) fn up_to(&mut self, max: Duration) -> Duration {
        let micros = u64::try_from(max.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        // The bias of the remainder is below 2^-32 for every time used here.
        Duration::from_micros(self.0.next_u64() % micros.max(1))
    }
}
