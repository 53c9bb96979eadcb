//! The clock of the packet path.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since the host started, suspension included: sessions age while a laptop sleeps.
pub(super) fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// Coarse form of a time, as objects that threads share keep it.
pub(super) fn millis(at: Duration) -> u64 {
    u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
}
