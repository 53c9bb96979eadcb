//! What the registry holds: revisions, leases and versioned values.

use std::fmt;

use bytes::Bytes;
use etcd_client::proto::PbKeyValue;

/// Number of a change; each change of the registry, also one of several keys, takes the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rev(u64);

impl Rev {
    /// Before every change; [`Registry::watch`](crate::Registry::watch) from here begins with a listing.
    pub const ZERO: Self = Self(0);

    /// The revision with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The revision of the next change.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Reads the signed number of the wire; negative ones, which no server sends, become zero.
    pub(crate) fn from_wire(number: i64) -> Self {
        Self(u64::try_from(number).unwrap_or(0))
    }

    pub(crate) fn to_wire(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Rev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Name of a lease at its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl LeaseId {
    /// A lease of a number chosen by its client, for [`Registry::lease_again`](crate::Registry::lease_again): of the
    /// bytes, what registries take as one, which is a positive number of 63 bits.
    pub fn chosen(bytes: [u8; 8]) -> Self {
        Self((i64::from_be_bytes(bytes) & i64::MAX).max(1))
    }

    /// The lease of this wire number; zero means none.
    pub(crate) fn from_wire(number: i64) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    pub(crate) const fn to_wire(self) -> i64 {
        self.0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One key with its value and history numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The key.
    pub key: Bytes,
    /// The value as stored.
    pub value: Bytes,
    /// Revision that created the key.
    pub created: Rev,
    /// Revision that wrote this value.
    pub modified: Rev,
    /// Number of writes since its creation.
    pub version: u64,
    /// The lease it vanishes with.
    pub lease: Option<LeaseId>,
}

impl From<PbKeyValue> for Versioned {
    fn from(wire: PbKeyValue) -> Self {
        let PbKeyValue { key, create_revision, mod_revision, version, value, lease } = wire;
        Self {
            key: key.into(),
            value: value.into(),
            created: Rev::from_wire(create_revision),
            modified: Rev::from_wire(mod_revision),
            version: u64::try_from(version).unwrap_or(0),
            lease: LeaseId::from_wire(lease),
        }
    }
}
