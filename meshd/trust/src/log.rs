//! The audit log of an organisation: what its steward appends, and how everybody else proves it.
//!
//! A log is a Merkle tree of RFC 6962 over SHA-256, kept as tiles of 256 hashes (C2SP `tlog-tiles`). The steward
//! appends with an [`Edge`], which names the tiles to write. Whoever holds tiles, the steward, a mirror or a bundle,
//! makes proofs from them through [`TileSource`]. Whoever holds a [`TreeHead`] checks a proof without any tile. The
//! auditor feeds all leaves to a [`Frontier`] and compares its root with every head that was signed.
//!
//! Nothing here believes a tile: a proof made from a damaged one does not verify.

mod edge;
mod frontier;
mod hash;
mod proof;
mod tile;

pub use edge::Edge;
pub use frontier::{Frontier, SIZE_MAX, TreeHead};
pub use hash::{ParseHashError, TreeHash};
pub use proof::{
    ConsistencyProof, InclusionProof, PROOF_LEN_MAX, ProofRefusal, prove_consistency, prove_inclusion,
};
pub use tile::{TILE_WIDTH, Tile, TileAddress, TileError, TileSource};
