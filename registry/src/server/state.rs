//! The registry in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::proto::PbKeyValue;

use crate::range::{KeyRange, RangeEnd};
use crate::server::authorise::ClientKey;
use crate::server::journal::Loaded;
use crate::server::refusal::Refusal;
use crate::server::watch::hub::Hub;

/// There are no elections here; etcd's clients expect a term above zero.
pub(super) const TERM: u64 = 1;
/// Rough cost of one event besides its bytes, so that tiny events count too.
const EVENT_OVERHEAD_BYTES: usize = 128;

/// A key, shared between the tables.
pub(super) type Key = Arc<[u8]>;

/// One version of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) value: Vec<u8>,
    pub(super) created: i64,
    pub(super) modified: i64,
    pub(super) version: i64,
    pub(super) lease: i64,
    pub(super) owner: ClientKey,
}

/// What a change did to one key.
#[derive(Clone, Debug)]
pub(super) struct KeyEvent {
    pub(super) key: Key,
    pub(super) new: Option<Arc<Record>>,
    pub(super) prev: Option<Arc<Record>>,
}

/// Everything that happened at one revision.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) rev: i64,
    pub(super) events: Vec<KeyEvent>,
}

/// What of a lease is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseTerms {
    pub(super) ttl_s: u64,
    pub(super) owner: ClientKey,
}

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) terms: LeaseTerms,
    pub(super) keys: BTreeSet<Key>,
    pub(super) expires: Instant,
    /// The writer has begun to delete it: too late to renew.
    pub(super) ending: bool,
}

/// What one client keeps in the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) keys: usize,
    pub(super) bytes: usize,
}

/// Changes ready to become durable and then visible.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Arc<Change>>,
    /// New leases and, as `None`, ended ones.
    pub(super) leases: BTreeMap<i64, Option<LeaseTerms>>,
    /// Changes before this revision are forgotten.
    pub(super) compact_to: Option<i64>,
}

pub(super) struct State {
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) kv: BTreeMap<Key, Arc<Record>>,
    pub(super) live_bytes: usize,
    pub(super) log: VecDeque<Arc<Change>>,
    pub(super) log_events: usize,
    pub(super) log_bytes: usize,
    pub(super) leases: BTreeMap<i64, Lease>,
    pub(super) usage: BTreeMap<ClientKey, Usage>,
    pub(super) hub: Hub,
}

/// Result of a range read.
pub(super) struct Rows {
    pub(super) rows: Vec<(Key, Arc<Record>)>,
    pub(super) more: bool,
    pub(super) count: usize,
}

impl State {
    /// The state as of a journal; leases get their whole time again, since nobody could renew them meanwhile.
    pub(super) fn new(loaded: Loaded) -> Self {
        let Loaded { history: _, revision, compacted, kv, log, leases } = loaded;
        let mut state = Self {
            revision,
            compacted,
            kv: BTreeMap::new(),
            live_bytes: 0,
            log: VecDeque::new(),
            log_events: 0,
            log_bytes: 0,
            leases: BTreeMap::new(),
            usage: BTreeMap::new(),
            hub: Hub::default(),
        };
        state.set_leases(leases);
        for (key, record) in kv {
            state.replace(&key, Some(&record));
        }
        for change in log {
            state.remember(Arc::new(change));
        }
        state
    }

    /// Makes a durable batch visible and tells the watchers.
    pub(super) fn apply(&mut self, batch: &Batch) {
        let Batch { changes, leases, compact_to } = batch;
        for (id, terms) in leases {
            if let Some(terms) = terms {
                self.leases.insert(*id, Lease::new(*terms));
            }
        }
        for change in changes {
            self.revision = change.rev;
            for event in &change.events {
                self.replace(&event.key, event.new.as_ref());
            }
            self.remember(Arc::clone(change));
            self.hub.publish(change);
        }
        for (id, terms) in leases {
            if terms.is_none() {
                self.leases.remove(id);
            }
        }
        if let Some(rev) = compact_to {
            self.forget_before(*rev);
        }
    }

    /// Takes over the leases of a journal, keeping the clocks of those already known.
    pub(super) fn set_leases(&mut self, terms: BTreeMap<i64, LeaseTerms>) {
        self.leases.retain(|id, _| terms.contains_key(id));
        for (id, terms) in terms {
            self.leases.entry(id).or_insert_with(|| Lease::new(terms));
        }
    }

    /// Extends a lease by its whole time; `None` if there is none of this name or it is ending.
    pub(super) fn renew(&mut self, id: i64, client: &ClientKey) -> Result<Option<u64>, Refusal> {
        let now = Instant::now();
        match self.leases.get_mut(&id) {
            Some(lease) if !lease.ending => {
                lease.terms.check_owner(client)?;
                lease.expires = lease.terms.expiry(now);
                Ok(Some(lease.terms.ttl_s))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Keys of a range as of `revision` (zero: now), at most `limit` of them (zero: all).
    pub(super) fn range(&self, range: &KeyRange, limit: usize, revision: i64) -> Result<Rows, Refusal> {
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        if revision > 0 && revision < self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision <= 0 || revision == self.revision {
            return Ok(take(self.live(range), limit));
        }
        let past = self.past(range, revision);
        if past.is_empty() {
            return Ok(take(self.live(range), limit));
        }
        let mut view: BTreeMap<&Key, &Arc<Record>> = self.live(range).collect();
        for (key, record) in &past {
            match record {
                Some(record) => view.insert(key, record),
                None => view.remove(key),
            };
        }
        Ok(take(view.into_iter(), limit))
    }

    /// The live keys of a range in order.
    pub(super) fn live<'a>(
        &'a self,
        range: &'a KeyRange,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Record>)> + use<'a> {
        let start: Bound<&[u8]> = Bound::Included(range.start());
        let end: Bound<&[u8]> = match range.end() {
            RangeEnd::Single => Bound::Included(range.start()),
            // An end before the start is an empty range, which a B-tree would not accept.
            RangeEnd::Before(end) => Bound::Excluded(end.as_slice().max(range.start())),
            RangeEnd::Open => Bound::Unbounded,
        };
        let empty = matches!(range.end(), RangeEnd::Before(end) if end.as_slice() <= range.start());
        let bounds = if empty { (Bound::Included(&[][..]), Bound::Included(&[][..])) } else { (start, end) };
        self.kv.range::<[u8], _>(bounds).filter(move |_| !empty)
    }

    /// What the keys of a range changed since `revision` were then.
    fn past(&self, range: &KeyRange, revision: i64) -> BTreeMap<Key, Option<Arc<Record>>> {
        let mut past = BTreeMap::new();
        for change in self.log.iter().rev().take_while(|change| change.rev > revision) {
            for event in change.events.iter().filter(|event| range.contains(&event.key)) {
                past.insert(Arc::clone(&event.key), event.prev.clone());
            }
        }
        past
    }

    fn replace(&mut self, key: &Key, new: Option<&Arc<Record>>) {
        let prev = match new {
            Some(record) => self.kv.insert(Arc::clone(key), Arc::clone(record)),
            None => self.kv.remove(key),
        };
        if let Some(prev) = prev {
            let bytes = size(key, &prev);
            self.live_bytes = self.live_bytes.saturating_sub(bytes);
            if let Some(usage) = self.usage.get_mut(&prev.owner) {
                usage.keys = usage.keys.saturating_sub(1);
                usage.bytes = usage.bytes.saturating_sub(bytes);
                if usage.keys == 0 {
                    self.usage.remove(&prev.owner);
                }
            }
            if let Some(lease) = self.leases.get_mut(&prev.lease) {
                lease.keys.remove(key);
            }
        }
        if let Some(record) = new {
            let bytes = size(key, record);
            self.live_bytes = self.live_bytes.saturating_add(bytes);
            let usage = self.usage.entry(record.owner).or_default();
            usage.keys = usage.keys.saturating_add(1);
            usage.bytes = usage.bytes.saturating_add(bytes);
            if let Some(lease) = self.leases.get_mut(&record.lease) {
                lease.keys.insert(Arc::clone(key));
            }
        }
    }

    fn remember(&mut self, change: Arc<Change>) {
        self.log_events = self.log_events.saturating_add(change.events.len());
        self.log_bytes = self.log_bytes.saturating_add(change.bytes());
        self.log.push_back(change);
    }

    fn forget_before(&mut self, rev: i64) {
        self.compacted = self.compacted.max(rev);
        while self.log.front().is_some_and(|change| change.rev < rev) {
            if let Some(change) = self.log.pop_front() {
                self.log_events = self.log_events.saturating_sub(change.events.len());
                self.log_bytes = self.log_bytes.saturating_sub(change.bytes());
            }
        }
    }
}

impl Change {
    /// Its size in memory, for bounds; values shared with the live keys count as well.
    pub(super) fn bytes(&self) -> usize {
        self.events.iter().map(KeyEvent::bytes).fold(0, usize::saturating_add)
    }
}

impl KeyEvent {
    pub(super) fn bytes(&self) -> usize {
        let value = |record: &Option<Arc<Record>>| record.as_ref().map_or(0, |record| record.value.len());
        EVENT_OVERHEAD_BYTES + self.key.len() + value(&self.new) + value(&self.prev)
    }
}

impl Lease {
    fn new(terms: LeaseTerms) -> Self {
        Self { terms, keys: BTreeSet::new(), expires: terms.expiry(Instant::now()), ending: false }
    }
}

impl LeaseTerms {
    fn expiry(&self, now: Instant) -> Instant {
        now + Duration::from_secs(self.ttl_s)
    }

    /// A lease of a client with a key serves that client only.
    pub(super) fn check_owner(&self, client: &ClientKey) -> Result<(), Refusal> {
        if self.owner == ClientKey::NONE || self.owner == *client {
            Ok(())
        } else {
            Err(Refusal::LeaseOfAnother)
        }
    }
}

impl Record {
    pub(super) fn to_wire(&self, key: &[u8]) -> PbKeyValue {
        PbKeyValue {
            key: key.to_vec(),
            create_revision: self.created,
            mod_revision: self.modified,
            version: self.version,
            value: self.value.clone(),
            lease: self.lease,
        }
    }

    pub(super) fn from_wire(wire: PbKeyValue, owner: ClientKey) -> (Key, Self) {
        let PbKeyValue { key, create_revision, mod_revision, version, value, lease } = wire;
        let record = Self { value, created: create_revision, modified: mod_revision, version, lease, owner };
        (key.into(), record)
    }
}

/// What one key costs its owner.
pub(super) fn size(key: &[u8], record: &Record) -> usize {
    key.len().saturating_add(record.value.len())
}

/// The first `limit` rows (zero: all) and the count of all.
pub(super) fn take<'a>(rows: impl Iterator<Item = (&'a Key, &'a Arc<Record>)>, limit: usize) -> Rows {
    let mut taken = Vec::new();
    let mut count = 0usize;
    for (key, record) in rows {
        count = count.saturating_add(1);
        if limit == 0 || taken.len() < limit {
            taken.push((Arc::clone(key), Arc::clone(record)));
        }
    }
    Rows { more: taken.len() < count, rows: taken, count }
}
