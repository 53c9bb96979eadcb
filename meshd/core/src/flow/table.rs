//! Which flows the rules allowed, shared by the threads of a network.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::flow::ways::{Ways, Words};
use crate::flow::{Flow, Verdict};

/// Locks, so that threads seldom meet at one.
const STRIPES: usize = 64;
/// Flows of one stripe; 64 Ki together, four times what one thread knows, because an entry that is forgotten costs a
/// quiet connection its answers. 4 MiB, mapped as they are used.
const STRIPE_LEN: usize = 1024;

/// Flows that the rules allowed to begin, so that their answers are allowed as well.
#[derive(Debug)]
pub struct FlowTable {
    stripes: Box<[Mutex<Ways>]>,
    seed: u64,
}

impl FlowTable {
    /// An empty table; `seed` is secret, so that no peer can aim at the entries of another.
    pub fn new(seed: u64) -> Self {
        let stripes = (0..STRIPES).map(|_| Mutex::new(Ways::new(STRIPE_LEN, !seed))).collect();
        Self { stripes, seed }
    }

    /// Whether the rules of `generation`, which `decide` speaks for, let a flow begin; then its answers pass as well.
    /// For the few packets that meet no [`FlowCache`](crate::flow::FlowCache).
    pub fn begin(&self, flow: &Flow, generation: u64, decide: impl Fn(&Flow) -> Verdict) -> Verdict {
        let verdict = decide(flow);
        if verdict == Verdict::Allow {
            self.remember(flow, generation);
        }
        verdict
    }

    /// Notes that the rules of `generation` allowed a flow to begin.
    pub(super) fn remember(&self, flow: &Flow, generation: u64) {
        let key = Words::of_flow(flow, 0);
        self.stripe(&key).insert(key, generation, |_| false);
    }

    /// Whether a flow answers one that was allowed to begin; asks the rules again if they changed since.
    pub(super) fn allows_reply(
        &self,
        reply: &Flow,
        generation: u64,
        decide: &impl Fn(&Flow) -> Verdict,
    ) -> bool {
        let begun = reply.reversed();
        let key = Words::of_flow(&begun, 0);
        // The rules are asked with no lock held.
        let allowed_under = self.stripe(&key).find(&key).copied();
        match allowed_under {
            None => false,
            Some(allowed_under) if allowed_under == generation => true,
            Some(_) if decide(&begun) == Verdict::Allow => {
                self.remember(&begun, generation);
                true
            }
            Some(_) => {
                self.stripe(&key).remove(&key);
                false
            }
        }
    }

    fn stripe(&self, key: &Words) -> MutexGuard<'_, Ways> {
        let stripe = &self.stripes[key.place(self.seed, STRIPES)];
        // A panic cannot leave an entry half written that matters: a wrong key is found by nobody.
        stripe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
