//! The root of trust of an organisation.

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::{PublicKey, RecordId};
use crate::kind::Kind;
use crate::time::Timestamp;

/// Keys of an organisation and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct OrgRoot {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// Counts the organisation's roots from 1.
    #[n(1)]
    pub root_version: u32,
    /// Name for people.
    #[n(2)]
    pub name: String,
    /// Ed25519 keys, sorted, distinct.
    #[n(3)]
    pub keys: Vec<PublicKey>,
    /// How many distinct keys must sign.
    #[n(4)]
    pub threshold: u8,
    /// Last moment of validity.
    #[n(5)]
    pub not_after: Timestamp,
    /// Record id of the version before; none for version 1.
    #[n(6)]
    pub prev: Option<RecordId>,
}

impl Record for OrgRoot {
    const KIND: Kind = Kind::OrgRoot;

    fn version(&self) -> u8 {
        self.version
    }
}
