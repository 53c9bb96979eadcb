//! Evidence: two signed notes of one log that exclude each other.

use std::fmt;

use super::checkpoint::{CheckpointKeys, CheckpointRefusal, LogOrigin};
use super::note::{NOTE_BYTES_MAX, Note, NoteError};
use super::strict::decimal;

/// Largest evidence: two of the largest notes, and the lines before them.
pub const EVIDENCE_BYTES_MAX: usize = 2 * (NOTE_BYTES_MAX + 16) + FIRST_LINE.len();

const FIRST_LINE: &str = "meshd-evidence 1\n";

/// Two notes of one log. Whether they are signed and exclude each other is for the reader to verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The notes.
    pub notes: [Note; 2],
}

/// Says why bytes are no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// More bytes than evidence may have.
    #[error("evidence of {0} bytes, at most {EVIDENCE_BYTES_MAX}")]
    TooLarge(usize),
    /// Not the lines that evidence has.
    #[error("malformed evidence")]
    Shape,
    /// Something else than a note in the place of one.
    #[error("malformed note in evidence")]
    Note(#[source] NoteError),
}

/// Says why evidence convicts nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceRefusal {
    /// One of its notes is not believed.
    #[error("a checkpoint of the evidence")]
    Checkpoint(#[source] CheckpointRefusal),
    /// Its notes may both be true.
    #[error("the checkpoints do not exclude each other")]
    Agreement,
}

impl Evidence {
    /// How it begins.
    pub const FIRST_LINE: &str = FIRST_LINE;

    /// Makes it of two notes, in the one order that two have: whoever finds the same makes the same bytes.
    pub fn new(one: Note, other: Note) -> Self {
        let (first, second) = if one.text() <= other.text() { (one, other) } else { (other, one) };
        Self { notes: [first, second] }
    }

    /// Believes it: the log has signed two trees of one size, and they have different roots.
    pub fn verify(&self, origin: &LogOrigin, keys: &CheckpointKeys) -> Result<(), EvidenceRefusal> {
        let [one, other] = &self.notes;
        let head = |note| {
            let verified = keys.verify(note, origin).map_err(EvidenceRefusal::Checkpoint)?;
            Ok(verified.checkpoint.head)
        };
        let (one, other) = (head(one)?, head(other)?);
        if one.size == other.size && one.root != other.root {
            Ok(())
        } else {
            Err(EvidenceRefusal::Agreement)
        }
    }

    /// Whether bytes begin as evidence does.
    pub fn is_meant(bytes: &[u8]) -> bool {
        bytes.starts_with(FIRST_LINE.as_bytes())
    }

    /// Reads evidence, size first.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EvidenceError> {
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err(EvidenceError::TooLarge(bytes.len()));
        }
        let text = str::from_utf8(bytes).map_err(|_| EvidenceError::Shape)?;
        let rest = text.strip_prefix(FIRST_LINE).ok_or(EvidenceError::Shape)?;
        let (one, rest) = next_note(rest)?;
        let (other, rest) = next_note(rest)?;
        if rest.is_empty() { Ok(Self { notes: [one, other] }) } else { Err(EvidenceError::Shape) }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FIRST_LINE)?;
        self.notes.iter().try_for_each(|note| {
            let note = note.to_string();
            write!(f, "note {}\n{note}", note.len())
        })
    }
}

fn next_note(rest: &str) -> Result<(Note, &str), EvidenceError> {
    let (length, rest) =
        rest.strip_prefix("note ").and_then(|rest| rest.split_once('\n')).ok_or(EvidenceError::Shape)?;
    let length = decimal(length).and_then(|length| usize::try_from(length).ok());
    let (note, rest) = length.and_then(|length| rest.split_at_checked(length)).ok_or(EvidenceError::Shape)?;
    Ok((Note::from_bytes(note.as_bytes()).map_err(EvidenceError::Note)?, rest))
}
