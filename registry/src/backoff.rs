//! Pauses between attempts.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// First pause: long enough not to spin, short enough to be missed by nobody.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause: an hour-long outage ends for everybody within this time.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Doubling pauses with jitter, so that clients of a restarted registry do not arrive together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: PAUSE_MIN }
    }

    pub(crate) fn reset(&mut self) {
        self.next = PAUSE_MIN;
    }

    /// Waits between half and all of the current pause, then doubles it.
    pub(crate) async fn pause(&mut self) {
        let half = self.next / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        let jitter = Duration::from_micros(dice() % spread);
        self.next = (self.next * 2).min(PAUSE_MAX);
        tokio::time::sleep(half + jitter).await;
    }
}

/// A number that differs between calls and processes; not for secrets.
pub(crate) fn dice() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
