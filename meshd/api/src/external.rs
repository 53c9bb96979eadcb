//! Plain WireGuard peers that this node serves.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::text::Secret;

/// Asks to serve a plain WireGuard peer. Asking again with the same name and keys gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddExternalRequest {
    /// Its name, unique among nodes and externals of the organisation.
    pub name: String,
    /// Its WireGuard key as `wg` prints it: base64 of 32 bytes.
    pub public_key: String,
    /// Preshared key, likewise; none to do without.
    #[serde(default)]
    pub preshared_key: Option<Secret>,
}

impl Call for AddExternalRequest {
    type Reply = AddExternalReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/external/add";
    // Several stewards may have to time out, one after the other, before one answers.
    const DEADLINE_S: u64 = 60;
}

/// The node serves it now; everything its configuration needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddExternalReply {
    /// The peer.
    pub external: External,
    /// Name of this node.
    pub gateway: String,
    /// WireGuard key of this node, base64.
    pub gateway_key: String,
    /// Underlay addresses of this node, `address:port`, best first.
    pub endpoints: Vec<String>,
    /// Prefixes of the mesh.
    pub prefixes: Vec<String>,
    /// MTU of the mesh on this node.
    pub mtu: u16,
}

impl Body for AddExternalReply {
    const SCHEMA: &'static str = "meshd.external-added/1";
}

/// Asks for the plain WireGuard peers that this node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetExternals {}

impl Call for GetExternals {
    type Reply = Externals;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/external";
}

/// The plain WireGuard peers, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Externals {
    /// One entry a peer.
    pub externals: Vec<External>,
}

impl Body for Externals {
    const SCHEMA: &'static str = "meshd.externals/1";
}

/// A plain WireGuard peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// Its name.
    pub name: String,
    /// Overlay IPv4 address.
    pub addr4: Ipv4Addr,
    /// Overlay IPv6 address.
    pub addr6: Ipv6Addr,
    /// Its WireGuard key, base64.
    pub public_key: String,
    /// Whether a preshared key is mixed in.
    pub preshared: bool,
    /// Whether the node's certificate holds the addresses; if not, nothing of the peer is carried.
    pub certified: bool,
    /// Where it was heard last, `udp address:port`.
    pub path: Option<String>,
    /// Seconds since the last handshake; none before the first.
    pub last_handshake_s: Option<u64>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// When it was added.
    pub added_at: u64,
}

/// Asks to serve a plain WireGuard peer no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveExternalRequest {
    /// Its name.
    pub name: String,
}

impl Call for RemoveExternalRequest {
    type Reply = RemoveExternalReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/external/remove";
}

/// It is cut off; its addresses go back to the organisation as soon as a steward is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveExternalReply {
    /// Its name.
    pub name: String,
    /// Overlay IPv4 address it had.
    pub addr4: Ipv4Addr,
    /// Overlay IPv6 address it had.
    pub addr6: Ipv6Addr,
}

impl Body for RemoveExternalReply {
    const SCHEMA: &'static str = "meshd.external-removed/1";
}
