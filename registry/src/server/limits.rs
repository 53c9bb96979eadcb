//! Bounds of the embedded server.

use std::time::Duration;

/// Longest key.
pub const KEY_BYTES_MAX: usize = 512;
/// Most operations of one transaction.
pub const TXN_OPS_MAX: usize = 128;
/// Largest request, the same as etcd's.
pub const REQUEST_BYTES_MAX: usize = 3 << 19;
/// Largest answer to one range request, below the 4 MiB that clients accept by default.
pub(super) const ANSWER_BYTES_MAX: usize = 3 << 20;
/// Most events kept for late watchers.
pub const LOG_EVENTS_MAX: usize = 100_000;
/// Most bytes of events kept in memory for late watchers: 20 000 records of usual size.
pub const LOG_BYTES_MAX: usize = 16 << 20;
/// Age from which events are forgotten: a client away for longer lists again.
pub const LOG_AGE_MAX: Duration = Duration::from_secs(600);
/// Shortest lease granted: below, renewals would be most of the traffic.
pub(super) const LEASE_TTL_MIN_S: u64 = 1;
/// Longest lease granted, a month: nothing that outlives it should hang on a lease.
pub(super) const LEASE_TTL_MAX_S: u64 = 31 * 24 * 3600;
/// Watchers on one stream; a daemon has one per watched prefix.
pub(super) const WATCHERS_PER_STREAM_MAX: usize = 32;
/// Changes waiting for one watcher before it is cut.
pub(super) const WATCH_CHANGES_WAITING_MAX: usize = 1024;
/// Bytes waiting for one watcher before it is cut.
pub(super) const WATCH_BYTES_WAITING_MAX: usize = 4 << 20;

/// Bounds that depend on the use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest value.
    pub value_bytes_max: usize,
    /// Keys and values of the whole registry; they are held in memory.
    pub store_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { value_bytes_max: 64 << 10, store_bytes_max: 64 << 20 }
    }
}

/// How much one client may keep in the registry; what it has overwritten counts as its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Number of keys.
    pub keys_max: usize,
    /// Bytes of keys and values.
    pub bytes_max: usize,
    /// Number of leases.
    pub leases_max: usize,
}

impl Quota {
    /// No bound but those of the whole registry.
    pub const UNLIMITED: Self = Self { keys_max: usize::MAX, bytes_max: usize::MAX, leases_max: usize::MAX };
}

impl Default for Quota {
    /// Room for the records and claims of one node with many containers.
    fn default() -> Self {
        Self { keys_max: 1024, bytes_max: 4 << 20, leases_max: 16 }
    }
}
