//! Bounds that hold before anything is allocated (docs/records.md, rule R3).

/// Largest encoded envelope.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Elements of one array.
pub const ARRAY_LEN_MAX: usize = 4096;
/// Nesting of arrays.
pub const DEPTH_MAX: usize = 8;
/// Largest frame of enrolment and of control channels: a chain of records and a little more.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Longest name of a mesh, organisation or node, and of a label's key or value.
pub const NAME_BYTES_MAX: usize = 63;
/// Longest name of an endpoint: a pod's name and its namespace, with the dot between them.
pub const ENDPOINT_NAME_BYTES_MAX: usize = 2 * NAME_BYTES_MAX + 1;
/// Largest leaf of an audit log: five times what this version writes, so that newer ones can be counted.
pub const LEAF_BYTES_MAX: usize = 1024;
