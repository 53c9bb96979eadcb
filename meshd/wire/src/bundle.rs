//! What stands at a node's key in the registry: certificate, keys and proofs, each as signed bytes.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::cbor::{self, DecodeError};
use crate::limits::RECORD_BYTES_MAX;

/// NodeCert and NodeKeys of one node with their proofs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct PeerBundle {
    #[n(0)]
    format: u8,
    /// Envelope of the NodeCert.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub cert: Vec<u8>,
    /// Envelope of the NodeKeys.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub keys: Vec<u8>,
    /// Log proofs beside the records; empty where no log exists yet.
    #[n(3)]
    pub proofs: Vec<ByteVec>,
}

impl PeerBundle {
    /// Bundles a certificate and keys.
    pub fn new(cert: Vec<u8>, keys: Vec<u8>) -> Self {
        Self { format: 1, cert, keys, proofs: Vec::new() }
    }

    /// Encodes it.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Decodes it, size first.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(DecodeError::TooLarge { len: bytes.len(), max: RECORD_BYTES_MAX });
        }
        let bundle: Self = cbor::decode(bytes)?;
        if bundle.format == 1 { Ok(bundle) } else { Err(DecodeError::Malformed("bundle format".into())) }
    }
}
