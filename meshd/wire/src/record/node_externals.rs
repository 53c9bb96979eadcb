//! What a node asks for the plain WireGuard peers that it serves.

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::NodeId;
use crate::kind::Kind;
use crate::time::Timestamp;

/// Names all externals of a node, so that the steward gives each an address, signed by the node's identity key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct NodeExternals {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// The node that serves them.
    #[n(1)]
    pub node: NodeId,
    /// Orders them: an older set never replaces a newer one.
    #[n(2)]
    pub seq: u64,
    /// When it was said.
    #[n(3)]
    pub issued_at: Timestamp,
    /// The full set, sorted, distinct; a name that is missing gives its address back.
    #[n(4)]
    pub names: Vec<String>,
}

impl Record for NodeExternals {
    const KIND: Kind = Kind::NodeExternals;

    fn version(&self) -> u8 {
        self.version
    }
}
