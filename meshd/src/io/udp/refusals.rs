//! Destinations whose way out takes no trains: its link cannot fill in checksums.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Destinations remembered. Behind one such link there can be more: then the oldest is tried again, which
/// costs one refused call.
const REFUSALS_MAX: usize = 16;
/// Trains that go out one by one until the destination is tried again: its route may have changed. At full
/// speed that is some seconds, and one refused call in so many costs nothing.
const TRAINS_UNTIL_RETRY: u32 = 10_000;

/// A small, bounded memory; one per group of sockets.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Entries in use: the hot path takes no lock while it is zero.
    count: AtomicUsize,
    total: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    slots: [Option<Entry>; REFUSALS_MAX],
    oldest: usize,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    to: IpAddr,
    trains_left: u32,
}

impl Refusals {
    /// Remembers that the way to `to` refused a train.
    #[cold]
    pub(super) fn add(&self, to: IpAddr) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Entries { slots, oldest } = &mut *entries;
        let entry = Some(Entry { to, trains_left: TRAINS_UNTIL_RETRY });
        if let Some(known) = slots.iter_mut().find(|slot| slot.is_some_and(|slot| slot.to == to)) {
            *known = entry;
        } else if let Some(slot) = slots.get_mut(*oldest) {
            *slot = entry;
            *oldest = (*oldest + 1) % REFUSALS_MAX;
        }
        self.count.store(slots.iter().flatten().count(), Ordering::Relaxed);
        self.total.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%to, "the way out takes no trains: datagrams go one by one");
    }

    /// Whether a train to `to` goes out one by one now. Counts it.
    pub(super) fn hold(&self, to: IpAddr) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut entries.slots;
        let Some(slot) = slots.iter_mut().find(|slot| slot.is_some_and(|slot| slot.to == to)) else {
            return false;
        };
        *slot = slot.and_then(|entry| {
            let trains_left = entry.trains_left.checked_sub(1)?;
            Some(Entry { trains_left, ..entry })
        });
        let holds = slot.is_some();
        self.count.store(slots.iter().flatten().count(), Ordering::Relaxed);
        holds
    }

    /// Refused trains so far.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn one_refusal_concerns_one_destination() {
        let refusals = Refusals::default();
        assert!(!refusals.hold(destination(1)));
        refusals.add(destination(1));
        refusals.add(destination(1));
        assert!(refusals.hold(destination(1)));
        assert!(!refusals.hold(destination(2)));
        assert_eq!(refusals.count.load(Ordering::Relaxed), 1);
        assert_eq!(refusals.total(), 2);
    }

    #[test]
    fn a_destination_is_tried_again_after_a_while() {
        let refusals = Refusals::default();
        refusals.add(destination(1));
        assert!((0..TRAINS_UNTIL_RETRY).all(|_| refusals.hold(destination(1))));
        assert!(!refusals.hold(destination(1)));
        assert_eq!(refusals.count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_oldest_gives_way() {
        let refusals = Refusals::default();
        for number in 0..=REFUSALS_MAX as u8 {
            refusals.add(destination(number));
        }
        assert!(!refusals.hold(destination(0)));
        assert!((1..=REFUSALS_MAX as u8).all(|number| refusals.hold(destination(number))));
    }
}
