//! What an organisation's root lets a steward do.

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::{OrgId, PublicKey};
use crate::kind::Kind;
use crate::time::Timestamp;

/// What a steward may sign, as a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Roles(#[n(0)] pub u8);

impl Roles {
    /// Signs node certificates.
    pub const ENROL: Self = Self(1);
    /// Signs revocations.
    pub const REVOKE: Self = Self(2);
    /// Signs policy.
    pub const POLICY: Self = Self(4);
    /// Keeps the audit log.
    pub const LOG: Self = Self(8);
    /// Is the one head steward: signs the organisation's state.
    pub const HEAD: Self = Self(16);
    /// Everything a head steward does.
    pub const ALL: Self = Self(31);

    /// Whether every role of `other` is included.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Keys and roles of a steward.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct StewardDelegation {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// Organisation that delegates.
    #[n(1)]
    pub org: OrgId,
    /// Root version that signed.
    #[n(2)]
    pub root_version: u32,
    /// Grows with the delegations of this root version.
    #[n(3)]
    pub serial: u32,
    /// Signs records.
    #[n(4)]
    pub record_key: PublicKey,
    /// Signs the heads of the audit log.
    #[n(5)]
    pub log_key: PublicKey,
    /// Countersigns the heads of other organisations' logs.
    #[n(6)]
    pub witness_key: PublicKey,
    /// Raw public key of the steward's TLS server.
    #[n(7)]
    pub tls_key: PublicKey,
    /// What the steward may sign.
    #[n(8)]
    pub roles: Roles,
    /// Label keys start with this; empty means any.
    #[n(9)]
    pub label_namespace: String,
    /// First moment of validity.
    #[n(10)]
    pub not_before: Timestamp,
    /// Last moment of validity.
    #[n(11)]
    pub not_after: Timestamp,
}

impl Record for StewardDelegation {
    const KIND: Kind = Kind::StewardDelegation;

    fn version(&self) -> u8 {
        self.version
    }
}
