//! Signed notes: a text with a signature line for each of its signers (C2SP `signed-note`).

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use meshd_wire::id::SignatureBytes;
use meshd_wire::{PublicKey, Timestamp};
use sha2::{Digest, Sha256};

use super::strict;
use crate::key::{SigningKey, verify_bytes};

/// Most signatures of a note: each of 64 organisations with an old and a new key.
pub const NOTE_SIGNATURES_MAX: usize = 128;
/// Largest note: that many signatures of 226 bytes and a text of 3,840.
pub const NOTE_BYTES_MAX: usize = 32 * 1024;

/// Begins each signature line: an em dash and a space.
const LINE_START: &str = "\u{2014} ";
/// Bytes of a key's number before each signature.
const KEY_NUMBER_LEN: usize = 4;
/// Bytes of a signature without what a cosignature has before it.
const ED25519_LEN: usize = 64;

/// A text and who signed it. Nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A signature line: whose key, which of them, and the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key: [u8; KEY_NUMBER_LEN],
    bytes: Vec<u8>,
}

/// Says why bytes are no note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// More bytes than a note may have.
    #[error("note of {0} bytes, at most {NOTE_BYTES_MAX}")]
    TooLarge(usize),
    /// No UTF-8, or control characters.
    #[error("note is no plain text")]
    Text,
    /// No blank line between text and signatures, or no newline at the end.
    #[error("note without a blank line before its signatures")]
    Shape,
    /// A signature line that is none.
    #[error("malformed signature line")]
    Line,
    /// More signatures than a note may have.
    #[error("note with more than {NOTE_SIGNATURES_MAX} signatures")]
    TooMany,
    /// One key has signed twice.
    #[error("one key has signed twice")]
    Repeated,
}

/// Reports a signature in the name of a known key that this key did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signature that does not verify")]
pub struct BadSignature;

/// What a signature says; the byte is part of the number of its key, so no signature passes for another.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
enum SignatureType {
    /// The log says: this is my tree.
    Log = 0x01,
    /// A witness says: at that time this was the largest consistent tree I saw.
    Cosignature = 0x04,
}

impl SignatureType {
    /// Number of a key under a name.
    fn key_number(self, name: &str, key: &PublicKey) -> [u8; KEY_NUMBER_LEN] {
        let mut hash = Sha256::new();
        hash.update(name);
        hash.update([b'\n', self as u8]);
        hash.update(key.0);
        let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
        [a, b, c, d]
    }

    /// Key as the tools of others take it: name, number, and Base64 of type and key.
    fn verifier_key(self, name: &str, key: &PublicKey) -> String {
        let number = data_encoding::HEXLOWER.encode(&self.key_number(name, key));
        format!("{name}+{number}+{}", BASE64.encode(&[&[self as u8][..], &key.0].concat()))
    }
}

/// A log's key as a line for the tools of others.
pub fn log_verifier_key(name: &str, key: &PublicKey) -> String {
    SignatureType::Log.verifier_key(name, key)
}

/// A witness's key as a line for the tools of others.
pub fn witness_verifier_key(name: &str, key: &PublicKey) -> String {
    SignatureType::Cosignature.verifier_key(name, key)
}

impl NoteSignature {
    /// Signs a text as its log.
    pub(super) fn of_log(name: &str, key: &SigningKey, text: &str) -> Self {
        let bytes = key.sign_bytes(text.as_bytes()).0.to_vec();
        Self { name: name.to_owned(), key: SignatureType::Log.key_number(name, &key.public()), bytes }
    }

    /// Signs a checkpoint as a witness.
    pub(super) fn of_witness(name: &str, key: &SigningKey, text: &str, at: Timestamp) -> Self {
        let signature = key.sign_bytes(cosigned(text, at).as_bytes());
        let bytes = [&at.0.to_be_bytes()[..], &signature.0].concat();
        Self { name: name.to_owned(), key: SignatureType::Cosignature.key_number(name, &key.public()), bytes }
    }

    /// Name of the signer, which anybody can write.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The time it names, if it has the length of a cosignature; verified is it with the note.
    pub fn cosigned_at(&self) -> Option<Timestamp> {
        let (time, signature) = self.bytes.split_first_chunk()?;
        (signature.len() == ED25519_LEN).then_some(Timestamp(u64::from_be_bytes(*time)))
    }

    /// Whether it stands there in the name and number of this log key; verified is it with the note.
    pub fn is_of_log(&self, name: &str, key: &PublicKey) -> bool {
        self.name == name && self.key == SignatureType::Log.key_number(name, key)
    }

    /// Whether it stands there in the name and number of this witness key.
    pub fn is_of_witness(&self, name: &str, key: &PublicKey) -> bool {
        self.name == name && self.key == SignatureType::Cosignature.key_number(name, key)
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, key, bytes } = self;
        write!(f, "{LINE_START}{name} {}", BASE64.encode(&[&key[..], bytes].concat()))
    }
}

impl FromStr for NoteSignature {
    type Err = NoteError;

    /// Reads a line without its newline.
    fn from_str(line: &str) -> Result<Self, NoteError> {
        if line.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge(line.len()));
        }
        let (name, base64) =
            line.strip_prefix(LINE_START).and_then(|rest| rest.split_once(' ')).ok_or(NoteError::Line)?;
        if name.is_empty() || name.contains(|one: char| one.is_whitespace() || one.is_control() || one == '+')
        {
            return Err(NoteError::Line);
        }
        let decoded = strict::base64(base64).ok_or(NoteError::Line)?;
        let (key, bytes) = decoded.split_first_chunk().ok_or(NoteError::Line)?;
        if bytes.is_empty() {
            return Err(NoteError::Line);
        }
        Ok(Self { name: name.to_owned(), key: *key, bytes: bytes.to_vec() })
    }
}

impl Note {
    /// A text of ours with its first signature.
    pub(super) fn new(text: String, signature: NoteSignature) -> Self {
        Self { text, signatures: vec![signature] }
    }

    /// Reads a note, size first.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge(bytes.len()));
        }
        let note = str::from_utf8(bytes).map_err(|_| NoteError::Text)?;
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(NoteError::Text);
        }
        // The last blank line counts: the text may have some of its own.
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::Shape)?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Shape)?;
        let mut read = Self { text: format!("{text}\n"), signatures: Vec::new() };
        for line in lines.split('\n') {
            let signature: NoteSignature = line.parse()?;
            if read.position(&signature).is_some() {
                return Err(NoteError::Repeated);
            }
            read.add(signature)?;
        }
        Ok(read)
    }

    /// Adds a signature, in the place of an older one of the same key.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        match self.position(&signature) {
            Some(at) => self.signatures[at] = signature,
            None if self.signatures.len() == NOTE_SIGNATURES_MAX => return Err(NoteError::TooMany),
            None => self.signatures.push(signature),
        }
        Ok(())
    }

    /// Leaves out what others have signed.
    #[must_use]
    pub fn signed_alone_by(&self, name: &str, keys: &[PublicKey]) -> Self {
        self.signed_by(|one| keys.iter().any(|key| one.is_of_log(name, key)))
    }

    /// Leaves out the signatures that are none of these.
    pub(super) fn signed_by(&self, is_one: impl Fn(&NoteSignature) -> bool) -> Self {
        Self {
            text: self.text.clone(),
            signatures: self.signatures.iter().filter(|one| is_one(one)).cloned().collect(),
        }
    }

    /// Whether a signature of the same key stands there.
    pub fn has_one_of_key(&self, signature: &NoteSignature) -> bool {
        self.position(signature).is_some()
    }

    fn position(&self, signature: &NoteSignature) -> Option<usize> {
        self.signatures.iter().position(|one| (&one.name, one.key) == (&signature.name, signature.key))
    }

    /// Text, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Signatures as they stand there, those of unknown keys included.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Whether the log's key has signed; refused if a signature in its name is not its own.
    pub fn is_signed_by(&self, name: &str, key: &PublicKey) -> Result<bool, BadSignature> {
        let Some(bytes) = self.signature_of(name, key, SignatureType::Log) else { return Ok(false) };
        let signature = SignatureBytes(bytes.try_into().map_err(|_| BadSignature)?);
        verify_bytes(self.text.as_bytes(), key, &signature).then_some(true).ok_or(BadSignature)
    }

    /// When the witness's key has cosigned; refused if a cosignature in its name is not its own.
    pub fn cosigned_by(&self, name: &str, key: &PublicKey) -> Result<Option<Timestamp>, BadSignature> {
        let Some(bytes) = self.signature_of(name, key, SignatureType::Cosignature) else { return Ok(None) };
        let (time, signature) = bytes.split_first_chunk().ok_or(BadSignature)?;
        let at = Timestamp(u64::from_be_bytes(*time));
        let signature = SignatureBytes(signature.try_into().map_err(|_| BadSignature)?);
        let is_valid =
            i64::try_from(at.0).is_ok() && verify_bytes(cosigned(&self.text, at).as_bytes(), key, &signature);
        is_valid.then_some(Some(at)).ok_or(BadSignature)
    }

    fn signature_of(&self, name: &str, key: &PublicKey, what: SignatureType) -> Option<&[u8]> {
        let number = what.key_number(name, key);
        let found = self.signatures.iter().find(|one| one.name == name && one.key == number)?;
        Some(&found.bytes)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// What a witness signs.
fn cosigned(text: &str, at: Timestamp) -> String {
    format!("cosignature/v1\ntime {}\n{text}", at.0)
}
