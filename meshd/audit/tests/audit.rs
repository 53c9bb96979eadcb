//! Audits of real logs: keys, records, trees and notes as a steward makes them.

#[path = "audit/clean.rs"]
mod clean;
#[path = "audit/faults.rs"]
mod faults;
#[path = "audit/fixtures.rs"]
mod fixtures;
#[path = "audit/growth.rs"]
mod growth;
#[path = "audit/made.rs"]
mod made;
#[path = "audit/mutations.rs"]
mod mutations;
#[path = "audit/observed.rs"]
mod observed;
#[path = "audit/packed.rs"]
mod packed;
#[path = "audit/pieces.rs"]
mod pieces;
#[path = "audit/second_verifier.rs"]
mod second_verifier;
#[path = "audit/split.rs"]
mod split;
