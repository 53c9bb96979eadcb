//! Tunnel keys that were seen on the wire.

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::text::words;

/// Asks for the journal of the keys that handshakes were completed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetObserved {}

impl Call for GetObserved {
    type Reply = Observed;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/observed";
}

/// The journal of a node: its own word, which nobody has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Mesh, by its id.
    pub mesh: String,
    /// Node whose journal it is.
    pub node: String,
    /// Its name.
    pub name: String,
    /// When it was asked for, in seconds since 1970.
    pub at: u64,
    /// When it began, in seconds since 1970.
    pub since: u64,
    /// Keys that had to make room for others.
    pub forgotten: u64,
    /// The keys, by node and number.
    pub keys: Vec<ObservedKey>,
}

impl Body for Observed {
    const SCHEMA: &'static str = "meshd.observed/1";
}

/// A key that a handshake was completed with, of this node or of a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedKey {
    /// Whose key it is.
    pub node: String,
    /// Name of that node, empty if it is not known any more.
    pub name: String,
    /// Organisation that answers for it.
    pub org: String,
    /// Whether it is between this node and a plain WireGuard peer: such a key is in no log.
    pub external: bool,
    /// Number of the key; 0 if it is between this node and a plain WireGuard peer.
    pub epoch: u32,
    /// X25519 public key in Base32, as audits show it.
    pub key: String,
    /// The ciphers.
    pub suite: TunnelSuite,
    /// Whether both ends have a pre-shared key besides.
    pub psk: bool,
    /// When the first handshake was completed, in seconds since 1970, by the clock of this host.
    pub first: u64,
    /// When the last one was.
    pub last: u64,
    /// How many there were, with all peers.
    pub handshakes: u64,
}

words! {
    /// The ciphers of a tunnel.
    TunnelSuite otherwise Other {
        /// Those of WireGuard.
        Wg = "wg",
        /// AES-256-GCM in their place.
        Aes = "aes",
        /// Some that this release does not know.
        Other = "other",
    }
}
