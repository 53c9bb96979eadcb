//! A private tunnel key: at one place in memory from its beginning until it is wiped.

use std::sync::Arc;

use meshd_tunnel::LocalKey;
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};
use zeroize::Zeroizing;

use crate::random;

/// Shared, because each move of the bytes themselves would leave a copy behind.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Arc<Zeroizing<[u8; 32]>>);

impl PrivateKey {
    /// A fresh key; none if the system gives no random bytes.
    pub fn random() -> Option<Self> {
        Self::filled(random::fill)
    }

    /// The same key at a place of its own.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::filled(|key| {
            let fits = bytes.len() == key.len();
            key.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            fits
        })
    }

    /// In the place of a key that is kept elsewhere.
    pub fn none() -> Self {
        Self(Arc::default())
    }

    /// Whether there is no key.
    pub fn is_none(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    fn filled(fill: impl FnOnce(&mut [u8; 32]) -> bool) -> Option<Self> {
        let mut key = Arc::new(Zeroizing::new([0; 32]));
        fill(Arc::get_mut(&mut key)?).then_some(Self(key))
    }

    /// The key as the tunnels take it.
    pub fn local(&self) -> LocalKey {
        local(&self.0)
    }
}

/// A key as the tunnels take it.
pub fn local(private: &Zeroizing<[u8; 32]>) -> LocalKey {
    LocalKey::from_bytes(private).expect("any 32 bytes are a private key")
}

impl<C> Encode<C> for PrivateKey {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
        e.bytes(self.0.as_slice())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for PrivateKey {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
        Self::from_bytes(d.bytes()?).ok_or_else(|| DecodeError::message("wrong length of a private key"))
    }
}
