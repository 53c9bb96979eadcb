//! Wall-clock time as the node may use it: as long as it agrees with what its organisation signs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Time since the host started, suspension included: it runs evenly, whatever is done to the wall clock.
pub fn boot() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Whether two times are so near that clocks which are right may show them at one moment.
pub fn is_near(one: Timestamp, other: Timestamp) -> bool {
    one.since(other).max(other.since(one)) <= SKEW_MAX_S
}

/// Who signed a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// This host by its own wall clock, or anybody before this run: it says nothing about that clock.
    This,
    /// Another host, just now.
    Other,
}

/// Node time: the wall clock as long as it agrees with what the own organisation signs. Once it does not any more, the
/// time goes on evenly from the last moment at which it did.
#[derive(Debug, Default)]
pub struct NodeClock {
    /// The newest signed time that was near the wall clock when it came: node time is never before it.
    floor: Option<Timestamp>,
    /// The wall clock when the newest one of another host came and agreed with it, and the time since the host's start.
    anchor: Option<(Timestamp, Duration)>,
}

impl NodeClock {
    /// Current node time.
    pub fn now(&self) -> Timestamp {
        self.at(wall(), boot())
    }

    /// Takes in a time that the own organisation signed. One that is far from the wall clock says nothing about which of
    /// them is wrong.
    pub fn heard(&mut self, issued_at: Timestamp, signer: Signer) {
        self.heard_at(issued_at, signer, wall(), boot());
    }

    /// Whether the wall clock is so far from the organisation's time that it must be wrong.
    pub fn is_suspect(&self) -> bool {
        self.is_suspect_at(wall(), boot())
    }

    fn at(&self, wall: Timestamp, boot: Duration) -> Timestamp {
        let floor = self.floor.unwrap_or(Timestamp(0));
        let usable = if self.is_suspect_at(wall, boot) { self.estimate(boot).unwrap_or(floor) } else { wall };
        usable.max(floor)
    }

    fn heard_at(&mut self, issued_at: Timestamp, signer: Signer, wall: Timestamp, boot: Duration) {
        let is_newest = self.floor.is_none_or(|floor| issued_at > floor);
        // One that was stored says so again when it comes.
        let is_first = self.anchor.is_none() && self.floor == Some(issued_at);
        if is_near(issued_at, wall) && (is_newest || is_first) {
            self.floor = Some(issued_at);
            self.anchor = (signer == Signer::Other).then_some((wall, boot));
        }
    }

    fn is_suspect_at(&self, wall: Timestamp, boot: Duration) -> bool {
        let is_behind = self.floor.is_some_and(|floor| floor.since(wall) > SKEW_MAX_S);
        let has_jumped = self.estimate(boot).is_some_and(|estimate| !is_near(wall, estimate));
        is_behind || has_jumped
    }

    /// What the wall clock should show, if it has run evenly since another host agreed with it.
    fn estimate(&self, boot: Duration) -> Option<Timestamp> {
        let (wall, heard) = self.anchor?;
        Some(wall.plus(boot.saturating_sub(heard).as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_S: u64 = 365 * 24 * 3600;
    const NOW: Timestamp = Timestamp(1_800_000_000);
    const BOOT: Duration = Duration::from_secs(1000);

    fn after(s: u64) -> Duration {
        BOOT + Duration::from_secs(s)
    }

    #[test]
    fn a_near_signed_time_is_a_floor_and_a_far_one_leaves_no_trace() {
        for signer in [Signer::This, Signer::Other] {
            let mut clock = NodeClock::default();
            clock.heard_at(NOW.plus(10 * YEAR_S), signer, NOW, BOOT);
            assert_eq!(clock.at(NOW, BOOT), NOW);
            let near = NOW.plus(60);
            clock.heard_at(near, signer, NOW, BOOT);
            assert_eq!(clock.at(NOW, BOOT), near);
            clock.heard_at(NOW.plus(30), signer, NOW, BOOT);
            assert_eq!(clock.at(NOW, BOOT), near);
        }
    }

    #[test]
    fn a_wall_clock_that_jumps_is_not_followed() {
        let mut clock = NodeClock::default();
        clock.heard_at(NOW, Signer::Other, NOW, BOOT);
        for wall in [NOW.plus(10 * YEAR_S), Timestamp(NOW.0 - YEAR_S), NOW.plus(900), Timestamp(NOW.0 - 900)]
        {
            assert!(clock.is_suspect_at(wall, after(100)), "{wall:?}");
            assert_eq!(clock.at(wall, after(100)), NOW.plus(100), "{wall:?}");
        }
        // Set right again.
        assert!(!clock.is_suspect_at(NOW.plus(200), after(200)));
        assert_eq!(clock.at(NOW.plus(200), after(200)), NOW.plus(200));
    }

    #[test]
    fn a_wall_clock_that_is_off_by_less_is_followed() {
        let mut clock = NodeClock::default();
        clock.heard_at(NOW, Signer::Other, NOW, BOOT);
        for wall in [NOW.plus(100 + SKEW_MAX_S), NOW.plus(90), NOW.plus(10)] {
            assert!(!clock.is_suspect_at(wall, after(100)), "{wall:?}");
            assert_eq!(clock.at(wall, after(100)), wall);
        }
        assert_eq!(clock.at(Timestamp(NOW.0 - 90), after(100)), NOW, "never before what was signed");
    }

    #[test]
    fn a_host_that_signs_the_time_itself_goes_by_its_wall_clock_when_that_is_set_forward() {
        let mut clock = NodeClock::default();
        clock.heard_at(NOW, Signer::This, NOW, BOOT);
        assert_eq!(clock.at(NOW.plus(YEAR_S), after(1)), NOW.plus(YEAR_S));
        assert!(!clock.is_suspect_at(NOW.plus(YEAR_S), after(1)));
        assert!(
            clock.is_suspect_at(Timestamp(NOW.0 - YEAR_S), after(1)),
            "it would take back what it has signed"
        );
    }

    #[test]
    fn what_was_stored_is_no_reason_to_doubt_a_clock_that_is_set_right_after_the_start() {
        let mut clock = NodeClock::default();
        clock.heard_at(NOW, Signer::This, NOW, BOOT);
        assert!(!clock.is_suspect_at(NOW.plus(YEAR_S), after(5)));
        clock.heard_at(NOW, Signer::Other, NOW, after(5));
        assert!(clock.is_suspect_at(NOW.plus(YEAR_S), after(10)), "it has come now");
    }

    #[test]
    fn an_organisation_that_moves_its_time_forward_is_followed_with_the_wall_clock() {
        let mut clock = NodeClock::default();
        clock.heard_at(NOW, Signer::Other, NOW, BOOT);
        let moved = NOW.plus(YEAR_S);
        assert!(clock.is_suspect_at(moved, after(10)));
        clock.heard_at(moved, Signer::Other, moved, after(10));
        assert!(!clock.is_suspect_at(moved.plus(1), after(11)));
        assert_eq!(clock.at(moved.plus(1), after(11)), moved.plus(1));
    }
}
