//! What an organisation has taken back.

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::{NodeId, OrgId};
use crate::kind::Kind;
use crate::time::Timestamp;

/// Full set of an organisation's revocations; replaces the one before.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Revocations {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// The organisation.
    #[n(1)]
    pub org: OrgId,
    /// Root version under which it was signed.
    #[n(2)]
    pub root_version: u32,
    /// Counts the revocations of this root version.
    #[n(3)]
    pub n: u64,
    /// When it was signed.
    #[n(4)]
    pub issued_at: Timestamp,
    /// Revoked nodes, sorted.
    #[n(5)]
    pub nodes: Vec<NodeId>,
    /// Revoked certificate serials, sorted.
    #[n(6)]
    pub certs: Vec<u64>,
    /// Organisations this one no longer talks to, sorted.
    #[n(7)]
    pub severed: Vec<OrgId>,
}

impl Record for Revocations {
    const KIND: Kind = Kind::Revocations;

    fn version(&self) -> u8 {
        self.version
    }
}
