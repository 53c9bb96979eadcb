//! The audit log as a node meets it: its own keys are logged before they are used, and a steward logs those of others.
//!
//! A node says what became of its keys in the order in which it became so, and repeats it until the log has it. The
//! steward gathers what many nodes say for a moment, because each append ends on the disk.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use meshd_core::rotation::{Cosigned, Epoch, Leaf as KeyLeaf};
use meshd_trust::log::{CheckpointKeys, LogOrigin, LogProof, LogProofError, LogProofRefusal, Note, TreeHash};
use meshd_wire::enrol::{EnrolReply, EnrolRequest, KeyStatement, LoggedLeaf, Refused};
use meshd_wire::record::NodeKeys;
use meshd_wire::{Envelope, Leaf, LeafError, LeafKind, PublicKey};
use tokio::sync::oneshot;

use super::Mesh;
use super::desk::outcome;
use crate::metrics::Counters;
use crate::role::steward::{KeyCall, is_said_by};

/// Statements of one call, as many as one connection takes; what is left is said in the next one.
const STATEMENTS_MAX: usize = 8;
/// Wait after a call that failed, doubled up to the longest.
const WAIT_FIRST: Duration = Duration::from_millis(500);
const WAIT_LONGEST: Duration = Duration::from_secs(60);
/// A steward gathers statements for so long …
const GATHER: Duration = Duration::from_millis(20);
/// … or for so many times as long as the append before took, so that the disk does not stop everything else …
const GATHER_APPENDS: u32 = 4;
/// … and never so long that those who wait give up.
const GATHER_LONGEST: Duration = Duration::from_secs(2);
/// Statements that wait for a steward's append; who comes beyond asks again.
const WAITING_MAX: usize = 16_384;

/// What waits for the log.
#[derive(Default)]
pub(super) struct KeyLog {
    /// Of this node, the oldest first.
    own: VecDeque<KeyStatement>,
    /// A steward is asked.
    is_asking: bool,
    /// When a steward may be asked again, and how long that was waited for.
    again: Option<(Instant, Duration)>,
    /// Of all nodes, at their steward.
    waiting: Vec<(PublicKey, KeyStatement, oneshot::Sender<EnrolReply>)>,
    append_at: Option<Instant>,
    append_took: Duration,
}

/// Says why a steward's answer is not believed.
#[derive(Debug, thiserror::Error)]
enum Unproven {
    #[error("malformed leaf")]
    Leaf(#[from] LeafError),
    #[error("the leaf says something else")]
    Other,
    #[error("malformed proof")]
    Proof(#[from] LogProofError),
    #[error("the proof does not hold")]
    Refused(#[from] LogProofRefusal),
}

impl KeyLog {
    /// How long until [`Mesh::log_keys`] has something to do.
    pub(super) fn wait(&self) -> Option<Duration> {
        let ask_at = self.has_to_ask().then(|| self.again.map_or_else(Instant::now, |(at, _)| at));
        let at = ask_at.into_iter().chain(self.append_at).min()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    fn has_to_ask(&self) -> bool {
        !self.is_asking && self.own.front().is_some_and(|oldest| !oldest.record.is_empty())
    }

    fn may_ask(&self) -> bool {
        self.has_to_ask() && self.again.is_none_or(|(at, _)| at <= Instant::now())
    }
}

impl Mesh {
    /// Notes what became of a key of this node, as the record that was signed last says it.
    pub(super) fn log_key(&mut self, leaf: KeyLeaf) {
        let (kind, epoch) = match leaf {
            KeyLeaf::Announce(epoch) => (LeafKind::RotateAnnounce, epoch),
            KeyLeaf::Activate(epoch) => (LeafKind::RotateActivate, epoch),
            KeyLeaf::Destroy(epoch) => (LeafKind::KeyDestroy, epoch),
            KeyLeaf::Compromised(epoch) => (LeafKind::KeyCompromised, epoch),
            KeyLeaf::Rollback(epoch) => (LeafKind::StateRollback, epoch),
        };
        tracing::info!(%epoch, what = kind.name(), "tunnel key");
        let record = self.rotation.signed().map_or_else(Vec::new, <[u8]>::to_vec);
        self.key_log.own.push_back(KeyStatement { kind: kind.number(), epoch: epoch.0, record });
    }

    /// Appends what has waited at this steward, and gives what a node has to tell its own.
    #[must_use]
    pub fn log_keys(&mut self, counters: &mut Counters) -> Option<Vec<KeyStatement>> {
        if self.key_log.append_at.is_some_and(|at| at <= Instant::now()) {
            self.append_keys(counters);
        }
        if !self.key_log.may_ask() {
            return None;
        }
        let Some(steward) = &mut self.steward else {
            self.key_log.is_asking = true;
            return Some(self.key_log.own.iter().take(STATEMENTS_MAX).cloned().collect());
        };
        // Each is judged by what was said before.
        let statements: Vec<KeyStatement> = self.key_log.own.iter().take(1).cloned().collect();
        let (peer, now) = (self.membership.secrets.transport().public(), self.clock.now());
        let calls: Vec<KeyCall<'_>> =
            statements.iter().map(|statement| KeyCall { peer, statement }).collect();
        let logged = match self.clock.is_suspect() {
            true => Vec::new(),
            false => steward.log_keys(&calls, now).into_iter().filter_map(answer).collect(),
        };
        self.on_logged(Some(logged), counters);
        None
    }

    /// Lets records say what came before the first one was signed, and drops what no record says: a key was lost before
    /// it was published.
    pub(super) fn drop_unsaid(&mut self) {
        let Some(signed) = self.rotation.signed() else { return };
        for statement in self.key_log.own.iter_mut().filter(|statement| statement.record.is_empty()) {
            statement.record = signed.to_vec();
        }
        self.key_log.own.retain(|statement| {
            let kind = LeafKind::from_number(statement.kind);
            kind.is_some_and(|kind| is_said_by(&statement.record, kind, statement.epoch))
        });
    }

    /// Takes in what the log has by now; none if no steward answered.
    pub fn on_logged(&mut self, answers: Option<Vec<Result<LoggedLeaf, Refused>>>, counters: &mut Counters) {
        self.key_log.is_asking = false;
        self.rotation.machine.log_answers(self.keys_now(), answers.is_some());
        let mut has_moved = false;
        for answer in answers.unwrap_or_default() {
            let is_refused = answer.is_err();
            if !self.on_answer(answer) || is_refused {
                has_moved = false;
                break;
            }
            has_moved = true;
        }
        self.key_log.again = (!has_moved).then(|| {
            let wait = self.key_log.again.map_or(WAIT_FIRST, |(_, wait)| (wait * 2).min(WAIT_LONGEST));
            (Instant::now() + wait, wait)
        });
        self.turn_keys(counters);
    }

    /// Whether the oldest statement is done with.
    fn on_answer(&mut self, answer: Result<LoggedLeaf, Refused>) -> bool {
        let Some(asked) = self.key_log.own.front() else { return false };
        let (kind, epoch) = (LeafKind::from_number(asked.kind), Epoch(asked.epoch));
        let is_for_use = matches!(kind, Some(LeafKind::RotateAnnounce | LeafKind::RotateActivate));
        let now = self.keys_now();
        match answer {
            Ok(logged) => {
                let heard = self.check_logged(asked, &logged).and_then(|checkpoint| {
                    Ok(self
                        .hear_note(self.membership.org, &checkpoint)
                        .map_err(LogProofRefusal::Checkpoint)?)
                });
                if let Err(error) = heard {
                    let error = crate::chain::of(&error);
                    tracing::error!(error, "the steward does not prove that it has logged a key");
                    return false;
                }
                if is_for_use {
                    self.rotation.machine.proven(now, epoch, Cosigned::All);
                }
            }
            // Asked again, it would be refused again, and what follows would wait for ever.
            Err(Refused::Malformed) => {
                tracing::warn!(%epoch, what = kind.map(LeafKind::name), "the steward refuses to log a key");
                if is_for_use {
                    self.rotation.machine.proof_refused(now, epoch);
                }
            }
            Err(why) => {
                tracing::warn!(?why, "the steward can't log the keys of this node now");
                return false;
            }
        }
        self.key_log.own.pop_front();
        true
    }

    /// Believes an answer: it is the leaf that was asked for, and the log's keys prove it. Gives the log's checkpoint.
    fn check_logged(&self, asked: &KeyStatement, logged: &LoggedLeaf) -> Result<Note, Unproven> {
        let leaf = Leaf::from_bytes(&logged.leaf)?;
        let is_asked = (leaf.kind, leaf.epoch) == (asked.kind, Some(asked.epoch))
            && leaf.subject == self.node.into()
            && leaf.org == self.membership.org;
        let of_record = |bytes: &[u8]| Envelope::from_bytes(bytes).ok()?.record_id(&self.membership.mesh);
        let is_said = leaf.record.is_some() && of_record(&logged.record) == leaf.record;
        // An older record of the same key may say it, never one of another key.
        let is_of_key = key_of(&logged.record, asked.epoch) == key_of(&asked.record, asked.epoch);
        if !is_asked || !is_said || !is_of_key {
            return Err(Unproven::Other);
        }
        let proof = LogProof::from_bytes(&logged.proof)?;
        let origin = LogOrigin { mesh: self.membership.mesh, org: self.membership.org };
        let log = self.roster.org(&self.membership.org).map(|org| org.log_keys()).unwrap_or_default();
        let keys = CheckpointKeys { log, witnesses: Vec::new() };
        proof.verify(&TreeHash::leaf(&logged.leaf), &origin, &keys)?;
        Ok(proof.note)
    }

    /// Lets a node's statement wait for the next append of this steward.
    pub(super) fn gather(
        &mut self,
        peer: PublicKey,
        asked: KeyStatement,
        reply: oneshot::Sender<EnrolReply>,
    ) {
        let log = &mut self.key_log;
        if self.steward.is_none() || log.waiting.len() >= WAITING_MAX {
            // Who has gone meanwhile asks again.
            let _ = reply.send(EnrolReply::Refused { why: Refused::Unavailable });
            return;
        }
        log.waiting.push((peer, asked, reply));
        let gathering = (log.append_took * GATHER_APPENDS).clamp(GATHER, GATHER_LONGEST);
        log.append_at.get_or_insert_with(|| Instant::now() + gathering);
    }

    fn append_keys(&mut self, counters: &mut Counters) {
        self.key_log.append_at = None;
        let waiting = std::mem::take(&mut self.key_log.waiting);
        let now = self.clock.now();
        let Some(steward) = self.steward.as_mut().filter(|_| !self.clock.is_suspect()) else {
            return waiting.into_iter().for_each(|(_, _, reply)| {
                let _ = reply.send(EnrolReply::Refused { why: Refused::Unavailable });
            });
        };
        let began = Instant::now();
        let calls: Vec<KeyCall<'_>> =
            waiting.iter().map(|(peer, statement, _)| KeyCall { peer: *peer, statement }).collect();
        let replies = steward.log_keys(&calls, now);
        self.key_log.append_took = began.elapsed();
        for ((_, statement, reply), answer) in waiting.into_iter().zip(replies) {
            *counters.enrolments.entry(outcome(&EnrolRequest::Log { statement }, &answer)).or_default() += 1;
            if reply.send(answer).is_err() {
                tracing::debug!("a node left before its leaf was appended");
            }
        }
    }
}

/// The key that NodeKeys have under a number.
fn key_of(record: &[u8], epoch: u32) -> Option<PublicKey> {
    let keys: NodeKeys = Envelope::from_bytes(record).ok()?.record().ok()?;
    keys.all().find(|key| key.epoch == epoch).map(|key| key.key)
}

/// What a reply says of a leaf; nothing if it is no reply to that.
fn answer(reply: EnrolReply) -> Option<Result<LoggedLeaf, Refused>> {
    match reply {
        EnrolReply::Logged { leaf } => Some(Ok(leaf)),
        EnrolReply::Refused { why } => Some(Err(why)),
        EnrolReply::Chain { .. }
        | EnrolReply::Admitted { .. }
        | EnrolReply::Done
        | EnrolReply::Claimed { .. }
        | EnrolReply::Cosigned { .. }
        | EnrolReply::Witnessed { .. }
        | EnrolReply::Grown { .. }
        | EnrolReply::Copied { .. } => None,
    }
}
