//! The frame in which instructions count.

use std::hint::black_box;

/// Runs the piece that is counted: callgrind collects from the entry of this function to its end.
#[inline(never)]
pub fn measured<R>(piece: impl FnOnce() -> R) -> R {
    black_box(piece())
}
