//! Bad input: one clear error, nothing changed.

mod attach;
mod clock;
mod corrupt;
mod ctl;
mod device;
mod full_disk;
mod start;
mod tokens;
mod watch;

/// Exit codes of meshctl and meshd.
mod exit {
    /// Failed.
    pub const FAILED: i32 = 1;
    /// Called in a wrong way; of meshd, a wrong configuration.
    pub const USAGE: i32 = 2;
    /// The daemon can't be reached.
    pub const NOT_REACHABLE: i32 = 3;
    /// Trust says no.
    pub const REFUSED: i32 = 4;
    /// What was named does not exist.
    pub const NOT_FOUND: i32 = 5;
    /// The state does not allow it.
    pub const CONFLICT: i32 = 7;
}
