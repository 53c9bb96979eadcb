//! What a host may be besides a node.

pub mod control;
pub mod registry;
pub mod steward;
