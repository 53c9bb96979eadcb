//! What the steward writes into its audit log, and when.

use meshd_trust::log::{LogOrigin, TreeHead};
use meshd_trust::verify_signature;
use meshd_wire::enrol::{EnrolReply, KeyStatement, LoggedLeaf, Refused};
use meshd_wire::record::NodeKeys;
use meshd_wire::{
    Envelope, KeyId, Kind, LeafKind, MeshId, NodeId, PublicKey, RecordId, Subject, Timestamp, TokenId,
};

use super::entry::{Admitted, Station};
use super::log::{Log, LogError, Statement};
use super::{Declined, Steward};

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
        let Some(station) = self.station.as_ref().filter(|_| self.log.is_none()) else { return };
        let origin = LogOrigin { mesh: station.mesh, org: station.org };
        match Log::open(&self.dir.join("log"), origin, self.seeds.log()) {
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

    fn log(&mut self) -> Result<&mut Log, Declined> {
        Ok(self.log.as_mut().ok_or(Refused::Unavailable)?)
    }

    /// Says in the log itself that it was restored from a backup, if the mesh knows of more leaves than are here.
    ///
    /// An auditor who has an older checkpoint finds two trees of one size, and this leaf tells why.
    fn confess(&mut self, now: Timestamp) -> Result<(), Declined> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let org = self.roster.as_ref().and_then(|roster| roster.org(&station.org));
        let known = org.and_then(|org| org.state()?.checkpoint).map_or(0, |checkpoint| checkpoint.n);
        let (mesh, subject) = (station.mesh, Subject::from(station.org));
        let state = org.and_then(|org| recorded(&mesh, org.state_envelope()?));
        let (log, actor) = (self.log.as_mut().ok_or(Refused::Unavailable)?, self.seeds.record().key_id());
        let held = log.head().size;
        if known <= held {
            return Ok(());
        }
        tracing::error!(
            known,
            held,
            "the audit log was restored from a backup: leaves that the mesh knows of are lost"
        );
        log.append(
            &[Statement { kind: LeafKind::StateRollback, subject, epoch: None, actor, record: state }],
            now,
        )?;
        Ok(())
    }

    /// Logs what the book and the chain say and the log does not yet: what an end in between has kept from it.
    pub(super) fn catch_up(&mut self, now: Timestamp) -> Result<(), Declined> {
        self.open_log();
        let Some(station) = self.station.clone() else { return Ok(()) };
        let chain = self.chain();
        let mut statements: Vec<Statement> =
            chain.iter().filter_map(|envelope| of_chain(&station, envelope)).collect();
        let actor = self.seeds.record().key_id();
        let nodes = self.book.nodes()?;
        self.confess(now)?;
        let log = self.log()?;
        for node in &nodes {
            let subject = Subject::from(node.cert.node);
            statements.extend(certified(log, &station.mesh, node, actor));
            if node.revoked_at.is_some() && !log.has_revoked(&subject) {
                statements.push(Statement {
                    kind: LeafKind::Revoke,
                    subject,
                    epoch: None,
                    actor,
                    record: None,
                });
            }
        }
        let before = log.head().size;
        log.append(&statements, now)?;
        if log.head().size > before {
            log.put_chain(&chain)?;
        }
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
        let actor = self.seeds.record().key_id();
        let log = self.log()?;
        let mut statements: Vec<Statement> = certified(log, &mesh, node, actor).into_iter().collect();
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
        let (log, subject) = (self.log()?, Subject::from(node));
        if !log.has_revoked(&subject) {
            let record = recorded(&mesh, record);
            log.append(&[Statement { kind: LeafKind::Revoke, subject, epoch: None, actor, record }], now)?;
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
        self.log()?.append(&[Statement { kind, subject, epoch: None, actor, record: None }], now)?;
        Ok(())
    }

    /// Logs what nodes say of their keys, all of it at once, and proves it to each.
    pub fn log_keys(&mut self, calls: &[KeyCall<'_>], now: Timestamp) -> Vec<EnrolReply> {
        let judged: Vec<Result<Statement, Refused>> =
            calls.iter().map(|call| self.judge_keys(call)).collect();
        let accepted: Vec<Statement> = judged.iter().filter_map(|one| one.as_ref().ok().cloned()).collect();
        let mut logged = self.append_and_prove(&accepted, now).map_err(|error| {
            tracing::error!(error = crate::chain::of(&error), "keys can't be logged");
        });
        let answer = |one: Result<Statement, Refused>| match (one, &mut logged) {
            (Err(why), _) => EnrolReply::Refused { why },
            (Ok(_), Ok(leaves)) => {
                leaves.next().map_or(EnrolReply::Refused { why: Refused::Unavailable }, |leaf| {
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
    ) -> Result<std::vec::IntoIter<LoggedLeaf>, Declined> {
        let log = self.log()?;
        let indices = log.append(statements, now)?;
        let prove = |index| {
            let proven = log.prove(index)?;
            Ok::<_, Declined>(proven.ok_or(Refused::Unavailable)?)
        };
        let leaves: Result<Vec<LoggedLeaf>, Declined> = indices.into_iter().map(prove).collect();
        Ok(leaves?.into_iter())
    }

    /// What a node says of its key, if it is the node that says it and its own record says the same.
    fn judge_keys(&self, call: &KeyCall<'_>) -> Result<Statement, Refused> {
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
        of_keys(&station.mesh, kind, Some(*epoch), record).ok_or(Refused::Malformed)
    }
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

/// Leaf of a node's certificate, unless it is logged.
fn certified(log: &Log, mesh: &MeshId, node: &Admitted, actor: KeyId) -> Option<Statement> {
    let subject = Subject::from(node.cert.node);
    let record = recorded(mesh, &node.envelope)?;
    if log.has_certificate(&subject, &record.0) {
        return None;
    }
    let kind = if log.knows(&subject) { LeafKind::Renew } else { LeafKind::Enrol };
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
fn of_chain(station: &Station, bytes: &[u8]) -> Option<Statement> {
    let envelope = Envelope::from_bytes(bytes).ok()?;
    let kind = match envelope.kind()? {
        Kind::MeshGenesis => LeafKind::AgreementJoin,
        Kind::StewardDelegation => {
            let delegation: meshd_wire::record::StewardDelegation = envelope.record().ok()?;
            if delegation.org != station.org {
                return None;
            }
            LeafKind::StewardDelegate
        }
        _ => return None,
    };
    let actor = envelope.signatures().first()?.key;
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
