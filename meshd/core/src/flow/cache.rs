//! The verdicts one thread remembers.

use std::sync::Arc;
use std::time::Duration;

use crate::flow::ways::{Ways, Words};
use crate::flow::{Flow, FlowTable, Verdict};
use crate::ip::Fragment;

/// Flows that one thread remembers: 1 MiB, mapped as they are used.
const FLOWS: usize = 16 * 1024;
/// Packets in pieces that one thread remembers: at 1 Gbit/s of 8 KiB datagrams the last 60 ms.
const FRAGMENTED: usize = 1024;
/// How long the later pieces of a packet pass on the verdict of the first.
const FRAGMENTS_TTL: Duration = Duration::from_secs(1);

const ALLOW: u64 = 1;
const DENY: u64 = 0;

/// Verdicts by flow and generation of the policy, for one thread.
///
/// A new generation makes every entry unknown, established flows included. Memory is fixed.
#[derive(Debug)]
pub struct FlowCache {
    /// The last flow that passed, and the generation it passed under.
    last_allowed: Option<(Flow, u64)>,
    flows: Ways,
    fragmented: Ways,
    table: Arc<FlowTable>,
}

impl FlowCache {
    /// An empty cache on the network's `table`; `seed` is secret.
    pub fn new(seed: u64, table: Arc<FlowTable>) -> Self {
        Self {
            last_allowed: None,
            flows: Ways::new(FLOWS, seed),
            fragmented: Ways::new(FRAGMENTED, seed),
            table,
        }
    }

    /// The verdict on a packet of `flow` under the rules of `generation`, which `decide` speaks for.
    ///
    /// It may be asked about the reverse of `flow` too: an answer passes if what it answers may begin.
    #[inline]
    pub fn verdict(
        &mut self,
        flow: &Flow,
        now: Duration,
        generation: u64,
        decide: impl Fn(&Flow) -> Verdict,
    ) -> Verdict {
        match flow.fragment {
            None => self.whole(flow, generation, &decide),
            Some(fragment) => self.piece(flow, fragment, now, generation, &decide),
        }
    }

    #[inline]
    fn whole(&mut self, flow: &Flow, generation: u64, decide: &impl Fn(&Flow) -> Verdict) -> Verdict {
        match &self.last_allowed {
            Some((last, under)) if last == flow && *under == generation => Verdict::Allow,
            Some(_) | None => self.look_up(flow, generation, decide),
        }
    }

    #[inline(never)]
    fn look_up(&mut self, flow: &Flow, generation: u64, decide: &impl Fn(&Flow) -> Verdict) -> Verdict {
        let key = Words::of_flow(flow, generation);
        let known = self.flows.find(&key).copied();
        if known == Some(ALLOW) {
            self.last_allowed = Some((*flow, generation));
            return Verdict::Allow;
        }
        let by_rule = match known {
            // What the rules deny stays denied, but it may have become an answer since.
            Some(_) => false,
            None => decide(flow) == Verdict::Allow,
        };
        if by_rule {
            self.table.remember(flow, generation);
        }
        if by_rule || self.table.allows_reply(flow, generation, decide) {
            self.last_allowed = Some((*flow, generation));
            self.flows.insert(key, ALLOW, is_allowed);
            return Verdict::Allow;
        }
        if known.is_none() {
            self.flows.insert(key, DENY, is_allowed);
        }
        Verdict::Deny
    }

    /// Only the first piece has ports; its verdict is that of the others for a while.
    fn piece(
        &mut self,
        flow: &Flow,
        fragment: Fragment,
        now: Duration,
        generation: u64,
        decide: &impl Fn(&Flow) -> Verdict,
    ) -> Verdict {
        let key = Words::of_pieces(flow, fragment.id, generation);
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        if fragment.first {
            let verdict = self.whole(flow, generation, decide);
            let until_ms = match verdict {
                Verdict::Allow => now_ms.saturating_add(FRAGMENTS_TTL.as_millis() as u64),
                Verdict::Deny => 0,
            };
            self.fragmented.insert(key, until_ms, |_| false);
            return verdict;
        }
        match self.fragmented.find(&key) {
            Some(until_ms) if now_ms < *until_ms => Verdict::Allow,
            Some(_) | None => Verdict::Deny,
        }
    }
}

/// Refusals never push out permissions: a flood of refused flows costs nobody an entry.
fn is_allowed(verdict: u64) -> bool {
    verdict == ALLOW
}
