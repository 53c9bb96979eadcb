//! The local API of meshd: HTTP/1.1 and JSON over a unix socket.
//!
//! One noun a file. A request is a type that implements [`Call`]: it names its method, its path, how long to
//! wait and what is answered. Every answer is a [`Document`]: the body's own fields and a `schema` beside them, such
//! as `meshd.status/1`; a schema's number changes when a reader of the old one would misunderstand the new one, a
//! new field does not change it. What went wrong is an [`ApiError`] with an [`ErrorCode`], and one table says which
//! HTTP status and which exit code belong to it.
//!
//! Nothing here depends on the other crates of meshd: identifiers are base32 text as people see them, signed
//! records travel as base64 text ([`Signed`]). Points in time are seconds since 1970-01-01 00:00 UTC.

mod admit;
mod call;
mod client;
mod config;
mod endpoint;
mod error;
mod events;
mod exit;
mod external;
mod invite;
mod join;
mod key;
mod leave;
mod mesh;
mod network;
mod observed;
mod peers;
mod ping;
mod policy;
mod revoke;
mod status;
mod steward;
mod text;

pub use admit::{AdmitReply, AdmitRequest};
pub use call::{Body, Call, Document, Method};
pub use client::{Answer, Client, ClientError, EVENT_BYTES_MAX, EventStream, RESPONSE_BYTES_MAX};
pub use config::{ConfigReply, GetConfig};
pub use endpoint::{
    AttachRequest, Attachment, CheckReply, CheckRequest, Collected, DescribeRequest, DetachReply,
    DetachRequest, Endpoint, EndpointState, Endpoints, GcReply, GcRequest, GetEndpoints, Identity, KeepReply,
    KeepRequest, KeptAttachment, Namespace,
};
pub use error::{ApiError, ErrorCode, chain};
pub use events::{Event, EventKind, GetEvents};
pub use exit::Exit;
pub use external::{
    AddExternalReply, AddExternalRequest, External, Externals, GetExternals, RemoveExternalReply,
    RemoveExternalRequest,
};
pub use invite::{InviteReply, InviteRequest};
pub use join::{ImportRequest, JoinFileReply, JoinFileRequest, JoinRequest, MemberReply};
pub use key::{CompromisedKeyRequest, GetKeys, Key, KeyRole, Keys, RotateKeyRequest, RotationState};
pub use leave::{LeaveReply, LeaveRequest};
pub use mesh::{MeshCreateRequest, StewardKeys, StewardPrepareRequest};
pub use network::{
    Allocation, ClaimReply, ClaimRequest, Egress, GetNetworks, GetReady, Network, NetworkReply, Networks,
    Policing, PutNetworkRequest, Reach, Ready, ReleaseReply, ReleaseRequest, RemoveNetworkReply,
    RemoveNetworkRequest,
};
pub use observed::{GetObserved, Observed, ObservedKey, TunnelSuite};
pub use peers::{GetPeers, Peer, PeerState, Peers};
pub use ping::{PingReply, PingRequest};
pub use policy::{
    EndpointPolicy, POLICIES_BYTES_MAX, POLICIES_MAX, POLICY_EXCEPT_MAX, POLICY_LABELS_MAX, POLICY_PEERS_MAX,
    POLICY_PORTS_MAX, POLICY_RULES_MAX, PoliciesReply, PolicyPeer, PolicyPorts, PolicyProtocol, PolicyRule,
    SetPoliciesRequest,
};
pub use revoke::{RevokeReply, RevokeRequest};
pub use status::{
    Freshness, GetStatus, Membership, MeshStatus, NodeStatus, OrganisationStatus, PeerCount, RegistryKind,
    RegistryStatus, Status, Warning,
};
pub use steward::{GetSteward, StewardRenewRequest, StewardReply};
pub use text::{Labels, Secret, Signed};

/// Largest request body the daemon reads: a genesis of many organisations with its roots fits several times.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// Where the daemon listens unless told otherwise.
pub const SOCKET_DEFAULT: &str = "/run/meshd/api.sock";

/// Where the daemon listens to plugins, which may only attach and detach.
pub const PLUGIN_SOCKET_DEFAULT: &str = "/run/meshd/plugin.sock";

/// Path of the Prometheus text on the same socket.
pub const METRICS_PATH: &str = "/metrics";
