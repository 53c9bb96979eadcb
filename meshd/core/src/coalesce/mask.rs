//! Comparison of headers, some bits of which are free.

use crate::upper::tcp::PSH;

/// Whether two packets agree in the bits of a mask.
#[inline]
pub(super) fn agree<const WORDS: usize>(mask: &[u64; WORDS], one: &[u8], other: &[u8]) -> bool {
    let words = |packet| -> Option<&[[u8; 8]; WORDS]> { <[u8]>::as_chunks(packet).0.first_chunk() };
    let (Some(one), Some(other)) = (words(one), words(other)) else { return false };
    let difference = one.iter().zip(other).zip(mask).fold(0, |difference, ((one, other), mask)| {
        difference | (u64::from_ne_bytes(*one) ^ u64::from_ne_bytes(*other)) & mask
    });
    difference == 0
}

/// A mask of all bits but those of `free` bytes, from and to, and of PSH in the byte `flags_at`.
pub(super) const fn mask<const WORDS: usize>(free: &[[usize; 2]], flags_at: usize) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let mut at = 0;
    while at < WORDS * 8 {
        let mut byte = if at == flags_at { !PSH } else { 0xff };
        let mut field = 0;
        while field < free.len() {
            if free[field][0] <= at && at < free[field][1] {
                byte = 0;
            }
            field += 1;
        }
        let mut bytes = [0; 8];
        bytes[at % 8] = byte;
        words[at / 8] |= u64::from_ne_bytes(bytes);
        at += 1;
    }
    words
}
