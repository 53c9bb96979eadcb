//! Leaving a mesh.

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};

/// Asks to leave the mesh and forget its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaveRequest {
    /// Leaves although no steward can be told, or although this is the steward.
    #[serde(default)]
    pub force: bool,
}

impl Call for LeaveRequest {
    type Reply = LeaveReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/leave";
    const DEADLINE_S: u64 = 60;
}

/// The node has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveReply {
    /// Name of the mesh it left.
    pub mesh: String,
    /// Whether a steward confirmed; if not, others learn it when the certificate expires.
    pub steward_told: bool,
}

impl Body for LeaveReply {
    const SCHEMA: &'static str = "meshd.leave/1";
}
