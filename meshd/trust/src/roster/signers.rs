//! Who signed an envelope (rules R4 and R5).

use meshd_wire::{Envelope, KeyId, MeshId, PublicKey};

use super::refusal::Refusal;
use crate::key::verify_signature;

/// Verifies every signature; one of an unknown key, or one that does not verify, refuses the whole.
/// The ids returned are distinct, because an envelope's signatures are.
pub(super) fn verify<F>(envelope: &Envelope, mesh: &MeshId, mut key_of: F) -> Result<Vec<KeyId>, Refusal>
where
    F: FnMut(&KeyId) -> Result<PublicKey, Refusal>,
{
    if envelope.signatures().is_empty() {
        return Err(Refusal::TooFewSigners { found: 0, needed: 1 });
    }
    let mut signers = Vec::with_capacity(envelope.signatures().len());
    for signature in envelope.signatures() {
        let key = key_of(&signature.key)?;
        if !verify_signature(envelope, mesh, &key) {
            return Err(Refusal::BadSignature);
        }
        signers.push(signature.key);
    }
    Ok(signers)
}

/// Verifies that exactly one key signed, and which.
pub(super) fn verify_one<F>(envelope: &Envelope, mesh: &MeshId, key_of: F) -> Result<KeyId, Refusal>
where
    F: FnMut(&KeyId) -> Result<PublicKey, Refusal>,
{
    let signers = verify(envelope, mesh, key_of)?;
    match signers.as_slice() {
        [one] => Ok(*one),
        _ => Err(Refusal::Invalid("more than one signature")),
    }
}

/// Finds a key by its id among some.
pub(super) fn find(keys: &[PublicKey], id: &KeyId) -> Result<PublicKey, Refusal> {
    keys.iter().find(|key| key.key_id() == *id).copied().ok_or(Refusal::UnknownSigner)
}

/// Checks that enough distinct keys of a root signed.
pub(super) fn check_threshold(signers: &[KeyId], keys: &[PublicKey], threshold: u8) -> Result<(), Refusal> {
    let found = keys.iter().filter(|key| signers.contains(&key.key_id())).count();
    let needed = usize::from(threshold);
    if found >= needed && needed > 0 { Ok(()) } else { Err(Refusal::TooFewSigners { found, needed }) }
}
