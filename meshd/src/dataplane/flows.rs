//! Who decides which flows pass: the filter in force, and what the threads know of its verdicts.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use meshd_core::flow::{Flow, FlowCache, FlowTable, Verdict};
use meshd_wire::{NodeId, OrgId};

use super::peer::Peer;
use crate::random;

/// Who is at the other end of a tunnel, in the words that rules are written in. Its addresses need no word: that
/// they are the peer's own is checked before a filter is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerIdentity {
    /// The node, or what stands for a plain WireGuard peer.
    pub node: NodeId,
    /// The organisation that answers for it.
    pub org: OrgId,
}

/// Compiled rules. Asked on the first packet of a flow only, never on each.
pub trait FlowFilter: Send + Sync + Debug {
    /// Whether the rules let a flow with this peer begin.
    fn decide(&self, flow: &Flow, peer: &PeerIdentity) -> Verdict;
}

/// The filter of a network without rules: every member may reach every other.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl FlowFilter for AllowAll {
    fn decide(&self, _: &Flow, _: &PeerIdentity) -> Verdict {
        Verdict::Allow
    }
}

/// The filter in force, and the flows it allowed: what left through one thread is answered through any other.
#[derive(Debug)]
pub(super) struct Rules {
    filter: ArcSwap<Filter>,
    /// Counted up after every change of the filter; a verdict is good for one generation.
    generation: AtomicU64,
    table: Arc<FlowTable>,
}

#[derive(Debug)]
struct Filter(Arc<dyn FlowFilter>);

impl Default for Rules {
    fn default() -> Self {
        Self {
            filter: ArcSwap::from_pointee(Filter(Arc::new(AllowAll))),
            generation: AtomicU64::new(0),
            table: Arc::new(FlowTable::new(random::number())),
        }
    }
}

impl Rules {
    /// Puts another filter in force; flows that are running are decided again.
    pub(super) fn replace(&self, filter: Arc<dyn FlowFilter>) {
        self.filter.store(Arc::new(Filter(filter)));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a flow with this peer may begin, asked for a packet that no data thread sees.
    pub(super) fn allow(&self, flow: &Flow, peer: &Peer) -> bool {
        let generation = self.generation();
        let decide = |flow: &Flow| self.filter.load().0.decide(flow, &peer.identity);
        self.table.begin(flow, generation, decide) == Verdict::Allow
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// One thread's memory of verdicts.
#[derive(Debug)]
pub(super) struct Verdicts<'a> {
    rules: &'a Rules,
    known: FlowCache,
}

impl<'a> Verdicts<'a> {
    pub(super) fn new(rules: &'a Rules) -> Self {
        Self { rules, known: FlowCache::new(random::number(), Arc::clone(&rules.table)) }
    }

    /// Whether packets of the flow with this peer pass.
    pub(super) fn allow(&mut self, flow: &Flow, peer: &Peer, now: Duration) -> bool {
        // Before the filter: a verdict of a newer filter under an older number is only asked for again.
        let generation = self.rules.generation();
        let decide = |flow: &Flow| self.rules.filter.load().0.decide(flow, &peer.identity);
        self.known.verdict(flow, now, generation, decide) == Verdict::Allow
    }
}
