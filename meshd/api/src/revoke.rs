//! Cutting off a node, at the steward.

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};

/// Asks the steward to take a node out of the mesh for good. Answered when the order is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// Name, `NAME.ORGANISATION`, id or address of the node.
    pub node: String,
}

impl Call for RevokeRequest {
    type Reply = RevokeReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/revoke";
}

/// Who was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeReply {
    /// Host name.
    pub name: String,
    /// Node id; it never comes back.
    pub id: String,
}

impl Body for RevokeReply {
    const SCHEMA: &'static str = "meshd.revoke/1";
}
