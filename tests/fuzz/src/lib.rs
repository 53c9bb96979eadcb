//! What the fuzz targets share: seeds, edits and an honest mesh.
//!
//! Each program in `src/bin` is one target: it hands arbitrary bytes to one decoder and states what must hold
//! for everything that decodes. A panic of the decoder and a statement that does not hold are both findings.
//! `cargo lab fuzz` builds them with coverage counters and runs them on the stable toolchain.
//!
//! The targets know the frame around a checksum, so that an edit of the content gets past it.

pub mod edit;
pub mod honest;
pub mod seed;

// Parts of crates that would bring a whole network stack, but need nothing of it themselves.

#[path = "../../../meshctl/src/armour.rs"]
pub mod armour;
#[path = "../../../meshd/src/discovery/keyspace.rs"]
pub mod keyspace;
#[path = "../../../registry/src/range.rs"]
pub mod range;

use sha2::{Digest, Sha256};

/// Begins of SHA-256 over a domain and a content: how texts for people are checked.
pub fn checksum4(domain: &[u8], content: &[u8]) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(domain);
    hash.update(content);
    let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
    [a, b, c, d]
}
