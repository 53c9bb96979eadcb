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

/// Brings the next delegation of the same keys, or of those the daemon has prepared, signed by the root, and the root itself
/// if it is a new one.
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

/// What the next delegation builds on, and until when the one in force counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StewardReply {
    /// Id of the mesh.
    pub mesh: String,
    /// Id of the organisation.
    pub org: String,
    /// Envelope of the newest root.
    pub root: Signed,
    /// Version of the newest root.
    pub root_version: u32,
    /// Greatest number of the organisation's delegations under that root.
    pub serial: u32,
    /// First moment of the delegation to these keys, in seconds since 1970; 0 while there is none.
    pub not_before: u64,
    /// Last moment.
    pub not_after: u64,
    /// The keys in use.
    pub keys: StewardKeys,
}

impl Body for StewardReply {
    const SCHEMA: &'static str = "meshd.steward-delegation/1";
}
