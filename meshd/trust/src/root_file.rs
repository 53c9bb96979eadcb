//! The offline root key as a text file, optionally sealed with a passphrase.
//!
//! Between a first and a last line stands Base32 of: version (1 byte), seal (1 byte), body, and the first
//! 4 bytes of SHA-256 over a domain and all before. Unsealed, the body is the seed. Sealed, it is salt
//! (16), nonce (12) and the seed under ChaCha20-Poly1305 (32 + 16), with the Argon2id of the passphrase
//! as key and version, seal and salt as associated data. The checksum tells damage from a wrong passphrase.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::key::SigningKey;

/// Random bytes that sealing takes: salt and nonce.
pub const SEAL_RANDOM_LEN: usize = SALT_LEN + NONCE_LEN;
/// Longest text that is looked at; a root file has under 300 bytes, an editor may add some.
pub const TEXT_LEN_MAX: usize = 4096;

const FIRST_LINE: &str = "-----BEGIN MESHD ROOT KEY-----";
const LAST_LINE: &str = "-----END MESHD ROOT KEY-----";
const LINE_LEN: usize = 64;
const VERSION: u8 = 1;
const SEAL_NONE: u8 = 0;
const SEAL_PASSPHRASE: u8 = 1;
const SEED_LEN: usize = 32;
const SALT_LEN: usize = 16;
const NONCE_LEN: usize = 12;
const TAG_LEN: usize = 16;
const CHECKSUM_LEN: usize = 4;
const CHECKSUM_DOMAIN: &[u8] = b"meshd-v1/root-file-checksum\0";
/// RFC 9106, section 4, second recommendation: 64 MiB, three passes, four lanes. Part of version 1.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;

/// Why a root key can't be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// An empty passphrase protects nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// The passphrase can't be turned into a key.
    #[error("the passphrase can't be turned into a key")]
    Derive,
}

/// Why a root file can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootFileError {
    /// First or last line is missing.
    #[error("it is not a root key file")]
    NotRootKey,
    /// Some characters are missing or have changed.
    #[error("it is damaged: its checksum does not fit")]
    Damaged,
    /// Made by a newer release.
    #[error("its version {0} is not known to this release")]
    Version(u8),
    /// It is sealed, and no passphrase was given.
    #[error("it is sealed with a passphrase")]
    PassphraseNeeded,
    /// The passphrase does not open it.
    #[error("the passphrase does not open it")]
    WrongPassphrase,
    /// The passphrase can't be turned into a key.
    #[error("the passphrase can't be turned into a key")]
    Derive,
}

/// Writes a key as text; with a passphrase only that opens it again.
///
/// `random` must never be used twice.
pub fn seal(
    key: &SigningKey,
    passphrase: Option<&[u8]>,
    random: &[u8; SEAL_RANDOM_LEN],
) -> Result<Zeroizing<String>, SealError> {
    // Allocated once, so that no copy of the seed stays behind in memory that grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LINE_LEN * 2));
    bytes.push(VERSION);
    let mut seed = key.seed();
    match passphrase {
        None => {
            bytes.push(SEAL_NONE);
            bytes.extend_from_slice(&*seed);
        }
        Some([]) => return Err(SealError::EmptyPassphrase),
        Some(passphrase) => {
            bytes.push(SEAL_PASSPHRASE);
            let (salt, nonce) = random.split_at(SALT_LEN);
            bytes.extend_from_slice(salt);
            let cipher = cipher(passphrase, salt).ok_or(SealError::Derive)?;
            let tag = match cipher.encrypt_in_place_detached(nonce.into(), &bytes, &mut *seed) {
                Ok(tag) => tag,
                Err(error) => unreachable!("32 bytes are never too long to encrypt: {error}"),
            };
            bytes.extend_from_slice(nonce);
            bytes.extend_from_slice(&*seed);
            bytes.extend_from_slice(&tag);
        }
    }
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum);
    Ok(armour(&bytes))
}

/// Reads a key from text. A passphrase is not looked at when the file is not sealed.
pub fn open(text: &str, passphrase: Option<&[u8]>) -> Result<SigningKey, RootFileError> {
    let bytes = unarmour(text)?;
    let (content, sum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(RootFileError::Damaged)?;
    if checksum(content) != *sum {
        return Err(RootFileError::Damaged);
    }
    let ([version, seal], body) = content.split_first_chunk::<2>().ok_or(RootFileError::Damaged)?;
    match (*version, *seal) {
        (VERSION, SEAL_NONE) => {
            let seed = <[u8; SEED_LEN]>::try_from(body).map_err(|_| RootFileError::Damaged)?;
            Ok(SigningKey::from_seed(seed))
        }
        (VERSION, SEAL_PASSPHRASE) => {
            let passphrase = passphrase.ok_or(RootFileError::PassphraseNeeded)?;
            unseal(content, body, passphrase)
        }
        (VERSION, _) => Err(RootFileError::Damaged),
        (version, _) => Err(RootFileError::Version(version)),
    }
}

/// Whether a text is a sealed root file, so that a passphrase has to be asked for.
pub fn is_sealed(text: &str) -> bool {
    matches!(open(text, None), Err(RootFileError::PassphraseNeeded))
}

fn unseal(content: &[u8], body: &[u8], passphrase: &[u8]) -> Result<SigningKey, RootFileError> {
    let (salt, rest) = body.split_first_chunk::<SALT_LEN>().ok_or(RootFileError::Damaged)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(RootFileError::Damaged)?;
    let (sealed, tag) = rest.split_first_chunk::<SEED_LEN>().ok_or(RootFileError::Damaged)?;
    let tag = <[u8; TAG_LEN]>::try_from(tag).map_err(|_| RootFileError::Damaged)?;
    let associated = content.get(..2 + SALT_LEN).ok_or(RootFileError::Damaged)?;
    let mut seed = Zeroizing::new(*sealed);
    cipher(passphrase, salt)
        .ok_or(RootFileError::Derive)?
        .decrypt_in_place_detached(nonce.into(), associated, &mut *seed, &tag.into())
        .map_err(|_| RootFileError::WrongPassphrase)?;
    Ok(SigningKey::from_seed(*seed))
}

fn cipher(passphrase: &[u8], salt: &[u8]) -> Option<ChaCha20Poly1305> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(SEED_LEN)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, &mut *key)
        .ok()?;
    Some(ChaCha20Poly1305::new((&*key).into()))
}

fn armour(bytes: &[u8]) -> Zeroizing<String> {
    let letters = Zeroizing::new(BASE32_NOPAD.encode(bytes));
    let mut text = Zeroizing::new(String::with_capacity(letters.len() + LINE_LEN * 4));
    text.push_str(FIRST_LINE);
    text.push('\n');
    for (index, letter) in letters.chars().enumerate() {
        if index > 0 && index.is_multiple_of(LINE_LEN) {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push('\n');
    text.push_str(LAST_LINE);
    text.push('\n');
    text
}

fn unarmour(text: &str) -> Result<Zeroizing<Vec<u8>>, RootFileError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(RootFileError::NotRootKey);
    }
    let inner = text.trim().strip_prefix(FIRST_LINE).and_then(|rest| rest.strip_suffix(LAST_LINE));
    let inner = inner.ok_or(RootFileError::NotRootKey)?;
    let mut letters = Zeroizing::new(Vec::with_capacity(inner.len()));
    letters.extend(inner.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    BASE32_NOPAD.decode(&letters).map(Zeroizing::new).map_err(|_| RootFileError::Damaged)
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hash = Sha256::new();
    hash.update(CHECKSUM_DOMAIN);
    hash.update(content);
    let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
    [a, b, c, d]
}

#[cfg(test)]
mod tests;
