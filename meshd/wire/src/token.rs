//! One-time join tokens: what an administrator hands to a new host.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::id::{MeshId, OrgId, TokenId};
use crate::time::Timestamp;

/// Secret part of a token. It never travels; only proofs made with it do.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct TokenSecret(pub [u8; 16]);

/// Everything a new node needs to find and verify its mesh.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The mesh.
    pub mesh: MeshId,
    /// The organisation that invites.
    pub org: OrgId,
    /// Names the token at the steward.
    pub id: TokenId,
    /// Proves that the holder was invited.
    pub secret: TokenSecret,
    /// Oldest root version the newcomer may accept.
    pub root_version_min: u32,
    /// Oldest version of agreement 0 the newcomer may accept.
    pub agreement_version_min: u32,
    /// Last moment of validity.
    pub not_after: Timestamp,
    /// Where stewards listen, best first, 1 to 4.
    pub stewards: Vec<SocketAddr>,
}

/// Reports a text that is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// Letters other than those of base32.
    #[error("it has characters that no token has")]
    Alphabet,
    /// Too short, cut off, or mistyped.
    #[error("its checksum does not fit: it is cut off or mistyped")]
    Checksum,
    /// Made by a newer release.
    #[error("its format {0} is not known to this version")]
    Format(u8),
    /// A hint that is no address.
    #[error("it is malformed")]
    Malformed,
}
