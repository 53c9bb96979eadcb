//! Admission by file, at the steward.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::text::{Labels, Signed};

/// Asks the steward to admit a host whose request came as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmitRequest {
    /// Envelope of the request.
    pub request: Signed,
    /// Labels the newcomer gets.
    #[serde(default)]
    pub labels: Labels,
}

impl Call for AdmitRequest {
    type Reply = AdmitReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/admit";
}

/// The answer to carry back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmitReply {
    /// Encoded answer of the steward.
    pub response: Signed,
    /// Host name given.
    pub name: String,
    /// Node id.
    pub id: String,
    /// Overlay IPv4 address given.
    pub addr4: Ipv4Addr,
    /// Overlay IPv6 address given.
    pub addr6: Ipv6Addr,
    /// When the certificate expires.
    pub cert_expires_at: u64,
}

impl Body for AdmitReply {
    const SCHEMA: &'static str = "meshd.admit/1";
}
