//! Detaching, in reverse: the link, then the word about it, then the addresses.

use meshd_api::{ApiError, Attachment, DetachReply, DetachRequest, KeepReply, KeepRequest, KeptAttachment};
use meshd_wire::EndpointId;
use tokio::sync::oneshot;

use super::stored::Step;
use super::{Mesh, tell, wiring_failed};
use crate::control::Answer;
use crate::endpoints::{Entry, Job, Report, Stage, Wiring, WiringError};

/// Who waits for an endpoint to be detached: told whether it was attached.
pub(super) type Told = oneshot::Sender<Result<bool, ApiError>>;

impl Mesh {
    /// Detaches one endpoint, or all of a container in a network.
    pub fn detach(&mut self, request: &DetachRequest, answer: Answer<DetachReply>) {
        let wanted = &request.attachment;
        let ids = if wanted.ifname.is_empty() { self.of_container(wanted) } else { vec![id_of(wanted)] };
        let told: Vec<_> = ids.into_iter().map(|id| self.detach_one(id)).collect();
        // Ends when the last job does.
        tokio::spawn(async move {
            let mut detached = 0;
            for told in told {
                match told.await {
                    Ok(Ok(true)) => detached += 1,
                    Ok(Ok(false)) => {}
                    Ok(Err(error)) => return answer.send(Err(error)),
                    // The mesh was left meanwhile, and all endpoints with it.
                    Err(_) => detached += 1,
                }
            }
            answer.send(Ok(DetachReply { detached }));
        });
    }

    /// Detaches all of a runtime's network that is not listed.
    pub fn keep(&mut self, request: KeepRequest, answer: Answer<KeepReply>) {
        let KeepRequest { runtime, network, keep, dry_run } = request;
        let is_kept = |one: &Attachment| {
            keep.iter().any(|KeptAttachment { container, ifname }| {
                *container == one.container && (ifname.is_empty() || *ifname == one.ifname)
            })
        };
        let goes = |entry: &&Entry| {
            let one = &entry.attachment;
            one.runtime == runtime && one.network == network && !is_kept(one)
        };
        let gone: Vec<(EndpointId, Attachment)> = self
            .endpoints
            .file
            .content()
            .entries
            .iter()
            .filter(goes)
            .map(|entry| (entry.id, entry.attachment.clone()))
            .collect();
        if dry_run {
            let detached = gone.into_iter().map(|(_, attachment)| attachment).collect();
            return answer.send(Ok(KeepReply { detached }));
        }
        let told: Vec<_> = gone.into_iter().map(|(id, one)| (self.detach_one(id), one)).collect();
        // Ends when the last job does.
        tokio::spawn(async move {
            let mut detached = Vec::new();
            for (told, attachment) in told {
                match told.await {
                    Ok(Ok(_)) | Err(_) => detached.push(attachment),
                    Ok(Err(error)) => return answer.send(Err(error)),
                }
            }
            answer.send(Ok(KeepReply { detached }));
        });
    }

    fn of_container(&self, wanted: &Attachment) -> Vec<EndpointId> {
        let is_of = |one: &Attachment| {
            (&one.runtime, &one.network, &one.container)
                == (&wanted.runtime, &wanted.network, &wanted.container)
        };
        let stored = self.endpoints.file.content().entries.iter().filter(|entry| is_of(&entry.attachment));
        let mut ids: Vec<EndpointId> = stored.map(|entry| entry.id).collect();
        let coming = self.endpoints.attaching.iter().filter(|(_, one)| one.attachment().is_some_and(is_of));
        ids.extend(coming.map(|(id, _)| *id));
        ids.push(id_of(wanted));
        ids.sort();
        ids.dedup();
        ids
    }

    /// Detaches one after what is being done with it; the answer says whether it was attached.
    pub(super) fn detach_one(&mut self, id: EndpointId) -> oneshot::Receiver<Result<bool, ApiError>> {
        let (answer, told) = oneshot::channel();
        self.begin(id, Job::Detach(answer));
        told
    }

    /// Begins with the word that it goes; whether there is any.
    pub(super) fn begin_detach(&mut self, id: EndpointId, told: Told) -> bool {
        match self.endpoints.entry(id).map(|entry| entry.stage) {
            Some(Stage::Attached) => {
                self.store_then(Step::Unwire(id, told), |content| {
                    for entry in content.entries.iter_mut().filter(|entry| entry.id == id) {
                        entry.stage = Stage::Releasing;
                    }
                });
                true
            }
            // After a crash it is undone as well.
            Some(Stage::Wiring | Stage::Releasing) => {
                self.endpoints.set_stage(id, Stage::Releasing);
                self.unwire(id, told)
            }
            None => {
                tell(told, Ok(false));
                false
            }
        }
    }

    /// Removes what the kernel has of it, beside the loop; whether that began.
    pub(super) fn unwire(&mut self, id: EndpointId, told: Told) -> bool {
        let Some(entry) = self.endpoints.entry(id).cloned() else {
            tell(told, Ok(false));
            return false;
        };
        let wiring = match self.wiring() {
            Ok(wiring) => wiring,
            Err(error) => {
                tell(told, Err(error));
                return false;
            }
        };
        self.endpoints.detaching.insert(id, told);
        let broken_off = Report::Unwired { id, result: Err(WiringError::BrokenOff) };
        let effect = move |wiring: &Wiring| Report::Unwired { id, result: wiring.detach(&entry) };
        self.endpoints.run(&wiring, effect, Some(broken_off));
        true
    }

    /// Gives back what the endpoint had, if nothing of it is left on the host.
    pub(super) fn on_unwired(&mut self, id: EndpointId, result: Result<(), WiringError>) {
        let ended = result.map_err(|error| wiring_failed(&error));
        match &ended {
            Ok(()) => self.forget_entry(id),
            Err(error) => {
                let cause = error.cause.as_deref().unwrap_or_default();
                tracing::warn!(endpoint = %id, error = error.error, cause, "not detached yet");
            }
        }
        if let Some(told) = self.endpoints.detaching.remove(&id) {
            tell(told, ended.map(|()| true));
        }
        self.finish(id);
    }

    /// Forgets an endpoint of which nothing is left. Nobody waits for the disk: what it still has is undone once more.
    pub(super) fn forget_entry(&mut self, id: EndpointId) {
        let Some(entry) = self.endpoints.entry(id).cloned() else { return };
        self.endpoints.file.change(|content| content.entries.retain(|entry| entry.id != id));
        self.endpoints.broken.remove(&id);
        self.withdraw_endpoint(&entry.id);
        self.give_back(&entry.addresses);
        self.own_addresses_changed();
        tracing::info!(endpoint = %id, addresses = ?entry.addresses, name = entry.name, "detached");
    }

    /// Undoes what was begun and not finished.
    pub(super) fn undo_unfinished(&mut self) {
        for entry in self.unfinished() {
            // Nobody waits for it any more.
            drop(self.detach_one(entry.id));
        }
    }
}

fn id_of(one: &Attachment) -> EndpointId {
    EndpointId::of(&one.runtime, &one.network, &one.container, &one.ifname)
}
