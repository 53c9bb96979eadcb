//! What a log asks of a witness: the checkpoint to cosign, and that it follows from the last one (C2SP `tlog-witness`).

use std::fmt;

use super::hash::TreeHash;
use super::note::{NOTE_BYTES_MAX, Note, NoteError};
use super::proof::{ConsistencyProof, PROOF_LEN_MAX};
use super::strict::decimal;

/// Largest request: the largest note, the longest path, a line before and one between them.
pub const COSIGN_REQUEST_BYTES_MAX: usize = NOTE_BYTES_MAX + (PROOF_LEN_MAX + 2) * 45;

/// A request for a cosignature. Nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CosignRequest {
    /// Leaves of the tree that the witness cosigned last, as far as the log knows; 0 if none.
    pub old: u64,
    /// Shows that this tree is the beginning of the one to cosign.
    pub growth: ConsistencyProof,
    /// Checkpoint to cosign.
    pub note: Note,
}

/// Says why bytes are no request for a cosignature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CosignRequestError {
    /// More bytes than a request may have.
    #[error("request of {0} bytes, at most {COSIGN_REQUEST_BYTES_MAX}")]
    TooLarge(usize),
    /// Not the lines that a request has.
    #[error("malformed request for a cosignature")]
    Shape,
    /// No note at its end.
    #[error("malformed checkpoint to cosign")]
    Note(#[source] NoteError),
}

impl CosignRequest {
    /// Reads a request, size first.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CosignRequestError> {
        if bytes.len() > COSIGN_REQUEST_BYTES_MAX {
            return Err(CosignRequestError::TooLarge(bytes.len()));
        }
        let text = str::from_utf8(bytes).map_err(|_| CosignRequestError::Shape)?;
        let (head, note) = text.split_once("\n\n").ok_or(CosignRequestError::Shape)?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).and_then(decimal);
        let old = old.ok_or(CosignRequestError::Shape)?;
        let mut path = Vec::new();
        for line in lines {
            let hash: TreeHash = line.parse().map_err(|_| CosignRequestError::Shape)?;
            if path.len() == PROOF_LEN_MAX {
                return Err(CosignRequestError::Shape);
            }
            path.push(hash);
        }
        let note = Note::from_bytes(note.as_bytes()).map_err(CosignRequestError::Note)?;
        Ok(Self { old, growth: ConsistencyProof { path }, note })
    }
}

impl fmt::Display for CosignRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old, growth: ConsistencyProof { path }, note } = self;
        writeln!(f, "old {old}")?;
        path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{note}")
    }
}
