//! The Lease service.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse, PbLeaseService,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::{Request as Call, Response, Status, Streaming};

use crate::server::Service;
use crate::server::authorise::{ClientKey, Op};
use crate::server::kv::mismatch;
use crate::server::refusal::Refusal;
use crate::server::writer::{Answer, Reply, Request};
use crate::task::Task;

/// Answers waiting on a keep-alive stream; the next request is read when there is room.
const ANSWERS_WAITING_MAX: usize = 4;

/// Answers of a task that ends with the stream.
pub(super) struct Answers<T> {
    answers: mpsc::Receiver<Result<T, Status>>,
    _task: Task,
}

impl<T> Answers<T> {
    pub(super) fn new(answers: mpsc::Receiver<Result<T, Status>>, task: Task) -> Self {
        Self { answers, _task: task }
    }
}

impl<T> Stream for Answers<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.answers.poll_recv(cx)
    }
}

impl Service {
    fn keep_alive(&self, client: &ClientKey, id: i64) -> Result<PbLeaseKeepAliveResponse, Refusal> {
        self.allow(client, Op::Lease)?;
        let mut state = self.core.state();
        let ttl = state.renew(id, client)?.map_or(0, |ttl_s| i64::try_from(ttl_s).unwrap_or(i64::MAX));
        Ok(PbLeaseKeepAliveResponse { header: Some(self.core.header(state.revision)), id, ttl })
    }
}

#[tonic::async_trait]
impl PbLeaseService for Service {
    async fn lease_grant(
        &self,
        call: Call<PbLeaseGrantRequest>,
    ) -> Result<Response<PbLeaseGrantResponse>, Status> {
        let client = Self::client(&call);
        self.allow(&client, Op::Lease)?;
        let PbLeaseGrantRequest { ttl, id } = call.into_inner();
        let request = Request::Grant { id, ttl_s: ttl };
        let Reply { revision, answer } = self.core.writer.submit(self.requester(client), request).await?;
        match answer {
            Answer::Lease { id, ttl_s } => Ok(Response::new(PbLeaseGrantResponse {
                header: Some(self.core.header(revision)),
                id,
                ttl: i64::try_from(ttl_s).unwrap_or(i64::MAX),
                error: String::new(),
            })),
            Answer::Txn(_) | Answer::Done => Err(mismatch()),
        }
    }

    async fn lease_revoke(
        &self,
        call: Call<PbLeaseRevokeRequest>,
    ) -> Result<Response<PbLeaseRevokeResponse>, Status> {
        let client = Self::client(&call);
        self.allow(&client, Op::Lease)?;
        let request = Request::Revoke { id: call.into_inner().id };
        let reply = self.core.writer.submit(self.requester(client), request).await?;
        Ok(Response::new(PbLeaseRevokeResponse { header: Some(self.core.header(reply.revision)) }))
    }

    type LeaseKeepAliveStream = Answers<PbLeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        call: Call<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let client = Self::client(&call);
        self.allow(&client, Op::Lease)?;
        let service = self.clone();
        let mut requests = call.into_inner();
        let mut closing = self.core.closing.subscribe();
        let (out, answers) = mpsc::channel(ANSWERS_WAITING_MAX);
        let task = Task::spawn(async move {
            loop {
                let request = tokio::select! {
                    request = requests.message() => request,
                    _ = closing.wait_for(|closing| *closing) => Err(Refusal::Closing.into()),
                };
                let answer = match request {
                    Ok(Some(PbLeaseKeepAliveRequest { id })) => {
                        service.keep_alive(&client, id).map_err(Status::from)
                    }
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let last = answer.is_err();
                if out.send(answer).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(Response::new(Answers::new(answers, task)))
    }

    async fn lease_time_to_live(
        &self,
        call: Call<PbLeaseTimeToLiveRequest>,
    ) -> Result<Response<PbLeaseTimeToLiveResponse>, Status> {
        let client = Self::client(&call);
        self.allow(&client, Op::Lease)?;
        let PbLeaseTimeToLiveRequest { id, keys } = call.into_inner();
        let state = self.core.state();
        let header = Some(self.core.header(state.revision));
        let Some(lease) = state.leases.get(&id) else {
            // Like etcd, an unknown lease has a negative time to live.
            let response =
                PbLeaseTimeToLiveResponse { header, id, ttl: -1, granted_ttl: 0, keys: Vec::new() };
            return Ok(Response::new(response));
        };
        lease.terms.check_owner(&client)?;
        let left = lease.expires.saturating_duration_since(Instant::now()).as_secs();
        let attached = if keys { lease.keys.iter().map(|key| key.to_vec()).collect() } else { Vec::new() };
        Ok(Response::new(PbLeaseTimeToLiveResponse {
            header,
            id,
            ttl: i64::try_from(left).unwrap_or(i64::MAX),
            granted_ttl: i64::try_from(lease.terms.ttl_s).unwrap_or(i64::MAX),
            keys: attached,
        }))
    }

    async fn lease_leases(
        &self,
        _: Call<PbLeaseLeasesRequest>,
    ) -> Result<Response<PbLeaseLeasesResponse>, Status> {
        Err(Refusal::Unserved("a list of leases").into())
    }
}
