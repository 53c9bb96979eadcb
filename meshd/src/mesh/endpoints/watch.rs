//! Looks at the kernel now and then, and puts right what nobody told.

use std::time::{Duration, Instant};

use meshd_api::{CheckReply, CheckRequest};
use meshd_wire::EndpointId;

use super::{Mesh, unknown};
use crate::control::Answer;
use crate::endpoints::{Job, Report, Stage, Survey, Verdict, Wiring, WiringError, verdicts};

/// How often the kernel is looked at when nothing seems wrong.
const SURVEY_EVERY: Duration = Duration::from_secs(15);
/// How soon after a link has gone: others of the same container follow.
const SURVEY_SOON: Duration = Duration::from_secs(2);
/// How long an address waits for the endpoint that it was claimed for.
const RESERVED_KEPT_S: u64 = 60;

/// When the kernel is looked at next.
pub(super) struct SurveyPace {
    at: Instant,
    runs: bool,
}

impl SurveyPace {
    /// At once.
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now, runs: false }
    }
}

impl Mesh {
    /// Does what is due for endpoints; comes every second.
    pub fn look_after_endpoints(&mut self, tick: Instant) {
        self.give_back_forgotten();
        self.tend_addresses();
        self.store_beside();
        self.heed_standing();
        if self.endpoints.survey.runs || tick < self.endpoints.survey.at {
            return;
        }
        let Some(wiring) = self.endpoints.wiring.clone() else { return };
        let entries = self.endpoints.file.content().entries.clone();
        self.endpoints.survey = SurveyPace { at: tick + SURVEY_EVERY, runs: true };
        let broken_off = Report::Surveyed { result: Err(WiringError::BrokenOff) };
        let effect = move |wiring: &Wiring| Report::Surveyed { result: wiring.survey(&entries) };
        self.endpoints.run(&wiring, effect, Some(broken_off));
    }

    /// A link of an endpoint is gone, or may be: looks soon.
    pub fn on_links(&mut self) {
        self.look_soon(Instant::now() + SURVEY_SOON);
    }

    /// Looks at the kernel at some time or before.
    pub(super) fn look_soon(&mut self, at: Instant) {
        self.endpoints.survey.at = self.endpoints.survey.at.min(at);
    }

    pub(super) fn on_surveyed(&mut self, result: Result<Survey, WiringError>) {
        self.endpoints.survey.runs = false;
        let survey = match result {
            Ok(survey) => survey,
            Err(error) => {
                let error = crate::chain::of(&error);
                return tracing::warn!(error, "the links of this host can't be looked at");
            }
        };
        let now = Instant::now();
        let entries = self.endpoints.file.content().entries.clone();
        let found = verdicts(&entries, &survey, &mut self.endpoints.suspects, now);
        self.endpoints.broken.clear();
        for verdict in found {
            match verdict {
                Verdict::Release { id, reason } if !self.endpoints.jobs.has(id) => {
                    tracing::info!(endpoint = %id, %reason, "detached by itself");
                    // Nobody waits for it.
                    drop(self.detach_one(id));
                }
                Verdict::Rewire { id } if !self.endpoints.is_cut_off && !self.endpoints.jobs.has(id) => {
                    self.begin(id, Job::Rewire);
                }
                Verdict::Break { id } => {
                    self.endpoints.broken.insert(id);
                }
                Verdict::RemovePair { owner } if !self.endpoints.jobs.has(owner.id()) => {
                    self.begin(owner.id(), Job::RemovePair);
                }
                Verdict::Release { .. } | Verdict::Rewire { .. } | Verdict::RemovePair { .. } => {}
            }
        }
        self.undo_unfinished();
        self.claim_attached();
        if !survey.filter_faults.is_empty() {
            self.repair_firewall(&survey.filter_faults);
        }
    }

    /// Deletes a pair that nobody knows, beside the loop; one that an endpoint has by now stays.
    pub(super) fn begin_remove_pair(&mut self, id: EndpointId) -> bool {
        let Some(wiring) = self.endpoints.wiring.clone().filter(|_| self.endpoints.entry(id).is_none())
        else {
            return false;
        };
        tracing::warn!(endpoint = %id, "removing a link that nobody knows");
        let broken_off = Report::Removed { id, result: Err(WiringError::BrokenOff) };
        let effect = move |wiring: &Wiring| Report::Removed { id, result: wiring.remove(id) };
        self.endpoints.run(&wiring, effect, Some(broken_off));
        true
    }

    pub(super) fn on_removed(&mut self, id: EndpointId, result: Result<(), WiringError>) {
        if let Err(error) = result {
            tracing::warn!(endpoint = %id, error = crate::chain::of(&error), "a link that nobody knows stays");
        }
        self.finish(id);
    }

    /// Writes the packet filter anew: somebody else changed it.
    fn repair_firewall(&mut self, faults: &[String]) {
        tracing::warn!(?faults, "the packet filter is not as it was written: writing it anew");
        self.repair(Wiring::repair_firewall);
    }

    /// Does something that nobody waits for; the next look tells whether it helped.
    pub(super) fn repair(
        &mut self,
        effect: impl FnOnce(&Wiring) -> Result<(), WiringError> + Send + 'static,
    ) {
        let Some(wiring) = self.endpoints.wiring.clone() else { return };
        let effect = move |wiring: &Wiring| Report::Repaired { result: effect(wiring) };
        self.endpoints.run(&wiring, effect, None);
    }

    /// Tells what is wrong with an endpoint.
    pub fn check(&mut self, request: &CheckRequest, answer: Answer<CheckReply>) {
        let is_it = |entry: &&crate::endpoints::Entry| entry.attachment == request.attachment;
        let Some(entry) = self.endpoints.file.content().entries.iter().find(is_it).cloned() else {
            return answer.send(Err(unknown(&request.attachment)));
        };
        if entry.stage != Stage::Attached {
            let faults = vec!["it is not attached yet, or no more".to_owned()];
            return answer.send(Ok(CheckReply { faults }));
        }
        match self.wiring() {
            Ok(wiring) => {
                let effect = move |wiring: &Wiring| Report::Checked { result: wiring.faults(&entry), answer };
                self.endpoints.run(&wiring, effect, None);
            }
            Err(error) => answer.send(Err(error)),
        }
    }

    /// Gives back addresses whose endpoints never came.
    fn give_back_forgotten(&mut self) {
        let now = self.clock.now();
        let is_old = |since: meshd_wire::Timestamp| now.since(since) > RESERVED_KEPT_S;
        let content = self.endpoints.file.content();
        let old: Vec<_> =
            content.reserved.iter().filter(|one| is_old(one.since)).map(|one| one.address).collect();
        if old.is_empty() {
            return;
        }
        let stored = self.endpoints.store(|content| content.reserved.retain(|one| !is_old(one.since)));
        match stored {
            Ok(()) => self.give_back(&old),
            Err(error) => tracing::warn!(error = error.error, "forgotten addresses can't be given back"),
        }
    }
}
