//! A token bucket on a monotonic clock that the caller reads.

use std::time::Duration;

/// Permits `rate_per_s` events a second and bursts of `burst`.
///
/// `now` is the time since any fixed start; a clock that steps back yields no tokens and no error.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    interval: Duration,
    burst: u32,
    tokens: u32,
    refilled: Duration,
}

impl TokenBucket {
    /// A full bucket. A rate of zero counts as one a second.
    pub fn new(rate_per_s: u32, burst: u32, now: Duration) -> Self {
        let interval = Duration::from_secs(1) / rate_per_s.max(1);
        Self { interval, burst: burst.max(1), tokens: burst.max(1), refilled: now }
    }

    /// Takes one token, or says that there is none.
    pub fn take(&mut self, now: Duration) -> bool {
        let earned = now.saturating_sub(self.refilled).as_nanos() / self.interval.as_nanos().max(1);
        if earned >= u128::from(self.burst.saturating_sub(self.tokens)) {
            // Full: time beyond that earns nothing.
            if earned > 0 {
                self.tokens = self.burst;
                self.refilled = now;
            }
        } else {
            let earned = u32::try_from(earned).unwrap_or(self.burst);
            self.tokens = self.tokens.saturating_add(earned).min(self.burst);
            self.refilled = self.refilled.saturating_add(self.interval.saturating_mul(earned));
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut bucket = TokenBucket::new(10, 3, Duration::ZERO);
        let passed = (0..10).filter(|_| bucket.take(Duration::ZERO)).count();
        assert_eq!(passed, 3);
        assert!(!bucket.take(Duration::from_millis(99)));
        assert!(bucket.take(Duration::from_millis(100)));
        assert!(!bucket.take(Duration::from_millis(150)));
    }

    #[test]
    fn a_second_of_steady_demand_passes_the_rate() {
        let mut bucket = TokenBucket::new(50, 1, Duration::ZERO);
        let passed = (1..=1000).filter(|ms| bucket.take(Duration::from_millis(*ms))).count();
        assert!((50..=51).contains(&passed), "{passed}");
    }

    #[test]
    fn a_clock_that_steps_back_earns_nothing() {
        let mut bucket = TokenBucket::new(10, 1, Duration::from_secs(10));
        assert!(bucket.take(Duration::from_secs(10)));
        assert!(!bucket.take(Duration::from_secs(1)));
    }

    #[test]
    fn a_clock_that_steps_back_and_forth_earns_nothing_either() {
        let mut bucket = TokenBucket::new(10, 1, Duration::from_secs(10));
        assert!(bucket.take(Duration::from_secs(1)));
        assert!(!bucket.take(Duration::from_secs(10)));
        assert!(bucket.take(Duration::from_millis(10_100)));
    }
}
