//! The state of this node and of the mesh as it sees it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::text::words;

/// Asks for the state of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetStatus {}

impl Call for GetStatus {
    type Reply = Status;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/status";
}

/// State of the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Whether the node belongs to a mesh.
    pub membership: Membership,
    /// The node; none before it belongs to a mesh.
    pub node: Option<NodeStatus>,
    /// The mesh; none before the node belongs to one.
    pub mesh: Option<MeshStatus>,
    /// Where records are exchanged.
    pub registry: RegistryStatus,
    /// How many other nodes there are.
    pub peers: PeerCount,
    /// What an administrator should look at.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

impl Body for Status {
    const SCHEMA: &'static str = "meshd.status/1";
}

words! {
    /// Whether a node belongs to a mesh.
    Membership otherwise Unknown {
        /// It belongs to none.
        Outside = "outside",
        /// It has asked by file and waits for the answer.
        Pending = "pending",
        /// It is a member.
        Member = "member",
        /// Its certificate has expired.
        Expired = "expired",
        /// Its organisation took the membership back.
        Revoked = "revoked",
        /// A word of a newer daemon.
        Unknown = "unknown",
    }
}

/// The node itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
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
    /// Network device.
    pub device: String,
    /// UDP port of the tunnels.
    pub udp_port: u16,
    /// Where other nodes reach its control port, `host:port`.
    pub control: String,
    /// What it does for others: `steward`, `registry`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// When its certificate expires.
    pub cert_expires_at: u64,
    /// Public identity key.
    pub identity: String,
}

/// The mesh the node belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshStatus {
    /// Name for people.
    pub name: String,
    /// Mesh id.
    pub id: String,
    /// Whether it is a laboratory.
    pub lab: bool,
    /// IPv6 prefix of the whole mesh, such as `fd12:3456:789a::/48`.
    pub prefix6: String,
    /// Organisations that form it.
    pub organisations: Vec<OrganisationStatus>,
}

/// One organisation of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganisationStatus {
    /// Name for people.
    pub name: String,
    /// Organisation id.
    pub id: String,
    /// Its IPv4 prefix, such as `10.91.0.0/16`.
    pub prefix4: String,
    /// How fresh its signed state is.
    pub freshness: Freshness,
    /// Age of its signed state; none before one was seen.
    pub state_age_s: Option<u64>,
}

words! {
    /// How fresh an organisation's signed state is.
    Freshness otherwise Unknown {
        /// Within the soft limit.
        Fresh = "fresh",
        /// Older than the soft limit: an alarm.
        Stale = "stale",
        /// Older than the hard limit: its nodes are cut off.
        Expired = "expired",
        /// None was seen yet, or a word of a newer daemon.
        Unknown = "unknown",
    }
}

/// Where records are exchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryStatus {
    /// What serves it.
    pub kind: RegistryKind,
    /// Its addresses.
    #[serde(default)]
    pub endpoints: Vec<String>,
    /// Whether it answers now.
    pub connected: bool,
    /// Since when it does, or does not.
    pub since: Option<u64>,
}

words! {
    /// What serves the registry.
    RegistryKind otherwise Unknown {
        /// No registry yet.
        None = "none",
        /// A daemon of the mesh.
        Embedded = "embedded",
        /// An etcd.
        Etcd = "etcd",
        /// A word of a newer daemon.
        Unknown = "unknown",
    }
}

/// How many other nodes there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerCount {
    /// All that are known.
    pub total: u32,
    /// Those with a live tunnel.
    pub connected: u32,
}

/// What an administrator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Word for programs, such as `clock-suspect`.
    pub code: String,
    /// Text for people.
    pub message: String,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
}
