//! Wall-clock time as the node may use it: never behind what its organisation has signed.

use std::time::{SystemTime, UNIX_EPOCH};

use meshd_wire::Timestamp;

/// A signed time further than this from the wall clock says nothing about which of them is wrong.
pub const SKEW_MAX_S: u64 = 5 * 60;

/// Seconds of the wall clock.
pub fn wall() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Milliseconds of the wall clock, the seed of sequence numbers: a lost disk does no harm.
pub fn wall_ms() -> u64 {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    u64::try_from(ms).unwrap_or(u64::MAX)
}

/// Node time: the wall clock, or the floor if the wall clock fell behind it.
#[derive(Debug, Default)]
pub struct NodeClock {
    floor: Option<Timestamp>,
}

impl NodeClock {
    /// Current node time.
    pub fn now(&self) -> Timestamp {
        self.floor.map_or_else(wall, |floor| floor.max(wall()))
    }

    /// Raises the floor to a time the own organisation signed, if it was near the wall clock when it came.
    pub fn heard(&mut self, issued_at: Timestamp) {
        let wall = wall();
        let near = issued_at.since(wall).max(wall.since(issued_at)) <= SKEW_MAX_S;
        if near && self.floor.is_none_or(|floor| issued_at > floor) {
            self.floor = Some(issued_at);
        }
    }

    /// Whether the wall clock lies so far behind the organisation's time that it must be wrong.
    pub fn is_suspect(&self) -> bool {
        self.floor.is_some_and(|floor| floor.since(wall()) > SKEW_MAX_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_signed_time_is_a_floor_and_a_far_one_leaves_no_trace() {
        let mut clock = NodeClock::default();
        clock.heard(wall().plus(10 * 365 * 24 * 3600));
        assert!(clock.now() <= wall().plus(1));
        let near = wall().plus(60);
        clock.heard(near);
        assert_eq!(clock.now(), near);
        clock.heard(Timestamp(near.0 - 30));
        assert_eq!(clock.now(), near);
    }
}
