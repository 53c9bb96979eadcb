//! A round trip through the tunnel.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};

/// Asks for one round trip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingRequest {
    /// Name, `name.org`, node id or overlay address.
    pub target: String,
    /// Bytes of payload.
    #[serde(default)]
    pub payload_len: u16,
}

impl Call for PingRequest {
    type Reply = PingReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/ping";
}

/// One round trip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PingReply {
    /// Name of the node that answered.
    pub name: String,
    /// Its node id.
    pub id: String,
    /// Its overlay address.
    pub address: IpAddr,
    /// Path used, such as `udp 198.51.100.7:51820`.
    pub path: String,
    /// Round trip in microseconds.
    pub rtt_us: u64,
}

impl Body for PingReply {
    const SCHEMA: &'static str = "meshd.ping/1";
}
