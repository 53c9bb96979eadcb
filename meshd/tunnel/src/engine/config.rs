//! What an engine is told.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::{KeyId, PeerId, Suite, Tai64n};

/// Settings of an engine.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Receiving threads; the low bits of an index name one of them.
    pub shards: u8,
    /// Most initiations sent in a second.
    pub initiations_per_s_max: u32,
    /// Handshake messages waiting at which senders must prove their address.
    pub queue_depth_loaded: usize,
    /// The time now, of the clock every other `now` is read from.
    pub started: Duration,
    /// Timestamps of initiations start here: later than any that an earlier run of this node has sent.
    pub clock_floor: Tai64n,
}

/// A pre-shared key, mixed into every handshake of a tunnel.
#[derive(Clone, PartialEq, Eq)]
pub struct Psk(Zeroizing<[u8; 32]>);

/// One tunnel. It is never changed: other keys, another suite or pre-shared key make another tunnel.
#[derive(Debug, Clone)]
pub struct TunnelSpec {
    /// Which of this node's static keys it uses.
    pub key: KeyId,
    /// The node at the other end.
    pub peer: PeerId,
    /// That node's static public key.
    pub peer_key: [u8; 32],
    /// The epoch of this node's key, for the caller.
    pub my_epoch: u32,
    /// The epoch of the peer's key, for the caller.
    pub peer_epoch: u32,
    /// The ciphers.
    pub suite: Suite,
    /// The pre-shared key, if there is one.
    pub psk: Option<Psk>,
    /// Interval of keepalives that are sent whether there is traffic or not, from the first message on.
    pub keepalive: Option<Duration>,
}

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// The caller's name of the path; zero for a datagram straight from its source.
    pub path: u32,
    /// The sender as the socket saw it: what a cookie is bound to, nothing else.
    pub source: SocketAddr,
}

impl Psk {
    /// Takes the 32 bytes both ends know.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl TunnelSpec {
    /// The key the handshake mixes in: zeros stand for none.
    pub(crate) fn psk_bytes(&self) -> &[u8; 32] {
        const NONE: &[u8; 32] = &[0; 32];
        self.psk.as_ref().map_or(NONE, |Psk(bytes)| bytes)
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(..)")
    }
}
