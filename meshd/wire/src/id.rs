//! Identifiers and public keys: 32 bytes each, told apart by type.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

/// Reports a text that is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: expected {expected} {coding} characters")]
pub struct ParseIdError {
    /// Number of characters an identifier of this type has.
    pub expected: usize,
    /// How its bytes are written.
    pub coding: &'static str,
}

macro_rules! bytes_newtype {
    ($(#[$doc:meta])* $name:ident, $len:literal, $chars:literal) => {
        bytes_newtype!($(#[$doc])* $name, $len, $chars, BASE32_NOPAD, "base32");
    };
    ($(#[$doc:meta])* $name:ident, $len:literal, $chars:literal, $spec:ident, $coding:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// First characters, enough to tell a few apart in a table or a log line.
            pub fn short(&self) -> String {
                self.to_string().chars().take(10).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$spec.encode(&self.0).to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = ParseIdError { expected: $chars, coding: $coding };
                let bytes = $spec
                    .decode(text.trim().to_ascii_uppercase().as_bytes())
                    .map_err(|_| error.clone())?;
                bytes.try_into().map(Self).map_err(|_| error)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let bytes = d.bytes()?;
                bytes
                    .try_into()
                    .map(Self)
                    .map_err(|_| minicbor::decode::Error::message("wrong length of an identifier"))
            }
        }
    };
}

bytes_newtype!(
    /// Names a mesh: the record id of its genesis.
    MeshId, 32, 52
);
bytes_newtype!(
    /// Names an organisation: the record id of its first root.
    OrgId, 32, 52
);
bytes_newtype!(
    /// Names a node: the key id of its first identity key.
    NodeId, 32, 52
);
bytes_newtype!(
    /// Names a signing key.
    KeyId, 32, 52
);
bytes_newtype!(
    /// Names a record: the hash of its signed message, never of its signatures.
    RecordId, 32, 52
);
bytes_newtype!(
    /// Names a join token at the steward that issued it.
    TokenId, 8, 13
);
bytes_newtype!(
    /// A public key: Ed25519 for signing and TLS, X25519 for tunnels.
    PublicKey, 32, 52
);
bytes_newtype!(
    /// Names an endpoint at its node; in hexadecimal, because links of the host are named after it.
    EndpointId, 32, 64, HEXLOWER_PERMISSIVE, "hexadecimal"
);
bytes_newtype!(
    /// SHA-256 of an image.
    ImageDigest, 32, 64, HEXLOWER_PERMISSIVE, "hexadecimal"
);
bytes_newtype!(
    /// Names whom a leaf of an audit log is about: a node, an organisation or a token.
    Subject, 32, 52
);
bytes_newtype!(
    /// SHA-256 of the sorted record ids of some receipts, one behind the other.
    ReceiptsDigest, 32, 64, HEXLOWER_PERMISSIVE, "hexadecimal"
);
bytes_newtype!(
    /// 64 bytes of an Ed25519 signature.
    SignatureBytes, 64, 103
);

bytes_newtype!(
    /// First half of the SHA-256 of a value as it stands in a registry: tells the values of one place apart. Each value
    /// is signed; whoever makes two with one digest keeps peers from its own newer record, and nobody else's.
    RecordDigest, 16, 26
);

impl RecordDigest {
    /// Digest of a value.
    pub fn of(value: &[u8]) -> Self {
        let hash: [u8; 32] = Sha256::digest(value).into();
        let mut half = Self([0; 16]);
        for (to, from) in half.0.iter_mut().zip(hash) {
            *to = from;
        }
        half
    }
}

impl EndpointId {
    /// Id of what a runtime attaches: the same four words always name the same endpoint.
    pub fn of(runtime: &str, network: &str, container: &str, ifname: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"meshd-v1/endpoint\0");
        for word in [runtime, network, container, ifname] {
            // Lengths keep two lists of words apart that read alike when they are put together.
            hash.update((word.len() as u64).to_be_bytes());
            hash.update(word);
        }
        Self(hash.finalize().into())
    }
}

/// Algorithm byte of Ed25519 inside a key id.
const ALG_ED25519: u8 = 0x01;

impl PublicKey {
    /// Key id of this Ed25519 key.
    pub fn key_id(&self) -> KeyId {
        let mut hash = Sha256::new();
        hash.update(b"meshd-v1/key\0");
        hash.update([ALG_ED25519]);
        hash.update(self.0);
        KeyId(hash.finalize().into())
    }
}

impl From<KeyId> for NodeId {
    fn from(key: KeyId) -> Self {
        Self(key.0)
    }
}
