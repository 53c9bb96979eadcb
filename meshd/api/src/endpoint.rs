//! Endpoints: what is attached to the mesh on this host.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::text::{Labels, words};

/// A network namespace as the caller sees it; the daemon refuses another one at the same path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Path of its file.
    pub path: String,
    /// Device number of that file.
    pub dev: u64,
    /// Inode of that file.
    pub ino: u64,
}

/// Which attachment is meant. The same four words always name the same endpoint, so a retry finds its own work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Who attaches: `docker`, `cni`, `meshctl`.
    pub runtime: String,
    /// Network it belongs to, as the runtime names it.
    pub network: String,
    /// The container, pod sandbox or endpoint, as the runtime names it.
    pub container: String,
    /// Interface inside the container; empty where the runtime chooses it.
    pub ifname: String,
}

/// Asks to attach a container, pod or process. Asking again gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// Which one.
    pub attachment: Attachment,
    /// Where its end of the link is made and configured; without one it stays in the host's namespace for the runtime
    /// to move, name and configure.
    #[serde(default)]
    pub namespace: Option<Namespace>,
    /// Addresses it must get, at most one of each family; for a family that is missing the network decides.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// MAC address of its end, `02:00:00:00:00:01`; one is derived from its address if none is given.
    #[serde(default)]
    pub mac: Option<String>,
    /// Largest packet, if less than the mesh's.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// Name it shall have in the mesh.
    #[serde(default)]
    pub name: Option<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// Digest of its image.
    #[serde(default)]
    pub image: Option<String>,
    /// Makes the mesh its default route; else only the mesh's prefixes lead there.
    #[serde(default)]
    pub is_default_route: bool,
}

impl Call for AttachRequest {
    type Reply = Endpoint;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/endpoints/attach";
    const DEADLINE_S: u64 = 30;
}

/// Tells what a runtime knows of an endpoint only after it was attached. What is left out stays as it is; saying the
/// same again is a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribeRequest {
    /// Which one.
    pub attachment: Attachment,
    /// The container's namespace as the runtime names it: of several endpoints in one, the first leads to the whole
    /// mesh, and the others to their own pools.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// Who it is.
    #[serde(default)]
    pub identity: Option<Identity>,
}

/// Who an endpoint is.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Name it shall have in the mesh.
    #[serde(default)]
    pub name: Option<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
    /// Digest of its image.
    #[serde(default)]
    pub image: Option<String>,
}

impl Call for DescribeRequest {
    type Reply = Endpoint;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/endpoints/describe";
}

/// Asks to detach one; that it is unknown is a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetachRequest {
    /// Which one; without an interface name all of that container in that network.
    pub attachment: Attachment,
}

impl Call for DetachRequest {
    type Reply = DetachReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/endpoints/detach";
}

/// It is not attached any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetachReply {
    /// How many were.
    pub detached: usize,
}

impl Body for DetachReply {
    const SCHEMA: &'static str = "meshd.detached/1";
}

/// Asks whether everything of an endpoint is in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// Which one.
    pub attachment: Attachment,
}

impl Call for CheckRequest {
    type Reply = CheckReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/endpoints/check";
}

/// What is wrong with an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReply {
    /// One line for each thing that is missing or different; none if all is well.
    pub faults: Vec<String>,
}

impl Body for CheckReply {
    const SCHEMA: &'static str = "meshd.endpoint-check/1";
}

/// Asks to detach everything of a runtime's network that is not listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepRequest {
    /// The runtime.
    pub runtime: String,
    /// Its network.
    pub network: String,
    /// What stays; the interface name is empty where all of a container stay.
    pub keep: Vec<KeptAttachment>,
    /// Only tells what would go.
    #[serde(default)]
    pub dry_run: bool,
}

/// One attachment that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptAttachment {
    /// The container.
    pub container: String,
    /// Its interface.
    pub ifname: String,
}

impl Call for KeepRequest {
    type Reply = KeepReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/endpoints/keep";
    const DEADLINE_S: u64 = 60;
}

/// What went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepReply {
    /// Attachments that were detached.
    pub detached: Vec<Attachment>,
}

impl Body for KeepReply {
    const SCHEMA: &'static str = "meshd.endpoints-kept/1";
}

/// Asks to collect at once what ended without being detached, instead of after its time of grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcRequest {
    /// Only tells what would go.
    #[serde(default)]
    pub dry_run: bool,
}

impl Call for GcRequest {
    type Reply = GcReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/endpoints/gc";
    const DEADLINE_S: u64 = 60;
}

/// What was collected, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReply {
    /// One entry each: endpoints, then links and addresses that no endpoint has.
    pub collected: Vec<Collected>,
}

impl Body for GcReply {
    const SCHEMA: &'static str = "meshd.endpoints-collected/1";
}

/// Something that ended without being detached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Id of the endpoint: 64 hex digits.
    pub id: String,
    /// What its runtime calls it, if this host still knows.
    pub attachment: Option<Attachment>,
    /// The addresses that it gives back.
    pub addresses: Vec<IpAddr>,
    /// Name of its link on the host; none where only its addresses are left.
    pub host_link: Option<String>,
    /// Why it goes, for people.
    pub reason: String,
}

/// Asks for the endpoints of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetEndpoints {}

impl Call for GetEndpoints {
    type Reply = Endpoints;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/endpoints";
}

/// The endpoints of this host, sorted by address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// One entry each.
    pub endpoints: Vec<Endpoint>,
}

impl Body for Endpoints {
    const SCHEMA: &'static str = "meshd.endpoints/1";
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id: 64 hex digits, made from the attachment.
    pub id: String,
    /// What the runtime calls it.
    pub attachment: Attachment,
    /// Its state.
    pub state: EndpointState,
    /// Its addresses in the mesh, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// Next hops inside the container, of the same families.
    pub gateways: Vec<IpAddr>,
    /// Prefixes that lead to the mesh, of the same families; `0.0.0.0/0` and `::/0` for a default route.
    pub routes: Vec<String>,
    /// Largest packet.
    pub mtu: u16,
    /// Link on the host.
    pub host_link: String,
    /// MAC address of the link on the host.
    pub host_mac: String,
    /// Link in the container, under the name it was made with.
    pub container_link: String,
    /// MAC address of the link in the container.
    pub container_mac: String,
    /// Its name in its organisation.
    pub name: Option<String>,
    /// Its full name, if it has one now.
    #[serde(default)]
    pub dns_name: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// When it was attached.
    pub since: u64,
}

impl Body for Endpoint {
    const SCHEMA: &'static str = "meshd.endpoint/1";
}

words! {
    /// Where an endpoint stands.
    EndpointState otherwise Broken {
        /// Its addresses are being claimed.
        Claiming = "claiming",
        /// Its link is being made.
        Wiring = "wiring",
        /// All is in place.
        Attached = "attached",
        /// Its namespace lives, but its link is gone.
        Broken = "broken",
        /// It is being detached.
        Releasing = "releasing",
    }
}
