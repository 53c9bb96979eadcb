//! Until when an answer is due.

use std::time::{Duration, Instant};

/// A point in time after which nothing is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    whole: Duration,
}

impl Deadline {
    /// Lies that far ahead.
    pub fn after(whole: Duration) -> Self {
        Self { at: Instant::now() + whole, whole }
    }

    /// Time that is left.
    pub fn left(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Time there was from the start.
    pub fn whole(self) -> Duration {
        self.whole
    }
}
