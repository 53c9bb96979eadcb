//! Policies: what the endpoints of a network of this host may send and receive.
//!
//! A policy only takes away: without one an endpoint exchanges packets with everybody that the mesh lets it reach.

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};
use crate::text::Labels;

/// Policies of one network: several for each pod that a host can have.
pub const POLICIES_MAX: usize = 4096;
/// Rules of one policy in one direction.
pub const POLICY_RULES_MAX: usize = 1024;
/// Peers of one rule: more hosts and pods than one cluster has.
pub const POLICY_PEERS_MAX: usize = 4096;
/// Prefixes that one peer leaves out.
pub const POLICY_EXCEPT_MAX: usize = 256;
/// Ranges of ports in one rule.
pub const POLICY_PORTS_MAX: usize = 1024;
/// Labels that one policy selects by.
pub const POLICY_LABELS_MAX: usize = 32;
/// Largest request to set policies: a host full of pods, each with a policy of its own that names hundreds of peers.
pub const POLICIES_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Says what endpoints of a network may do, in place of what was said before: all of it each time. The network need
/// not be known yet; policies outlive it, and the daemon's restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPoliciesRequest {
    /// Whose network it is.
    pub runtime: String,
    /// What the runtime calls it.
    pub network: String,
    /// All policies of that network.
    pub policies: Vec<EndpointPolicy>,
}

impl Call for SetPoliciesRequest {
    type Reply = PoliciesReply;
    const METHOD: Method = Method::Post;
    const PATH: &'static str = "/v1/policies/set";
    const DEADLINE_S: u64 = 30;
}

/// The policies are in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoliciesReply {
    /// Endpoints of this host that a policy of this network selects.
    pub endpoints: usize,
}

impl Body for PoliciesReply {
    const SCHEMA: &'static str = "meshd.policies/1";
}

/// Restricts some endpoints. An endpoint that several policies select may do what any of them allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointPolicy {
    /// Selects endpoints that have all of these labels; without one, all of the network.
    #[serde(default)]
    pub select: Labels,
    /// What may be sent to them, nothing if there are no rules; absent, this policy does not restrict it.
    #[serde(default)]
    pub ingress: Option<Vec<PolicyRule>>,
    /// What they may send.
    #[serde(default)]
    pub egress: Option<Vec<PolicyRule>>,
}

/// Allows what has one of the peers and one of the ports. What answers is allowed with what it answers, and the node
/// of an endpoint is always allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// Nobody if there are none; absent, everybody.
    #[serde(default)]
    pub peers: Option<Vec<PolicyPeer>>,
    /// Nothing if there are none; absent, everything, also what has no ports.
    #[serde(default)]
    pub ports: Option<Vec<PolicyPorts>>,
}

/// Addresses on the other side, translated by nobody: of who calls as it was before any translation on the host, of who
/// is called as it is after it. So a call to the address of a service is judged by who answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyPeer {
    /// A prefix, `10.91.128.7/32`.
    pub net: String,
    /// Prefixes of it that are no peers.
    #[serde(default)]
    pub except: Vec<String>,
}

/// Ports of the side that was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyPorts {
    /// Of this protocol alone.
    pub protocol: PolicyProtocol,
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}
