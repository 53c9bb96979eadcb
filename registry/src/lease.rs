//! Leases: keys that vanish with their writer.

use std::time::Duration;

use etcd_client::{LeaseKeepAliveStream, LeaseKeeper};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::client::{ATTEMPT_DEADLINE, Registry, Repeat};
use crate::error::{Attempt, CallError};
use crate::record::LeaseId;
use crate::task::Task;

/// Renewals per time to live: two may fail before the lease is in danger.
const RENEWALS_PER_TTL: u32 = 3;

/// Why a lease ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseLost {
    /// The registry does not know it (any more).
    #[error("lease is gone at the registry")]
    Gone,
    /// It could not be renewed for its whole time to live.
    #[error("lease could not be renewed in time")]
    NotRenewed,
    /// The registry refused to renew it.
    #[error("lease renewal was refused: {0}")]
    Refused(String),
}

/// A lease, kept alive by a task; dropping it stops the renewals, so that it expires by itself.
#[derive(Debug)]
pub struct Lease {
    id: LeaseId,
    ttl: Duration,
    registry: Registry,
    lost: watch::Receiver<Option<LeaseLost>>,
    _task: Task,
}

impl Lease {
    pub(crate) async fn grant(registry: Registry, ttl: Duration) -> Result<Self, CallError> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let granted_at = Instant::now();
        let response = registry
            .call(Repeat::Harmless, |mut server| async move { server.lease.grant(seconds, None).await })
            .await?
            .0;
        let id =
            LeaseId::from_wire(response.id).ok_or(CallError::Malformed { what: "lease without a number" })?;
        // The server may choose another time than asked for.
        let ttl = Duration::from_secs(u64::try_from(response.ttl).unwrap_or(0).max(1));
        let (report, lost) = watch::channel(None);
        let renewals = Renewals { registry: registry.clone(), id, ttl, renewed_at: granted_at };
        let task = Task::spawn(async move {
            let end = renewals.run().await;
            tracing::info!(lease = %id, %end, "lease lost");
            report.send_replace(Some(end));
        });
        Ok(Self { id, ttl, registry, lost, _task: task })
    }

    /// Its name, for [`Registry::put`].
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// The time to live that the registry granted.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Waits until the lease is lost; its keys are gone or about to go.
    pub async fn lost(&self) -> LeaseLost {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(LeaseLost::NotRenewed),
            // The task is aborted only by the drop of `self`.
            Err(_) => LeaseLost::NotRenewed,
        }
    }

    /// Whether the lease is lost, without waiting.
    pub fn is_lost(&self) -> bool {
        self.lost.borrow().is_some()
    }

    /// Ends the lease now; its keys are deleted.
    pub async fn revoke(self) -> Result<(), CallError> {
        let id = self.id.to_wire();
        let outcome = self
            .registry
            .call(Repeat::Harmless, |mut server| async move { server.lease.revoke(id).await })
            .await;
        match outcome {
            Ok(_) | Err(CallError::LeaseGone { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

struct Renewals {
    registry: Registry,
    id: LeaseId,
    ttl: Duration,
    renewed_at: Instant,
}

impl Renewals {
    async fn run(mut self) -> LeaseLost {
        let mut backoff = Backoff::new();
        loop {
            let server = self.registry.server();
            let index = server.index;
            let mut client = server.lease;
            let opening = timeout(ATTEMPT_DEADLINE, client.keep_alive(self.id.to_wire()));
            let sent_at = Instant::now();
            let failure = match opening.await {
                Ok(Ok((keeper, answers))) => {
                    self.renewed_at = sent_at;
                    backoff.reset();
                    match self.renew_on(keeper, answers).await {
                        Some(lost) => return lost,
                        None => Attempt::Lost(String::from("keep-alive stream ended")),
                    }
                }
                Ok(Err(error)) => Attempt::from(error),
                Err(_) => Attempt::Lost(String::from("no answer to a keep-alive")),
            };
            match failure {
                Attempt::Refused(CallError::LeaseGone { .. }) => return LeaseLost::Gone,
                Attempt::Refused(error) => return LeaseLost::Refused(error.to_string()),
                Attempt::NotSent(reason) | Attempt::Lost(reason) => {
                    tracing::debug!(lease = %self.id, reason, "lease renewal failed");
                    self.registry.turn_from(index);
                }
            }
            if self.renewed_at.elapsed() >= self.ttl {
                return LeaseLost::NotRenewed;
            }
            backoff.pause().await;
        }
    }

    /// Renews over one stream until it breaks (`None`) or the lease is gone.
    async fn renew_on(
        &mut self,
        mut keeper: LeaseKeeper,
        mut answers: LeaseKeepAliveStream,
    ) -> Option<LeaseLost> {
        loop {
            sleep(self.ttl / RENEWALS_PER_TTL).await;
            let sent_at = Instant::now();
            keeper.keep_alive().await.ok()?;
            let answer = timeout(ATTEMPT_DEADLINE, answers.message()).await.ok()?.ok()??;
            if answer.ttl() <= 0 {
                return Some(LeaseLost::Gone);
            }
            self.renewed_at = sent_at;
        }
    }
}
