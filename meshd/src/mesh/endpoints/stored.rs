//! What waits for the disk: all that is decided while it writes is written at once, and goes on then.

use std::collections::VecDeque;

use meshd_api::{ApiError, ErrorCode};
use meshd_wire::EndpointId;

use super::attach::Attaching;
use super::detach::Told;
use super::{Mesh, Waiting, tell};
use crate::endpoints::{Content, Edition, Report, Stage};

/// What is done when the disk has it.
pub(super) enum Step {
    /// Make the links of an endpoint that is new.
    Wire(EndpointId, Attaching),
    /// Say that one is attached.
    Say(EndpointId, Option<Waiting>),
    /// Remove the links of one that was attached.
    Unwire(EndpointId, Told),
}

/// What waits, in the order of the editions that it is in.
#[derive(Default)]
pub(super) struct Unstored {
    steps: VecDeque<(Edition, Step)>,
    is_writing: bool,
    on_disk: Edition,
    has_failed: bool,
}

impl Mesh {
    /// Changes what is stored, and goes on with a step when the disk has it.
    pub(super) fn store_then(&mut self, step: Step, change: impl FnOnce(&mut Content)) {
        let edition = self.endpoints.file.change(change);
        self.endpoints.unstored.steps.push_back((edition, step));
        self.store_beside();
    }

    /// Writes what is not on disk yet, beside the loop.
    pub(super) fn store_beside(&mut self) {
        let unstored = &mut self.endpoints.unstored;
        if unstored.is_writing || unstored.on_disk == self.endpoints.file.edition() {
            return;
        }
        unstored.is_writing = true;
        let draft = self.endpoints.file.draft();
        let edition = draft.edition();
        let broken_off = Report::Stored { edition, result: Err("it broke off half-way".to_owned()) };
        let write = move || {
            let result = draft.write().map_err(|error| crate::chain::of(&error));
            Report::Stored { edition, result }
        };
        self.endpoints.run_beside(write, Some(broken_off));
    }

    /// Goes on with what waited for this edition, or undoes it.
    pub(super) fn on_stored(&mut self, edition: Edition, result: Result<(), String>) {
        let unstored = &mut self.endpoints.unstored;
        unstored.is_writing = false;
        let later = unstored.steps.partition_point(|(of, _)| *of <= edition);
        let ready: Vec<Step> = unstored.steps.drain(..later).map(|(_, step)| step).collect();
        match result {
            Ok(()) => {
                unstored.on_disk = edition;
                if std::mem::take(&mut unstored.has_failed) {
                    tracing::info!("the endpoints can be stored again");
                }
                ready.into_iter().for_each(|step| self.go_on(step));
            }
            Err(cause) => {
                if !std::mem::replace(&mut unstored.has_failed, true) {
                    tracing::error!(cause, "the endpoints can't be stored");
                }
                ready.into_iter().for_each(|step| self.undo(step, unstorable(cause.clone())));
            }
        }
        // What only follows the kernel waits for the next tick.
        if !self.endpoints.unstored.steps.is_empty() {
            self.store_beside();
        }
    }

    fn go_on(&mut self, step: Step) {
        match step {
            Step::Wire(id, attaching) => {
                let entry = self.endpoints.entry(id).cloned();
                if !entry.is_some_and(|entry| self.wire(entry, attaching)) {
                    self.finish(id);
                }
            }
            Step::Say(id, answer) => {
                self.say_attached(id, answer);
                self.finish(id);
            }
            Step::Unwire(id, told) => {
                if !self.unwire(id, told) {
                    self.finish(id);
                }
            }
        }
    }

    /// Leaves things as the disk has them.
    fn undo(&mut self, step: Step, error: ApiError) {
        match step {
            Step::Wire(id, attaching) => {
                self.forget_entry(id);
                attaching.refuse(error);
                self.finish(id);
            }
            Step::Say(id, answer) => {
                if let Some(answer) = answer {
                    answer.send(Err(error));
                }
                // So has the disk it; what is not confirmed needs no further write to be undone.
                self.endpoints.set_stage(id, Stage::Wiring);
                if !self.begin_detach(id, tokio::sync::oneshot::channel().0) {
                    self.finish(id);
                }
            }
            Step::Unwire(id, told) => {
                self.endpoints.set_stage(id, Stage::Attached);
                tell(told, Err(error));
                self.finish(id);
            }
        }
    }
}

pub(super) fn unstorable(cause: String) -> ApiError {
    ApiError::new(ErrorCode::StorageFailed, "the endpoints can't be stored")
        .with_cause(cause)
        .with_hint("make room in the state directory or mend its disk")
}
