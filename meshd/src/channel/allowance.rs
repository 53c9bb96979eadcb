//! How many new values a neighbour may bring in a time: so many at once, and then so many a second.

use std::time::Duration;

use tokio::time::Instant;

/// New values taken at once: all of a mesh of a thousand nodes …
const VALUES_AT_ONCE: u32 = 4096;
/// … and from then on in a second: each costs the event loop a signature and a write.
const VALUES_PER_S: u32 = 64;

/// What may still be had. Whoever spends more than there is has to wait.
#[derive(Debug)]
pub(super) struct Allowance {
    at_once: Duration,
    each: Duration,
    /// When all that was spent is there again.
    full_at: Instant,
}

impl Default for Allowance {
    fn default() -> Self {
        Self::new(VALUES_AT_ONCE, VALUES_PER_S, Instant::now())
    }
}

impl Allowance {
    fn new(at_once: u32, per_s: u32, now: Instant) -> Self {
        let each = Duration::from_secs(1) / per_s.max(1);
        Self { at_once: each * at_once, each, full_at: now }
    }

    /// Takes so many; says when they are there.
    pub(super) fn spend(&mut self, count: u32, now: Instant) -> Instant {
        self.full_at = self.full_at.max(now) + self.each * count;
        self.full_at.checked_sub(self.at_once).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn what_is_beyond_comes_at_its_pace_and_what_was_saved_comes_at_once() {
        let start = Instant::now() + S(1000);
        let mut allowance = Allowance::new(100, 10, start);
        assert_eq!(allowance.spend(100, start), start);
        assert_eq!(allowance.spend(20, start), start + S(2));
        let later = start + S(1000);
        assert_eq!(allowance.spend(100, later), later);
        assert_eq!(allowance.spend(10, later), later + S(1), "no more is saved than may be had at once");
    }
}
