//! Who may do what.

use std::fmt;

use crate::range::KeyRange;
use crate::server::limits::Quota;

/// The key with which a client has authenticated its connection, if any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClientKey(pub Option<[u8; 32]>);

impl ClientKey {
    /// A client without a key.
    pub const NONE: Self = Self(None);
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("ClientKey(none)"),
            Some(key) => {
                f.write_str("ClientKey(")?;
                key.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("…)")
            }
        }
    }
}

/// An operation that a client asks for.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// Reading, comparing or watching every key of the range.
    Read {
        /// The whole range.
        range: &'a KeyRange,
    },
    /// Writing one key.
    Put {
        /// The key.
        key: &'a [u8],
        /// The value to be written.
        value: &'a [u8],
    },
    /// Deleting every key of the range.
    Delete {
        /// The whole range.
        range: &'a KeyRange,
    },
    /// Taking, renewing, reading or ending a lease; besides, a lease serves only the client that took it.
    Lease,
    /// Reading the server's version, size and revision.
    Status,
    /// Forgetting history.
    Compact,
}

/// The operation is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    /// Told to the client.
    pub reason: String,
}

impl Denied {
    /// A denial with its reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Decides about every operation of every client.
pub trait Authorise: Send + Sync {
    /// Whether `client` may do `op` now; asked again for each batch of events of a running watch.
    fn allows(&self, client: &ClientKey, op: Op<'_>) -> Result<(), Denied>;

    /// How much `client` may keep in the registry.
    fn quota(&self, client: &ClientKey) -> Quota {
        let _ = client;
        Quota::default()
    }
}
