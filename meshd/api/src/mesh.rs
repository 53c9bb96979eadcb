//! Founding a mesh: the daemon makes the steward's keys, the caller signs with the root, the daemon starts.

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::join::MemberReply;
use crate::text::Signed;

/// Asks the daemon to make steward keys, or to show those it made before and has not used yet. A steward makes those that
/// follow its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StewardPrepareRequest {}

impl Call for StewardPrepareRequest {
    type Reply = StewardKeys;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/steward";
}

/// Public keys of a steward.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StewardKeys {
    /// Signs records.
    pub record_key: String,
    /// Signs the heads of the audit log.
    pub log_key: String,
    /// Countersigns other organisations' heads.
    pub witness_key: String,
    /// Raw public key of the TLS server.
    pub tls_key: String,
}

impl Body for StewardKeys {
    const SCHEMA: &'static str = "meshd.steward/1";
}

/// Brings the signed founding records and makes this node the first one of its organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshCreateRequest {
    /// Organisation id this node stands for.
    pub org: String,
    /// Envelopes of the roots of all founders.
    pub roots: Vec<Signed>,
    /// Envelope of the genesis, signed by all founders.
    pub genesis: Signed,
    /// Envelopes of delegations; the one of this node's organisation names the keys the daemon prepared.
    pub delegations: Vec<Signed>,
    /// Host name of this node; the daemon's own when none is given.
    #[serde(default)]
    pub name: Option<String>,
    /// Registries to share with other founders instead of serving an own one: `meshd://KEY@HOST:PORT` or etcd URLs.
    #[serde(default)]
    pub registries: Vec<String>,
}

impl Call for MeshCreateRequest {
    type Reply = MemberReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/mesh";
    const DEADLINE_S: u64 = 60;
}
