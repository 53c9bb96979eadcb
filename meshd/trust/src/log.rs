//! The audit log of an organisation: what its steward appends, and how everybody else proves it.
//!
//! A log is a Merkle tree of RFC 6962 over SHA-256, kept as tiles of 256 hashes (C2SP `tlog-tiles`). The steward
//! appends with an [`Edge`], which names the tiles to write. Whoever holds tiles, the steward, a mirror or a bundle,
//! makes proofs from them through [`TileSource`]. Whoever holds a [`TreeHead`] checks a proof without any tile. The
//! auditor feeds all heads and leaves to an [`Audit`], which says what is wrong as [`Finding`]s.
//!
//! A head travels as a [`Checkpoint`] in a signed [`Note`], with the cosignatures of the other organisations' stewards,
//! and is believed by [`CheckpointKeys`]. A [`LogProof`] is all that a node needs beside a record. A log asks its witnesses
//! with a [`CosignRequest`]; one that has seen two faces of a log writes [`Evidence`].
//!
//! Nothing here believes a tile: a proof made from a damaged one does not verify.

mod audit;
mod checkpoint;
mod cosign_request;
mod edge;
mod entries;
mod evidence;
mod finding;
mod frontier;
mod hash;
mod life;
mod log_proof;
mod note;
mod proof;
mod strict;
mod tile;

pub use audit::{Audit, AuditTerms, Beside};
pub use checkpoint::{
    Checkpoint, CheckpointError, CheckpointKeys, CheckpointRefusal, LogOrigin, VerifiedCheckpoint,
};
pub use cosign_request::{COSIGN_REQUEST_BYTES_MAX, CosignRequest, CosignRequestError};
pub use edge::Edge;
pub use entries::{ENTRIES_BYTES_MAX, EntriesError, read_entries, write_entries};
pub use evidence::{EVIDENCE_BYTES_MAX, Evidence, EvidenceError, EvidenceRefusal};
pub use finding::{Finding, RecordFault, Severity};
pub use frontier::{Frontier, SIZE_MAX, TreeHead};
pub use hash::{ParseHashError, TreeHash};
pub use log_proof::{LOG_PROOF_BYTES_MAX, LogProof, LogProofError, LogProofRefusal};
pub use note::{
    BadSignature, NOTE_BYTES_MAX, NOTE_SIGNATURES_MAX, Note, NoteError, NoteSignature, log_verifier_key,
    witness_verifier_key,
};
pub use proof::{
    ConsistencyProof, InclusionProof, PROOF_LEN_MAX, ProofRefusal, prove_consistency, prove_inclusion,
    tree_head,
};
pub use tile::{TILE_WIDTH, Tile, TileAddress, TileError, TileSource};
