//! Collects at once, because somebody asks, what ended without being detached.

use meshd_api::{ApiError, Collected, GcReply, GcRequest};
use meshd_wire::EndpointId;
use tokio::sync::oneshot;

use super::{Mesh, wiring_failed};
use crate::control::Answer;
use crate::endpoints::{Entry, Job, Stage, Survey, Verdict, WiringError, collectable};
use crate::os::host_link;

/// Who waits for the next look at the kernel.
pub(super) struct Collecting {
    request: GcRequest,
    answer: Answer<GcReply>,
}

impl Mesh {
    /// Collects what the next look at the kernel finds; that begins as soon as none is under way.
    pub fn gc(&mut self, request: GcRequest, answer: Answer<GcReply>) {
        let asked = Collecting { request, answer };
        if self.endpoints.wiring.is_none() {
            // Nothing was ever attached here.
            return self.collect(&[], Vec::new(), asked);
        }
        self.endpoints.survey.ask(asked);
        self.look_if_asked();
    }

    /// Collects for those who asked before this look began.
    pub(super) fn collect_seen(&mut self, asked: Vec<Collecting>, entries: &[Entry], survey: &Survey) {
        for one in asked {
            self.collect(entries, collectable(entries, survey), one);
        }
    }

    /// Tells them that the kernel could not be looked at.
    pub(super) fn collect_nothing(asked: Vec<Collecting>, error: &WiringError) {
        for Collecting { request: _, answer } in asked {
            answer.send(Err(wiring_failed(error)));
        }
    }

    fn collect(&mut self, entries: &[Entry], found: Vec<Verdict>, asked: Collecting) {
        let Collecting { request: GcRequest { dry_run }, answer } = asked;
        let mut collected = Vec::new();
        let mut told = Vec::new();
        for verdict in found {
            let (one, id) = match verdict {
                Verdict::Release { id, reason } => {
                    let entry = entries.iter().find(|entry| entry.id == id);
                    (entry.map(|entry| shown(entry, reason.to_string())), id)
                }
                Verdict::RemovePair { owner } => {
                    let id = owner.id();
                    (Some(unknown(id, "no endpoint has this link")), id)
                }
                Verdict::Rewire { .. } | Verdict::Break { .. } => continue,
            };
            let (Some(one), false) = (one, self.endpoints.jobs.has(id)) else { continue };
            if !dry_run {
                let is_known = one.attachment.is_some();
                told.push(if is_known { self.detach_one(id) } else { self.remove_pair(id) });
            }
            collected.push(one);
        }
        for entry in self.unfinished() {
            if collected.iter().all(|one| one.id != entry.id.to_string()) {
                collected.push(shown(&entry, "it was not attached, or not detached, to the end".to_owned()));
                if !dry_run {
                    told.push(self.detach_one(entry.id));
                }
            }
        }
        for (id, addresses) in self.lost_endpoints() {
            let reason = "the mesh is told of it, and nobody knows it";
            collected.push(Collected { addresses, host_link: None, ..unknown(id, reason) });
            if !dry_run {
                self.withdraw_endpoint(&id);
            }
        }
        // Ends when the last job does.
        tokio::spawn(async move {
            for told in told {
                match told.await {
                    // The mesh may have been left meanwhile, and all endpoints with it.
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(error)) => return answer.send(Err(error)),
                }
            }
            answer.send(Ok(GcReply { collected }));
        });
    }

    /// Removes a link that no endpoint has, after what is being done with it.
    pub(super) fn remove_pair(&mut self, id: EndpointId) -> oneshot::Receiver<Result<bool, ApiError>> {
        let (answer, told) = oneshot::channel();
        self.begin(id, Job::RemovePair(answer));
        told
    }

    /// What was begun and not finished, by the last run or because a step failed, and what the last boot had.
    pub(super) fn unfinished(&self) -> Vec<Entry> {
        let boot = self.endpoints.boot;
        let entries = self.endpoints.file.content().entries.iter();
        let unfinished = entries
            .filter(|entry| entry.stage != Stage::Attached || entry.boot != boot)
            .filter(|entry| !self.endpoints.jobs.has(entry.id));
        unfinished.cloned().collect()
    }
}

fn shown(entry: &Entry, reason: String) -> Collected {
    Collected {
        id: entry.id.to_string(),
        attachment: Some(entry.attachment.clone()),
        addresses: entry.addresses.clone(),
        host_link: Some(host_link(entry.id)),
        reason,
    }
}

fn unknown(id: EndpointId, reason: &str) -> Collected {
    Collected {
        id: id.to_string(),
        attachment: None,
        addresses: Vec::new(),
        host_link: Some(host_link(id)),
        reason: reason.to_owned(),
    }
}
