//! The audit logs as this node sees them: the newest checkpoint of each, held against those that others were shown.
//!
//! Checkpoints come with the proofs of this node's own keys, from neighbours, and from this steward's own log. Where two of
//! different sizes meet, the log is asked how it grew. Two of one size with different roots are evidence: it is kept, passed
//! on, and the organisation brings in nobody new as far as this node is concerned
//! ([decision 28](../../../docs/decisions/0028-checkpoints-from-node-to-node.md)).

mod files;
mod log_view;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use meshd_api::EventKind;
use meshd_trust::Roster;
use meshd_trust::log::{
    CheckpointKeys, CheckpointRefusal, CosignRequest, Evidence, EvidenceRefusal, LogOrigin, Note,
};
use meshd_wire::{OrgId, PublicKey};

use super::Mesh;
use super::absorb::Source;
use super::cosigners::head_server;
use crate::discovery::keyspace::Slot;
use crate::enrol::Grown;
use crate::metrics::Counters;
use crate::random;

use self::files::CheckpointFiles;
use self::log_view::{Growth, Heard, LogView, Seen, Told};

pub use self::files::forget_checkpoints;

/// Wait between two questions to one log …
const ASK_EVERY: Duration = Duration::from_secs(10);
/// … for each member so much, so that a steward is asked four times a second at most …
const ASK_EVERY_PER_MEMBER: Duration = Duration::from_millis(250);
/// … but more than once before somebody is warned.
const ASK_EVERY_LONGEST: Duration = Duration::from_secs(240);
/// Time that a log has to show how it grew.
const UNPROVEN_MAX: Duration = Duration::from_secs(600);

/// What is known of the logs.
#[derive(Debug)]
pub(super) struct Checkpoints {
    files: CheckpointFiles,
    logs: BTreeMap<OrgId, LogView>,
    evidence: BTreeMap<OrgId, Kept>,
    /// Keys by which the checkpoints that are kept were believed.
    keys: BTreeMap<OrgId, Vec<PublicKey>>,
    /// Neighbours are to be told of evidence.
    has_evidence: bool,
    /// The checkpoint of the own steward that is not believed, if one is not.
    disbelieved: Option<Note>,
}

/// Evidence at hand.
#[derive(Debug)]
struct Kept {
    evidence: Evidence,
    is_stored: bool,
    /// Somebody was told why it is not.
    is_told: bool,
}

/// A question to a log.
#[derive(Debug)]
pub struct GrowthCall {
    /// Organisation whose log it is.
    pub org: OrgId,
    /// Where its steward may be.
    pub at: Vec<SocketAddr>,
    /// Key of its TLS server.
    pub server: PublicKey,
    /// Leaves of the checkpoint that is kept.
    pub old: u64,
    /// Leaves of the larger one.
    pub new: u64,
    /// The larger one.
    pub asked: Note,
}

impl Checkpoints {
    /// Reads what was kept, as far as the roster proves it.
    pub(super) fn open(state: &Path, roster: &Roster) -> Self {
        let files = CheckpointFiles::new(state);
        let (mut logs, mut evidence) = (BTreeMap::new(), BTreeMap::new());
        for (org, note) in files.checkpoints() {
            match believe(roster, org, &note) {
                Ok(seen) => drop(logs.insert(org, LogView::resume(seen))),
                Err(error) => {
                    tracing::warn!(
                        org = org.short(),
                        error = crate::chain::of(&error),
                        "forgets a checkpoint"
                    );
                }
            }
        }
        for (org, kept) in files.evidence() {
            evidence.insert(org, Kept { evidence: kept, is_stored: true, is_told: false });
        }
        let (keys, has_evidence, disbelieved) = (BTreeMap::new(), false, None);
        Self { files, logs, evidence, keys, has_evidence, disbelieved }
    }

    /// Checkpoints and evidence that neighbours are told, by their places.
    pub(super) fn holdings(&self, roster: &Roster) -> Vec<(Slot, Vec<u8>)> {
        let shown = self.logs.iter().filter_map(|(org, log)| Some((Slot::Checkpoint(*org), log.shown()?)));
        let shown = shown.map(|(slot, note)| (slot, note.to_string().into_bytes()));
        let proven = self.convicted(roster).into_iter();
        let proven = proven.filter_map(|org| Some((Slot::Evidence(org), self.evidence.get(&org)?)));
        let proven = proven.map(|(slot, kept)| (slot, kept.evidence.to_string().into_bytes()));
        shown.chain(proven).collect()
    }

    /// Takes in a checkpoint. Gives evidence, if it excludes one that is known.
    fn hear(
        &mut self,
        roster: &Roster,
        org: OrgId,
        note: &Note,
        (now, delay): (Instant, Duration),
    ) -> Result<Option<Evidence>, CheckpointRefusal> {
        let is_known = self.logs.get(&org).is_some_and(|log| log.has(note));
        if is_known || self.has_convicted(roster, &org) {
            return Ok(None);
        }
        let seen = believe(roster, org, note)?;
        match self.logs.entry(org).or_default().hear(seen, now, delay) {
            Heard::Known | Heard::Unproven => {}
            Heard::First => self.store_checkpoint(org),
            Heard::Forked(evidence) => return Ok(Some(evidence)),
        }
        Ok(None)
    }

    /// Takes in how a log says it grew. Gives evidence, if it has signed what excludes a checkpoint that is known.
    fn on_grown(
        &mut self,
        roster: &Roster,
        org: OrgId,
        asked: Note,
        grown: Option<Grown>,
        now: Instant,
    ) -> Option<Evidence> {
        let told = grown.and_then(|grown| {
            let told = read_growth(roster, org, &grown);
            if told.is_none() {
                tracing::warn!(org = org.short(), "a log shows nothing of how it grew");
            }
            told
        });
        let (log, asked) = (self.logs.get_mut(&org)?, Seen::of(asked)?);
        match log.on_told(asked, told, now) {
            Growth::Shown => self.store_checkpoint(org),
            Growth::NotShown => {}
            Growth::Forked(evidence) => return Some(evidence),
        }
        None
    }

    /// Keeps evidence, unless it convicts nobody, or nobody new. Lines of others than the log are left out: one that is not
    /// theirs would keep auditors from believing the rest.
    fn convict(&mut self, roster: &Roster, org: OrgId, evidence: &Evidence) -> bool {
        let [Ok(one), Ok(other)] = evidence.notes.each_ref().map(|note| believe(roster, org, note)) else {
            return false;
        };
        if self.has_convicted(roster, &org) || !one.excludes(&other) {
            return false;
        }
        let evidence = Evidence::new(one.note, other.note);
        self.evidence.insert(org, Kept { evidence, is_stored: false, is_told: false });
        self.store_evidence();
        // There is no newest checkpoint of two trees.
        self.logs.remove(&org);
        true
    }

    /// Forgets checkpoints of logs whose keys the root has replaced.
    fn follow_keys(&mut self, roster: &Roster) {
        let Self { logs, keys, .. } = self;
        logs.retain(|org, log| {
            let now = log_of(roster, *org).1.log;
            let before = keys.insert(*org, now.clone());
            before.is_none_or(|before| before == now)
                || log.notes().all(|note| believe(roster, *org, note).is_ok())
        });
    }

    /// Organisations whose logs have two faces. One whose root has replaced the log's key begins anew.
    fn convicted(&self, roster: &Roster) -> Vec<OrgId> {
        self.evidence.keys().filter(|org| self.has_convicted(roster, org)).copied().collect()
    }

    pub(super) fn has_convicted(&self, roster: &Roster, org: &OrgId) -> bool {
        self.evidence.get(org).is_some_and(|kept| judge(roster, *org, &kept.evidence).is_ok())
    }

    /// Leaves that a log has at least.
    pub(super) fn size_of(&self, org: &OrgId) -> u64 {
        self.logs.get(org).map_or(0, LogView::size)
    }

    fn store_checkpoint(&self, org: OrgId) {
        let Some(note) = self.logs.get(&org).and_then(LogView::kept) else { return };
        if let Err(error) = self.files.put_checkpoint(&org, note) {
            tracing::warn!(error = crate::chain::of(&error), "a checkpoint can't be stored");
        }
    }

    fn store_evidence(&mut self) {
        for (org, kept) in self.evidence.iter_mut().filter(|(_, kept)| !kept.is_stored) {
            match self.files.put_evidence(org, &kept.evidence) {
                Ok(()) => kept.is_stored = true,
                Err(error) if !kept.is_told => {
                    let error = crate::chain::of(&error);
                    tracing::error!(org = org.short(), error, "evidence can't be stored");
                    kept.is_told = true;
                }
                Err(_) => {}
            }
        }
    }
}

impl Mesh {
    /// Takes in a checkpoint that somebody hands over.
    pub(super) fn hear_checkpoint(
        &mut self,
        org: OrgId,
        value: &[u8],
        source: Source,
        counters: &mut Counters,
    ) {
        let slot = Slot::Checkpoint(org);
        let Ok(note) = Note::from_bytes(value) else {
            return self.refused(slot, "malformed", source, counters);
        };
        if let Err(error) = self.hear_note(org, &note) {
            self.not_believed(slot, error, source, counters);
        }
    }

    /// Takes in evidence that somebody hands over.
    pub(super) fn hear_evidence(
        &mut self,
        org: OrgId,
        value: &[u8],
        source: Source,
        counters: &mut Counters,
    ) {
        let slot = Slot::Evidence(org);
        if self.checkpoints.has_convicted(&self.roster, &org) {
            return;
        }
        let Ok(evidence) = Evidence::from_bytes(value) else {
            return self.refused(slot, "malformed", source, counters);
        };
        match judge(&self.roster, org, &evidence) {
            Ok(()) => self.convict(org, evidence),
            Err(EvidenceRefusal::Checkpoint(error)) => self.not_believed(slot, error, source, counters),
            Err(EvidenceRefusal::Agreement) => self.refused(slot, "invalid", source, counters),
        }
    }

    /// Takes in a checkpoint, whoever shows it.
    pub(super) fn hear_note(&mut self, org: OrgId, note: &Note) -> Result<(), CheckpointRefusal> {
        let delay = self.asking_pace().mul_f64((random::number() % 1024) as f64 / 1024.0);
        if let Some(evidence) = self.checkpoints.hear(&self.roster, org, note, (Instant::now(), delay))? {
            self.convict(org, evidence);
        }
        Ok(())
    }

    /// Keeps evidence, passes it on, and acts upon it.
    pub(super) fn convict(&mut self, org: OrgId, evidence: Evidence) {
        if !self.checkpoints.convict(&self.roster, org, &evidence) {
            return;
        }
        let (name, path) = (self.name_of_org(&org), self.checkpoints.files.evidence_path(&org));
        tracing::error!(
            org = name,
            evidence = %path.display(),
            "an organisation has signed two trees of one size: its log shows two faces"
        );
        self.emit(EventKind::LogForked { org: name });
        self.shut_out_forked();
        // Not now: of what has come with it some may not be on disk.
        self.checkpoints.has_evidence = true;
    }

    /// Takes nobody new from other organisations whose logs have two faces. What the own steward does is for its own
    /// administrator to judge.
    pub(super) fn shut_out_forked(&mut self) {
        self.checkpoints.follow_keys(&self.roster);
        let convicted = self.checkpoints.convicted(&self.roster).into_iter();
        let shut: BTreeSet<OrgId> = convicted.filter(|org| *org != self.membership.org).collect();
        self.roster.shut(shut);
    }

    /// Questions to logs that have to show how they grew. This steward's own log is asked at once.
    #[must_use]
    pub fn growth_calls(&mut self) -> Vec<GrowthCall> {
        let (now, pace) = (Instant::now(), self.asking_pace());
        self.hear_own_log();
        self.checkpoints.store_evidence();
        if std::mem::take(&mut self.checkpoints.has_evidence) {
            self.apply_channels();
        }
        let mut questions = Vec::new();
        for (org, log) in &mut self.checkpoints.logs {
            log.show(now);
            questions.extend(log.question(now, pace).map(|(old, new)| (*org, old, new)));
        }
        let mut calls = Vec::new();
        for (org, old, asked) in questions {
            let (old, new, asked) = (old.head.size, asked.head.size, asked.note);
            let own = self.steward.as_ref().filter(|_| org == self.membership.org);
            let server = self.roster.org(&org).and_then(|org| head_server(&org));
            match (own, server) {
                (Some(steward), _) => {
                    let grown = steward.growth(old, new).unwrap_or_else(|error| {
                        let error = crate::chain::of(&error);
                        tracing::error!(error, "no proof can be made that the audit log only grew");
                        None
                    });
                    self.on_grown(org, asked, grown);
                }
                (None, Some(server)) => {
                    let at = self.steward_hosts(&org);
                    calls.push(GrowthCall { org, at, server, old, new, asked });
                }
                (None, None) => self.on_grown(org, asked, None),
            }
        }
        calls
    }

    /// Takes in how a log says it grew; none if it was not reached, or refused.
    pub fn on_grown(&mut self, org: OrgId, asked: Note, grown: Option<Grown>) {
        if let Some(evidence) = self.checkpoints.on_grown(&self.roster, org, asked, grown, Instant::now()) {
            self.convict(org, evidence);
        }
    }

    /// Organisations whose logs have shown two faces, and where the evidence lies.
    pub(super) fn forked_logs(&self) -> Vec<(String, String)> {
        let convicted = self.checkpoints.convicted(&self.roster).into_iter();
        let path = |org: &OrgId| self.checkpoints.files.evidence_path(org).display().to_string();
        convicted.map(|org| (self.name_of_org(&org), path(&org))).collect()
    }

    /// Organisations whose logs have not shown within their time that they only grew, with the seconds that it has been.
    pub(super) fn unproven_logs(&self) -> Vec<(String, u64)> {
        let (now, known) = (Instant::now(), &self.checkpoints);
        let logs = known.logs.iter().filter(|(org, _)| !known.has_convicted(&self.roster, org));
        let late = logs.filter_map(|(org, log)| Some((org, log.unproven_for(now)?)));
        let late = late.filter(|(_, wait)| *wait > UNPROVEN_MAX);
        late.map(|(org, wait)| (self.name_of_org(org), wait.as_secs())).collect()
    }

    pub(super) fn name_of_org(&self, org: &OrgId) -> String {
        self.roster.org(org).map_or_else(|| org.short(), |org| org.name().to_owned())
    }

    fn hear_own_log(&mut self) {
        let Some(note) = self.steward.as_ref().and_then(|steward| steward.checkpoint()) else { return };
        if self.checkpoints.disbelieved.as_ref() == Some(&note) {
            return;
        }
        if let Err(error) = self.hear_note(self.membership.org, &note) {
            let error = crate::chain::of(&error);
            tracing::error!(error, "this node does not believe the checkpoint of its own steward's log");
            self.checkpoints.disbelieved = Some(note);
        }
    }

    fn not_believed(
        &mut self,
        slot: Slot,
        error: CheckpointRefusal,
        source: Source,
        counters: &mut Counters,
    ) {
        let reason = match error {
            CheckpointRefusal::OtherLog => "misplaced",
            CheckpointRefusal::Unsigned => "unknown-signer",
            CheckpointRefusal::Signature(_) => "bad-signature",
            CheckpointRefusal::Malformed(_) => "malformed",
        };
        if let (CheckpointRefusal::Signature(_), Source::Neighbour(neighbour)) = (error, source) {
            self.channels.complain(neighbour);
        }
        self.refused(slot, reason, source, counters);
    }

    /// Where an organisation's steward may be.
    fn steward_hosts(&self, org: &OrgId) -> Vec<SocketAddr> {
        let mut at = self.control_hosts_of(|of| of == org);
        let is_own = *org == self.membership.org;
        let named = self.membership.stewards.iter().filter(|_| is_own).filter_map(|at| at.parse().ok());
        for named in named.collect::<Vec<SocketAddr>>() {
            if !at.contains(&named) {
                at.push(named);
            }
        }
        at
    }

    fn asking_pace(&self) -> Duration {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        ASK_EVERY_PER_MEMBER.saturating_mul(members).clamp(ASK_EVERY, ASK_EVERY_LONGEST)
    }
}

/// Name and keys of an organisation's log.
fn log_of(roster: &Roster, org: OrgId) -> (LogOrigin, CheckpointKeys) {
    let log = roster.org(&org).map(|org| org.log_keys()).unwrap_or_default();
    (LogOrigin { mesh: roster.mesh(), org }, CheckpointKeys { log, witnesses: Vec::new() })
}

/// Believes a checkpoint. What others have signed is left out: so one tree has one note on all nodes.
fn believe(roster: &Roster, org: OrgId, note: &Note) -> Result<Seen, CheckpointRefusal> {
    let (origin, keys) = log_of(roster, org);
    let head = keys.verify(note, &origin)?.checkpoint.head;
    Ok(Seen { note: note.signed_alone_by(&origin.to_string(), &keys.log), head })
}

fn judge(roster: &Roster, org: OrgId, evidence: &Evidence) -> Result<(), EvidenceRefusal> {
    let (origin, keys) = log_of(roster, org);
    evidence.verify(&origin, &keys)
}

fn read_growth(roster: &Roster, org: OrgId, grown: &Grown) -> Option<Told> {
    let old = Note::from_bytes(&grown.old).ok()?;
    let CosignRequest { old: _, growth, note } = CosignRequest::from_bytes(&grown.new).ok()?;
    Some(Told {
        old: believe(roster, org, &old).ok()?,
        proof: growth,
        new: believe(roster, org, &note).ok()?,
    })
}
