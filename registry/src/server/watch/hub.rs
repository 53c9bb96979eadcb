//! Who watches what; lives in the state, so that a watch begins exactly where its backlog ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use crate::range::KeyRange;
use crate::server::limits::{WATCH_BYTES_WAITING_MAX, WATCH_CHANGES_WAITING_MAX};
use crate::server::lock;
use crate::server::refusal::Refusal;
use crate::server::state::{Change, State};

/// All running watches.
#[derive(Debug, Default)]
pub(in crate::server) struct Hub {
    watchers: BTreeMap<u64, Watcher>,
    last_id: u64,
}

#[derive(Debug)]
struct Watcher {
    range: KeyRange,
    queue: mpsc::Sender<Arc<Change>>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// One watch: what had happened when it began, and what happens since.
pub(in crate::server) struct Subscription {
    id: u64,
    state: Arc<Mutex<State>>,
    /// Revision at which it began.
    pub(in crate::server) revision: i64,
    pub(in crate::server) backlog: Vec<Arc<Change>>,
    /// Ends when the watcher was cut for being slow.
    pub(in crate::server) queue: mpsc::Receiver<Arc<Change>>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Hub {
    /// Hands a change to its watchers; one whose queue is full is cut and finds out when it has drained it.
    pub(in crate::server) fn publish(&mut self, change: &Arc<Change>) {
        self.watchers.retain(|_, watcher| {
            if !change.events.iter().any(|event| watcher.range.contains(&event.key)) {
                return true;
            }
            let bytes = change.bytes();
            let waiting = watcher.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
            // A single change larger than the bound passes when nothing else waits.
            let fits = waiting == 0 || waiting.saturating_add(bytes) <= WATCH_BYTES_WAITING_MAX;
            fits && watcher.queue.try_send(Arc::clone(change)).is_ok()
        });
    }
}

impl Subscription {
    /// Begins a watch with the changes of revision `start` (zero: of the next one).
    ///
    /// If history that far back is not kept, the error is the revision up to which it is compacted.
    pub(in crate::server) fn begin(
        state: &Arc<Mutex<State>>,
        range: KeyRange,
        start: i64,
    ) -> Result<Self, CompactedTo> {
        let mut locked = lock(state);
        if start > 0 && start < locked.compacted {
            return Err(CompactedTo(locked.compacted));
        }
        let backlog = if start > 0 {
            // The log is in order of revision.
            let first = locked.log.partition_point(|change| change.rev < start);
            let matching = |change: &&Arc<Change>| change.events.iter().any(|e| range.contains(&e.key));
            locked.log.range(first..).filter(matching).cloned().collect()
        } else {
            Vec::new()
        };
        let (sender, queue) = mpsc::channel(WATCH_CHANGES_WAITING_MAX);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let revision = locked.revision;
        let hub = &mut locked.hub;
        hub.last_id += 1;
        let id = hub.last_id;
        let watcher = Watcher { range, queue: sender, waiting_bytes: Arc::clone(&waiting_bytes) };
        hub.watchers.insert(id, watcher);
        drop(locked);
        Ok(Self { id, state: Arc::clone(state), revision, backlog, queue, waiting_bytes })
    }

    /// Declares a change from the queue as passed on.
    pub(in crate::server) fn passed_on(&self, change: &Change) {
        self.waiting_bytes.fetch_sub(change.bytes(), Ordering::Relaxed);
    }

    /// The current revision if nothing waits in the queue, so that everything up to it was passed on.
    pub(in crate::server) fn progress(&self) -> Option<i64> {
        let state = lock(&self.state);
        (self.queue.is_empty() && !self.queue.is_closed()).then_some(state.revision)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&self.state).hub.watchers.remove(&self.id);
    }
}

/// History before this revision is not kept.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct CompactedTo(pub(in crate::server) i64);

impl From<CompactedTo> for Refusal {
    fn from(_: CompactedTo) -> Self {
        Self::Compacted
    }
}
