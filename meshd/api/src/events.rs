//! What happens, as it happens: one JSON document a line.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::call::{Body, Call, Method};

/// Asks for the stream of events.
///
/// The daemon subscribes the caller before it sends the head of its answer: what happens after the head is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetEvents {}

impl Call for GetEvents {
    type Reply = Event;
    const METHOD: Method = Method::Get;
    const PATH: &'static str = "/v1/events";
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970-01-01 00:00 UTC.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

impl Body for Event {
    const SCHEMA: &'static str = "meshd.event/1";
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKind {
    /// A tunnel lives.
    PeerUp {
        /// Name of the other node.
        name: String,
        /// Its node id.
        id: String,
        /// Its organisation.
        org: String,
        /// Path in use.
        path: Option<String>,
    },
    /// A tunnel lives no longer.
    PeerDown {
        /// Name of the other node.
        name: String,
        /// Its node id.
        id: String,
        /// Its organisation.
        org: String,
        /// Why.
        reason: String,
    },
    /// A tunnel uses another path.
    PathChanged {
        /// Name of the other node.
        name: String,
        /// Its node id.
        id: String,
        /// Its organisation.
        org: String,
        /// Path in use.
        path: String,
    },
    /// A node entered the mesh.
    MemberAdded {
        /// Its name.
        name: String,
        /// Its node id.
        id: String,
        /// Its organisation.
        org: String,
        /// Its overlay IPv4 address.
        addr4: Ipv4Addr,
        /// Its overlay IPv6 address.
        addr6: Ipv6Addr,
    },
    /// A node is no longer of the mesh.
    MemberRemoved {
        /// Its name.
        name: String,
        /// Its node id.
        id: String,
        /// Its organisation.
        org: String,
        /// Why: `revoked`, `expired`.
        reason: String,
    },
    /// A record was refused.
    RecordRefused {
        /// What it claims to be: kind and id, or the registry key it stood at.
        record: String,
        /// Why, a short word.
        reason: String,
        /// Who signed it, if that can be told.
        signer: Option<String>,
    },
    /// The registry answers.
    RegistryConnected {
        /// Which one.
        endpoint: String,
    },
    /// The registry no longer answers.
    RegistryDisconnected {
        /// Which one.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// An organisation has not been heard of for too long.
    OrgStale {
        /// Its name.
        org: String,
        /// Age of its signed state.
        state_age_s: u64,
    },
    /// An organisation's audit log was caught with two faces.
    LogForked {
        /// Its name.
        org: String,
    },
    /// The node's certificate was renewed.
    CertRenewed {
        /// When the new one expires.
        expires_at: u64,
    },
    /// The underlay addresses of this node changed.
    AddressChanged {
        /// Those it publishes now, `address:port`.
        candidates: Vec<String>,
    },
    /// The reader was too slow and missed some.
    Missed {
        /// How many.
        count: u64,
    },
    /// An event of a newer daemon.
    #[serde(other)]
    Other,
}
