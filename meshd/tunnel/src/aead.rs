//! The transport cipher of one direction of a session.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::{Suite, TAG_LEN};

/// Bytes that one packet may be padded with: the longest pad class is 64 bytes.
pub(crate) const PADDING_MAX: usize = 64;
/// Packets up to this length are faster copied than scattered when they are padded and the cipher is AES-GCM.
const AES_COPY_MAX: usize = 128;

/// What packets are padded with.
static ZEROS: [u8; PADDING_MAX] = [0; PADDING_MAX];

/// A keyed cipher that takes its nonce from a packet counter; the key is wiped when it is dropped.
pub(crate) struct Aead {
    key: LessSafeKey,
    suite: Suite,
}

/// The cipher refused: a wrong tag when opening.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed;

impl Aead {
    /// Takes a key for one suite.
    pub(crate) fn new(suite: Suite, key: &[u8; 32]) -> Self {
        let algorithm = match suite {
            Suite::Wg => &CHACHA20_POLY1305,
            Suite::Aes => &AES_256_GCM,
        };
        let key = UnboundKey::new(algorithm, key).expect("both ciphers take 32 bytes");
        Self { key: LessSafeKey::new(key), suite }
    }

    /// Seals `packet` and `padding` zeros into `out`, which is exactly as long as both and the tag.
    pub(crate) fn seal(
        &self,
        counter: u64,
        packet: &[u8],
        padding: usize,
        out: &mut [u8],
    ) -> Result<(), Failed> {
        self.seal_with(nonce(self.suite, counter), &[], packet, padding, out)
    }

    /// Opens a ciphertext and its tag in place; what it leaves behind a wrong tag is noise.
    pub(crate) fn open(&self, counter: u64, sealed: &mut [u8]) -> Result<(), Failed> {
        self.open_with(nonce(self.suite, counter), &[], sealed)
    }

    #[inline]
    fn seal_with(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        packet: &[u8],
        padding: usize,
        out: &mut [u8],
    ) -> Result<(), Failed> {
        if padding > 0 {
            return self.seal_padded(nonce, aad, packet, padding, out);
        }
        let (ciphertext, tag) = out.split_at_mut_checked(packet.len()).ok_or(Failed)?;
        let sealed =
            self.key.seal_out_of_place_scatter(once(nonce), Aad::from(aad), packet, ciphertext, &[], tag);
        sealed.map_err(|_| Failed)
    }

    /// Apart from the full packets of a train, which need no padding.
    #[inline(never)]
    fn seal_padded(
        &self,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        packet: &[u8],
        padding: usize,
        out: &mut [u8],
    ) -> Result<(), Failed> {
        let sealed = if self.copies(packet.len()) {
            let (ciphertext, tag) = out.split_at_mut_checked(packet.len() + padding).ok_or(Failed)?;
            let (head, zeros) = ciphertext.split_at_mut_checked(packet.len()).ok_or(Failed)?;
            head.copy_from_slice(packet);
            zeros.fill(0);
            self.key.seal_in_place_scatter(once(nonce), Aad::from(aad), ciphertext, &[], tag)
        } else {
            let (ciphertext, rest) = out.split_at_mut_checked(packet.len()).ok_or(Failed)?;
            let zeros = ZEROS.get(..padding).ok_or(Failed)?;
            self.key.seal_out_of_place_scatter(once(nonce), Aad::from(aad), packet, ciphertext, zeros, rest)
        };
        sealed.map_err(|_| Failed)
    }

    fn open_with(&self, nonce: [u8; NONCE_LEN], aad: &[u8], sealed: &mut [u8]) -> Result<(), Failed> {
        let plaintext_len = sealed.len().checked_sub(TAG_LEN).ok_or(Failed)?;
        let (ciphertext, tag) = sealed.split_at_mut_checked(plaintext_len).ok_or(Failed)?;
        // Not `open_in_place`: that moves the plaintext onto itself afterwards.
        match self.key.open_in_place_separate_tag(once(nonce), Aad::from(aad), tag, ciphertext) {
            Ok(_) => Ok(()),
            Err(_) => Err(Failed),
        }
    }

    /// Whether a padded packet is copied and sealed in place. Sealing from where it lies saves the copy, but the
    /// zeros behind it then cost ChaCha20 a call of its own, 70 to 90 ns, and AES-GCM the price of 128 bytes.
    fn copies(&self, packet_len: usize) -> bool {
        match self.suite {
            Suite::Wg => true,
            Suite::Aes => packet_len <= AES_COPY_MAX,
        }
    }
}

/// WireGuard counts little-endian, Noise counts AES-GCM big-endian; the wire is little-endian in both.
fn nonce(suite: Suite, counter: u64) -> [u8; NONCE_LEN] {
    let counter = match suite {
        Suite::Wg => counter.to_le_bytes(),
        Suite::Aes => counter.to_be_bytes(),
    };
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&counter);
    nonce
}

/// Made where it is used: it wipes itself when it is dropped, also on a way that returns early.
fn once(nonce: [u8; NONCE_LEN]) -> Nonce {
    Nonce::assume_unique_for_key(nonce)
}

impl fmt::Debug for Aead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aead").field("suite", &self.suite).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
