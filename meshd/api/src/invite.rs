//! One-time join tokens.

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::text::{Labels, Secret};

/// Asks the steward for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// Seconds until the token expires; the daemon's default when none is given.
    #[serde(default)]
    pub ttl_s: Option<u64>,
    /// Labels the newcomer gets.
    #[serde(default)]
    pub labels: Labels,
    /// The only name the newcomer may take.
    #[serde(default)]
    pub name: Option<String>,
}

impl Call for InviteRequest {
    type Reply = InviteReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/invite";
}

/// A token for one newcomer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteReply {
    /// The token.
    pub token: Secret,
    /// Names it at the steward; no secret.
    pub id: String,
    /// When it expires.
    pub expires_at: u64,
}

impl Body for InviteReply {
    const SCHEMA: &'static str = "meshd.invite/1";
}
