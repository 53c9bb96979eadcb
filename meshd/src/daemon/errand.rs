//! Calls that need the network, done beside the event loop: join, farewell, renewal, refreshment.
//!
//! Each is one task that ends by itself, because every step of it has a deadline; what it brings back is one
//! [`Message`].

use std::net::SocketAddr;

use meshd_api::{AddExternalReply, ApiError, ErrorCode, LeaveReply, MemberReply};
use meshd_trust::Roster;
use meshd_wire::enrol::{KeyStatement, RegistryHint};
use meshd_wire::{JoinToken, MeshId, OrgId, PublicKey};
use tokio::sync::mpsc;

use super::message::Message;
use crate::clock;
use crate::config::Suites;
use crate::control::Answer;
use crate::dataplane::PingError;
use crate::enrol::{self, JoinError, StewardCallError};
use crate::membership::NodeSecrets;
use crate::mesh::{
    CopyCall, CosignCall, Errand, GrowthCall, Help, Mesh, Newcomer, RenewalRequest, refuse_conflicts,
};
use crate::role::steward::CosignAsk;
use crate::tls::RawKey;

/// Joins with a token.
pub fn join(
    token: JoinToken,
    name: String,
    secrets: NodeSecrets,
    suites: Suites,
    device: String,
    answer: Answer<MemberReply>,
    messages: mpsc::Sender<Message>,
) {
    tokio::spawn(async move {
        let result = enrol::join(
            &token,
            &secrets,
            suites,
            &name,
            |roster| refuse_conflicts(roster, &device),
            clock::wall,
        )
        .await;
        say(&messages, Message::Joined { token: token.id, secrets, result: Box::new(result), answer }).await;
    });
}

/// Tells a steward that this node leaves.
pub fn leave(mesh: &Mesh, force: bool, answer: Answer<LeaveReply>, messages: mpsc::Sender<Message>) {
    let call = StewardCall::new(mesh);
    let farewell = mesh.membership.secrets.sign_leave(&mesh.membership.mesh, mesh.clock.now()).to_bytes();
    tokio::spawn(async move {
        let result = match call {
            Ok(call) => enrol::leave(&call.at, &call.key, |key| call.is_steward(key), farewell).await,
            Err(error) => Err(error),
        };
        let cause = result.as_ref().err().map(|error| crate::chain::of(error));
        say(&messages, Message::Left { told: result.is_ok(), force, cause, answer }).await;
    });
}

/// Asks a steward for the addresses of a newcomer; `claim` names it and everybody served.
pub fn claim(
    mesh: &Mesh,
    newcomer: Newcomer,
    claim: Vec<u8>,
    answer: Answer<AddExternalReply>,
    messages: mpsc::Sender<Message>,
) {
    let (call, node) = (StewardCall::new(mesh), mesh.node);
    tokio::spawn(async move {
        let result = match call {
            Ok(call) => enrol::claim(&call.at, &call.key, |key| call.is_steward(key), claim).await,
            Err(error) => Err(error),
        };
        say(&messages, Message::Claimed { node, newcomer, result: Box::new(result), answer }).await;
    });
}

/// Starts what a duty asks for.
pub fn start(mesh: &mut Mesh, errand: Errand, messages: mpsc::Sender<Message>) {
    let call = StewardCall::new(mesh);
    let RenewalRequest { request, keys } = mesh.renewal_request();
    let introduction = mesh.introduction();
    let claim = if errand == Errand::Claim { mesh.external_claim(None) } else { Vec::new() };
    let hosts = registry_hosts(mesh);
    let (node, mesh_id) = (mesh.node, mesh.membership.mesh);
    tokio::spawn(async move {
        let result = match (call, errand) {
            (Err(error), _) => Err(error),
            (Ok(call), Errand::Renew) => {
                let renewed = enrol::renew(&call.at, &call.key, |key| call.is_steward(key), request).await;
                renewed.map(|renewed| Help::renewed(renewed, keys))
            }
            (Ok(call), Errand::Claim) => {
                let claimed = enrol::claim(&call.at, &call.key, |key| call.is_steward(key), claim).await;
                claimed.map(|claimed| Help { claimed: Some(claimed), ..Help::default() })
            }
            (Ok(call), Errand::Introduce) => introduce(&call.key, hosts, introduction, mesh_id).await,
            (Ok(call), Errand::Refresh) => {
                match enrol::refresh(&call.at, &call.key, |key| call.is_steward(key), mesh_id).await {
                    Err(StewardCallError::NotDelegated { .. }) => {
                        enrol::ask_strangers(&call.at, &call.key, mesh_id).await.map(Help::of)
                    }
                    told => told.map(Help::of),
                }
            }
        };
        let help = match result {
            Ok(help) => Some(help),
            Err(error) => {
                let error = crate::chain::of(&error);
                tracing::warn!(?errand, error, "no steward helped");
                None
            }
        };
        say(&messages, Message::Errand { node, errand, help }).await;
    });
}

/// Asks a steward to log what became of this node's keys.
pub fn log(mesh: &Mesh, statements: Vec<KeyStatement>, messages: mpsc::Sender<Message>) {
    let (call, node) = (StewardCall::new(mesh), mesh.node);
    tokio::spawn(async move {
        let result = match call {
            Ok(call) => enrol::log(&call.at, &call.key, |key| call.is_steward(key), statements).await,
            Err(error) => Err(error),
        };
        let logged = result.map_err(|error| {
            tracing::warn!(error = crate::chain::of(&error), "no steward logged the keys of this node");
        });
        say(&messages, Message::Logged { node, logged: logged.ok() }).await;
    });
}

/// Shows a witness the newest checkpoint of this steward's log.
pub fn cosign(mesh: &Mesh, call: CosignCall, messages: mpsc::Sender<Message>) {
    let (key, node) = (RawKey::from_seed(&mesh.membership.secrets.transport().seed()), mesh.node);
    let CosignCall { witness, at, server, ask: CosignAsk { request, note } } = call;
    tokio::spawn(async move {
        let result = match key {
            Ok(key) => enrol::cosign(&at, &key, |key| *key == server, request).await,
            Err(_) => Err(StewardCallError::NoSteward),
        };
        let answer = result.map_err(|error| {
            let error = crate::chain::of(&error);
            tracing::warn!(org = witness.short(), error, "the audit log is not cosigned");
        });
        say(&messages, Message::Cosigned { node, witness, asked: note, answer: answer.ok() }).await;
    });
}

/// Asks a log for what is not copied of it yet.
pub fn copy(mesh: &Mesh, call: CopyCall, messages: mpsc::Sender<Message>) {
    let (key, node) = (RawKey::from_seed(&mesh.membership.secrets.transport().seed()), mesh.node);
    let CopyCall { org, at, server, from } = call;
    tokio::spawn(async move {
        let result = match key {
            Ok(key) => enrol::copy(&at, &key, |key| *key == server, from).await,
            Err(_) => Err(StewardCallError::NoSteward),
        };
        let answer = result.map_err(|error| {
            let error = crate::chain::of(&error);
            tracing::debug!(org = org.short(), error, from, "an audit log gives no copy");
        });
        say(&messages, Message::Copied { node, org, from, answer: answer.ok() }).await;
    });
}

/// Asks a log how it grew.
pub fn growth(mesh: &Mesh, call: GrowthCall, messages: mpsc::Sender<Message>) {
    let (key, node) = (RawKey::from_seed(&mesh.membership.secrets.transport().seed()), mesh.node);
    let GrowthCall { org, at, server, old, new, asked } = call;
    tokio::spawn(async move {
        let result = match key {
            Ok(key) => enrol::growth(&at, &key, |key| *key == server, (old, new)).await,
            Err(_) => Err(StewardCallError::NoSteward),
        };
        let answer = result.map_err(|error| {
            let error = crate::chain::of(&error);
            tracing::debug!(org = org.short(), error, old, new, "an audit log does not say how it grew");
        });
        say(&messages, Message::Grown { node, org, asked, answer: answer.ok() }).await;
    });
}

/// Addresses and keys of the embedded registries of the mesh.
fn registry_hosts(mesh: &Mesh) -> Vec<(Vec<SocketAddr>, Vec<PublicKey>)> {
    let host = |hint: &RegistryHint| {
        let at = hint.url.strip_prefix("meshd://")?.split(',');
        let named: Vec<SocketAddr> = at.filter_map(|at| at.parse().ok()).collect();
        Some((mesh.with_whereabouts(&named), mesh.server_keys_after(&hint.tls_key?)))
    };
    mesh.membership.registries.iter().filter_map(host).collect()
}

async fn introduce(
    key: &RawKey,
    hosts: Vec<(Vec<SocketAddr>, Vec<PublicKey>)>,
    records: Vec<Vec<u8>>,
    mesh: MeshId,
) -> Result<Help, StewardCallError> {
    let mut result = Err(StewardCallError::NoSteward);
    for (at, keys) in hosts {
        result = match enrol::introduce(&at, key, |key| keys.contains(key), records.clone()).await {
            Err(StewardCallError::NotDelegated { .. }) => {
                // Nothing was shown yet.
                let records = enrol::ask_strangers(&at, key, mesh).await;
                records.map(|records| Help { is_halfway: true, ..Help::of(records) })
            }
            told => told.map(|()| Help::default()),
        };
    }
    result
}

async fn say(messages: &mpsc::Sender<Message>, message: Message) {
    if messages.send(message).await.is_err() {
        tracing::debug!("the event loop is gone");
    }
}

/// What a call to the own organisation's steward needs.
struct StewardCall {
    at: Vec<SocketAddr>,
    key: RawKey,
    keys: Vec<PublicKey>,
}

impl StewardCall {
    fn new(mesh: &Mesh) -> Result<Self, StewardCallError> {
        let key = RawKey::from_seed(&mesh.membership.secrets.transport().seed())
            .map_err(|_| StewardCallError::NoSteward)?;
        let named: Vec<SocketAddr> =
            mesh.membership.stewards.iter().filter_map(|at| at.parse().ok()).collect();
        let at = mesh.with_whereabouts(&named);
        Ok(Self { at, key, keys: steward_keys(&mesh.roster, &mesh.membership.org) })
    }

    fn is_steward(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }
}

fn steward_keys(roster: &Roster, org: &OrgId) -> Vec<PublicKey> {
    roster.org(org).map_or_else(Vec::new, |org| org.tls_keys())
}

/// Words for a join that failed.
pub fn join_error(error: &JoinError) -> ApiError {
    let (code, hint) = match error {
        JoinError::Unfit(error) => return (**error).clone(),
        JoinError::NoSteward => (ErrorCode::TokenMalformed, Some("ask for a new token: `meshctl invite`")),
        JoinError::Unreachable(_) | JoinError::NoAnswer(_) => (
            ErrorCode::StewardUnreachable,
            Some(
                "is its control port (51820/tcp by default) open to this host? Otherwise join by file: `meshctl join --request FILE`",
            ),
        ),
        JoinError::OutOfTurn => (ErrorCode::Internal, None),
        JoinError::OtherMesh => (ErrorCode::WrongMesh, Some("ask for a new token: `meshctl invite`")),
        JoinError::Unproven(_)
        | JoinError::NotDelegated { .. }
        | JoinError::BadCertificate(_)
        | JoinError::OtherNode => {
            (ErrorCode::RecordRefused, Some("do not trust this network path until the cause is known"))
        }
        JoinError::Clock { .. } => {
            (ErrorCode::ClockOff, Some("set the clock and try again with the same token"))
        }
        JoinError::TokenUnknown => {
            (ErrorCode::TokenUnknown, Some("ask for a new one: `meshctl invite` at the steward"))
        }
        JoinError::TokenUsed => {
            (ErrorCode::TokenUsed, Some("each host needs its own: `meshctl invite` at the steward"))
        }
        JoinError::TokenExpired => {
            (ErrorCode::TokenExpired, Some("ask for a new one: `meshctl invite` at the steward"))
        }
        JoinError::NameTaken { .. } => (ErrorCode::NameTaken, Some("give another one with --name")),
        JoinError::NoAddress => (ErrorCode::NoAddress, None),
        JoinError::Revoked => (ErrorCode::Revoked, None),
        JoinError::Refused(_) | JoinError::NotFresh => (
            ErrorCode::Unavailable,
            Some("look at the steward's log: full disk or a suspect clock are the usual reasons"),
        ),
        JoinError::Setup(_) => (ErrorCode::Internal, None),
    };
    let api = ApiError::new(code, "this host can't join").with_cause(crate::chain::of(error));
    match hint {
        Some(hint) => api.with_hint(hint),
        None => api,
    }
}

/// Words for a ping without an answer.
pub fn ping_error(name: &str, error: &PingError) -> ApiError {
    let code = match error {
        PingError::UnknownPeer | PingError::NoAddress => ErrorCode::NotFound,
        PingError::TooLong { .. } => ErrorCode::BadRequest,
        PingError::TooMany | PingError::Unreachable | PingError::Denied | PingError::NotSent => {
            ErrorCode::Unavailable
        }
        PingError::TimedOut => ErrorCode::TimedOut,
    };
    ApiError::new(code, format!("{name} does not answer")).with_cause(error.to_string())
}
