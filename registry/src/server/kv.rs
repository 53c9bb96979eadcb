//! The KV service.

use std::pin::Pin;

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse, PbKeyValue, PbKvService,
    PbPutRequest, PbPutResponse, PbRangeRequest, PbRangeResponse, PbRangeStreamResponse, PbTxnOpRequest,
    PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use futures_util::Stream;
use prost::Message;
use tonic::{Request as Call, Response, Status};

use crate::range::KeyRange;
use crate::server::Service;
use crate::server::authorise::{ClientKey, Op};
use crate::server::limits::{ANSWER_BYTES_MAX, KEY_BYTES_MAX, REQUEST_BYTES_MAX, TXN_OPS_MAX};
use crate::server::refusal::Refusal;
use crate::server::stage::Requester;
use crate::server::state::Rows;
use crate::server::writer::{Answer, Reply, Request};

/// `sort_order` for descending; ascending by key is what every answer is.
const SORT_DESCENDING: i32 = 2;
/// Bytes of a row besides key and value.
const ROW_OVERHEAD_BYTES: usize = 48;

/// A range request that this server serves.
pub(super) struct RangeAsk {
    pub(super) range: KeyRange,
    pub(super) limit: usize,
    pub(super) revision: i64,
    keys_only: bool,
    count_only: bool,
}

impl RangeAsk {
    pub(super) fn read(wire: PbRangeRequest) -> Result<Self, Refusal> {
        let PbRangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable: _,
            keys_only,
            count_only,
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        } = wire;
        let filters = [min_mod_revision, max_mod_revision, min_create_revision, max_create_revision];
        if filters.iter().any(|filter| *filter != 0) {
            return Err(Refusal::Unserved("a range filtered by revision"));
        }
        if sort_order == SORT_DESCENDING || (sort_order != 0 && sort_target != 0) {
            return Err(Refusal::Unserved("an order other than ascending by key"));
        }
        let range = read_range(key, range_end)?;
        let limit = usize::try_from(limit).unwrap_or(0);
        Ok(Self { range, limit, revision, keys_only, count_only })
    }
}

/// Writes rows as an answer of bounded size: pages are cut short, a whole listing is refused.
pub(super) fn range_response(ask: &RangeAsk, rows: Rows) -> Result<PbRangeResponse, Refusal> {
    let Rows { rows, mut more, count } = rows;
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    if ask.count_only {
        return Ok(PbRangeResponse { header: None, kvs: Vec::new(), more: false, count });
    }
    let mut kvs: Vec<PbKeyValue> = Vec::with_capacity(rows.len());
    let mut bytes = 0usize;
    for (key, record) in rows {
        let value_bytes = if ask.keys_only { 0 } else { record.value.len() };
        bytes = bytes.saturating_add(key.len() + value_bytes + ROW_OVERHEAD_BYTES);
        if bytes > ANSWER_BYTES_MAX {
            if ask.limit == 0 {
                return Err(Refusal::AnswerTooLarge);
            }
            more = true;
            break;
        }
        let mut row = record.to_wire(&key);
        if ask.keys_only {
            row.value.clear();
        }
        kvs.push(row);
    }
    Ok(PbRangeResponse { header: None, kvs, more, count })
}

/// Reads a range and checks the sizes of its ends.
pub(super) fn read_range(key: Vec<u8>, range_end: Vec<u8>) -> Result<KeyRange, Refusal> {
    if key.is_empty() {
        return Err(Refusal::KeyMissing);
    }
    for end in [&key, &range_end] {
        // One byte more, because a page begins at a key followed by a zero byte.
        if end.len() > KEY_BYTES_MAX + 1 {
            return Err(Refusal::KeyTooLarge(end.len()));
        }
    }
    Ok(KeyRange::from_wire(key, range_end))
}

impl Service {
    pub(super) fn client<T>(call: &Call<T>) -> ClientKey {
        call.extensions().get::<ClientKey>().copied().unwrap_or_default()
    }

    pub(super) fn requester(&self, client: ClientKey) -> Requester {
        Requester { client, quota: self.authoriser.quota(&client) }
    }

    pub(super) fn allow(&self, client: &ClientKey, op: Op<'_>) -> Result<(), Refusal> {
        Ok(self.authoriser.allows(client, op)?)
    }

    fn allow_range(&self, client: &ClientKey, wire: &PbRangeRequest) -> Result<(), Refusal> {
        let range = read_range(wire.key.clone(), wire.range_end.clone())?;
        self.allow(client, Op::Read { range: &range })
    }

    fn allow_put(&self, client: &ClientKey, put: &PbPutRequest) -> Result<(), Refusal> {
        if put.key.is_empty() {
            return Err(Refusal::KeyMissing);
        }
        if put.key.len() > KEY_BYTES_MAX {
            return Err(Refusal::KeyTooLarge(put.key.len()));
        }
        if put.value.len() > self.core.limits.value_bytes_max {
            return Err(Refusal::ValueTooLarge(put.value.len()));
        }
        self.allow(client, Op::Put { key: &put.key, value: &put.value })?;
        self.allow_told(client, put.prev_kv, || KeyRange::key(put.key.clone()))
    }

    fn allow_delete(&self, client: &ClientKey, delete: &PbDeleteRequest) -> Result<(), Refusal> {
        let range = read_range(delete.key.clone(), delete.range_end.clone())?;
        self.allow(client, Op::Delete { range: &range })?;
        self.allow_told(client, delete.prev_kv, || range)
    }

    /// An answer with previous values is a read as well.
    fn allow_told(
        &self,
        client: &ClientKey,
        told: bool,
        range: impl FnOnce() -> KeyRange,
    ) -> Result<(), Refusal> {
        if told { self.allow(client, Op::Read { range: &range() }) } else { Ok(()) }
    }

    /// Checks every operation of both branches: which one runs is known only later.
    fn allow_txn(&self, client: &ClientKey, txn: &PbTxnRequest) -> Result<(), Refusal> {
        let PbTxnRequest { compare, success, failure } = txn;
        if [compare.len(), success.len(), failure.len()].into_iter().any(|ops| ops > TXN_OPS_MAX) {
            return Err(Refusal::TooManyOps);
        }
        for compare in compare {
            let range = read_range(compare.key.clone(), compare.range_end.clone())?;
            self.allow(client, Op::Read { range: &range })?;
        }
        for PbTxnRequestOp { request } in success.iter().chain(failure) {
            match request {
                Some(PbTxnOpRequest::RequestRange(range)) => self.allow_range(client, range)?,
                Some(PbTxnOpRequest::RequestPut(put)) => self.allow_put(client, put)?,
                Some(PbTxnOpRequest::RequestDeleteRange(delete)) => self.allow_delete(client, delete)?,
                Some(PbTxnOpRequest::RequestTxn(_)) => {
                    return Err(Refusal::Unserved("a nested transaction"));
                }
                None => return Err(Refusal::Malformed("empty operation")),
            }
        }
        Ok(())
    }

    async fn run_txn(&self, client: ClientKey, txn: PbTxnRequest) -> Result<(i64, PbTxnResponse), Status> {
        let Reply { revision, answer } =
            self.core.writer.submit(self.requester(client), Request::Txn(txn)).await?;
        match answer {
            Answer::Txn(response) => Ok((revision, response)),
            Answer::Lease { .. } | Answer::Done => Err(mismatch()),
        }
    }

    /// Runs one operation as a transaction of its own.
    async fn run_single(
        &self,
        client: ClientKey,
        op: PbTxnOpRequest,
    ) -> Result<(i64, Option<PbTxnOpResponse>), Status> {
        let success = vec![PbTxnRequestOp { request: Some(op) }];
        let txn = PbTxnRequest { compare: Vec::new(), success, failure: Vec::new() };
        let (revision, response) = self.run_txn(client, txn).await?;
        Ok((revision, response.responses.into_iter().next().and_then(|first| first.response)))
    }
}

/// The writer answered another question than asked: our bug, told as such without ending the daemon.
pub(super) fn mismatch() -> Status {
    Status::internal("registry writer gave a foreign answer")
}

fn check_size(message: &impl Message) -> Result<(), Refusal> {
    let bytes = message.encoded_len();
    if bytes > REQUEST_BYTES_MAX { Err(Refusal::RequestTooLarge(bytes)) } else { Ok(()) }
}

#[tonic::async_trait]
impl PbKvService for Service {
    async fn range(&self, call: Call<PbRangeRequest>) -> Result<Response<PbRangeResponse>, Status> {
        let client = Self::client(&call);
        let ask = RangeAsk::read(call.into_inner())?;
        self.allow(&client, Op::Read { range: &ask.range })?;
        let (rows, revision) = {
            let state = self.core.state();
            (state.range(&ask.range, ask.limit, ask.revision)?, state.revision)
        };
        let mut response = range_response(&ask, rows)?;
        response.header = Some(self.core.header(revision));
        Ok(Response::new(response))
    }

    type RangeStreamStream = Pin<Box<dyn Stream<Item = Result<PbRangeStreamResponse, Status>> + Send>>;

    async fn range_stream(
        &self,
        _: Call<PbRangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Refusal::Unserved("RangeStream").into())
    }

    async fn put(&self, call: Call<PbPutRequest>) -> Result<Response<PbPutResponse>, Status> {
        let client = Self::client(&call);
        let put = call.into_inner();
        check_size(&put)?;
        self.allow_put(&client, &put)?;
        match self.run_single(client, PbTxnOpRequest::RequestPut(put)).await? {
            (revision, Some(PbTxnOpResponse::ResponsePut(mut response))) => {
                response.header = Some(self.core.header(revision));
                Ok(Response::new(response))
            }
            (_, Some(_) | None) => Err(mismatch()),
        }
    }

    async fn delete_range(&self, call: Call<PbDeleteRequest>) -> Result<Response<PbDeleteResponse>, Status> {
        let client = Self::client(&call);
        let delete = call.into_inner();
        self.allow_delete(&client, &delete)?;
        match self.run_single(client, PbTxnOpRequest::RequestDeleteRange(delete)).await? {
            (revision, Some(PbTxnOpResponse::ResponseDeleteRange(mut response))) => {
                response.header = Some(self.core.header(revision));
                Ok(Response::new(response))
            }
            (_, Some(_) | None) => Err(mismatch()),
        }
    }

    async fn txn(&self, call: Call<PbTxnRequest>) -> Result<Response<PbTxnResponse>, Status> {
        let client = Self::client(&call);
        let txn = call.into_inner();
        check_size(&txn)?;
        self.allow_txn(&client, &txn)?;
        let (revision, mut response) = self.run_txn(client, txn).await?;
        response.header = Some(self.core.header(revision));
        Ok(Response::new(response))
    }

    async fn compact(
        &self,
        call: Call<PbCompactionRequest>,
    ) -> Result<Response<PbCompactionResponse>, Status> {
        let client = Self::client(&call);
        self.allow(&client, Op::Compact)?;
        // Compaction is always complete when it is acknowledged.
        let PbCompactionRequest { revision, physical: _ } = call.into_inner();
        let request = Request::Compact { rev: revision };
        let reply = self.core.writer.submit(self.requester(client), request).await?;
        Ok(Response::new(PbCompactionResponse { header: Some(self.core.header(reply.revision)) }))
    }
}
