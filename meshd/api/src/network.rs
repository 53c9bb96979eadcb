//! Container networks: a pool of addresses of the mesh, and how endpoints get theirs.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};

/// A container network of this host. The pools make networks on several hosts one, not their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Whose it is: `docker`, `cni`, `meshctl`.
    pub runtime: String,
    /// What the runtime calls it.
    pub network: String,
    /// Where IPv4 addresses come from, `10.91.128.0/20`; without one endpoints get none.
    #[serde(default)]
    pub pool4: Option<String>,
    /// Where IPv6 addresses come from.
    #[serde(default)]
    pub pool6: Option<String>,
    /// How they are chosen.
    #[serde(default)]
    pub allocation: Allocation,
    /// How endpoints reach what is not in the mesh.
    #[serde(default)]
    pub egress: Egress,
    /// Largest packet, if less than the mesh's.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Addresses outside these prefixes are given only to who asks for them.
    #[serde(default)]
    pub ranges: Vec<String>,
    /// Whom endpoints reach in their organisation.
    #[serde(default)]
    pub reach: Reach,
    /// What an endpoint may do that no policy selects.
    #[serde(default)]
    pub policy: Policing,
}

/// How addresses are chosen in a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allocation {
    /// Every node takes from blocks of its own, also while the registry is away.
    #[default]
    Blocks,
    /// The lowest that is free on all hosts, one after the other.
    Sequential,
}

/// How endpoints reach what is not in the mesh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Egress {
    /// By a link that the runtime makes.
    #[default]
    Runtime,
    /// Through the host, under its address.
    Mesh,
    /// Not at all.
    None,
}

/// Whom the endpoints of a network exchange packets with inside their organisation. Other organisations reach what
/// the agreement lets them reach, and what is outside the mesh is the network's egress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// Everybody.
    #[default]
    Mesh,
    /// Each other, on all hosts, and the nodes.
    Network,
}

/// What an endpoint may do that no policy selects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policing {
    /// Everything.
    #[default]
    Optional,
    /// Nothing: only its node reaches it.
    Required,
}

/// Asks to know a network from now on. Asking again with the same pools changes its options.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutNetworkRequest {
    /// The network.
    pub network: Network,
}

impl Call for PutNetworkRequest {
    type Reply = NetworkReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/networks/put";
}

/// The network as it is known now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkReply {
    /// The network.
    pub network: Network,
}

impl Body for NetworkReply {
    const SCHEMA: &'static str = "meshd.network/1";
}

/// Asks to forget a network without endpoints; that it is unknown is a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveNetworkRequest {
    /// Whose it is.
    pub runtime: String,
    /// What the runtime calls it.
    pub network: String,
}

impl Call for RemoveNetworkRequest {
    type Reply = RemoveNetworkReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/networks/remove";
}

/// The network is not known any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveNetworkReply {
    /// Whether it was known.
    pub existed: bool,
}

impl Body for RemoveNetworkReply {
    const SCHEMA: &'static str = "meshd.network-removed/1";
}

/// Asks for the networks of this host, and where pools may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetNetworks {}

impl Call for GetNetworks {
    type Reply = Networks;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/networks";
}

/// The networks of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks {
    /// One entry each, sorted.
    pub networks: Vec<Network>,
    /// Prefixes of this node's organisation: pools lie inside them.
    pub own_prefixes: Vec<String>,
    /// Prefixes of the whole mesh.
    pub mesh_prefixes: Vec<String>,
}

impl Body for Networks {
    const SCHEMA: &'static str = "meshd.networks/1";
}

/// Asks for an address of a pool before its endpoint is attached. It goes back if that does not happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// The pool.
    pub pool: String,
    /// Only addresses of this part of the pool.
    #[serde(default)]
    pub range: Option<String>,
    /// This address and no other.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// How it is chosen.
    #[serde(default)]
    pub allocation: Allocation,
}

impl Call for ClaimRequest {
    type Reply = ClaimReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/addresses/claim";
    const DEADLINE_S: u64 = 30;
}

/// The address is this node's, for an endpoint to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimReply {
    /// The address.
    pub address: IpAddr,
}

impl Body for ClaimReply {
    const SCHEMA: &'static str = "meshd.claim/1";
}

/// Gives an address back; that nobody has it is a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The address.
    pub address: IpAddr,
}

impl Call for ReleaseRequest {
    type Reply = ReleaseReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/addresses/release";
}

/// The address rests, then it is free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseReply {
    /// Whether this node had it.
    pub existed: bool,
}

impl Body for ReleaseReply {
    const SCHEMA: &'static str = "meshd.released/1";
}

/// Asks whether an endpoint could be attached now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetReady {}

impl Call for GetReady {
    type Reply = Ready;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/ready";
    const DEADLINE_S: u64 = 2;
}

/// Whether an endpoint could be attached now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Whether new ones could.
    pub can_attach: bool,
    /// Whether those there are work.
    pub is_connected: bool,
    /// Why not, for people.
    pub detail: Option<String>,
}

impl Body for Ready {
    const SCHEMA: &'static str = "meshd.ready/1";
}
