//! What travels beside a record: that it is in a log, and who saw that log (C2SP `tlog-proof`).

use std::fmt;

use super::checkpoint::{CheckpointKeys, CheckpointRefusal, LogOrigin, VerifiedCheckpoint};
use super::hash::TreeHash;
use super::note::{NOTE_BYTES_MAX, Note, NoteError};
use super::proof::{InclusionProof, PROOF_LEN_MAX, ProofRefusal};
use super::strict::decimal;

/// Largest proof: the largest note, the longest path, and two lines before them.
pub const LOG_PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + (PROOF_LEN_MAX + 2) * 45;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// A leaf's way into a signed tree. Nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogProof {
    /// Shows that the leaf is in the tree.
    pub inclusion: InclusionProof,
    /// Checkpoint of the tree.
    pub note: Note,
}

/// Says why bytes are no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogProofError {
    /// More bytes than a proof may have.
    #[error("proof of {0} bytes, at most {LOG_PROOF_BYTES_MAX}")]
    TooLarge(usize),
    /// Not the lines that a proof has.
    #[error("malformed proof")]
    Shape,
    /// No note at its end.
    #[error("malformed checkpoint of a proof")]
    Note(#[source] NoteError),
}

/// Says why a proof is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogProofRefusal {
    /// Its checkpoint is not believed.
    #[error("checkpoint of a proof")]
    Checkpoint(#[source] CheckpointRefusal),
    /// The leaf is not in that tree.
    #[error("leaf of a proof")]
    Leaf(#[source] ProofRefusal),
}

impl LogProof {
    /// Reads a proof, size first.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LogProofError> {
        if bytes.len() > LOG_PROOF_BYTES_MAX {
            return Err(LogProofError::TooLarge(bytes.len()));
        }
        let text = str::from_utf8(bytes).map_err(|_| LogProofError::Shape)?;
        let (head, note) = text.split_once("\n\n").ok_or(LogProofError::Shape)?;
        let mut lines = head.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(LogProofError::Shape);
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal);
        let index = index.ok_or(LogProofError::Shape)?;
        let mut path = Vec::new();
        for line in lines {
            let hash: TreeHash = line.parse().map_err(|_| LogProofError::Shape)?;
            if path.len() == PROOF_LEN_MAX {
                return Err(LogProofError::Shape);
            }
            path.push(hash);
        }
        let note = Note::from_bytes(note.as_bytes()).map_err(LogProofError::Note)?;
        Ok(Self { inclusion: InclusionProof { index, path }, note })
    }

    /// Believes it for the leaf of this hash, and says which tree has it and which witnesses saw that tree.
    pub fn verify(
        &self,
        leaf: &TreeHash,
        origin: &LogOrigin,
        keys: &CheckpointKeys,
    ) -> Result<VerifiedCheckpoint, LogProofRefusal> {
        let verified = keys.verify(&self.note, origin).map_err(LogProofRefusal::Checkpoint)?;
        self.inclusion.verify(leaf, &verified.checkpoint.head).map_err(LogProofRefusal::Leaf)?;
        Ok(verified)
    }
}

impl fmt::Display for LogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inclusion: InclusionProof { index, path }, note } = self;
        writeln!(f, "{FIRST_LINE}\nindex {index}")?;
        path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{note}")
    }
}
