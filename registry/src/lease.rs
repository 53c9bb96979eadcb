//! Leases: keys that vanish with their writer.

use std::time::Duration;

use etcd_client::{LeaseGrantOptions, LeaseKeepAliveStream, LeaseKeeper};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use crate::backoff::Backoff;
use crate::client::{ATTEMPT_DEADLINE, Registry, Repeat};
use crate::error::{Attempt, CallError};
use crate::record::LeaseId;
use crate::task::Task;

/// Renewals per time to live: two may fail before the lease is in danger.
const RENEWALS_PER_TTL: u32 = 3;
/// Rounds of renewing and taking a lease of one number: it may be taken in between, also by the own call whose answer
/// was lost, and then it is there to be renewed.
const ROUNDS_MAX: usize = 2;

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
        let granted_at = Instant::now();
        let (id, ttl) = granted(&registry, None, ttl).await?;
        Ok(Self::keep(registry, id, ttl, granted_at))
    }

    pub(crate) async fn again(registry: Registry, id: LeaseId, ttl: Duration) -> Result<Self, CallError> {
        for _ in 0..ROUNDS_MAX {
            let renewed_at = Instant::now();
            match renewed(&registry, id).await {
                Ok(there) if there == seconds(ttl) => {
                    return Ok(Self::keep(registry, id, lifetime(there), renewed_at));
                }
                Err(CallError::LeaseGone { .. }) => {}
                Ok(_) | Err(CallError::Denied { .. }) => break,
                Err(error) => return Err(error),
            }
            let granted_at = Instant::now();
            match granted(&registry, Some(id), ttl).await {
                Ok((id, ttl)) => return Ok(Self::keep(registry, id, ttl, granted_at)),
                Err(CallError::Refused { code: Code::FailedPrecondition, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        tracing::info!(lease = %id, "lease is not ours: taking another");
        Self::grant(registry, ttl).await
    }

    fn keep(registry: Registry, id: LeaseId, ttl: Duration, renewed_at: Instant) -> Self {
        let (report, lost) = watch::channel(None);
        let renewals = Renewals { registry: registry.clone(), id, ttl, renewed_at };
        let task = Task::spawn(async move {
            let end = renewals.run().await;
            tracing::info!(lease = %id, %end, "lease lost");
            report.send_replace(Some(end));
        });
        Self { id, ttl, registry, lost, _task: task }
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

/// Takes a lease, of any number or of this one; the server may choose another time to live than asked for.
async fn granted(
    registry: &Registry,
    id: Option<LeaseId>,
    ttl: Duration,
) -> Result<(LeaseId, Duration), CallError> {
    let response = registry
        .call(Repeat::Harmless, |mut server| async move {
            let options = id.map(|id| LeaseGrantOptions::new().with_id(id.to_wire()));
            server.lease.grant(seconds(ttl), options).await
        })
        .await?
        .0;
    let id =
        LeaseId::from_wire(response.id).ok_or(CallError::Malformed { what: "lease without a number" })?;
    Ok((id, lifetime(response.ttl)))
}

/// Renews a lease and gives the seconds that it was granted for.
async fn renewed(registry: &Registry, id: LeaseId) -> Result<i64, CallError> {
    registry
        .call(Repeat::Harmless, |mut server| async move {
            let broken = || etcd_client::Error::WatchError(String::from("keep-alive stream ended"));
            // The client keeps the first answer, with the time to live, to itself.
            let (mut keeper, mut answers) = server.lease.keep_alive(id.to_wire()).await?;
            keeper.keep_alive().await.map_err(|_| broken())?;
            let answer = answers.message().await?.ok_or_else(broken)?;
            if answer.ttl() > 0 {
                Ok(answer.ttl())
            } else {
                Err(etcd_client::Error::LeaseKeepAliveError(String::from("lease not found")))
            }
        })
        .await
}

fn seconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1)
}

fn lifetime(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
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
