//! The Maintenance service: status only.

use std::pin::Pin;

use etcd_client::proto::{
    PbAlarmRequest, PbAlarmResponse, PbDefragmentRequest, PbDefragmentResponse, PbDowngradeRequest,
    PbDowngradeResponse, PbHashKvRequest, PbHashKvResponse, PbHashRequest, PbHashResponse,
    PbMaintenanceService, PbMoveLeaderRequest, PbMoveLeaderResponse, PbSnapshotRequest, PbSnapshotResponse,
    PbStatusRequest, PbStatusResponse,
};
use futures_util::Stream;
use tonic::{Request as Call, Response, Status};

use crate::server::Service;
use crate::server::authorise::Op;
use crate::server::refusal::Refusal;
use crate::server::state::TERM;

#[tonic::async_trait]
impl PbMaintenanceService for Service {
    async fn status(&self, call: Call<PbStatusRequest>) -> Result<Response<PbStatusResponse>, Status> {
        self.allow(&Self::client(&call), Op::Status)?;
        // The size is information only: an unreadable file shows as empty.
        let db_size = tokio::fs::metadata(&self.core.path).await.map_or(0, |file| file.len());
        let (revision, live_bytes) = {
            let state = self.core.state();
            (state.revision, state.live_bytes)
        };
        Ok(Response::new(PbStatusResponse {
            header: Some(self.core.header(revision)),
            version: format!("meshd-{}", env!("CARGO_PKG_VERSION")),
            db_size: i64::try_from(db_size).unwrap_or(i64::MAX),
            leader: self.core.history,
            raft_index: revision.unsigned_abs(),
            raft_term: TERM,
            raft_applied_index: revision.unsigned_abs(),
            db_size_in_use: i64::try_from(live_bytes).unwrap_or(i64::MAX),
            ..PbStatusResponse::default()
        }))
    }

    async fn alarm(&self, _: Call<PbAlarmRequest>) -> Result<Response<PbAlarmResponse>, Status> {
        Err(Refusal::Unserved("Alarm").into())
    }

    async fn defragment(
        &self,
        _: Call<PbDefragmentRequest>,
    ) -> Result<Response<PbDefragmentResponse>, Status> {
        Err(Refusal::Unserved("Defragment").into())
    }

    async fn hash(&self, _: Call<PbHashRequest>) -> Result<Response<PbHashResponse>, Status> {
        Err(Refusal::Unserved("Hash").into())
    }

    async fn hash_kv(&self, _: Call<PbHashKvRequest>) -> Result<Response<PbHashKvResponse>, Status> {
        Err(Refusal::Unserved("HashKV").into())
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<PbSnapshotResponse, Status>> + Send>>;

    async fn snapshot(&self, _: Call<PbSnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Refusal::Unserved("Snapshot").into())
    }

    async fn move_leader(
        &self,
        _: Call<PbMoveLeaderRequest>,
    ) -> Result<Response<PbMoveLeaderResponse>, Status> {
        Err(Refusal::Unserved("MoveLeader").into())
    }

    async fn downgrade(&self, _: Call<PbDowngradeRequest>) -> Result<Response<PbDowngradeResponse>, Status> {
        Err(Refusal::Unserved("Downgrade").into())
    }
}
