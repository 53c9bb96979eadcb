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
        let bytes = self.sign_bytes(&message);
        envelope.sign_with(Signature { key: self.key_id(), bytes });
        true
    }

    /// Signs bytes that say themselves what they are good for.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> SignatureBytes {
        SignatureBytes(self.0.sign(message).to_bytes())
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
    let signature = envelope.signatures().iter().find(|one| one.key == id);
    let message = envelope.signed_message(mesh);
    signature.zip(message).is_some_and(|(signature, message)| verify_bytes(&message, key, &signature.bytes))
}

/// A public Ed25519 key that was checked and unpacked once, for many signatures.
#[derive(Debug, Clone)]
pub struct VerifyingKey {
    id: KeyId,
    key: ed25519_dalek::VerifyingKey,
}

impl VerifyingKey {
    /// Takes a key; none if it is not the one canonical encoding of a usable one.
    pub fn new(key: &PublicKey) -> Option<Self> {
        verifying_key(key).map(|verifying| Self { id: key.key_id(), key: verifying })
    }

    /// Whether the envelope carries a valid signature of this key, as strictly as [`verify_signature`].
    pub fn has_signed(&self, envelope: &Envelope, mesh: &MeshId) -> bool {
        let signature = envelope.signatures().iter().find(|one| one.key == self.id);
        let message = envelope.signed_message(mesh);
        signature
            .zip(message)
            .is_some_and(|(signature, message)| verifies(&message, &self.key, &signature.bytes))
    }
}

/// Whether this is the key's signature of these bytes, as strictly as [`verify_signature`].
pub(crate) fn verify_bytes(message: &[u8], key: &PublicKey, signature: &SignatureBytes) -> bool {
    verifying_key(key).is_some_and(|key| verifies(message, &key, signature))
}

fn verifies(message: &[u8], key: &ed25519_dalek::VerifyingKey, signature: &SignatureBytes) -> bool {
    key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok()
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

#[cfg(test)]
mod tests {
    use meshd_wire::record::{NodeKeys, NodeLeave};
    use meshd_wire::{NodeId, Timestamp};

    use super::*;

    const MESH: MeshId = MeshId([5; 32]);
    /// Order of the group, little endian: s and s + L give the same point.
    const GROUP_ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];

    #[test]
    fn rfc_8032_key_pair_is_derived_from_its_seed() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let public = [
            0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
            0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
        ];
        let key = SigningKey::from_seed(seed);
        assert_eq!(key.public(), PublicKey(public));
        assert_eq!(*key.seed(), seed);
    }

    #[test]
    fn a_signature_verifies_for_its_key_and_mesh() {
        let (a, b) = (key(1), key(2));
        let envelope = sign(&leave(), &MESH, &[&b, &a]);
        assert_eq!(envelope.signatures().len(), 2);
        assert!(verify_signature(&envelope, &MESH, &a.public()));
        assert!(verify_signature(&envelope, &MESH, &b.public()));
    }

    #[test]
    fn another_key_or_mesh_does_not_verify() {
        let envelope = sign(&leave(), &MESH, &[&key(1)]);
        assert!(!verify_signature(&envelope, &MESH, &key(2).public()));
        assert!(!verify_signature(&envelope, &MeshId([6; 32]), &key(1).public()));
    }

    #[test]
    fn a_signature_under_the_name_of_another_key_does_not_verify() {
        let stolen = sign(&leave(), &MESH, &[&key(1)]).signatures()[0].bytes;
        let mut envelope = Envelope::new(&leave());
        envelope.sign_with(Signature { key: key(2).key_id(), bytes: stolen });
        assert!(!verify_signature(&envelope, &MESH, &key(2).public()));
        assert!(!verify_signature(&envelope, &MESH, &key(1).public()));
    }

    #[test]
    fn a_changed_payload_does_not_verify() {
        let signature = sign(&leave(), &MESH, &[&key(1)]).signatures()[0];
        let mut envelope = Envelope::new(&NodeLeave { issued_at: Timestamp(1), ..leave() });
        envelope.sign_with(signature);
        assert!(!verify_signature(&envelope, &MESH, &key(1).public()));
    }

    #[test]
    fn a_signature_of_another_kind_does_not_verify() {
        let signed = sign(&leave(), &MESH, &[&key(1)]);
        let bytes = signed.to_bytes();
        // The kind is the integer after format 1: 65 for a farewell. The payload stays as it was signed.
        assert_eq!(bytes[..4], [0x84, 0x01, 0x18, 65]);
        let other_kind = [&[0x84, 0x01, 0x18, 64], &bytes[4..]].concat();
        let envelope = Envelope::from_bytes(&other_kind).unwrap();
        assert_eq!(envelope.payload(), signed.payload());
        assert!(!verify_signature(&envelope, &MESH, &key(1).public()));
        assert!(envelope.record::<NodeKeys>().is_err());
    }

    #[test]
    fn an_unknown_kind_neither_verifies_nor_gets_signed() {
        let mut envelope = Envelope::from_bytes(&[0x84, 0x01, 0x19, 0x03, 0xe7, 0x41, 0x00, 0x80]).unwrap();
        assert!(!key(1).sign_envelope(&mut envelope, &MESH));
        assert!(!verify_signature(&envelope, &MESH, &key(1).public()));
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_signature_does_not_verify() {
        let signature = sign(&leave(), &MESH, &[&key(1)]).signatures()[0];
        for bit in 0..512 {
            let mut bytes = signature.bytes;
            bytes.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifies_with(signature.key, bytes, &key(1).public()), "bit {bit}");
        }
    }

    #[test]
    fn a_malleated_signature_does_not_verify() {
        let signature = sign(&leave(), &MESH, &[&key(1)]).signatures()[0];
        let mut bytes = signature.bytes;
        let mut carry = 0;
        for (byte, order) in bytes.0[32..].iter_mut().zip(GROUP_ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(carry, 0, "s + L fits into 32 bytes");
        assert!(verifies_with(signature.key, signature.bytes, &key(1).public()));
        assert!(!verifies_with(signature.key, bytes, &key(1).public()));
    }

    #[test]
    fn keys_of_small_order_are_no_signing_keys() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        for weak in [identity, minus_one, [0; 32]] {
            let weak = PublicKey(weak);
            assert!(!is_signing_key(&weak), "{weak:?}");
            // With R the neutral element and s zero such a key would sign everything.
            let mut bytes = SignatureBytes([0; 64]);
            bytes.0[0] = 1;
            assert!(!verifies_with(weak.key_id(), bytes, &weak));
        }
    }

    #[test]
    fn keys_with_a_second_encoding_are_no_signing_keys() {
        // y = p + n decodes to the same point as y = n, for the few n below 19.
        for n in 0..19u8 {
            let mut unreduced = [0xff; 32];
            (unreduced[0], unreduced[31]) = (0xed + n, 0x7f);
            for sign in [0x00, 0x80] {
                unreduced[31] = 0x7f | sign;
                assert!(!is_signing_key(&PublicKey(unreduced)), "p + {n}");
            }
        }
        assert!(is_signing_key(&key(1).public()));
    }

    #[test]
    fn debug_shows_the_public_key_id_only() {
        let shown = format!("{:?}", key(0xc3));
        assert_eq!(shown, format!("SigningKey({})", key(0xc3).key_id().short()));
    }

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed([byte; 32])
    }

    fn leave() -> NodeLeave {
        NodeLeave { version: 1, node: NodeId([1; 32]), issued_at: Timestamp(1_800_000_000) }
    }

    fn verifies_with(id: KeyId, bytes: SignatureBytes, key: &PublicKey) -> bool {
        let mut envelope = Envelope::new(&leave());
        envelope.sign_with(Signature { key: id, bytes });
        verify_signature(&envelope, &MESH, key)
    }
}
