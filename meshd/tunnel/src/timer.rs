//! Who must be looked at when: one entry for each tunnel that waits for anything.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::TunnelId;

#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Duration, TunnelId)>);

impl Timers {
    /// Moves a tunnel from one time to another; `None` is no time.
    pub(crate) fn move_to(&mut self, tunnel: TunnelId, from: Option<Duration>, to: Option<Duration>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.0.remove(&(from, tunnel));
        }
        if let Some(to) = to {
            self.0.insert((to, tunnel));
        }
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out the first tunnel whose time has come.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<TunnelId> {
        let (at, _) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first().map(|(_, tunnel)| tunnel)
    }
}

/// Spaces out the initiations of this node: each slot is given once.
#[derive(Debug)]
pub(crate) struct Pacer {
    interval: Duration,
    next: Duration,
}

impl Pacer {
    pub(crate) fn new(per_s_max: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_s_max.max(1), next: Duration::ZERO }
    }

    /// The next free slot, from now on the caller's.
    pub(crate) fn slot(&mut self, now: Duration) -> Duration {
        let slot = self.next.max(now);
        self.next = slot.saturating_add(self.interval);
        slot
    }

    /// Takes the slot that is free now, if nobody waits for one.
    pub(crate) fn take_free_slot(&mut self, now: Duration) -> bool {
        let is_free = self.next <= now;
        if is_free {
            self.slot(now);
        }
        is_free
    }
}
