//! What is asked of one endpoint; one thing after the other.

use std::collections::{BTreeMap, VecDeque};

use meshd_api::{ApiError, AttachRequest, Endpoint, ErrorCode};
use meshd_wire::EndpointId;
use tokio::sync::oneshot;

use crate::control::Answer;

/// Jobs of one endpoint that wait; a runtime asks again two to four times at most.
const WAITING_MAX: usize = 16;
/// Endpoints at work at a time; the others wait.
const WORKING_MAX: usize = 16;

/// A job.
pub enum Job {
    /// Attach it.
    Attach(Box<AttachRequest>, Answer<Endpoint>),
    /// Detach it; tells whether it was attached.
    Detach(oneshot::Sender<Result<bool, ApiError>>),
    /// Wire it again: something of it is gone.
    Rewire,
    /// Delete a pair of links that no endpoint has; tells whether there was one.
    RemovePair(oneshot::Sender<Result<bool, ApiError>>),
}

/// The jobs of all endpoints. What is asked of one endpoint is done in order, different ones are served side by side.
#[derive(Default)]
pub struct Jobs {
    working: BTreeMap<EndpointId, VecDeque<Job>>,
    waiting: VecDeque<EndpointId>,
    held: BTreeMap<EndpointId, VecDeque<Job>>,
}

impl Jobs {
    /// Takes a job in; gives it back if it can begin now.
    pub fn begin(&mut self, id: EndpointId, job: Job) -> Option<Job> {
        if let Some(queue) = self.working.get_mut(&id).or_else(|| self.held.get_mut(&id)) {
            if queue.len() >= WAITING_MAX {
                job.refuse();
            } else {
                queue.push_back(job);
            }
            return None;
        }
        if self.working.len() < WORKING_MAX {
            self.working.insert(id, VecDeque::new());
            return Some(job);
        }
        self.waiting.push_back(id);
        self.held.insert(id, VecDeque::from([job]));
        None
    }

    /// The job of an endpoint is done; gives the next one to begin, of this endpoint or of one that waits.
    pub fn done(&mut self, id: EndpointId) -> Option<(EndpointId, Job)> {
        if let Some(job) = self.working.get_mut(&id)?.pop_front() {
            return Some((id, job));
        }
        self.working.remove(&id);
        while let Some(next) = self.waiting.pop_front() {
            let Some(mut queue) = self.held.remove(&next) else { continue };
            if let Some(job) = queue.pop_front() {
                self.working.insert(next, queue);
                return Some((next, job));
            }
        }
        None
    }

    /// Whether something is done or about to be done with an endpoint.
    pub fn has(&self, id: EndpointId) -> bool {
        self.working.contains_key(&id) || self.held.contains_key(&id)
    }

    /// How many endpoints have jobs.
    pub fn count(&self) -> usize {
        self.working.len() + self.held.len()
    }
}

impl Job {
    fn refuse(self) {
        let error = ApiError::new(ErrorCode::Unavailable, "too much is asked of one endpoint at a time");
        match self {
            Self::Attach(_, answer) => answer.send(Err(error)),
            Self::Detach(answer) | Self::RemovePair(answer) => drop(answer.send(Err(error))),
            Self::Rewire => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> EndpointId {
        EndpointId([n; 32])
    }

    fn detach() -> (Job, oneshot::Receiver<Result<bool, ApiError>>) {
        let (answer, told) = oneshot::channel();
        (Job::Detach(answer), told)
    }

    #[test]
    fn jobs_of_one_endpoint_follow_each_other() {
        let mut jobs = Jobs::default();
        assert!(jobs.begin(id(1), Job::Rewire).is_some());
        let (job, _told) = detach();
        assert!(jobs.begin(id(1), job).is_none());
        assert!(jobs.begin(id(2), Job::Rewire).is_some(), "another one does not wait");
        assert!(matches!(jobs.done(id(1)), Some((of, Job::Detach(_))) if of == id(1)));
        assert!(jobs.has(id(1)));
        assert!(jobs.done(id(1)).is_none());
        assert!(!jobs.has(id(1)) && jobs.has(id(2)));
    }

    #[test]
    fn endpoints_beyond_the_bound_wait_for_their_turn_in_order() {
        let mut jobs = Jobs::default();
        for n in 0..WORKING_MAX as u8 {
            assert!(jobs.begin(id(n), Job::Rewire).is_some());
        }
        assert!(jobs.begin(id(100), Job::Rewire).is_none());
        assert!(jobs.begin(id(101), Job::Rewire).is_none());
        let (job, _told) = detach();
        assert!(jobs.begin(id(100), job).is_none());
        assert!(matches!(jobs.done(id(3)), Some((of, Job::Rewire)) if of == id(100)));
        assert!(matches!(jobs.done(id(4)), Some((of, Job::Rewire)) if of == id(101)));
        assert!(matches!(jobs.done(id(100)), Some((of, Job::Detach(_))) if of == id(100)));
        assert!(jobs.done(id(100)).is_none());
        assert_eq!(jobs.count(), WORKING_MAX - 1);
    }

    #[test]
    fn a_flood_of_jobs_for_one_endpoint_is_refused() {
        let mut jobs = Jobs::default();
        assert!(jobs.begin(id(1), Job::Rewire).is_some());
        for _ in 0..WAITING_MAX {
            assert!(jobs.begin(id(1), Job::Rewire).is_none());
        }
        let (job, mut told) = detach();
        assert!(jobs.begin(id(1), job).is_none());
        assert_eq!(told.try_recv().expect("told").expect_err("refused").code, ErrorCode::Unavailable);
    }
}
