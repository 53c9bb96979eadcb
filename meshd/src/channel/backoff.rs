//! When a neighbour without a channel is called next.

use std::time::Duration;

use tokio::time::Instant;

/// After a call that failed the next one waits at least this long, twice as long each time …
const FIRST: Duration = Duration::from_secs(1);
/// … and at most this long: who comes back is called within it.
const LAST: Duration = Duration::from_secs(5);

/// The calls of one neighbour since it had a channel that lasted.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Instant,
    wait: Duration,
    is_under_way: bool,
}

impl Backoff {
    /// The first call is due at a time.
    pub(super) fn until(at: Instant) -> Self {
        Self { next: at, wait: FIRST, is_under_way: false }
    }

    /// Begins a call, if one is due.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let begins = !self.is_under_way && self.next <= now;
        self.is_under_way |= begins;
        begins
    }

    /// The call has ended in a connection; whether it was worth anything its life will show.
    pub(super) fn answered(&mut self) {
        self.is_under_way = false;
    }

    /// The call, or the connection that came of it, came to nothing.
    pub(super) fn failed(&mut self, now: Instant, jitter: Duration) {
        self.is_under_way = false;
        self.next = now + self.wait + jitter;
        self.wait = (self.wait * 2).min(LAST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn each_failure_waits_longer_up_to_a_bound() {
        let mut now = Instant::now();
        let mut backoff = Backoff::until(now);
        for wait in [1, 2, 4, 5, 5] {
            assert!(backoff.begin(now));
            assert!(!backoff.begin(now + S(60)), "one call at a time");
            backoff.answered();
            backoff.failed(now, Duration::ZERO);
            assert!(!backoff.begin(now + S(wait) - Duration::from_millis(1)), "{wait}");
            now += S(wait);
        }
    }

    #[test]
    fn the_first_call_is_made_when_it_is_due() {
        let now = Instant::now();
        let mut backoff = Backoff::until(now + S(1));
        assert!(!backoff.begin(now));
        assert!(backoff.begin(now + S(1)));
    }
}
