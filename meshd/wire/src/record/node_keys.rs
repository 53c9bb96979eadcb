//! The tunnel keys of a node, numbered by epoch.

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::{NodeId, PublicKey};
use crate::kind::Kind;
use crate::time::Timestamp;

/// One tunnel key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct EpochKey {
    /// Number of the key; only grows.
    #[n(0)]
    pub epoch: u32,
    /// X25519 public key.
    #[n(1)]
    pub key: PublicKey,
    /// When it became current.
    #[n(2)]
    pub since: Timestamp,
}

/// Tunnel keys of a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct NodeKeys {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// The node.
    #[n(1)]
    pub node: NodeId,
    /// Orders the node's NodeKeys.
    #[n(2)]
    pub seq: u64,
    /// When it was signed; expires an agreement's key age later.
    #[n(3)]
    pub issued_at: Timestamp,
    /// Tunnel suites offered, as bits: 1 `wg`, 2 `aes`.
    #[n(4)]
    pub suites: u8,
    /// Post-quantum rule of the node: 0 preferred, 1 required.
    #[n(5)]
    pub post_quantum: u8,
    /// Says that the key before was stolen.
    #[n(6)]
    pub compromised: bool,
    /// Key in use.
    #[n(7)]
    pub cur: EpochKey,
    /// Key announced next.
    #[n(8)]
    pub next: Option<EpochKey>,
    /// Key used before.
    #[n(9)]
    pub prev: Option<EpochKey>,
    /// Until when `prev` is accepted.
    #[n(10)]
    pub accept_until: Option<Timestamp>,
}

impl NodeKeys {
    /// All keys, the one in use first.
    pub fn all(&self) -> impl Iterator<Item = EpochKey> + use<> {
        [Some(self.cur), self.next, self.prev].into_iter().flatten()
    }
}

impl Record for NodeKeys {
    const KIND: Kind = Kind::NodeKeys;

    fn version(&self) -> u8 {
        self.version
    }
}
