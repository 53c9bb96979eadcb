//! Hashes of RFC 6962: of leaves, and of the nodes above them.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use super::strict;

/// Stands before a leaf, so that no leaf hashes like a node.
const LEAF: [u8; 1] = [0x00];
/// Stands before the two children of a node.
const NODE: [u8; 1] = [0x01];

/// A hash of a tree: of a leaf, of a node, or of all of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash(pub [u8; TreeHash::LEN]);

/// Reports a text that is not a hash in Base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a hash: expected 44 base64 characters")]
pub struct ParseHashError;

impl TreeHash {
    /// Bytes of a hash.
    pub const LEN: usize = 32;

    /// Root of the tree without leaves.
    pub fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// Hash of a leaf's bytes.
    pub fn leaf(bytes: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(LEAF);
        hash.update(bytes);
        Self(hash.finalize().into())
    }

    /// Hash of the node above two others.
    pub fn node(left: &Self, right: &Self) -> Self {
        let mut hash = Sha256::new();
        hash.update(NODE);
        hash.update(left.0);
        hash.update(right.0);
        Self(hash.finalize().into())
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeHash({self})")
    }
}

impl FromStr for TreeHash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, ParseHashError> {
        let bytes = strict::base64(text).ok_or(ParseHashError)?;
        bytes.try_into().map(Self).map_err(|_| ParseHashError)
    }
}
