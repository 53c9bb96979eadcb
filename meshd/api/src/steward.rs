//! What the root lets this host do as a steward, and until when.

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::mesh::StewardKeys;
use crate::text::Signed;

/// Asks a steward for its delegation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetSteward {}

impl Call for GetSteward {
    type Reply = StewardReply;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/steward";
}

/// Brings the next delegation of the same keys, or of those the daemon has prepared, signed by the root, and the root itself if it is a new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StewardRenewRequest {
    /// Envelope of the root that follows the one before.
    #[serde(default)]
    pub root: Option<Signed>,
    /// Envelope of the delegation.
    pub delegation: Signed,
}

impl Call for StewardRenewRequest {
    type Reply = StewardReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/steward/renew";
}

/// The newest delegation of a steward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StewardReply {
    /// Id of the mesh.
    pub mesh: String,
    /// Id of the organisation.
    pub org: String,
    /// Envelope of the newest root.
    pub root: Signed,
    /// Version of the root that signed it.
    pub root_version: u32,
    /// Grows with the delegations of this root version.
    pub serial: u32,
    /// First moment, in seconds since 1970.
    pub not_before: u64,
    /// Last moment.
    pub not_after: u64,
    /// The keys that it names.
    pub keys: StewardKeys,
}

impl Body for StewardReply {
    const SCHEMA: &'static str = "meshd.steward-delegation/1";
}
