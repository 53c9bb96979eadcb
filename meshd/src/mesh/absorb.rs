//! Records on their way in, whoever hands them over: sorted, verified, stored and used.

use meshd_api::EventKind;
use meshd_trust::{Accepted, Change, Refusal};
use meshd_wire::record::OrgState;
use meshd_wire::{Envelope, NodeId, Timestamp};

use super::Mesh;
use crate::clock::{self, Signer};
use crate::discovery::keyspace::Slot;
use crate::metrics::Counters;

/// Records that came before what proves them, kept until it comes; a flood beyond is refused.
const EARLY_MAX: usize = 1024;
/// Those of one neighbour: most come in the order in which they prove each other.
const EARLY_PER_NEIGHBOUR_MAX: usize = 64;
/// Refusals logged in one second; all are counted.
const REFUSALS_LOGGED_PER_S: u32 = 10;

/// Who hands over a record; whose it is the record itself proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Registry,
    Neighbour(NodeId),
}

/// A value at its place.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) slot: Slot,
    pub(super) value: Vec<u8>,
    pub(super) source: Source,
}

impl Mesh {
    /// Takes in values of registries by their keys.
    pub(super) fn learn(&mut self, values: Vec<(Vec<u8>, Vec<u8>)>, counters: &mut Counters) {
        let mut found = Vec::new();
        for (key, value) in values {
            match self.keyspace.slot(&key) {
                Some(slot) => found.push(Found { slot, value, source: Source::Registry }),
                None => counters.keys_unknown += 1,
            }
        }
        self.absorb(found, counters);
    }

    /// Verifies values in the order in which they prove each other, stores what is new, uses it.
    pub(super) fn absorb(&mut self, mut waiting: Vec<Found>, counters: &mut Counters) {
        let mut changes = Vec::new();
        let mut is_first_look = true;
        while !waiting.is_empty() {
            // Two sources may say different things of one place: each is judged.
            waiting.sort_by_key(|found| found.slot);
            let before = changes.len();
            for found in std::mem::take(&mut waiting) {
                changes.extend(self.take_in(found, is_first_look, counters));
            }
            if changes.len() > before {
                // What was early may be provable now.
                waiting.extend(std::mem::take(&mut self.early).into_values());
                is_first_look = false;
            }
        }
        self.claims.note(&changes);
        if changes.iter().any(|change| !matches!(change, Change::Paths(_) | Change::Endpoint(..))) {
            self.commit(counters);
        } else if !changes.is_empty() {
            // Paths are hints, endpoints come and go: both are stored once a second at most.
            self.unsaved_paths = true;
            self.apply();
        }
        self.turn_keys(counters);
    }

    /// Takes in one value; gives what it changed. One that waits was counted at the first look.
    fn take_in(&mut self, found: Found, is_first_look: bool, counters: &mut Counters) -> Vec<Change> {
        let Found { slot, ref value, source } = found;
        if !slot.suits(value) {
            self.refused(slot, "misplaced", source, counters);
            return Vec::new();
        }
        if slot == Slot::Peer(self.node) {
            self.own_bundle_seen(value);
        }
        let now = self.judging_time(slot, value);
        let result = match slot {
            Slot::Checkpoint(org) => {
                self.hear_checkpoint(org, value, source, counters);
                return Vec::new();
            }
            Slot::Evidence(org) => {
                self.hear_evidence(org, value, source, counters);
                return Vec::new();
            }
            Slot::Peer(_) => self.roster.accept_bundle(value, now),
            Slot::Genesis
            | Slot::Root(..)
            | Slot::Delegation(..)
            | Slot::Revocations(_)
            | Slot::State(_)
            | Slot::Paths(_)
            | Slot::Address(_)
            | Slot::Block(_) => self.roster.accept(value, now).map(|accepted| match accepted {
                Accepted::New(change) => vec![change],
                Accepted::Known | Accepted::Opaque => Vec::new(),
            }),
        };
        match result {
            Ok(changes) => {
                counters.records_accepted += changes.len() as u64;
                if slot == Slot::State(self.membership.org) {
                    self.hear_the_time();
                }
                changes
            }
            // It has not heard yet what this node knows; it is told on the same channel.
            Err(Refusal::Stale) if source != Source::Registry => Vec::new(),
            Err(refusal) => {
                // Later looks say nothing of who handed it over: somebody else brought what shows it to be forged.
                if let Source::Neighbour(neighbour) = source
                    && is_first_look
                    && refusal.is_forgery()
                {
                    self.channels.complain(neighbour);
                }
                let waits = refusal.may_pass_later();
                if waits && self.may_wait(slot, source) {
                    self.early.insert(slot, found);
                }
                if is_first_look || !waits {
                    self.refused(slot, refusal.reason(), source, counters);
                }
                Vec::new()
            }
        }
    }

    /// Whether a value may wait for what proves it: nobody pushes out what another source has brought.
    fn may_wait(&self, slot: Slot, source: Source) -> bool {
        match self.early.get(&slot) {
            Some(waiting) => waiting.source == source || source == Source::Registry,
            None if self.early.len() >= EARLY_MAX => false,
            None if source == Source::Registry => true,
            None => {
                let own = self.early.values().filter(|waiting| waiting.source == source).count();
                own < EARLY_PER_NEIGHBOUR_MAX
            }
        }
    }

    /// The time by which a record is judged. While the clock is in doubt, the own organisation's word on the time is the one
    /// record that may agree with the wall clock instead: then that clock was set right.
    pub(super) fn judging_time(&self, slot: Slot, value: &[u8]) -> Timestamp {
        let now = self.clock.now();
        if slot != Slot::State(self.membership.org) || !self.clock.is_suspect() {
            return now;
        }
        let state = Envelope::from_bytes(value).and_then(|envelope| envelope.record::<OrgState>());
        let is_wall_time = state.is_ok_and(|state| clock::is_near(state.issued_at, clock::wall()));
        if is_wall_time { clock::wall().max(now) } else { now }
    }

    /// Holds the clock against what the own organisation has just signed.
    pub(super) fn hear_the_time(&mut self) {
        let signer = if self.steward.is_some() { Signer::This } else { Signer::Other };
        self.hold_clock(signer);
    }

    /// The same with what was stored: the clock may have been as wrong then as now, so nothing else is concluded from it.
    pub(super) fn remember_the_time(&mut self) {
        self.hold_clock(Signer::This);
    }

    fn hold_clock(&mut self, signer: Signer) {
        let org = self.roster.org(&self.membership.org);
        if let Some(issued_at) = org.and_then(|org| org.state().map(|state| state.issued_at)) {
            self.clock.heard(issued_at, signer);
        }
    }

    pub(super) fn refused(
        &mut self,
        slot: Slot,
        reason: &'static str,
        source: Source,
        counters: &mut Counters,
    ) {
        *counters.records_refused.entry(reason).or_default() += 1;
        // Every neighbour tells the same: what a registry says of it is enough to read.
        if source == Source::Registry && self.may_log_refusal() {
            let record = self.keyspace.key(slot);
            tracing::warn!(record, reason, "refused a record");
            self.emit(EventKind::RecordRefused { record, reason: reason.to_owned(), signer: None });
        }
    }

    /// Whether this second has room for another line about a refusal; a flood is counted, not written down.
    pub(super) fn may_log_refusal(&mut self) -> bool {
        let now = crate::clock::wall();
        if self.refusals_logged.0 != now {
            self.refusals_logged = (now, 0);
        }
        self.refusals_logged.1 += 1;
        self.refusals_logged.1 <= REFUSALS_LOGGED_PER_S
    }
}
