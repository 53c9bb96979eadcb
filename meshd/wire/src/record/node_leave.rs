//! A node's farewell.

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::NodeId;
use crate::kind::Kind;
use crate::time::Timestamp;

/// Asks the steward to revoke the signer, signed by its identity key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct NodeLeave {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// The node that leaves.
    #[n(1)]
    pub node: NodeId,
    /// When it was said.
    #[n(2)]
    pub issued_at: Timestamp,
}

impl Record for NodeLeave {
    const KIND: Kind = Kind::NodeLeave;

    fn version(&self) -> u8 {
        self.version
    }
}
