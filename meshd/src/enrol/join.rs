//! The node's way into a mesh, and out of it.
//!
//! Nothing that only a member may know, and no proof made with a token, leaves this host before the
//! server's key was found in a delegation of the organisation that the token names.

use std::net::SocketAddr;
use std::time::Duration;

use meshd_api::ApiError;
use meshd_trust::{Floor, Freshness, Refusal, Roster, join as proof};
use meshd_wire::enrol::{EnrolReply, EnrolRequest, ExternalAddress, Refused, RegistryHint};
use meshd_wire::{Envelope, JoinToken, Kind, MeshId, OrgId, PublicKey, Timestamp};
use minicbor::bytes::ByteVec;

use super::client::{ADDRESSES_MAX, CallError, EnrolClient};
use crate::config::Suites;
use crate::membership::NodeSecrets;
use crate::tls::{ConnectError, RawKey, ServerKey, TlsSetupError};

/// Largest difference between the clocks of node and steward.
const CLOCK_SKEW_MAX_S: u64 = 5 * 60;
/// Attempts at one join: the same keys may ask again when a reply was lost.
const ATTEMPTS_MAX: u32 = 3;
/// Pause before the second attempt; the third waits twice as long.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(250);

/// Reports a join that failed; the host is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token names no steward.
    #[error("the token names no steward")]
    NoSteward,
    /// No steward can be connected to.
    #[error("no steward of the token is reachable")]
    Unreachable(#[source] ConnectError),
    /// The steward was reached but did not answer.
    #[error("the steward gives no answer")]
    NoAnswer(#[source] CallError),
    /// It answers something that was not asked.
    #[error("the steward answers out of turn")]
    OutOfTurn,
    /// It serves another mesh.
    #[error("the steward belongs to another mesh than the token")]
    OtherMesh,
    /// Its records do not prove the mesh of the token.
    #[error("the steward's records do not prove the mesh of the token")]
    Unproven(#[source] Option<Refusal>),
    /// Its key is in no delegation.
    #[error("the server's key is not that of a steward of the organisation: somebody may be in between")]
    NotDelegated {
        /// Key of the server.
        server: PublicKey,
    },
    /// This host can't carry the mesh.
    #[error("{}", .0.error)]
    Unfit(Box<ApiError>),
    /// The clocks differ.
    #[error("this host's clock is {} {}, compared with the steward's", Span(*.by_s), if *.by_s < 0 { "behind" } else { "ahead" })]
    Clock {
        /// Seconds that the own clock is ahead; negative if behind.
        by_s: i64,
    },
    /// No token of this name, or another secret.
    #[error("the steward does not know this token")]
    TokenUnknown,
    /// Used before.
    #[error("the token was used before")]
    TokenUsed,
    /// Its time is over.
    #[error("the token has expired")]
    TokenExpired,
    /// Another node has the name.
    #[error("the name {name} is taken by another node")]
    NameTaken {
        /// The name wanted.
        name: String,
    },
    /// The organisation has no address left.
    #[error("no address is left in the organisation's prefix")]
    NoAddress,
    /// The node was taken back before.
    #[error("the steward has revoked this host's key")]
    Revoked,
    /// Any other refusal.
    #[error("the steward refuses: {0}")]
    Refused(&'static str),
    /// The certificate does not verify.
    #[error("the certificate that the steward gave is not valid")]
    BadCertificate(#[source] Refusal),
    /// It is for somebody else.
    #[error("the certificate that the steward gave is for another node")]
    OtherNode,
    /// No fresh word of the organisation.
    #[error("the steward gives no fresh state of its organisation")]
    NotFresh,
    /// The own keys can't be used.
    #[error(transparent)]
    Setup(#[from] TlsSetupError),
}

/// Reports a steward that did not do what a member asked.
#[derive(Debug, thiserror::Error)]
pub enum StewardCallError {
    /// No address to try.
    #[error("no steward is known")]
    NoSteward,
    /// No steward can be connected to.
    #[error("no steward is reachable")]
    Unreachable(#[source] ConnectError),
    /// The steward was reached but did not answer.
    #[error("the steward gives no answer")]
    NoAnswer(#[source] CallError),
    /// What answers is no steward of the organisation.
    #[error("the server's key is not that of a steward of the organisation")]
    NotDelegated {
        /// Key of the server.
        server: PublicKey,
    },
    /// It refuses.
    #[error("the steward refuses: {}", describe(*.0))]
    Refused(Refused),
    /// It answers something that was not asked.
    #[error("the steward answers out of turn")]
    OutOfTurn,
}

/// What a host has after a join.
#[derive(Debug)]
pub struct Joined {
    /// The chain of trust, the own certificate and the own first NodeKeys.
    pub roster: Roster,
    /// The organisation.
    pub org: OrgId,
    /// Where registries are.
    pub registries: Vec<RegistryHint>,
    /// Where stewards are.
    pub stewards: Vec<String>,
}

/// What a renewal gives; the caller's roster has the last word on the records.
#[derive(Debug)]
pub struct Renewed {
    /// Envelope of the new certificate.
    pub cert: Vec<u8>,
    /// Envelopes of the chain of trust.
    pub records: Vec<Vec<u8>>,
    /// Where registries are.
    pub registries: Vec<RegistryHint>,
    /// Where stewards are.
    pub stewards: Vec<String>,
}

/// What a steward gives for the externals of a node; the caller's roster has the last word on the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Envelope of the certificate that holds their addresses.
    pub cert: Vec<u8>,
    /// The addresses.
    pub externals: Vec<ExternalAddress>,
}

impl Claimed {
    /// What a reply gives, or why the steward gives nothing.
    pub fn of(reply: EnrolReply) -> Result<Self, StewardCallError> {
        match reply {
            EnrolReply::Claimed { cert, externals } => Ok(Self { cert, externals }),
            EnrolReply::Refused { why } => Err(StewardCallError::Refused(why)),
            EnrolReply::Chain { .. }
            | EnrolReply::Admitted { .. }
            | EnrolReply::Done
            | EnrolReply::Logged { .. }
            | EnrolReply::Cosigned { .. }
            | EnrolReply::Witnessed { .. }
            | EnrolReply::Grown { .. }
            | EnrolReply::Copied { .. } => Err(StewardCallError::OutOfTurn),
        }
    }
}

/// Joins with a token. `now` tells the time.
///
/// `fits` judges the proven mesh before the token is used: a host that can't carry it keeps its token.
/// Asking again with the same secrets is safe: a token that these keys have used gives the same
/// certificate again.
pub async fn join(
    token: &JoinToken,
    secrets: &NodeSecrets,
    suites: Suites,
    name: &str,
    fits: impl Fn(&Roster) -> Result<(), Box<ApiError>>,
    now: impl Fn() -> Timestamp,
) -> Result<Joined, JoinError> {
    let key = RawKey::from_seed(&secrets.transport().seed())?;
    let mut attempt = 1;
    loop {
        match attempt_join(token, (secrets, suites), &key, name, &fits, &now).await {
            Err(
                JoinError::NoAnswer(CallError::Broken(_) | CallError::Closed)
                | JoinError::Unreachable(ConnectError::Refused { .. }),
            ) if attempt < ATTEMPTS_MAX => {
                tokio::time::sleep(ATTEMPT_PAUSE * attempt).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn attempt_join(
    token: &JoinToken,
    (secrets, suites): (&NodeSecrets, Suites),
    key: &RawKey,
    name: &str,
    fits: &impl Fn(&Roster) -> Result<(), Box<ApiError>>,
    now: &impl Fn() -> Timestamp,
) -> Result<Joined, JoinError> {
    let mut client = EnrolClient::connect(&token.stewards, key, ServerKey::Unverified)
        .await
        .ok_or(JoinError::NoSteward)?
        .map_err(JoinError::Unreachable)?;
    let mut roster = prove_steward(&mut client, token, now).await?;
    fits(&roster).map_err(JoinError::Unfit)?;
    let signed_at = now();
    // Ordered by time, so that a lost state directory does not make the node's records look old.
    let seq = signed_at.0.saturating_mul(1000);
    let keys = secrets.sign_keys(&token.mesh, suites, signed_at, seq, signed_at).to_bytes();
    let request = secrets.sign_request(token.mesh, token.org, name.to_owned(), keys.clone(), signed_at);
    let request = request.to_bytes();
    let token_key = proof::token_key(&token.secret, &token.mesh, &token.id);
    let mac = proof::proof(&token_key, &request, client.exporter());
    let request = EnrolRequest::Enrol { token: token.id, request, mac };
    let (cert, records, registries, stewards) =
        match client.call(&request).await.map_err(JoinError::NoAnswer)? {
            EnrolReply::Admitted { cert, records, registries, stewards } => {
                (cert, records, registries, stewards)
            }
            EnrolReply::Refused { why } => return Err(refusal(why, name)),
            EnrolReply::Chain { .. }
            | EnrolReply::Done
            | EnrolReply::Claimed { .. }
            | EnrolReply::Logged { .. }
            | EnrolReply::Cosigned { .. }
            | EnrolReply::Witnessed { .. }
            | EnrolReply::Grown { .. }
            | EnrolReply::Copied { .. } => return Err(JoinError::OutOfTurn),
        };
    let arrived_at = now();
    roster.accept_all(&envelopes(records), arrived_at);
    roster.accept(&cert, arrived_at).map_err(JoinError::BadCertificate)?;
    // Keys that the repetition of a join finds at the steward are older, never newer.
    roster.accept(&keys, arrived_at).map_err(JoinError::BadCertificate)?;
    let own = roster.node(&secrets.node()).ok_or(JoinError::OtherNode)?;
    if own.org() != token.org || own.cert().transport != key.public() {
        return Err(JoinError::OtherNode);
    }
    let freshness = roster.org(&token.org).map(|org| org.freshness(arrived_at));
    if freshness != Some(Freshness::Fresh) {
        return Err(JoinError::NotFresh);
    }
    Ok(Joined { roster, org: token.org, registries, stewards })
}

/// Fetches the chain of trust, and finds the server's key in it.
async fn prove_steward(
    client: &mut EnrolClient,
    token: &JoinToken,
    now: &impl Fn() -> Timestamp,
) -> Result<Roster, JoinError> {
    let asked = EnrolRequest::Chain { mesh: token.mesh };
    let (steward_now, records) = match client.call(&asked).await.map_err(JoinError::NoAnswer)? {
        EnrolReply::Chain { now, records } => (now, envelopes(records)),
        EnrolReply::Refused { why: Refused::WrongMesh } => return Err(JoinError::OtherMesh),
        EnrolReply::Refused { why } => return Err(JoinError::Refused(describe(why))),
        EnrolReply::Admitted { .. }
        | EnrolReply::Done
        | EnrolReply::Claimed { .. }
        | EnrolReply::Logged { .. }
        | EnrolReply::Cosigned { .. }
        | EnrolReply::Witnessed { .. }
        | EnrolReply::Grown { .. }
        | EnrolReply::Copied { .. } => return Err(JoinError::OutOfTurn),
    };
    let own_now = now();
    let mut roster = Roster::new(token.mesh, Floor::from(token));
    let refused = roster.accept_all(&records, own_now);
    let proven = roster.genesis().is_some();
    let delegated = roster.is_steward_tls(&token.org, &client.server_key(), own_now);
    // A wrong clock is also why good records look expired, so it is named first.
    check_clock(own_now, steward_now)?;
    if !proven {
        return Err(JoinError::Unproven(refused.into_iter().next().map(|(_, refusal)| refusal)));
    }
    if !delegated {
        return Err(JoinError::NotDelegated { server: client.server_key() });
    }
    Ok(roster)
}

/// Renews the certificate; `request` is the envelope of a JoinRequest.
pub async fn renew(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
    request: Vec<u8>,
) -> Result<Renewed, StewardCallError> {
    match ask(at, key, is_steward, &EnrolRequest::Renew { request }).await? {
        EnrolReply::Admitted { cert, records, registries, stewards } => {
            Ok(Renewed { cert, records: envelopes(records), registries, stewards })
        }
        EnrolReply::Chain { .. }
        | EnrolReply::Refused { .. }
        | EnrolReply::Done
        | EnrolReply::Claimed { .. }
        | EnrolReply::Logged { .. }
        | EnrolReply::Cosigned { .. }
        | EnrolReply::Witnessed { .. }
        | EnrolReply::Grown { .. }
        | EnrolReply::Copied { .. } => Err(StewardCallError::OutOfTurn),
    }
}

/// Asks for the addresses of the node's externals; `claim` is the envelope of a NodeExternals.
///
/// Asking again is safe: the same names give the same addresses.
pub async fn claim(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
    claim: Vec<u8>,
) -> Result<Claimed, StewardCallError> {
    Claimed::of(ask(at, key, is_steward, &EnrolRequest::Claim { claim }).await?)
}

/// Says farewell; `leave` is the envelope of a NodeLeave.
pub async fn leave(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
    leave: Vec<u8>,
) -> Result<(), StewardCallError> {
    done(ask(at, key, is_steward, &EnrolRequest::Leave { leave }).await?)
}

/// Asks for the newest records of the chain of trust; the caller's roster judges them.
pub async fn refresh(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
    mesh: MeshId,
) -> Result<Vec<Vec<u8>>, StewardCallError> {
    match ask(at, key, is_steward, &EnrolRequest::Chain { mesh }).await? {
        EnrolReply::Chain { now: _, records } => Ok(envelopes(records)),
        EnrolReply::Admitted { .. }
        | EnrolReply::Refused { .. }
        | EnrolReply::Done
        | EnrolReply::Claimed { .. }
        | EnrolReply::Logged { .. }
        | EnrolReply::Cosigned { .. }
        | EnrolReply::Witnessed { .. }
        | EnrolReply::Grown { .. }
        | EnrolReply::Copied { .. } => Err(StewardCallError::OutOfTurn),
    }
}

/// Asks hosts with unknown keys for the chain of trust: the root may have given the steward a new one while this node was
/// away. The caller's roster judges it. Whoever tells one is believed to be
/// a host of the mesh and nothing more, so only what belongs to the chain is given back.
pub async fn ask_strangers(
    at: &[SocketAddr],
    key: &RawKey,
    mesh: MeshId,
) -> Result<Vec<Vec<u8>>, StewardCallError> {
    let mut result = Err(StewardCallError::NoSteward);
    for at in at.iter().take(ADDRESSES_MAX) {
        result = refresh(std::slice::from_ref(at), key, |_| true, mesh).await;
        if let Ok(records) = &mut result {
            records.retain(|record| {
                let kind = Envelope::from_bytes(record).ok().and_then(|envelope| envelope.kind());
                kind.is_some_and(Kind::belongs_to_chain)
            });
            break;
        }
    }
    result
}

/// Hands over records, so that the host of a registry knows who may use it.
pub async fn introduce(
    at: &[SocketAddr],
    key: &RawKey,
    is_host: impl Fn(&PublicKey) -> bool,
    records: Vec<Vec<u8>>,
) -> Result<(), StewardCallError> {
    let records = records.into_iter().map(ByteVec::from).collect();
    done(ask(at, key, is_host, &EnrolRequest::Introduce { records }).await?)
}

fn done(reply: EnrolReply) -> Result<(), StewardCallError> {
    match reply {
        EnrolReply::Done => Ok(()),
        EnrolReply::Chain { .. }
        | EnrolReply::Admitted { .. }
        | EnrolReply::Refused { .. }
        | EnrolReply::Claimed { .. }
        | EnrolReply::Logged { .. }
        | EnrolReply::Cosigned { .. }
        | EnrolReply::Witnessed { .. }
        | EnrolReply::Grown { .. }
        | EnrolReply::Copied { .. } => Err(StewardCallError::OutOfTurn),
    }
}

/// Asks the first server whose key is right; at some of the addresses another host may be by now.
pub(super) async fn ask(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
    request: &EnrolRequest,
) -> Result<EnrolReply, StewardCallError> {
    let mut client = connect_steward(at, key, is_steward).await?;
    match client.call(request).await.map_err(StewardCallError::NoAnswer)? {
        EnrolReply::Refused { why } => Err(StewardCallError::Refused(why)),
        reply => Ok(reply),
    }
}

pub(super) async fn connect_steward(
    at: &[SocketAddr],
    key: &RawKey,
    is_steward: impl Fn(&PublicKey) -> bool,
) -> Result<EnrolClient, StewardCallError> {
    let mut failure = StewardCallError::NoSteward;
    for at in at.iter().take(ADDRESSES_MAX) {
        match EnrolClient::connect(std::slice::from_ref(at), key, ServerKey::Unverified).await {
            Some(Ok(client)) if is_steward(&client.server_key()) => return Ok(client),
            Some(Ok(client)) => failure = StewardCallError::NotDelegated { server: client.server_key() },
            // Who answers with another key is the better reason.
            Some(Err(error)) if !matches!(failure, StewardCallError::NotDelegated { .. }) => {
                failure = StewardCallError::Unreachable(error);
            }
            Some(Err(_)) | None => {}
        }
    }
    Err(failure)
}

fn check_clock(own: Timestamp, steward: Timestamp) -> Result<(), JoinError> {
    if own.since(steward).max(steward.since(own)) <= CLOCK_SKEW_MAX_S {
        return Ok(());
    }
    let seconds = |span: u64| i64::try_from(span).unwrap_or(i64::MAX);
    let by_s = if own > steward { seconds(own.since(steward)) } else { -seconds(steward.since(own)) };
    Err(JoinError::Clock { by_s })
}

fn envelopes(records: Vec<ByteVec>) -> Vec<Vec<u8>> {
    records.into_iter().map(Vec::from).collect()
}

fn refusal(why: Refused, name: &str) -> JoinError {
    match why {
        Refused::WrongMesh => JoinError::OtherMesh,
        Refused::TokenUnknown => JoinError::TokenUnknown,
        Refused::TokenUsed => JoinError::TokenUsed,
        Refused::TokenExpired => JoinError::TokenExpired,
        Refused::NameTaken => JoinError::NameTaken { name: name.to_owned() },
        Refused::NoAddress => JoinError::NoAddress,
        Refused::NotMember => JoinError::Revoked,
        Refused::Malformed | Refused::Clock | Refused::Unavailable => JoinError::Refused(describe(why)),
    }
}

/// Says in words why a steward refused.
fn describe(why: Refused) -> &'static str {
    match why {
        Refused::Malformed => "the request is malformed",
        Refused::WrongMesh => "the request is for another mesh or organisation",
        Refused::TokenUnknown => "it does not know the token",
        Refused::TokenUsed => "the token was used before",
        Refused::TokenExpired => "the token has expired",
        Refused::Clock => "the clocks differ too much, or the request is too old",
        Refused::NameTaken => "the name is taken by another node",
        Refused::NoAddress => "no address is left in the organisation's prefix",
        Refused::NotMember => "the node is no member, or not any more",
        Refused::Unavailable => "it can't do this now",
    }
}

/// Shows a difference of clocks in its largest unit.
struct Span(i64);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.unsigned_abs() {
            s @ ..120 => write!(f, "{s} s"),
            s @ 120..7_200 => write!(f, "{} min", s / 60),
            s @ 7_200..172_800 => write!(f, "{} h", s / 3_600),
            s => write!(f, "{} days", s / 86_400),
        }
    }
}
