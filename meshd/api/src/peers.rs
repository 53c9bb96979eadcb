//! The other nodes of the mesh.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::text::{Labels, words};

/// Asks for the other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetPeers {}

impl Call for GetPeers {
    type Reply = Peers;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/peers";
}

/// The other nodes, sorted by organisation and name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// One entry a node.
    pub peers: Vec<Peer>,
}

impl Body for Peers {
    const SCHEMA: &'static str = "meshd.peers/1";
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Host name in its organisation.
    pub name: String,
    /// Node id.
    pub id: String,
    /// Name of its organisation.
    pub org: String,
    /// Overlay IPv4 address.
    pub addr4: Ipv4Addr,
    /// Overlay IPv6 address.
    pub addr6: Ipv6Addr,
    /// Name in the DNS of the mesh, if it has one.
    #[serde(default)]
    pub dns_name: Option<String>,
    /// Labels its steward gave.
    #[serde(default)]
    pub labels: Labels,
    /// Whether a tunnel lives, and why not.
    pub state: PeerState,
    /// Path in use, such as `udp 198.51.100.7:51820`; none without one.
    pub path: Option<String>,
    /// Smoothed round trip in milliseconds, if measured.
    pub rtt_ms: Option<f32>,
    /// Seconds since the last handshake; none before the first.
    pub last_handshake_s: Option<u64>,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Number of its current tunnel key; none before one was seen.
    pub key_epoch: Option<u32>,
    /// When its certificate expires.
    pub cert_expires_at: u64,
}

words! {
    /// State of the tunnel to another node.
    PeerState otherwise Unknown {
        /// A handshake is recent enough to send.
        Connected = "connected",
        /// A handshake is under way.
        Connecting = "connecting",
        /// Nothing was sent lately; the next packet starts a handshake.
        Idle = "idle",
        /// It has published no way to be reached.
        Unreachable = "unreachable",
        /// No tunnel key of it is known yet.
        NoKeys = "no-keys",
        /// Its tunnel keys have expired.
        KeysExpired = "keys-expired",
        /// Its certificate has expired.
        Expired = "expired",
        /// Its organisation took the membership back.
        Revoked = "revoked",
        /// Its organisation has not been heard of for too long.
        Stale = "stale",
        /// Another node of its organisation claims the same address.
        AddressConflict = "address-conflict",
        /// A word of a newer daemon.
        Unknown = "unknown",
    }
}
