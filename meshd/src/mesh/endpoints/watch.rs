//! Looks at the kernel now and then, and puts right what nobody told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use meshd_api::{CheckReply, CheckRequest};
use meshd_wire::EndpointId;

use super::collect::Collecting;
use super::detach::Told;
use super::{Mesh, tell, unknown, wiring_failed};
use crate::control::Answer;
use crate::endpoints::{Job, Report, Stage, Survey, Verdict, Wiring, WiringError, verdicts};
use crate::os::TableNews;

/// How often the kernel is looked at when nothing seems wrong.
const SURVEY_EVERY: Duration = Duration::from_secs(15);
/// How soon after a link has gone: others of the same container follow.
const SURVEY_SOON: Duration = Duration::from_secs(2);
/// How soon the packet filter is written anew again: somebody may change it back each time.
const MEND_PAUSE: Duration = Duration::from_secs(1);
/// How long an address waits for the endpoint that it was claimed for.
const RESERVED_KEPT_S: u64 = 60;

/// When the kernel is looked at next.
pub(super) struct SurveyPace {
    at: Instant,
    runs: bool,
    /// Endpoints with which something was done since the look began that runs: it may have seen them half done.
    disturbed: BTreeSet<EndpointId>,
    /// Who asked before it began.
    served: Vec<Collecting>,
    /// Who asked since.
    asked: Vec<Collecting>,
}

/// When the packet filter is written anew because somebody changed it.
#[derive(Default)]
pub(super) struct Mending {
    last: Option<Instant>,
    is_due: bool,
}

impl SurveyPace {
    /// At once.
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now, runs: false, disturbed: BTreeSet::new(), served: Vec::new(), asked: Vec::new() }
    }

    /// Somebody waits for what a look finds that begins from now on.
    pub(super) fn ask(&mut self, asked: Collecting) {
        self.asked.push(asked);
    }

    /// Something was done with an endpoint.
    pub(super) fn disturb(&mut self, id: EndpointId) {
        if self.runs {
            self.disturbed.insert(id);
        }
    }
}

impl Mesh {
    /// Does what is due for endpoints; comes every second.
    pub fn look_after_endpoints(&mut self, tick: Instant) {
        self.give_back_forgotten();
        self.tend_addresses();
        self.store_beside();
        self.heed_standing();
        self.mend_tables(tick);
        if tick >= self.endpoints.survey.at {
            self.look(tick);
        }
    }

    /// Looks at once if somebody waits for that.
    pub(super) fn look_if_asked(&mut self) {
        if !self.endpoints.survey.asked.is_empty() {
            self.look(Instant::now());
        }
    }

    /// Looks at the kernel, beside the loop, if that is not under way.
    fn look(&mut self, now: Instant) {
        let Some(wiring) = self.endpoints.wiring.clone().filter(|_| !self.endpoints.survey.runs) else {
            return;
        };
        let entries = self.endpoints.file.content().entries.clone();
        let pace = &mut self.endpoints.survey;
        (pace.at, pace.runs) = (now + SURVEY_EVERY, true);
        pace.served = std::mem::take(&mut pace.asked);
        let broken_off = Report::Surveyed { result: Err(WiringError::BrokenOff) };
        let effect = move |wiring: &Wiring| Report::Surveyed { result: wiring.survey(&entries) };
        self.endpoints.run(&wiring, effect, Some(broken_off));
    }

    /// A link of an endpoint is gone, or may be: looks soon.
    pub fn on_links(&mut self) {
        self.look_soon(Instant::now() + SURVEY_SOON);
    }

    /// Somebody else changed a table of ours, or may have: it is written anew at once.
    pub fn on_tables(&mut self, news: TableNews) {
        match news {
            TableNews::Changed => {
                self.endpoints.mending.is_due = true;
                self.mend_tables(Instant::now());
            }
            TableNews::Missed => self.look_soon(Instant::now()),
        }
    }

    fn mend_tables(&mut self, now: Instant) {
        let Mending { last, is_due } = &mut self.endpoints.mending;
        if !*is_due || last.is_some_and(|last| now.saturating_duration_since(last) < MEND_PAUSE) {
            return;
        }
        (*last, *is_due) = (Some(now), false);
        if self.endpoints.wiring.is_some() {
            self.repair_firewall(&["somebody else changed it".to_owned()]);
        }
    }

    /// Looks at the kernel at some time or before.
    pub(super) fn look_soon(&mut self, at: Instant) {
        self.endpoints.survey.at = self.endpoints.survey.at.min(at);
    }

    pub(super) fn on_surveyed(&mut self, result: Result<Survey, WiringError>) {
        let pace = &mut self.endpoints.survey;
        pace.runs = false;
        let (disturbed, served) = (std::mem::take(&mut pace.disturbed), std::mem::take(&mut pace.served));
        match result {
            Ok(survey) => self.heed(survey, &disturbed, served),
            Err(error) => {
                Self::collect_nothing(served, &error);
                let error = crate::chain::of(&error);
                tracing::warn!(error, "the links of this host can't be looked at");
            }
        }
        self.look_if_asked();
    }

    /// Does what a look at the kernel has shown to be necessary.
    fn heed(&mut self, mut survey: Survey, disturbed: &BTreeSet<EndpointId>, served: Vec<Collecting>) {
        let jobs = &self.endpoints.jobs;
        let is_settled = |id: EndpointId| !disturbed.contains(&id) && !jobs.has(id);
        let mut entries = self.endpoints.file.content().entries.clone();
        entries.retain(|entry| is_settled(entry.id));
        survey.pairs.retain(|id, _| is_settled(*id));
        self.endpoints.broken.retain(|id| !is_settled(*id));
        let found = verdicts(&entries, &survey, &mut self.endpoints.suspects, Instant::now());
        self.collect_seen(served, &entries, &survey);
        for verdict in found {
            match verdict {
                Verdict::Release { id, reason } if !self.endpoints.jobs.has(id) => {
                    tracing::info!(endpoint = %id, %reason, "detached by itself");
                    // Nobody waits for it.
                    drop(self.detach_one(id));
                }
                Verdict::Rewire { id } if !self.endpoints.is_cut_off => {
                    self.begin(id, Job::Rewire);
                }
                Verdict::Break { id } => {
                    self.endpoints.broken.insert(id);
                }
                Verdict::RemovePair { owner } if !self.endpoints.jobs.has(owner.id()) => {
                    // Nor for this.
                    drop(self.remove_pair(owner.id()));
                }
                // It is collected already, because somebody asked.
                Verdict::Release { .. } | Verdict::RemovePair { .. } => {}
                Verdict::Rewire { .. } => {}
            }
        }
        self.undo_unfinished();
        self.claim_attached();
        if !survey.filter_faults.is_empty() {
            self.repair_firewall(&survey.filter_faults);
        }
    }

    /// Deletes a pair that nobody knows, beside the loop; one that an endpoint has by now stays.
    pub(super) fn begin_remove_pair(&mut self, id: EndpointId, told: Told) -> bool {
        let Some(wiring) = self.endpoints.wiring.clone().filter(|_| self.endpoints.entry(id).is_none())
        else {
            tell(told, Ok(false));
            return false;
        };
        self.endpoints.detaching.insert(id, told);
        tracing::warn!(endpoint = %id, "removing a link that nobody knows");
        let broken_off = Report::Removed { id, result: Err(WiringError::BrokenOff) };
        let effect = move |wiring: &Wiring| Report::Removed { id, result: wiring.remove(id) };
        self.endpoints.run(&wiring, effect, Some(broken_off));
        true
    }

    pub(super) fn on_removed(&mut self, id: EndpointId, result: Result<(), WiringError>) {
        let ended = result.map_err(|error| {
            tracing::warn!(endpoint = %id, error = crate::chain::of(&error), "a link that nobody knows stays");
            wiring_failed(&error)
        });
        if let Some(told) = self.endpoints.detaching.remove(&id) {
            tell(told, ended.map(|()| true));
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
