//! This node's static keys.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::noise::KeyPair;

/// The bytes of a private key were refused by the curve library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a private key")]
pub struct BadKey;

/// A static X25519 key: one key epoch of this node in one network.
#[derive(Clone)]
pub struct LocalKey(Arc<KeyPair>);

impl LocalKey {
    /// Derives the public key.
    pub fn from_bytes(private: &Zeroizing<[u8; 32]>) -> Result<Self, BadKey> {
        KeyPair::from_private(private).map(|pair| Self(Arc::new(pair))).map_err(|_| BadKey)
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        *self.0.public()
    }

    pub(crate) fn pair(&self) -> &Arc<KeyPair> {
        &self.0
    }
}

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("public", &self.public()).finish_non_exhaustive()
    }
}
