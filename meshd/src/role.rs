//! What a host may be besides a node.

pub mod steward;
