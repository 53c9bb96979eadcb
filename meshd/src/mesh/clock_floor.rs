//! Timestamps of handshakes that never go back, whatever the wall clock does.
//!
//! A peer refuses a handshake that is not later than the last one it has seen of the same key. The tunnels count from a
//! floor in time that passes; what they may reach before the next look is stored ahead, so a node that crashes starts
//! above everything it has ever sent.

use std::path::Path;
use std::time::Duration;

use meshd_tunnel::Tai64n;
use minicbor::{Decode, Encode};

use crate::generations::{Generations, GenerationsError};
use crate::stored::{self, Stored, StoredError};

/// How much time is reserved at once: one write in half of it. After a crash the timestamps are ahead by that much.
const RESERVED: Duration = Duration::from_secs(10 * 60);

/// What the file holds.
#[derive(Encode, Decode)]
#[cbor(array)]
struct Content {
    #[n(0)]
    format: u8,
    /// Seconds since 1970; no timestamp that was ever sent is later.
    #[n(1)]
    until_s: u64,
}

impl Stored for Content {
    const NAME: &'static str = "handshakes";
    const FORMAT: u8 = 1;

    fn format(&self) -> u8 {
        self.format
    }
}

/// The floor of this run, and what is stored for the next.
#[derive(Debug)]
pub struct ClockFloor {
    file: Generations,
    floor: Duration,
    started: Duration,
    stored: Duration,
    failing: bool,
}

impl ClockFloor {
    /// Opens the file; `wall` is the time since 1970, `boot` that of [`crate::clock::boot`]. Before the first handshake comes
    /// [`Self::reserve`]: a start that fails changes nothing.
    pub fn open(dir: &Path, wall: Duration, boot: Duration) -> Result<Self, StoredError> {
        let (file, content) = stored::open::<Content>(dir)?;
        let stored = Duration::from_secs(content.map_or(0, |content| content.until_s));
        Ok(Self { file, floor: wall.max(stored), started: boot, stored, failing: false })
    }

    /// Later than any timestamp of an earlier run.
    pub fn floor(&self) -> Tai64n {
        Tai64n::from_unix(self.floor)
    }

    /// Stores what is ahead, if less than half of it is left. While the disk takes nothing, tunnels go on: the wall clock
    /// is the floor of the next run then.
    pub fn reserve(&mut self, boot: Duration) {
        let reached = self.reached(boot);
        if self.stored >= reached.saturating_add(RESERVED / 2) {
            return;
        }
        match self.store(reached.saturating_add(RESERVED)) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let error = crate::chain::of(&error);
                    tracing::error!(error, "the time of the last handshakes can't be stored");
                }
            }
        }
    }

    /// Stores where this run has come to, after the tunnels have ended.
    pub fn settle(&mut self, boot: Duration) {
        if let Err(error) = self.store(self.reached(boot)) {
            // What is stored is later: nothing is lost.
            tracing::debug!(
                error = crate::chain::of(&error),
                "the time of the last handshakes is not stored"
            );
        }
    }

    /// The latest timestamp that this run may have sent.
    fn reached(&self, boot: Duration) -> Duration {
        self.floor.saturating_add(boot.saturating_sub(self.started))
    }

    fn store(&mut self, until: Duration) -> Result<(), GenerationsError> {
        // The next whole second: nothing is rounded down.
        let until = Duration::from_secs(until.as_secs().saturating_add(1));
        stored::write(&mut self.file, &Content { format: Content::FORMAT, until_s: until.as_secs() })?;
        self.stored = until;
        Ok(())
    }
}

/// Removes the file: a new membership has a new key.
pub fn forget_clock_floor(dir: &Path) -> Result<(), GenerationsError> {
    Generations::open(dir, Content::NAME)?.0.remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const BOOT: Duration = Duration::from_secs(100);

    fn open(dir: &Path, wall: Duration) -> ClockFloor {
        let mut floor = ClockFloor::open(dir, wall, BOOT).expect("opens");
        floor.reserve(BOOT);
        floor
    }

    #[test]
    fn a_run_starts_above_all_that_a_crashed_one_may_have_sent() {
        let dir = tempfile::tempdir().expect("directory");
        let mut crashed = open(dir.path(), NOW);
        assert_eq!(crashed.floor(), Tai64n::from_unix(NOW));
        let mut boot = BOOT;
        for _ in 0..1000 {
            boot += Duration::from_secs(7);
            crashed.reserve(boot);
            for wall in [NOW, Duration::ZERO] {
                let next = ClockFloor::open(dir.path(), wall, BOOT).expect("opens").floor;
                assert!(next > crashed.reached(boot), "{next:?}");
            }
        }
    }

    #[test]
    fn the_wall_clock_is_the_floor_unless_it_has_gone_back() {
        let dir = tempfile::tempdir().expect("directory");
        drop(open(dir.path(), NOW));
        let later = NOW + Duration::from_secs(86_400);
        assert_eq!(open(dir.path(), later).floor(), Tai64n::from_unix(later));
        assert!(open(dir.path(), NOW).floor > later);
    }

    #[test]
    fn a_run_that_ends_in_order_leaves_no_gap() {
        let dir = tempfile::tempdir().expect("directory");
        let mut floor = open(dir.path(), NOW);
        floor.settle(BOOT + Duration::from_millis(1_500));
        assert_eq!(open(dir.path(), Duration::ZERO).floor, NOW + Duration::from_secs(2));
    }

    #[test]
    fn one_write_serves_for_minutes() {
        let dir = tempfile::tempdir().expect("directory");
        let mut floor = open(dir.path(), NOW);
        let first = floor.stored;
        floor.reserve(BOOT + RESERVED / 2);
        assert_eq!(floor.stored, first);
        floor.reserve(BOOT + RESERVED / 2 + Duration::from_secs(2));
        assert!(floor.stored > first);
    }

    #[test]
    fn a_disk_that_takes_nothing_keeps_no_tunnel_from_starting() {
        let dir = tempfile::tempdir().expect("directory");
        let mut floor = open(dir.path(), NOW);
        let gone = dir.path().join("gone");
        std::fs::create_dir(&gone).expect("made");
        let mut lost = open(&gone, NOW);
        std::fs::remove_dir_all(&gone).expect("removed");
        lost.reserve(BOOT + RESERVED);
        assert!(lost.failing);
        floor.reserve(BOOT + RESERVED);
        assert!(!floor.failing);
    }
}
