//! The virtual clock, and what happens when.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::super::super::{Epoch, Pair};
use super::faults::Fault;
use super::service::{Answer, Call, LEAVES_MAX};

/// Virtual time in milliseconds.
pub(super) type Ms = u64;

pub(super) const SECOND: Ms = 1_000;
pub(super) const MINUTE: Ms = 60 * SECOND;
pub(super) const HOUR: Ms = 60 * MINUTE;

/// One end of a link: a node, and the place of the link among those of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) node: u16,
    pub(super) link: u8,
}

/// By which organisations the proofs of the key in use, the next one and the one before are cosigned: a bit for each.
pub(super) type Cosigners = [u8; 3];

/// Something that happens. What goes to the other end of a link names the end where it arrives, and the tunnel as the
/// sender names it, from its life.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// A deadline of the machine.
    Wake {
        node: u16,
    },
    /// The oldest write is on disk, unless the node has started again since.
    Written {
        node: u16,
        life: u8,
    },
    /// A node starts that was down.
    Start {
        node: u16,
    },
    /// A node has started some time ago: who has sessions with an earlier life gives them up.
    Noticed {
        node: u16,
    },
    /// A record arrives at a registry.
    Put {
        registry: u8,
        node: u16,
        index: u32,
        cosigners: Cosigners,
    },
    /// A record arrives at a peer of who has signed it.
    Record {
        to: End,
        index: u32,
        cosigners: Cosigners,
    },
    /// Registries are compared with what the node has and has heard.
    Reconcile {
        node: u16,
    },
    /// The peer at the other end is told again what it has not heard.
    Greet {
        from: End,
    },
    /// A receipt was lost on the control channel; it is sent again.
    Receipt {
        from: End,
        epoch: Epoch,
    },
    Installed {
        to: End,
        epoch: Epoch,
    },
    Initiation {
        to: End,
        pair: Pair,
        life: u8,
    },
    Response {
        to: End,
        pair: Pair,
        to_life: u8,
        life: u8,
    },
    Data {
        to: End,
        pair: Pair,
        to_life: u8,
        life: u8,
    },
    /// Calls that were not answered are repeated.
    Call {
        from: End,
    },
    /// A tunnel may end because of its date.
    Date {
        at: End,
    },
    /// Packets in both ways on all links of a node that rotates.
    Traffic {
        node: u16,
    },
    /// A packet was lost; the next keepalive.
    Keepalive {
        from: End,
    },
    /// The link was closed so long before that the peer counts as gone, unless it was opened since.
    Silent {
        at: End,
        since: Ms,
    },
    /// Records have found no way for longer than is promised to cost nothing, unless they have since.
    Unheard {
        at: End,
        since: Ms,
    },
    /// Nothing has hindered a link for long enough to be well again, unless something has since.
    Check {
        at: End,
        stamp: u32,
    },
    /// A node asks its steward for leaves.
    Ask {
        node: u16,
    },
    /// What a node asks for arrives at its steward.
    Asked(Call),
    /// A steward appends what it has gathered.
    Batch {
        org: u8,
    },
    /// An answer of the steward arrives.
    Answered {
        node: u16,
        life: u8,
        answers: [Option<Answer>; LEAVES_MAX],
    },
    /// A node asks whether the organisations that are missing have cosigned a proof.
    Cosign {
        node: u16,
        epoch: Epoch,
    },
    Fault(Fault),
    Over(Fault),
}

struct Entry {
    at: Ms,
    number: u64,
    event: Event,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// What will happen, the earliest first; at the same time in the order in which it was said.
pub(super) struct Queue {
    pub(super) now: Ms,
    pub(super) happened: u64,
    entries: BinaryHeap<Reverse<Entry>>,
    number: u64,
}

impl Queue {
    pub(super) fn new(now: Ms) -> Self {
        Self { now, happened: 0, entries: BinaryHeap::new(), number: 0 }
    }

    pub(super) fn at(&mut self, at: Ms, event: Event) {
        self.number += 1;
        self.entries.push(Reverse(Entry { at: at.max(self.now), number: self.number, event }));
    }

    pub(super) fn after(&mut self, wait: Ms, event: Event) {
        self.at(self.now + wait, event);
    }

    /// The next event before a time, which is now from then on.
    pub(super) fn next_before(&mut self, end: Ms) -> Option<Event> {
        let is_due = self.entries.peek().is_some_and(|Reverse(first)| first.at < end);
        let Some(Reverse(Entry { at, event, .. })) = is_due.then(|| self.entries.pop()).flatten() else {
            self.now = end;
            return None;
        };
        self.now = at;
        self.happened += 1;
        Some(event)
    }
}
