//! A node's request for admission.

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::{MeshId, OrgId, PublicKey};
use crate::kind::Kind;
use crate::time::Timestamp;

/// Request for a node certificate, signed by the identity and by the transport key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct JoinRequest {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// The mesh to join.
    #[n(1)]
    pub mesh: MeshId,
    /// The organisation to join for.
    #[n(2)]
    pub org: OrgId,
    /// Wanted host name.
    #[n(3)]
    pub name: String,
    /// Identity key.
    #[n(4)]
    pub identity: PublicKey,
    /// Transport key.
    #[n(5)]
    pub transport: PublicKey,
    /// When it was made.
    #[n(6)]
    pub issued_at: Timestamp,
    /// Envelope of the node's first NodeKeys.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub keys: Vec<u8>,
}

impl Record for JoinRequest {
    const KIND: Kind = Kind::JoinRequest;

    fn version(&self) -> u8 {
        self.version
    }
}
