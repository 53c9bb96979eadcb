//! Freshness of an organisation and the versions in force.

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::{OrgId, RecordId};
use crate::kind::Kind;
use crate::time::Timestamp;

/// Version and id of a component in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Versioned {
    /// Its count (or, of a checkpoint, its size).
    #[n(0)]
    pub n: u64,
    /// Its record id.
    #[n(1)]
    pub id: RecordId,
}

/// Signed by the head steward every 60 s.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct OrgState {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// The organisation.
    #[n(1)]
    pub org: OrgId,
    /// Root version under which it was signed.
    #[n(2)]
    pub root_version: u32,
    /// Orders the states of this root version.
    #[n(3)]
    pub seq: u64,
    /// When it was signed.
    #[n(4)]
    pub issued_at: Timestamp,
    /// Version of agreement 0.
    #[n(5)]
    pub agreement_version: u32,
    /// Policy in force.
    #[n(6)]
    pub policy: Option<Versioned>,
    /// Revocations in force.
    #[n(7)]
    pub revocations: Option<Versioned>,
    /// Newest head of the audit log.
    #[n(8)]
    pub checkpoint: Option<Versioned>,
}

impl Record for OrgState {
    const KIND: Kind = Kind::OrgState;

    fn version(&self) -> u8 {
        self.version
    }
}
