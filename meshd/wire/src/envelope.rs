//! The one signed envelope that every record travels in.

use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};

use crate::cbor::{self, DecodeError};
use crate::id::{KeyId, MeshId, RecordId, SignatureBytes};
use crate::kind::Kind;
use crate::limits::RECORD_BYTES_MAX;
use crate::record::Record;

/// Format of the envelope itself.
const FORMAT: u8 = 1;

/// A signature and the key that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Signature {
    /// Names the key.
    #[n(0)]
    pub key: KeyId,
    /// Ed25519 signature over the signed message.
    #[n(1)]
    pub bytes: SignatureBytes,
}

/// A payload of some kind with its signatures: `[1, kind, payload, [[key id, signature], …]]`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Envelope {
    #[n(0)]
    format: u8,
    #[n(1)]
    kind: u16,
    #[cbor(n(2), with = "minicbor::bytes")]
    payload: Vec<u8>,
    #[n(3)]
    sigs: Vec<Signature>,
}

impl Envelope {
    /// Wraps a record, without signatures yet.
    pub fn new<R: Record>(record: &R) -> Self {
        Self { format: FORMAT, kind: R::KIND.number(), payload: record.encode_payload(), sigs: Vec::new() }
    }

    /// Adds a signature; they stay sorted by key id, a second one of the same key replaces the first.
    pub fn sign_with(&mut self, signature: Signature) {
        self.sigs.retain(|other| other.key != signature.key);
        self.sigs.push(signature);
        self.sigs.sort_by_key(|one| one.key);
    }

    /// Encodes it. What was received is stored and forwarded as it came, never encoded again.
    pub fn to_bytes(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Decodes it: size first, then shape; signatures sorted, distinct and not too many.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(DecodeError::TooLarge { len: bytes.len(), max: RECORD_BYTES_MAX });
        }
        let envelope: Self = cbor::decode(bytes)?;
        if envelope.format != FORMAT {
            return Err(DecodeError::Malformed(format!("envelope format {}", envelope.format)));
        }
        let sigs_max = envelope.kind().map_or(16, Kind::signatures_max);
        let sorted = envelope.sigs.is_sorted_by(|a, b| a.key < b.key);
        if envelope.sigs.len() > sigs_max || !sorted {
            return Err(DecodeError::Malformed("signatures: too many, unsorted or repeated".into()));
        }
        Ok(envelope)
    }

    /// Kind, if this version knows it.
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_number(self.kind)
    }

    /// Number of the kind as it stands in the bytes.
    pub fn kind_number(&self) -> u16 {
        self.kind
    }

    /// Payload bytes as they were signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Signatures, sorted by key id.
    pub fn signatures(&self) -> &[Signature] {
        &self.sigs
    }

    /// Decodes the payload; verify signatures first (rule R1).
    pub fn record<R: Record>(&self) -> Result<R, DecodeError> {
        if self.kind != R::KIND.number() {
            return Err(DecodeError::WrongKind { expected: R::KIND, found: self.kind });
        }
        R::decode_payload(&self.payload)
    }

    /// Message that is signed: domain, kind, mesh and payload. None for a kind without a name here.
    pub fn signed_message(&self, mesh: &MeshId) -> Option<Vec<u8>> {
        let kind = self.kind()?;
        let mesh = if kind.precedes_mesh() { [0; 32] } else { mesh.0 };
        let mut message = Vec::with_capacity(64 + self.payload.len());
        message.extend_from_slice(b"meshd-v1/");
        message.extend_from_slice(kind.name().as_bytes());
        message.push(0);
        message.extend_from_slice(&mesh);
        message.extend_from_slice(&self.payload);
        Some(message)
    }

    /// Record id: hash of the signed message, so never of signature bytes.
    pub fn record_id(&self, mesh: &MeshId) -> Option<RecordId> {
        self.signed_message(mesh).map(|message| RecordId(Sha256::digest(message).into()))
    }
}
