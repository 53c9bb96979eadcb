//! What the steward writes into its audit log, and when.

use std::time::Duration;

use meshd_core::bucket::TokenBucket;
use meshd_trust::Roster;
use meshd_trust::log::TreeHead;
use meshd_trust::verify_signature;
use meshd_wire::enrol::{EnrolReply, KeyStatement, LoggedLeaf, Refused};
use meshd_wire::record::{NodeKeys, OrgRoot};
use meshd_wire::{
    Envelope, KeyId, Kind, LeafKind, MeshId, NodeId, PublicKey, RecordId, Subject, Timestamp, TokenId,
};

use super::entry::{Admitted, Station};
use super::log::{Log, LogError, Statement};
use super::{Declined, Steward};

/// Leaves of one node: a rotation has three, and comes every few minutes at most.
const LEAVES_PER_S: u32 = 1;
/// Where keys live a second.
const LAB_LEAVES_PER_S: u32 = 8;
/// Leaves of a node that come after each other at once, such as after a time without its steward.
const LEAVES_AT_ONCE: u32 = 64;

/// A statement about a key, and who made it over which connection.
pub struct KeyCall<'c> {
    /// Transport key of the node.
    pub peer: PublicKey,
    /// What it wants to be logged.
    pub statement: &'c KeyStatement,
}

impl Steward {
    /// Newest tree of the log, if it could be opened.
    pub(super) fn log_head(&self) -> Option<TreeHead> {
        self.log.as_ref().map(Log::head)
    }

    /// Opens the log, if that was not done yet or has failed.
    pub(super) fn open_log(&mut self) {
        let Some(origin) = self.own_origin().filter(|_| self.log.is_none()) else { return };
        let org = self.roster.as_ref().and_then(|roster| roster.org(&origin.org));
        let former = org.map(|org| org.log_keys_ever()).unwrap_or_default();
        match Log::open(&self.dir.join("log"), origin, self.seeds.log(), &former) {
            Ok(log) => self.log = Some(log),
            Err(error) => {
                let error = crate::chain::of(&error);
                tracing::error!(
                    error,
                    "the audit log can't be opened, so nobody is admitted and no key renewed"
                );
            }
        }
    }

    fn log(&mut self, now: Timestamp) -> Result<&mut Log, Declined> {
        self.confess(now)?;
        Ok(self.log.as_mut().ok_or(Refused::Unavailable)?)
    }

    /// Says in the log itself that it was restored from a backup, if the mesh knows of more leaves than are here.
    ///
    /// An auditor who has an older checkpoint finds two trees of one size, and this leaf tells why.
    fn confess(&mut self, now: Timestamp) -> Result<(), Declined> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let org = self.roster.as_ref().and_then(|roster| roster.org(&station.org));
        let Some(known) = org.and_then(|org| org.state()?.checkpoint) else { return Ok(()) };
        let (mesh, subject) = (station.mesh, Subject::from(station.org));
        let state = org.and_then(|org| org.state_envelope()).map(<[u8]>::to_vec).unwrap_or_default();
        let actor = signer(&state).unwrap_or_else(|| self.seeds.record().key_id());
        let log = self.log.as_mut().ok_or(Refused::Unavailable)?;
        let held = log.head();
        let is_other = known.n == held.size && known.id.0 != held.root.0;
        if known.n <= held.size && !is_other {
            return Ok(());
        }
        let (known, held) = (known.n, held.size);
        tracing::error!(
            known,
            held,
            "the audit log was restored from a backup: leaves that the mesh knows of are lost"
        );
        log.append(
            &[Statement {
                kind: LeafKind::StateRollback,
                subject,
                epoch: None,
                actor,
                record: recorded(&mesh, &state),
            }],
            now,
        )?;
        Ok(())
    }

    /// Logs what the book and the chain say and the log does not yet: what an end in between has kept from it.
    pub(super) fn catch_up(&mut self, now: Timestamp) -> Result<(), Declined> {
        self.open_log();
        let Some(station) = self.station.clone() else { return Ok(()) };
        let chain = self.chain();
        let own = self.roster.as_ref().and_then(|roster| roster.org(&station.org));
        let roots: Vec<&OrgRoot> = own.into_iter().flat_map(|org| org.roots_ever()).collect();
        let mut statements: Vec<Statement> =
            chain.iter().filter_map(|envelope| of_chain(&station, &roots, envelope)).collect();
        let nodes = self.book.nodes()?;
        let revocations = self.book.revocations()?.map(|signed| signed.envelope);
        // Not always the key in use: it may have followed another one since.
        let revoker = revocations.as_deref().and_then(signer).unwrap_or(self.seeds.record().key_id());
        let revocations = revocations.and_then(|envelope| recorded(&station.mesh, &envelope));
        let log = self.log(now)?;
        for node in &nodes {
            let subject = Subject::from(node.cert.node);
            if !log.has_revoked(&subject) {
                statements.extend(certified(log, &station.mesh, node));
            }
            if node.revoked_at.is_some() && !log.has_revoked(&subject) {
                statements.push(Statement {
                    kind: LeafKind::Revoke,
                    subject,
                    epoch: None,
                    actor: revoker,
                    record: revocations.clone(),
                });
            }
        }
        log.append(&statements, now)?;
        log.put_chain(&chain)?;
        Ok(())
    }

    /// Logs the newest certificate of a node, and the key that it came with.
    pub(super) fn log_admitted(
        &mut self,
        node: &Admitted,
        keys: &[u8],
        now: Timestamp,
    ) -> Result<(), Declined> {
        let mesh = self.station.as_ref().ok_or(Refused::Unavailable)?.mesh;
        let log = self.log(now)?;
        let mut statements: Vec<Statement> = certified(log, &mesh, node).into_iter().collect();
        if !log.has_key(&node.cert.node.into()) {
            statements.extend(of_keys(&mesh, LeafKind::RotateActivate, None, keys));
        }
        log.append(&statements, now)?;
        Ok(())
    }

    /// Logs that a node was taken back: by its own farewell, or by the revocations that name it.
    pub(super) fn log_taken_back(
        &mut self,
        node: NodeId,
        actor: KeyId,
        record: &[u8],
        now: Timestamp,
    ) -> Result<(), Declined> {
        let mesh = self.station.as_ref().ok_or(Refused::Unavailable)?.mesh;
        let admitted = self.book.node(&node)?;
        let (log, subject) = (self.log(now)?, Subject::from(node));
        if !log.has_revoked(&subject) {
            // What it was admitted by comes before, if that could not be logged.
            let certified = admitted.and_then(|admitted| certified(log, &mesh, &admitted));
            let record = recorded(&mesh, record);
            let revoked = Statement { kind: LeafKind::Revoke, subject, epoch: None, actor, record };
            log.append(&certified.into_iter().chain([revoked]).collect::<Vec<_>>(), now)?;
        }
        Ok(())
    }

    /// Logs what became of a token.
    pub(super) fn log_token(
        &mut self,
        kind: LeafKind,
        token: TokenId,
        now: Timestamp,
    ) -> Result<(), Declined> {
        let (subject, actor) = (token.into(), self.seeds.record().key_id());
        self.log(now)?.append(&[Statement { kind, subject, epoch: None, actor, record: None }], now)?;
        Ok(())
    }

    /// Logs what nodes say of their keys, all of it at once, and proves it to each.
    pub fn log_keys(&mut self, calls: &[KeyCall<'_>], now: Timestamp) -> Vec<EnrolReply> {
        let judged: Vec<Result<Statement, Refused>> =
            calls.iter().map(|call| self.judge_keys(call, now)).collect();
        let accepted: Vec<Statement> = judged.iter().filter_map(|one| one.as_ref().ok().cloned()).collect();
        let mut logged = self.append_and_prove(&accepted, now).map_err(|error| {
            tracing::error!(error = crate::chain::of(&error), "keys can't be logged");
        });
        let answer = |one: Result<Statement, Refused>| match (one, &mut logged) {
            (Err(why), _) => EnrolReply::Refused { why },
            (Ok(_), Ok(leaves)) => {
                leaves.next().flatten().map_or(EnrolReply::Refused { why: Refused::Unavailable }, |leaf| {
                    EnrolReply::Logged { leaf }
                })
            }
            (Ok(_), Err(())) => EnrolReply::Refused { why: Refused::Unavailable },
        };
        judged.into_iter().map(answer).collect()
    }

    fn append_and_prove(
        &mut self,
        statements: &[Statement],
        now: Timestamp,
    ) -> Result<std::vec::IntoIter<Option<LoggedLeaf>>, Declined> {
        let log = self.log(now)?;
        let indices = log.append(statements, now)?;
        let mut prover = log.prover();
        let prove = |index| match prover.prove(index) {
            Ok(leaf) => leaf,
            Err(error) => {
                tracing::error!(index, error = crate::chain::of(&error), "a leaf can't be proven");
                None
            }
        };
        Ok(indices.into_iter().map(prove).collect::<Vec<Option<LoggedLeaf>>>().into_iter())
    }

    /// What a node says of its key, if it is the node that says it and its own record says the same.
    fn judge_keys(&mut self, call: &KeyCall<'_>, now: Timestamp) -> Result<Statement, Refused> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let KeyStatement { kind, epoch, record } = call.statement;
        let kind = LeafKind::from_number(*kind).ok_or(Refused::Malformed)?;
        let envelope = Envelope::from_bytes(record).map_err(|_| Refused::Malformed)?;
        let keys: NodeKeys = envelope.record().map_err(|_| Refused::Malformed)?;
        let node = self.book.node(&keys.node);
        let node = node.map_err(|error| {
            tracing::error!(error = crate::chain::of(&error), "the steward's book can't be read");
            Refused::Unavailable
        })?;
        let node = node.filter(|node| node.revoked_at.is_none()).ok_or(Refused::NotMember)?;
        if node.cert.transport != call.peer || self.is_taken_back(station, &keys.node) {
            return Err(Refused::NotMember);
        }
        if !verify_signature(&envelope, &station.mesh, &node.cert.identity) || !says(&keys, kind, *epoch) {
            return Err(Refused::Malformed);
        }
        let statement = of_keys(&station.mesh, kind, Some(*epoch), record).ok_or(Refused::Malformed)?;
        let log = self.log.as_ref().ok_or(Refused::Unavailable)?;
        if !log.allows(&statement, now) {
            return Err(Refused::Malformed);
        }
        let is_lab = self.roster.as_ref().and_then(Roster::genesis).is_some_and(|genesis| genesis.lab);
        let rate = if is_lab { LAB_LEAVES_PER_S } else { LEAVES_PER_S };
        let now = Duration::from_secs(now.0);
        let quota =
            self.quotas.entry(keys.node).or_insert_with(|| TokenBucket::new(rate, LEAVES_AT_ONCE, now));
        if quota.take(now) { Ok(statement) } else { Err(Refused::Unavailable) }
    }
}

/// Whether an envelope holds keys that say what a leaf would say.
pub fn is_said_by(envelope: &[u8], kind: LeafKind, epoch: u32) -> bool {
    let keys = Envelope::from_bytes(envelope).and_then(|envelope| envelope.record::<NodeKeys>());
    keys.is_ok_and(|keys| says(&keys, kind, epoch))
}

/// Whether the record of a node's keys says what its leaf would say.
fn says(keys: &NodeKeys, kind: LeafKind, epoch: u32) -> bool {
    let is_gone = keys.all().all(|key| key.epoch != epoch);
    match kind {
        LeafKind::RotateAnnounce => keys.next.is_some_and(|next| next.epoch == epoch),
        LeafKind::RotateActivate | LeafKind::StateRollback => keys.cur.epoch == epoch,
        LeafKind::KeyDestroy => is_gone,
        LeafKind::KeyCompromised => is_gone && keys.compromised,
        _ => false,
    }
}

/// Who has signed an envelope.
pub(super) fn signer(envelope: &[u8]) -> Option<KeyId> {
    let envelope = Envelope::from_bytes(envelope).ok()?;
    envelope.signatures().first().map(|one| one.key)
}

/// Leaf of a node's certificate, unless it is logged.
fn certified(log: &Log, mesh: &MeshId, node: &Admitted) -> Option<Statement> {
    let subject = Subject::from(node.cert.node);
    let record = recorded(mesh, &node.envelope)?;
    if log.has_certificate(&subject, &record.0) {
        return None;
    }
    let kind = if log.knows(&subject) { LeafKind::Renew } else { LeafKind::Enrol };
    let actor = signer(&node.envelope)?;
    Some(Statement { kind, subject, epoch: None, actor, record: Some(record) })
}

/// Leaf of a node's keys; without an epoch of the one in use.
fn of_keys(mesh: &MeshId, kind: LeafKind, epoch: Option<u32>, envelope: &[u8]) -> Option<Statement> {
    let keys: NodeKeys = Envelope::from_bytes(envelope).ok()?.record().ok()?;
    let epoch = Some(epoch.unwrap_or(keys.cur.epoch));
    let record = recorded(mesh, envelope);
    Some(Statement { kind, subject: keys.node.into(), epoch, actor: KeyId(keys.node.0), record })
}

/// Leaf of a record of the chain, if it gives authority in the steward's own organisation.
fn of_chain(station: &Station, roots: &[&OrgRoot], bytes: &[u8]) -> Option<Statement> {
    let envelope = Envelope::from_bytes(bytes).ok()?;
    let kind = match envelope.kind()? {
        Kind::MeshGenesis => LeafKind::AgreementJoin,
        Kind::OrgRoot => {
            let root: OrgRoot = envelope.record().ok()?;
            // The first one is what the genesis names.
            if root.prev.is_none() || !roots.contains(&&root) {
                return None;
            }
            LeafKind::RootRotate
        }
        Kind::StewardDelegation => {
            let delegation: meshd_wire::record::StewardDelegation = envelope.record().ok()?;
            if delegation.org != station.org {
                return None;
            }
            LeafKind::StewardDelegate
        }
        _ => return None,
    };
    // A genesis is signed by all founders; the log is of one of them.
    let is_own =
        |signer: &KeyId| roots.iter().any(|root| root.keys.iter().any(|key| key.key_id() == *signer));
    let actor = envelope.signatures().iter().map(|one| one.key).find(is_own)?;
    let record = Some((envelope.record_id(&station.mesh)?, bytes.to_vec()));
    Some(Statement { kind, subject: station.org.into(), epoch: None, actor, record })
}

fn recorded(mesh: &MeshId, envelope: &[u8]) -> Option<(RecordId, Vec<u8>)> {
    let id = Envelope::from_bytes(envelope).ok()?.record_id(mesh)?;
    Some((id, envelope.to_vec()))
}

impl From<LogError> for Declined {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}
