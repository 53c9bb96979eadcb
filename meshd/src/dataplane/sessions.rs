//! Which session and peer a receiver index names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use meshd_tunnel::RxSession;

use super::peer::Peer;

/// A session that data may arrive on, and whose it is.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) session: Arc<RxSession>,
    pub(super) peer: Arc<Peer>,
    retired: AtomicBool,
}

impl Receiving {
    /// Whether its index was taken back; a thread that still holds it must let go.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// All sessions that data may arrive on. The engine's thread writes, data threads look up what they have not
/// just seen.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_index: RwLock<HashMap<u32, Arc<Receiving>>>,
}

impl Sessions {
    pub(super) fn find(&self, index: u32) -> Option<Arc<Receiving>> {
        self.by_index.read().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()
    }

    pub(super) fn insert(&self, session: Arc<RxSession>, peer: Arc<Peer>) {
        let index = session.index();
        let receiving = Arc::new(Receiving { session, peer, retired: AtomicBool::new(false) });
        let mut by_index = self.by_index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(replaced) = by_index.insert(index, receiving) {
            replaced.retired.store(true, Ordering::Release);
        }
    }

    pub(super) fn remove(&self, index: u32) {
        let removed = self.by_index.write().unwrap_or_else(PoisonError::into_inner).remove(&index);
        if let Some(removed) = removed {
            removed.retired.store(true, Ordering::Release);
        }
    }
}
