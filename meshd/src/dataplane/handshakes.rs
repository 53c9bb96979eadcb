//! Which keys handshakes were completed with, until the control plane takes note of it.
//!
//! The engine's thread writes once for each handshake, which is once in two minutes for each peer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use meshd_core::rotation::Epoch;
use meshd_tunnel::Suite;

use super::flows::PeerIdentity;

/// Pairs of keys that wait to be noted: four for each node of the largest mesh, in the middle of a rotation. The control
/// plane looks every minute; what is beyond comes again with the next handshake of the pair.
const PAIRS_MAX: usize = 65_536;

/// Both ends of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    /// The peer.
    pub peer: PeerIdentity,
    /// Whether it speaks WireGuard and nothing else.
    pub is_external: bool,
    /// Number and key of this end.
    pub own: (Epoch, [u8; 32]),
    /// Number and key of the peer.
    pub theirs: (Epoch, [u8; 32]),
    /// The ciphers.
    pub suite: Suite,
    /// Whether both ends have a pre-shared key besides.
    pub has_psk: bool,
}

/// Handshakes that were completed between two keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// The ends.
    pub ends: Ends,
    /// Time since the first.
    pub first_ago: Duration,
    /// Time since the last.
    pub last_ago: Duration,
    /// How many.
    pub count: u64,
}

/// Those that nobody has asked for yet.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    pairs: Mutex<BTreeMap<Ends, Times>>,
}

#[derive(Debug, Clone, Copy)]
struct Times {
    first: Duration,
    last: Duration,
    count: u64,
}

impl Handshakes {
    pub(super) fn note(&self, ends: Ends, now: Duration) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = pairs.get_mut(&ends) {
            times.last = now;
            times.count += 1;
        } else if pairs.len() < PAIRS_MAX {
            pairs.insert(ends, Times { first: now, last: now, count: 1 });
        }
    }

    /// All that was noted since the last call.
    pub(super) fn take(&self, now: Duration) -> Vec<Completed> {
        let pairs = std::mem::take(&mut *self.pairs.lock().unwrap_or_else(PoisonError::into_inner));
        let completed = |(ends, times): (Ends, Times)| Completed {
            ends,
            first_ago: now.saturating_sub(times.first),
            last_ago: now.saturating_sub(times.last),
            count: times.count,
        };
        pairs.into_iter().map(completed).collect()
    }
}
