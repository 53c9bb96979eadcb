//! A verified record with the bytes it came in.

use meshd_wire::{KeyId, RecordId};

/// A record as it was verified; the bytes are stored and forwarded as received (rule R1).
#[derive(Debug, Clone)]
pub(super) struct Held<R> {
    pub(super) record: R,
    pub(super) id: RecordId,
    /// The key that signed, or the first of several.
    pub(super) signer: KeyId,
    pub(super) bytes: Vec<u8>,
}

/// What verification found: a record to store, or one that is stored already.
#[derive(Debug)]
pub(super) enum Verified<R> {
    New(Held<R>),
    Known,
}
