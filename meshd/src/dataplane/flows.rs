//! The flow filter in force, and what the threads know of its verdicts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use meshd_core::flow::{AllowAll, Flow, FlowCache, FlowFilter, FlowTable, Verdict};

use super::random_u64;

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
            table: Arc::new(FlowTable::new(random_u64())),
        }
    }
}

impl Rules {
    /// Puts another filter in force; flows that are running are decided again.
    pub(super) fn replace(&self, filter: Arc<dyn FlowFilter>) {
        self.filter.store(Arc::new(Filter(filter)));
        self.generation.fetch_add(1, Ordering::AcqRel);
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
        Self { rules, known: FlowCache::new(random_u64(), Arc::clone(&rules.table)) }
    }

    /// Whether packets of the flow pass.
    pub(super) fn allow(&mut self, flow: &Flow, now: Duration) -> bool {
        // Before the filter: a verdict of a newer filter under an older number is only asked for again.
        let generation = self.rules.generation();
        let filter = self.rules.filter.load();
        self.known.verdict(flow, now, generation, &*filter.0) == Verdict::Allow
    }
}
