//! Entering a mesh: with a token, or by files.

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::status::{MeshStatus, NodeStatus};
use crate::text::{Secret, Signed};

/// Asks to enter with a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The token.
    pub token: Secret,
    /// Wanted host name; the daemon's own when none is given.
    #[serde(default)]
    pub name: Option<String>,
}

impl Call for JoinRequest {
    type Reply = MemberReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/join";
    // Several stewards may have to time out, one after the other, before one answers.
    const DEADLINE_S: u64 = 60;
}

/// Asks for a request file, for a host that reaches no steward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinFileRequest {
    /// Mesh id, as a person typed it: the pin.
    pub mesh: String,
    /// Organisation id, as a person typed it: the pin.
    pub org: String,
    /// Wanted host name; the daemon's own when none is given.
    #[serde(default)]
    pub name: Option<String>,
}

impl Call for JoinFileRequest {
    type Reply = JoinFileReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/join/request";
}

/// A request to be carried to a steward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinFileReply {
    /// Envelope of the request.
    pub request: Signed,
    /// Node id the host will have.
    pub id: String,
    /// Host name it asks for.
    pub name: String,
}

impl Body for JoinFileReply {
    const SCHEMA: &'static str = "meshd.join-request/1";
}

/// Brings the steward's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// What the steward answered, as [`AdmitReply::response`](crate::AdmitReply::response).
    pub response: Signed,
}

impl Call for ImportRequest {
    type Reply = MemberReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/join/import";
    const DEADLINE_S: u64 = 30;
}

/// The node is a member now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReply {
    /// The node.
    pub node: NodeStatus,
    /// The mesh.
    pub mesh: MeshStatus,
}

impl Body for MemberReply {
    const SCHEMA: &'static str = "meshd.member/1";
}
