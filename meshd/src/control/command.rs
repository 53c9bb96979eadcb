//! What the control API asks of the event loop.

use meshd_api::{
    AddExternalRequest, AdmitRequest, ApiError, AttachRequest, Call, CheckRequest, ClaimRequest,
    CompromisedKeyRequest, DescribeRequest, DetachRequest, GcRequest, GetConfig, GetEndpoints, GetExternals,
    GetKeys, GetNetworks, GetObserved, GetPeers, GetReady, GetStatus, GetSteward, ImportRequest,
    InviteRequest, JoinFileRequest, JoinRequest, KeepRequest, LeaveRequest, MeshCreateRequest, PingRequest,
    PutNetworkRequest, ReleaseRequest, RemoveExternalRequest, RemoveNetworkRequest, RevokeRequest,
    RotateKeyRequest, SetPoliciesRequest, StewardPrepareRequest, StewardRenewRequest,
};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

/// Where the answer to a command goes.
#[derive(Debug)]
pub struct Answer<T>(pub oneshot::Sender<Result<T, ApiError>>);

impl<T> Answer<T> {
    /// Whether the caller went away.
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }

    /// Answers; a caller that went away misses it.
    pub fn send(self, result: Result<T, ApiError>) {
        if self.0.send(result).is_err() {
            tracing::debug!("a caller left before its answer");
        }
    }
}

/// A call that the event loop answers.
pub trait Ask: Call<Reply: Send> + DeserializeOwned + Send + 'static {
    /// Wraps it with the place for its answer.
    fn command(self, answer: Answer<Self::Reply>) -> Command;
}

macro_rules! commands {
    ($($(#[$doc:meta])* $variant:ident($call:ty)),+ $(,)?) => {
        /// A request to the event loop, with the place for its answer.
        #[derive(Debug)]
        pub enum Command {
            $($(#[$doc])* $variant($call, Answer<<$call as Call>::Reply>),)+
            /// Asks for the metrics as text.
            Metrics(Answer<String>),
        }

        $(impl Ask for $call {
            fn command(self, answer: Answer<Self::Reply>) -> Command {
                Command::$variant(self, answer)
            }
        })+
    };
}

commands! {
    /// State of the node.
    Status(GetStatus),
    /// The other nodes.
    Peers(GetPeers),
    /// Settings in force.
    Config(GetConfig),
    /// A round trip through a tunnel.
    Ping(PingRequest),
    /// A token for a newcomer.
    Invite(InviteRequest),
    /// Enter with a token.
    Join(JoinRequest),
    /// A request file for a steward.
    JoinFile(JoinFileRequest),
    /// The steward's answer to it.
    Import(ImportRequest),
    /// Admit a host by file.
    Admit(AdmitRequest),
    /// Leave the mesh.
    Leave(LeaveRequest),
    /// Cut off a node.
    Revoke(RevokeRequest),
    /// Keys of the steward role.
    StewardPrepare(StewardPrepareRequest),
    /// What the root lets this host do.
    Steward(GetSteward),
    /// The next delegation.
    StewardRenew(StewardRenewRequest),
    /// Found a mesh.
    MeshCreate(MeshCreateRequest),
    /// Serve a plain WireGuard peer.
    AddExternal(AddExternalRequest),
    /// The plain WireGuard peers served.
    Externals(GetExternals),
    /// Serve one no longer.
    RemoveExternal(RemoveExternalRequest),
    /// Attach an endpoint.
    Attach(AttachRequest),
    /// Say more about one.
    Describe(DescribeRequest),
    /// Detach one.
    Detach(DetachRequest),
    /// Look whether all of one is in place.
    Check(CheckRequest),
    /// Detach all that a runtime does not know any more.
    Keep(KeepRequest),
    /// Detach what ended by itself.
    Gc(GcRequest),
    /// The endpoints of this host.
    Endpoints(GetEndpoints),
    /// Know a network.
    PutNetwork(PutNetworkRequest),
    /// Forget one.
    RemoveNetwork(RemoveNetworkRequest),
    /// The networks of this host.
    Networks(GetNetworks),
    /// Claim an address for an endpoint to come.
    Claim(ClaimRequest),
    /// Give one back.
    Release(ReleaseRequest),
    /// What endpoints may do.
    SetPolicies(SetPoliciesRequest),
    /// The tunnel keys in use.
    Keys(GetKeys),
    /// The tunnel keys seen on the wire.
    Observed(GetObserved),
    /// Replace this node's tunnel key.
    RotateKey(RotateKeyRequest),
    /// Replace it at once.
    CompromisedKey(CompromisedKeyRequest),
    /// Whether an endpoint could be attached.
    Ready(GetReady),
}
