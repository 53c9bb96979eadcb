//! The audit log: what is appended is proven, and nothing else is.

#[path = "log/audit.rs"]
mod audit;
#[path = "log/edge.rs"]
mod edge;
#[path = "log/entries.rs"]
mod entries;
#[path = "log/naive.rs"]
mod naive;
#[path = "log/note.rs"]
mod note;
#[path = "log/oracle.rs"]
mod oracle;
#[path = "log/proof.rs"]
mod proof;
#[path = "log/tiles.rs"]
mod tiles;
#[path = "log/vectors.rs"]
mod vectors;
#[path = "log/witness.rs"]
mod witness;
