//! Ed25519 keys: making and verifying the signatures of envelopes.

use std::fmt;

use ed25519_dalek::Signer;
use meshd_wire::id::SignatureBytes;
use meshd_wire::{Envelope, KeyId, MeshId, PublicKey, Record, Signature};
use zeroize::Zeroizing;

/// A secret Ed25519 key; wiped when dropped, never shown.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Takes 32 secret random bytes as the key's seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// Seed, to be stored where only its owner reads.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Key id of the public half.
    pub fn key_id(&self) -> KeyId {
        self.public().key_id()
    }

    /// Adds this key's signature to an envelope; false for a kind this release does not know.
    pub fn sign_envelope(&self, envelope: &mut Envelope, mesh: &MeshId) -> bool {
        let Some(message) = envelope.signed_message(mesh) else { return false };
        let bytes = SignatureBytes(self.0.sign(&message).to_bytes());
        envelope.sign_with(Signature { key: self.key_id(), bytes });
        true
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.key_id().short())
    }
}

/// Signs a record with each of the keys.
pub fn sign<R: Record>(record: &R, mesh: &MeshId, keys: &[&SigningKey]) -> Envelope {
    let mut envelope = Envelope::new(record);
    for key in keys {
        let known = key.sign_envelope(&mut envelope, mesh);
        debug_assert!(known, "every record type has a known kind");
    }
    envelope
}

/// Whether the envelope carries a valid signature of this very key for this mesh.
///
/// Strict: one encoding of key, R and s only, and no key or R of small order, so that nobody can turn
/// one valid signature into another.
pub fn verify_signature(envelope: &Envelope, mesh: &MeshId, key: &PublicKey) -> bool {
    let id = key.key_id();
    let Some(signature) = envelope.signatures().iter().find(|one| one.key == id) else { return false };
    let Some(message) = envelope.signed_message(mesh) else { return false };
    let Some(verifying) = verifying_key(key) else { return false };
    let signature = ed25519_dalek::Signature::from_bytes(&signature.bytes.0);
    verifying.verify_strict(&message, &signature).is_ok()
}

/// Whether these bytes are the one canonical encoding of a usable Ed25519 key.
pub fn is_signing_key(key: &PublicKey) -> bool {
    verifying_key(key).is_some()
}

fn verifying_key(key: &PublicKey) -> Option<ed25519_dalek::VerifyingKey> {
    let verifying = ed25519_dalek::VerifyingKey::from_bytes(&key.0).ok()?;
    // Decompression reduces y modulo p; compressing again shows whether the bytes were canonical.
    let canonical = verifying.to_edwards().compress().to_bytes() == key.0;
    (canonical && !verifying.is_weak()).then_some(verifying)
}
