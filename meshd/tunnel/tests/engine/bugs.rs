//! Tests named after bugs that other implementations shipped.
//!
//! Their numbers are those of the project's list. Number 9 (the width of counters) is a test of sessions, 18 of
//! indices, 19 of the Noise layer, each beside its code; 16 (who may send from which address) is the packet path's.

mod peers;
mod sessions;
mod strangers;
