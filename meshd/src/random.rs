//! Random bytes of the system.

/// A number that is hard to guess from outside; no secret hangs on it.
pub fn number() -> u64 {
    let mut bytes = [0; 8];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::error!("no randomness from the system");
    }
    u64::from_le_bytes(bytes)
}

/// Fills a key; false if the system gives no random bytes.
pub fn fill(key: &mut [u8; 32]) -> bool {
    aws_lc_rs::rand::fill(key).is_ok()
}
