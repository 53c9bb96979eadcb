//! Whose turn it is to be asked: one question at a time, and ever less often while there is no answer.

use std::time::{Duration, Instant};

/// Wait after a call that failed, doubled up to the longest.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_LONGEST: Duration = Duration::from_secs(60);

/// The turn of one steward.
#[derive(Debug, Default)]
pub(super) struct Turn {
    is_asked: bool,
    /// When it may be asked again, and how long that was waited for.
    again: Option<(Instant, Duration)>,
}

impl Turn {
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        !self.is_asked && self.again.is_none_or(|(at, _)| at <= now)
    }

    /// Since when it may be asked; none if it never was.
    pub(super) fn due(&self) -> Option<Instant> {
        self.again.map(|(at, _)| at)
    }

    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    pub(super) fn asked(&mut self) {
        self.is_asked = true;
    }

    /// It has answered, or nothing is missing of it: it may be asked again at some time.
    pub(super) fn rests_until(&mut self, again: Instant) {
        *self = Self { is_asked: false, again: Some((again, Duration::ZERO)) };
    }

    /// It was not reached, or had nothing to say.
    pub(super) fn failed(&mut self, now: Instant) {
        let wait = self.again.map_or(Duration::ZERO, |(_, wait)| wait);
        let wait = (wait * 2).clamp(WAIT_FIRST, WAIT_LONGEST);
        *self = Self { is_asked: false, again: Some((now + wait, wait)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steward_is_asked_once_at_a_time_and_ever_less_often_while_it_is_away() {
        let now = Instant::now();
        let mut turn = Turn::default();
        assert!(turn.may_ask(now));
        turn.asked();
        assert!(!turn.may_ask(now + WAIT_LONGEST));
        let mut waited = Vec::new();
        for _ in 0..8 {
            turn.failed(now);
            let (at, wait) = turn.again.expect("waits");
            assert!(!turn.may_ask(at - Duration::from_nanos(1)) && turn.may_ask(at));
            waited.push(wait.as_secs());
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 60, 60]);
        turn.asked();
        assert!(turn.is_asked());
        turn.rests_until(now);
        assert!(!turn.is_asked() && turn.may_ask(now));
        turn.failed(now);
        assert!(turn.may_ask(now + WAIT_FIRST), "an answer makes it short again");
        turn.rests_until(now + WAIT_LONGEST);
        assert!(!turn.may_ask(now));
    }
}
