//! Evaluates requests into a batch, on top of the state and of what the batch already holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{
    PbCompare, PbDeleteRequest, PbDeleteResponse, PbPutRequest, PbPutResponse, PbRangeRequest, PbResponseOp,
    PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse, PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};

use crate::backoff::dice;
use crate::range::KeyRange;
use crate::server::authorise::ClientKey;
use crate::server::kv::{RangeAsk, range_response};
use crate::server::limits::{LEASE_TTL_MAX_S, LEASE_TTL_MIN_S, Limits, Quota};
use crate::server::refusal::Refusal;
use crate::server::state::{
    Batch, Change, Key, KeyEvent, Lease, LeaseTerms, Record, Rows, State, size, take,
};

/// Tries to find a free lease number; two failures in a row are already unheard of.
const LEASE_NUMBER_TRIES: usize = 8;

// Numbers of `Compare.CompareResult` on the wire.
const EQUAL: i32 = 0;
const GREATER: i32 = 1;
const LESS: i32 = 2;
const NOT_EQUAL: i32 = 3;

/// On whose behalf a request is evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requester {
    pub(super) client: ClientKey,
    pub(super) quota: Quota,
}

/// A batch in the making.
pub(super) struct Stage<'a> {
    state: &'a State,
    limits: Limits,
    revision: i64,
    overlay: Overlay,
    growth: Growth,
    batch: Batch,
}

type Overlay = BTreeMap<Key, Option<Arc<Record>>>;

/// How usage will differ from the state's.
#[derive(Default)]
struct Growth {
    clients: BTreeMap<ClientKey, (isize, isize)>,
    bytes: isize,
}

/// One request on top of a stage; dropped whole when any of its operations is refused.
struct Draft<'s, 'a> {
    stage: &'s Stage<'a>,
    rev: i64,
    overlay: Overlay,
    events: Vec<KeyEvent>,
    growth: Growth,
}

impl<'a> Stage<'a> {
    pub(super) fn new(state: &'a State, limits: Limits) -> Self {
        Self {
            state,
            limits,
            revision: state.revision,
            overlay: BTreeMap::new(),
            growth: Growth::default(),
            batch: Batch::default(),
        }
    }

    pub(super) fn finish(self) -> Batch {
        self.batch
    }

    /// Revision after everything staged so far.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Compares, then does one of the two lists of operations; all its changes are one revision.
    pub(super) fn txn(&mut self, who: &Requester, txn: PbTxnRequest) -> Result<PbTxnResponse, Refusal> {
        let PbTxnRequest { compare, success, failure } = txn;
        let mut draft = Draft::new(self);
        let mut succeeded = true;
        for compare in compare {
            succeeded &= draft.holds(compare)?;
        }
        let ops = if succeeded { success } else { failure };
        check_disjoint(&ops)?;
        let mut responses = Vec::with_capacity(ops.len());
        for PbTxnRequestOp { request } in ops {
            let response = match request {
                Some(PbTxnOpRequest::RequestPut(put)) => PbTxnOpResponse::ResponsePut(draft.put(who, put)?),
                Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
                    PbTxnOpResponse::ResponseDeleteRange(draft.delete(delete)?)
                }
                Some(PbTxnOpRequest::RequestRange(range)) => {
                    PbTxnOpResponse::ResponseRange(draft.range(range)?)
                }
                Some(PbTxnOpRequest::RequestTxn(_)) => return Err(Refusal::Unserved("a nested transaction")),
                None => return Err(Refusal::Malformed("empty operation")),
            };
            responses.push(PbResponseOp { response: Some(response) });
        }
        draft.check_quota(who)?;
        let Draft { stage: _, rev, overlay, events, growth } = draft;
        self.accept(rev, overlay, events, growth);
        Ok(PbTxnResponse { header: None, succeeded, responses })
    }

    /// Takes a lease; zero as `id` means any.
    pub(super) fn grant(
        &mut self,
        who: &Requester,
        id: i64,
        ttl_s: i64,
    ) -> Result<(i64, LeaseTerms), Refusal> {
        let held = self.state.leases.values().filter(|lease| lease.terms.owner == who.client).count();
        let staged = self.batch.leases.values().flatten().filter(|terms| terms.owner == who.client).count();
        if held + staged >= who.quota.leases_max && !self.end_idle_lease(&who.client) {
            return Err(Refusal::LeaseQuota);
        }
        let ttl_s = u64::try_from(ttl_s).unwrap_or(0).clamp(LEASE_TTL_MIN_S, LEASE_TTL_MAX_S);
        let free = |id: &i64| *id > 0 && self.lease(*id).is_none() && !self.batch.leases.contains_key(id);
        let id = if id == 0 {
            (0..LEASE_NUMBER_TRIES)
                .map(|_| i64::try_from(dice() >> 1).unwrap_or(i64::MAX))
                .find(free)
                .ok_or(Refusal::LeaseExists)?
        } else if free(&id) {
            id
        } else {
            return Err(Refusal::LeaseExists);
        };
        let terms = LeaseTerms { ttl_s, owner: who.client };
        self.batch.leases.insert(id, Some(terms));
        Ok((id, terms))
    }

    /// Ends a lease and deletes its keys, all as one revision.
    pub(super) fn revoke(&mut self, client: &ClientKey, id: i64) -> Result<(), Refusal> {
        let terms = self.lease(id).ok_or(Refusal::LeaseNotFound)?;
        terms.check_owner(client)?;
        self.end_lease(id);
        Ok(())
    }

    /// Ends a lease whose time is over.
    pub(super) fn expire(&mut self, id: i64) {
        if self.lease(id).is_some() {
            self.end_lease(id);
        }
    }

    /// Forgets history before `rev`.
    pub(super) fn compact(&mut self, rev: i64) -> Result<(), Refusal> {
        let compacted = self.batch.compact_to.unwrap_or(self.state.compacted);
        if rev <= compacted {
            return Err(Refusal::Compacted);
        }
        if rev > self.revision {
            return Err(Refusal::FutureRevision);
        }
        self.batch.compact_to = Some(rev);
        Ok(())
    }

    fn lease(&self, id: i64) -> Option<LeaseTerms> {
        match self.batch.leases.get(&id) {
            Some(staged) => *staged,
            None => self.state.leases.get(&id).map(|lease| lease.terms),
        }
    }

    fn end_lease(&mut self, id: i64) {
        let attached = self.state.leases.get(&id).map(|lease| lease.keys.iter().cloned());
        let mut keys: BTreeSet<Key> = attached.into_iter().flatten().collect();
        keys.extend(self.overlay.keys().cloned());
        let mut draft = Draft::new(self);
        for key in keys {
            if draft.current(&key).is_some_and(|record| record.lease == id) {
                draft.set(key, None);
            }
        }
        let Draft { stage: _, rev, overlay, events, growth } = draft;
        self.accept(rev, overlay, events, growth);
        self.batch.leases.insert(id, None);
    }

    /// Ends, of a client's leases without a key, the one renewed longest ago. Who died and came back has put its keys
    /// under a new lease and never heard of the old one, which would count against it for a day.
    fn end_idle_lease(&mut self, client: &ClientKey) -> bool {
        let takes_key = |id: i64| self.overlay.values().flatten().any(|record| record.lease == id);
        let idle = self.state.leases.iter().filter(|(id, lease)| {
            lease.terms.owner == *client
                && lease.keys.is_empty()
                && !lease.ending
                && !self.batch.leases.contains_key(id)
                && !takes_key(**id)
        });
        let renewed = |lease: &Lease| lease.expires.checked_sub(Duration::from_secs(lease.terms.ttl_s));
        let Some(id) = idle.min_by_key(|(_, lease)| renewed(lease)).map(|(id, _)| *id) else { return false };
        self.end_lease(id);
        true
    }

    fn accept(&mut self, rev: i64, overlay: Overlay, events: Vec<KeyEvent>, growth: Growth) {
        if events.is_empty() {
            return;
        }
        self.revision = rev;
        self.overlay.extend(overlay);
        self.growth.add(&growth);
        self.batch.changes.push(Arc::new(Change { rev, events }));
    }
}

impl<'s, 'a> Draft<'s, 'a> {
    fn new(stage: &'s Stage<'a>) -> Self {
        let rev = stage.revision.saturating_add(1);
        Self { stage, rev, overlay: BTreeMap::new(), events: Vec::new(), growth: Growth::default() }
    }

    fn put(&mut self, who: &Requester, put: PbPutRequest) -> Result<PbPutResponse, Refusal> {
        let PbPutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = put;
        if ignore_value || ignore_lease {
            return Err(Refusal::Unserved("a put that keeps the value or the lease"));
        }
        if value.len() > self.stage.limits.value_bytes_max {
            return Err(Refusal::ValueTooLarge(value.len()));
        }
        if lease != 0 {
            let terms = self.stage.lease(lease).ok_or(Refusal::LeaseNotFound)?;
            terms.check_owner(&who.client)?;
            if self.stage.state.leases.get(&lease).is_some_and(|lease| lease.ending) {
                return Err(Refusal::LeaseNotFound);
            }
        }
        let key = Key::from(key);
        let prev = self.current(&key);
        let (created, version) =
            prev.as_ref().map_or((self.rev, 1), |prev| (prev.created, prev.version.saturating_add(1)));
        let record = Record { value, created, modified: self.rev, version, lease, owner: who.client };
        let told = prev.filter(|_| prev_kv).map(|prev| prev.to_wire(&key));
        self.set(key, Some(Arc::new(record)));
        Ok(PbPutResponse { header: None, prev_kv: told })
    }

    fn delete(&mut self, delete: PbDeleteRequest) -> Result<PbDeleteResponse, Refusal> {
        let PbDeleteRequest { key, range_end, prev_kv } = delete;
        let Rows { rows, more: _, count } = self.rows(&KeyRange::from_wire(key, range_end), 0);
        let prev_kvs =
            if prev_kv { rows.iter().map(|(key, record)| record.to_wire(key)).collect() } else { Vec::new() };
        for (key, _) in rows {
            self.set(key, None);
        }
        let deleted = i64::try_from(count).unwrap_or(i64::MAX);
        Ok(PbDeleteResponse { header: None, deleted, prev_kvs })
    }

    fn range(&self, range: PbRangeRequest) -> Result<etcd_client::proto::PbRangeResponse, Refusal> {
        let ask = RangeAsk::read(range)?;
        let rows = if ask.revision > 0 {
            self.stage.state.range(&ask.range, ask.limit, ask.revision)?
        } else {
            self.rows(&ask.range, ask.limit)
        };
        range_response(&ask, rows)
    }

    fn holds(&self, compare: PbCompare) -> Result<bool, Refusal> {
        let PbCompare { result, target: _, key, range_end, target_union } = compare;
        if !range_end.is_empty() {
            return Err(Refusal::Unserved("a comparison of a range"));
        }
        let record = self.current(&key);
        let number = |of: fn(&Record) -> i64| record.as_deref().map_or(0, of);
        let order = match target_union {
            Some(PbTargetUnion::Version(version)) => number(|r| r.version).cmp(&version),
            Some(PbTargetUnion::CreateRevision(rev)) => number(|r| r.created).cmp(&rev),
            Some(PbTargetUnion::ModRevision(rev)) => number(|r| r.modified).cmp(&rev),
            Some(PbTargetUnion::Lease(lease)) => number(|r| r.lease).cmp(&lease),
            // Like etcd, the value of an absent key fits nothing.
            Some(PbTargetUnion::Value(value)) => match &record {
                Some(record) => record.value.cmp(&value),
                None => return Ok(false),
            },
            None => return Err(Refusal::Malformed("comparison without a target")),
        };
        match result {
            EQUAL => Ok(order.is_eq()),
            GREATER => Ok(order.is_gt()),
            LESS => Ok(order.is_lt()),
            NOT_EQUAL => Ok(order.is_ne()),
            _ => Err(Refusal::Malformed("unknown comparison")),
        }
    }

    fn current(&self, key: &[u8]) -> Option<Arc<Record>> {
        let layers = [&self.overlay, &self.stage.overlay];
        match layers.into_iter().find_map(|layer| layer.get(key)) {
            Some(staged) => staged.clone(),
            None => self.stage.state.kv.get(key).cloned(),
        }
    }

    fn rows(&self, range: &KeyRange, limit: usize) -> Rows {
        let mut staged = self.stage.overlay.iter().chain(&self.overlay).filter(|(k, _)| range.contains(k));
        let Some(first) = staged.next() else {
            return take(self.stage.state.live(range), limit);
        };
        let mut view: BTreeMap<&Key, &Arc<Record>> = self.stage.state.live(range).collect();
        for (key, record) in std::iter::once(first).chain(staged) {
            match record {
                Some(record) => view.insert(key, record),
                None => view.remove(key),
            };
        }
        take(view.into_iter(), limit)
    }

    fn set(&mut self, key: Key, new: Option<Arc<Record>>) {
        let prev = self.current(&key);
        if let Some(prev) = &prev {
            self.growth.count(prev.owner, -1, -signed(size(&key, prev)));
        }
        if let Some(new) = &new {
            self.growth.count(new.owner, 1, signed(size(&key, new)));
        }
        self.overlay.insert(Arc::clone(&key), new.clone());
        self.events.push(KeyEvent { key, new, prev });
    }

    /// A change that grows neither the client's share nor the whole is always allowed.
    fn check_quota(&self, who: &Requester) -> Result<(), Refusal> {
        let ahead = &self.stage.growth;
        let whole = signed(self.stage.state.live_bytes) + ahead.bytes + self.growth.bytes;
        if self.growth.bytes > 0 && whole > signed(self.stage.limits.store_bytes_max) {
            return Err(Refusal::StoreFull);
        }
        let (keys, bytes) = self.growth.of(&who.client);
        let (keys_ahead, bytes_ahead) = ahead.of(&who.client);
        let used = self.stage.state.usage.get(&who.client).copied().unwrap_or_default();
        let too_many_keys = keys > 0 && signed(used.keys) + keys_ahead + keys > signed(who.quota.keys_max);
        let too_many_bytes =
            bytes > 0 && signed(used.bytes) + bytes_ahead + bytes > signed(who.quota.bytes_max);
        if too_many_keys || too_many_bytes { Err(Refusal::ClientQuota) } else { Ok(()) }
    }
}

impl Growth {
    fn of(&self, client: &ClientKey) -> (isize, isize) {
        self.clients.get(client).copied().unwrap_or((0, 0))
    }

    fn count(&mut self, client: ClientKey, keys: isize, bytes: isize) {
        let share = self.clients.entry(client).or_default();
        share.0 += keys;
        share.1 += bytes;
        self.bytes += bytes;
    }

    fn add(&mut self, other: &Self) {
        for (client, (keys, bytes)) in &other.clients {
            let share = self.clients.entry(*client).or_default();
            share.0 += keys;
            share.1 += bytes;
        }
        self.bytes += other.bytes;
    }
}

/// Sizes are bounded by memory; the unlimited quota becomes the largest number.
fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

/// Refuses a transaction that changes one key twice, as etcd does.
fn check_disjoint(ops: &[PbTxnRequestOp]) -> Result<(), Refusal> {
    let mut puts = BTreeSet::new();
    let mut deletes = Vec::new();
    for op in ops {
        match &op.request {
            Some(PbTxnOpRequest::RequestPut(put)) => {
                if !puts.insert(put.key.as_slice()) {
                    return Err(Refusal::DuplicateKey);
                }
            }
            Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
                deletes.push(KeyRange::from_wire(delete.key.clone(), delete.range_end.clone()));
            }
            Some(PbTxnOpRequest::RequestRange(_) | PbTxnOpRequest::RequestTxn(_)) | None => {}
        }
    }
    let clash = |key: &&[u8]| deletes.iter().any(|range| range.contains(key));
    if puts.iter().any(clash) { Err(Refusal::DuplicateKey) } else { Ok(()) }
}
