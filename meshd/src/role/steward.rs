//! The steward of an organisation: invites, admits, renews and takes back.
//!
//! Decisions that need no storage are in `decide`; each act is one transaction of the `book`, which is
//! on disk before anyone hears of it. A token's secret is never kept: the book has the key derived
//! from it. The steward owns no task and reads no clock: the daemon's event loop calls it.

mod admission;
mod book;
mod cosigners;
mod decide;
mod entry;
mod external;
#[cfg(test)]
pub(crate) mod fixture;
mod growth;
mod hand_over;
mod introduce;
mod issue;
mod keys;
mod log;
mod logging;
mod mirror;
mod quotas;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::{BTreeMap, HashMap};
use std::fs::DirBuilder;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use meshd_core::bucket::TokenBucket;
use meshd_trust::founding::StewardPublicKeys;
use meshd_trust::log::Evidence;
use meshd_trust::{Accepted, Change, Floor, Roster, join};
use meshd_wire::enrol::{EnrolReply, EnrolRequest, Refused, RegistryHint};
use meshd_wire::name::is_host_name;
use meshd_wire::record::{Label, StewardDelegation};
use meshd_wire::token::TokenSecret;
use meshd_wire::{Envelope, JoinToken, Kind, LeafKind, MeshId, NodeId, OrgId, PublicKey, Timestamp, TokenId};
use zeroize::Zeroizing;

use self::book::Book;
use self::cosigners::Cosigners;
use self::decide::DAY_S;
use self::entry::{Station, Token};
use self::keys::NextSeeds;
use self::log::Log;
use self::mirror::{COPIES_AT_ONCE, COPIES_PER_S, Mirror};
use self::quotas::Quotas;
use crate::generations::GenerationsError;
use crate::stored::StoredError;
use crate::tls::{RawKey, TlsSetupError};

pub use self::book::BookError;
pub use self::cosigners::{CosignAsk, NotCosigned};
pub use self::hand_over::HandOverError;
pub use self::keys::StewardSeeds;
pub use self::log::LogError;
pub use self::logging::{KeyCall, is_said_by};
pub use self::mirror::{CopyTerms, NotCopied};

/// Age at which the organisation's state is signed anew.
pub const STATE_INTERVAL_S: u64 = 60;
/// Longest life of a token.
pub const TOKEN_TTL_MAX_S: u64 = DAY_S;
/// How long a token is remembered after its end, to tell a late guest why.
const TOKEN_KEPT_S: u64 = DAY_S;
/// Tokens in the book: an invitation for each host of a large mesh.
const TOKENS_MAX: u64 = 16_384;
/// Hints in a token.
const HINTS_MAX: usize = 4;
/// How often what is over is swept out of the book.
const SWEEP_INTERVAL_S: u64 = 60 * 60;
/// Largest share of a reply frame that the chain of trust may take.
const CHAIN_BYTES_MAX: usize = meshd_wire::limits::FRAME_BYTES_MAX - 64 * 1024;

/// Reports a steward that can't be opened or set up.
#[derive(Debug, thiserror::Error)]
pub enum StewardError {
    /// The directory can't be made.
    #[error("make the steward's directory")]
    Dir(#[source] io::Error),
    /// The keys can't be read.
    #[error("read the steward's keys")]
    Read(#[from] StoredError),
    /// The keys can't be written.
    #[error("write the steward's keys")]
    Write(#[from] GenerationsError),
    /// Keys exist already; they are never overwritten.
    #[error("this host has a steward's keys already")]
    Exists,
    /// There are no keys.
    #[error("this host has no steward's keys")]
    Missing,
    /// The book failed.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The TLS key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

/// Reports records that make no steward of this host.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The mesh is not proven.
    #[error("the genesis of the mesh is not known")]
    NoGenesis,
    /// The organisation is no member.
    #[error("organisation {} is no member of this mesh", .0.short())]
    NotMember(OrgId),
    /// No delegation for these keys.
    #[error("no delegation in force names the keys of this steward")]
    NoDelegation,
    /// The book failed.
    #[error(transparent)]
    Book(#[from] BookError),
}

/// Reports an invitation that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// The steward belongs to no mesh yet.
    #[error("this steward belongs to no mesh yet")]
    NoStation,
    /// No life, or too long a life.
    #[error("a token lives 1 s to 24 h")]
    Ttl,
    /// Not a host name.
    #[error("{0:?} is not a host name")]
    Name(String),
    /// Labels that a certificate can't have.
    #[error("labels are distinct keys and values of [a-z0-9.-] in the steward's namespace")]
    Labels,
    /// No address for newcomers to turn to.
    #[error("no address is known at which this steward can be reached")]
    NoHint,
    /// The book is full of tokens.
    #[error("too many tokens are open")]
    TooMany,
    /// The book failed.
    #[error(transparent)]
    Book(#[from] BookError),
    /// The audit log failed.
    #[error("log the token")]
    Log(#[source] Box<Declined>),
}

/// What a token admits to.
#[derive(Debug, Clone, Default)]
pub struct InviteSpec {
    /// Seconds of life.
    pub ttl_s: u64,
    /// Name that the host gets, whatever it asks for.
    pub name: Option<String>,
    /// Labels that the host gets.
    pub labels: Vec<Label>,
}

/// A reply, and what the mesh should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The reply.
    pub reply: EnrolReply,
    /// Envelopes for the daemon to accept and publish, in order.
    pub publish: Vec<Vec<u8>>,
    /// An organisation whose log was caught with two faces.
    pub evidence: Option<(OrgId, Evidence)>,
}

impl Answer {
    fn silent(reply: EnrolReply) -> Self {
        Self::publishing(reply, Vec::new())
    }

    fn publishing(reply: EnrolReply, publish: Vec<Vec<u8>>) -> Self {
        Self { reply, publish, evidence: None }
    }
}

/// An open steward.
pub struct Steward {
    dir: PathBuf,
    seeds: StewardSeeds,
    /// What the root has not delegated to yet.
    next: Option<NextSeeds>,
    book: Book,
    station: Option<Station>,
    /// None without a station, and while it can't be opened.
    log: Option<Log>,
    /// The chain of trust as verified; none before its first use.
    roster: Option<Roster>,
    registries: Vec<RegistryHint>,
    stewards: Vec<String>,
    swept_at: Timestamp,
    /// How much each node may log.
    quotas: HashMap<NodeId, TokenBucket>,
    /// How often each other log may have a checkpoint cosigned.
    cosign_quotas: HashMap<OrgId, TokenBucket>,
    /// How often each node may ask how the log grew.
    growth_quotas: Quotas,
    /// How often each node may ask for a part of the log.
    copy_quotas: Quotas,
    cosigners: Cosigners,
    /// Copies of other logs, as far as they are open.
    mirrors: BTreeMap<OrgId, Mirror>,
    /// Leaves that other logs have shown to this witness in this run.
    shown: BTreeMap<OrgId, u64>,
}

impl Steward {
    /// Makes keys and an empty book.
    pub fn create(dir: &Path, seeds: StewardSeeds) -> Result<Self, StewardError> {
        if !dir.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StewardError::Dir)?;
        }
        if StewardSeeds::load(dir)?.is_some() {
            return Err(StewardError::Exists);
        }
        let book = Book::open(&dir.join("book.redb"))?;
        seeds.store(dir)?;
        Ok(Self::new(dir, seeds, None, book, None))
    }

    /// Opens what [`Self::create`] has made.
    pub fn open(dir: &Path) -> Result<Self, StewardError> {
        let seeds = if dir.exists() { StewardSeeds::load(dir)? } else { None };
        let seeds = seeds.ok_or(StewardError::Missing)?;
        let next = NextSeeds::load(dir, &seeds)?;
        let book = Book::open(&dir.join("book.redb"))?;
        let station = book.station()?;
        Ok(Self::new(dir, seeds, next, book, station))
    }

    fn new(
        dir: &Path,
        seeds: StewardSeeds,
        next: Option<NextSeeds>,
        book: Book,
        station: Option<Station>,
    ) -> Self {
        let (registries, stewards) = (Vec::new(), Vec::new());
        let dir = dir.to_owned();
        let (log, roster, swept_at) = (None, None, Timestamp(0));
        let (quotas, cosign_quotas) = (HashMap::new(), HashMap::new());
        let growth_quotas = Quotas::new(growth::ASKED_PER_S, growth::ASKED_AT_ONCE);
        let copy_quotas = Quotas::new(COPIES_PER_S, COPIES_AT_ONCE);
        let (cosigners, mirrors, shown) = (Cosigners::default(), BTreeMap::new(), BTreeMap::new());
        let mut this = Self {
            dir,
            seeds,
            next,
            book,
            station,
            log,
            roster,
            registries,
            stewards,
            swept_at,
            quotas,
            cosign_quotas,
            growth_quotas,
            copy_quotas,
            cosigners,
            mirrors,
            shown,
        };
        this.open_log();
        this
    }

    /// Takes up the station that a root has given to these keys, or a newer one.
    pub fn adopt(&mut self, proven: &Roster, org: &OrgId) -> Result<(), AdoptError> {
        let agreement = proven.agreement().ok_or(AdoptError::NoGenesis)?;
        let view = proven.org(org).ok_or(AdoptError::NotMember(*org))?;
        let own_key = self.seeds.record().public();
        let own = |steward: &&StewardDelegation| steward.record_key == own_key;
        let delegation = view.delegations().filter(own).last().ok_or(AdoptError::NoDelegation)?;
        let station = Station {
            mesh: proven.mesh(),
            org: *org,
            root_version: delegation.root_version,
            agreement_version: agreement.agreement_version,
            prefix4: view.member().prefix4.clone(),
            subnet6: view.member().subnet6,
            label_namespace: delegation.label_namespace.clone(),
            not_before: delegation.not_before,
            not_after: delegation.not_after,
        };
        let chain = proven.chain();
        self.book.write(|page| {
            page.put_station(&station)?;
            page.put_chain(&chain)
        })?;
        self.station = Some(station);
        self.restore_chain()?;
        // It can be logged later; what is signed until then can't.
        self.open_log();
        Ok(())
    }

    /// Sets what newcomers are told: where registries and stewards are.
    pub fn advertise(&mut self, registries: Vec<RegistryHint>, stewards: Vec<String>) {
        self.registries = registries;
        self.stewards = stewards;
    }

    /// Takes in roots, delegations, revocations and states of any organisation of the mesh.
    ///
    /// Other kinds and what does not verify are left out without a word: the daemon's own roster
    /// judges and counts them.
    pub fn merge(&mut self, envelopes: &[Vec<u8>], now: Timestamp) -> Result<(), BookError> {
        self.wake()?;
        let Some(roster) = &mut self.roster else { return Ok(()) };
        let mut lasting = false;
        for bytes in envelopes {
            let kind = Envelope::from_bytes(bytes).ok().and_then(|envelope| envelope.kind());
            if !kind.is_some_and(Kind::belongs_to_chain) {
                continue;
            }
            match roster.accept(bytes, now) {
                Ok(Accepted::New(change)) => lasting |= !matches!(change, Change::State(_)),
                Ok(Accepted::Known | Accepted::Opaque) | Err(_) => {}
            }
        }
        if lasting {
            let chain = roster.chain();
            self.book.write(|page| page.put_chain(&chain))?;
        }
        Ok(())
    }

    /// Makes a token for one host. `random` names the token and is its secret.
    pub fn invite(
        &mut self,
        spec: &InviteSpec,
        hints: &[SocketAddr],
        now: Timestamp,
        random: &Zeroizing<[u8; 24]>,
    ) -> Result<JoinToken, InviteError> {
        let station = self.station.as_ref().ok_or(InviteError::NoStation)?;
        if !(1..=TOKEN_TTL_MAX_S).contains(&spec.ttl_s) {
            return Err(InviteError::Ttl);
        }
        if let Some(name) = spec.name.as_ref().filter(|name| !is_host_name(name)) {
            return Err(InviteError::Name(name.clone()));
        }
        let labels = decide::scope_labels(station, &spec.labels).ok_or(InviteError::Labels)?;
        let hints: Vec<SocketAddr> = hints.iter().take(HINTS_MAX).copied().collect();
        if hints.is_empty() {
            return Err(InviteError::NoHint);
        }
        let (mut id, mut secret) = (TokenId([0; 8]), TokenSecret([0; 16]));
        let (id_bytes, secret_bytes) = random.split_at(id.0.len());
        id.0.copy_from_slice(id_bytes);
        secret.0.copy_from_slice(secret_bytes);
        let not_after = now.plus(spec.ttl_s);
        let key = join::token_key(&secret, &station.mesh, &id);
        let token = Token { key, not_after, name: spec.name.clone(), labels, used_by: None };
        self.book.write(|page| {
            page.retain_tokens(|token| token.not_after.plus(TOKEN_KEPT_S) >= now)?;
            if page.tokens_len()? >= TOKENS_MAX {
                return Err(InviteError::TooMany);
            }
            Ok(page.put_token(&id, &token)?)
        })?;
        let token = JoinToken {
            mesh: station.mesh,
            org: station.org,
            id,
            secret,
            root_version_min: station.root_version,
            agreement_version_min: station.agreement_version,
            not_after,
            stewards: hints,
        };
        self.log_token(LeafKind::TokenIssue, id, now).map_err(|error| InviteError::Log(Box::new(error)))?;
        Ok(token)
    }

    /// Answers a request that came over TLS from the holder of a transport key.
    pub fn answer(
        &mut self,
        peer: &PublicKey,
        exporter: &[u8; 32],
        request: &EnrolRequest,
        now: Timestamp,
    ) -> Answer {
        if let Err(error) = self.wake() {
            return self.settle(Err(error.into()));
        }
        let answered = match request {
            EnrolRequest::Chain { mesh } => self.tell_chain(mesh, now),
            EnrolRequest::Enrol { token, request, mac } => {
                self.enrol(peer, exporter, token, request, mac, now)
            }
            EnrolRequest::Renew { request } => self.renew(peer, request, now),
            EnrolRequest::Leave { leave } => self.release(leave, now),
            EnrolRequest::Introduce { records } => self.meet(peer, records, now),
            EnrolRequest::Claim { claim } => self.claim(peer, claim, now),
            EnrolRequest::Log { statement } => {
                let mut replies = self.log_keys(&[KeyCall { peer: *peer, statement }], now);
                let reply = replies.pop().ok_or(Declined::Refused(Refused::Unavailable));
                reply.map(Answer::silent)
            }
            EnrolRequest::Cosign { request } => self.cosign(request, now),
            EnrolRequest::Growth { old, new } => self.tell_growth(peer, *old, *new, now),
            EnrolRequest::Copy { from } => self.tell_copy(peer, *from, now),
        };
        self.settle(answered)
    }

    /// Admits a host whose request came as a file; the reply's bytes are the file that goes back.
    pub fn admit(&mut self, request: &[u8], name: Option<&str>, labels: &[Label], now: Timestamp) -> Answer {
        let answered = self.wake().map_err(Declined::from);
        let answered = answered.and_then(|()| self.admit_file(request, name, labels, now));
        self.settle(answered)
    }

    /// Signs the organisation's state; due every [`STATE_INTERVAL_S`].
    pub fn state(&mut self, now: Timestamp) -> Result<Vec<u8>, Declined> {
        self.wake()?;
        if now.since(self.swept_at) >= SWEEP_INTERVAL_S {
            self.sweep(now)?;
            self.swept_at = now;
        }
        if let Err(error) = self.catch_up(now) {
            tracing::error!(error = crate::chain::of(&error), "the audit log is behind");
        }
        let signed = self.book.write(|page| self.sign_state(page, now))?;
        self.take_own(&[&signed], now);
        Ok(signed)
    }

    /// Removes what is long over, as far as a clock that jumped ahead a moment ago can't be why: up to the
    /// time signed last, and never when it is later than the own delegation.
    fn sweep(&self, now: Timestamp) -> Result<(), BookError> {
        let is_in_office = self.station.as_ref().is_some_and(|station| now <= station.not_after);
        let Some(signed) = self.book.state()?.filter(|_| is_in_office) else { return Ok(()) };
        let over = now.min(signed.at);
        self.book.write(|page| {
            page.retain_tokens(|token| token.not_after.plus(TOKEN_KEPT_S) >= over)?;
            page.retain_nodes(|node| node.cert.not_after.plus(decide::ADDRESS_REST_S) >= over)?;
            page.retain_externals_of_nodes()?;
            page.retain_holds(|hold| hold.until >= over)
        })
    }

    /// Newest revocations, which the mesh may not have heard of if this host ended when they were signed.
    pub fn revocations(&self) -> Result<Option<Vec<u8>>, BookError> {
        Ok(self.book.revocations()?.map(|signed| signed.envelope))
    }

    /// Public halves of the keys, for the root to delegate to.
    pub fn public_keys(&self) -> StewardPublicKeys {
        self.seeds.public_keys()
    }

    /// Key of the steward's TLS server.
    pub fn tls_key(&self) -> Result<RawKey, TlsSetupError> {
        self.seeds.tls()
    }

    /// Envelopes that prove the mesh, the newest states included.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        self.roster.as_ref().map(Roster::chain).unwrap_or_default()
    }

    /// Mesh and organisation, once the steward has a station.
    pub fn station(&self) -> Option<(MeshId, OrgId)> {
        self.station.as_ref().map(|station| (station.mesh, station.org))
    }

    /// Turns a refusal into a reply, and logs what is the steward's own failure.
    fn settle(&self, answered: Result<Answer, Declined>) -> Answer {
        let why = match answered {
            Ok(answer) => return answer,
            Err(Declined::Refused(why)) => why,
            Err(error @ (Declined::Book(_) | Declined::Log(_))) => {
                tracing::error!(error = crate::chain::of(&error), "steward can't serve");
                Refused::Unavailable
            }
        };
        Answer::silent(EnrolReply::Refused { why })
    }

    /// Reads the stored chain, if that was not done yet.
    fn wake(&mut self) -> Result<(), BookError> {
        if self.roster.as_ref().is_some_and(|roster| roster.genesis().is_some()) {
            return Ok(());
        }
        self.restore_chain()
    }

    fn restore_chain(&mut self) -> Result<(), BookError> {
        let Some(station) = &self.station else { return Ok(()) };
        let mut roster = Roster::new(station.mesh, Floor::none());
        // Also what nobody takes any more counts here: whom the keys before took back is still taken back.
        for (at, refusal) in roster.restore_all(&self.book.chain()?) {
            tracing::warn!(at, %refusal, "stored record of the chain is not accepted");
        }
        self.roster = Some(roster);
        Ok(())
    }

    /// Puts own signed records into the chain.
    fn take_own(&mut self, envelopes: &[&[u8]], now: Timestamp) {
        let Some(roster) = &mut self.roster else { return };
        for bytes in envelopes {
            if let Err(refusal) = roster.accept(bytes, now) {
                tracing::error!(%refusal, "own record is not accepted");
            }
        }
    }
}

/// Why the steward did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Declined {
    /// By its rules.
    #[error("the steward refuses: {0:?}")]
    Refused(Refused),
    /// It could not.
    #[error(transparent)]
    Book(#[from] BookError),
    /// It could not log it.
    #[error(transparent)]
    Log(LogError),
}

impl From<Refused> for Declined {
    fn from(why: Refused) -> Self {
        Self::Refused(why)
    }
}

/// IPv4 prefix of a station.
fn prefix4(station: &Station) -> Option<(std::net::Ipv4Addr, u8)> {
    match station.prefix4.parts()? {
        (IpAddr::V4(addr), len) => Some((addr, len)),
        (IpAddr::V6(_), _) => None,
    }
}
