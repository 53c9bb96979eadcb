//! Random bytes of the system.

use zeroize::Zeroizing;

/// A number that is hard to guess from outside; no secret hangs on it.
pub fn number() -> u64 {
    let mut bytes = [0; 8];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::error!("no randomness from the system");
    }
    u64::from_le_bytes(bytes)
}

/// A private key; none if the system gives no random bytes.
pub fn private_key() -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *bytes).ok().map(|()| bytes)
}
