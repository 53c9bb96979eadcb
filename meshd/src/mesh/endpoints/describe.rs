//! What a runtime tells of an endpoint after it was attached: whose it is, and what else its container has.

use ipnet::IpNet;
use meshd_api::{ApiError, DescribeRequest, Endpoint, Identity};

use super::attach::{digest, judge_labels, judge_name, well_formed};
use super::{Mesh, unknown};
use crate::control::Answer;
use crate::endpoints::{Entry, Pools, Stage, judge_word};

impl Mesh {
    /// Takes note of what is told, and answers when the endpoint is judged by it. What is refused changes nothing.
    pub fn describe(&mut self, request: &DescribeRequest, answer: Answer<Endpoint>) {
        match self.note(request) {
            Ok((told, true)) => {
                let shown = self.shown_endpoint(&told);
                self.enforce_then(vec![told], move |enforced| answer.send(enforced.map(|()| shown)));
            }
            Ok((told, false)) => answer.send(Ok(self.shown_endpoint(&told))),
            Err(error) => answer.send(Err(error)),
        }
    }

    /// The endpoint as it is now, and whether it has other labels.
    fn note(&mut self, request: &DescribeRequest) -> Result<(Entry, bool), ApiError> {
        let DescribeRequest { attachment, sandbox, identity } = request;
        let entries = self.endpoints.file.content().entries.iter();
        let mut known = entries.filter(|entry| entry.attachment == *attachment);
        let known = known.find(|entry| entry.stage != Stage::Releasing).ok_or_else(|| unknown(attachment))?;
        let mut told = known.clone();
        if let Some(sandbox) = sandbox.as_ref().filter(|sandbox| known.sandbox.as_ref() != Some(*sandbox)) {
            judge_word("sandbox", sandbox)?;
            if self.is_second_in(&told, sandbox) {
                told.routes = self.own_pools(&told)?;
            }
            told.sandbox = Some(sandbox.clone());
        }
        if let Some(Identity { name, labels, image }) = identity {
            judge_name(name.as_deref())?;
            judge_labels(labels)?;
            told.name = name.clone();
            told.labels = well_formed(labels);
            told.image = image.as_deref().map(digest).transpose()?;
        }
        let is_relabelled = told.labels != known.labels;
        if told != *known {
            match told.stage {
                Stage::Attached => self.claim_entry(&told)?,
                // It is claimed when its link is there.
                Stage::Wiring | Stage::Releasing => self.judge_entry(&told)?,
            }
            let entry = told.clone();
            self.endpoints.store(|content| {
                for known in content.entries.iter_mut().filter(|known| known.id == entry.id) {
                    *known = entry.clone();
                }
            })?;
        }
        Ok((told, is_relabelled))
    }

    fn is_second_in(&self, one: &Entry, sandbox: &str) -> bool {
        let is_there = |other: &Entry| {
            other.stage == Stage::Attached
                && other.boot == one.boot
                && other.sandbox.as_deref() == Some(sandbox)
        };
        self.endpoints.file.content().entries.iter().any(|other| other.id != one.id && is_there(other))
    }

    /// Pools of an endpoint's network, in the families of its addresses.
    fn own_pools(&self, entry: &Entry) -> Result<Vec<IpNet>, ApiError> {
        let network = self.network(&entry.attachment.runtime, &entry.attachment.network)?;
        let mut pools = Pools::of(network)?.nets;
        pools.retain(|pool| entry.addresses.iter().any(|address| pool.contains(address)));
        Ok(pools)
    }
}
