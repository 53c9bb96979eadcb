//! What is known of the claims on a pool.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Holder;
use super::layout::Span;

/// How long the registry's word alone counts. Every node compares its roster with all of the registry much more often,
/// so a claim that is not in the roster by then is none.
const HEARD_KEPT: Duration = Duration::from_secs(600);

/// A claim that stands at an address.
#[derive(Debug, Clone)]
pub(super) struct Seen<H> {
    pub(super) holder: Holder<H>,
    pub(super) rests_until: Option<Duration>,
    /// Its last address.
    pub(super) last: u128,
    /// When the registry alone has said so.
    heard_at: Option<Duration>,
}

impl<H> Seen<H> {
    fn stands(&self, now: Duration) -> bool {
        self.rests_until.is_none_or(|until| until >= now)
    }
}

/// Claims on single addresses and on blocks, by their first address.
#[derive(Debug, Clone)]
pub(super) struct Known<H> {
    addresses: BTreeMap<u128, Seen<H>>,
    blocks: BTreeMap<u128, Seen<H>>,
    /// Addresses of the largest block there was.
    widest: u128,
}

impl<H> Default for Known<H> {
    fn default() -> Self {
        Self { addresses: BTreeMap::new(), blocks: BTreeMap::new(), widest: 1 }
    }
}

impl<H> Known<H> {
    /// Forgets what the roster has said, which is about to be said anew, and what the registry said long ago.
    pub(super) fn begin(&mut self, now: Duration) {
        let stays = |seen: &Seen<H>| seen.heard_at.is_some_and(|at| at + HEARD_KEPT > now);
        self.addresses.retain(|_, seen| stays(seen));
        self.blocks.retain(|_, seen| stays(seen));
    }

    /// Notes a claim. What the roster says replaces what the registry said, and the other way round.
    pub(super) fn note(
        &mut self,
        span: Span,
        holder: Holder<H>,
        rests_until: Option<Duration>,
        heard_at: Option<Duration>,
    ) {
        self.widest = self.widest.max(span.len());
        let claims = if span.len() == 1 { &mut self.addresses } else { &mut self.blocks };
        // Of two claims on one address the roster tells both while one of them rests; the live one counts.
        let is_live = |seen: &Seen<H>| seen.rests_until.is_none();
        if rests_until.is_some() && heard_at.is_none() && claims.get(&span.first).is_some_and(is_live) {
            return;
        }
        claims.insert(span.first, Seen { holder, rests_until, last: span.last, heard_at });
    }

    /// The claim that stands at an address: on itself, else on a block around it.
    pub(super) fn on(&self, offset: u128, now: Duration) -> Option<&Seen<H>> {
        self.where_at(offset, |seen| seen.stands(now))
    }

    /// The same of others alone: a claim of this node on the address itself does not hide whose block it lies in.
    pub(super) fn of_others(&self, offset: u128, now: Duration) -> Option<&Seen<H>> {
        self.where_at(offset, |seen| seen.stands(now) && !matches!(seen.holder, Holder::This))
    }

    fn where_at(&self, offset: u128, is_meant: impl Fn(&Seen<H>) -> bool) -> Option<&Seen<H>> {
        let single = self.addresses.get(&offset).filter(|seen| is_meant(seen));
        single.or_else(|| self.block_where(&Span { first: offset, last: offset }, is_meant))
    }

    /// Where a block ends that shares an address with a span.
    pub(super) fn last_of_block_on(&self, span: &Span, now: Duration) -> Option<u128> {
        self.block_on(span, now).map(|seen| seen.last)
    }

    fn block_on(&self, span: &Span, now: Duration) -> Option<&Seen<H>> {
        self.block_where(span, |seen| seen.stands(now))
    }

    fn block_where(&self, span: &Span, is_meant: impl Fn(&Seen<H>) -> bool) -> Option<&Seen<H>> {
        let near = self.blocks.range((span.first + 1).saturating_sub(self.widest)..=span.last).rev();
        near.map(|(_, seen)| seen).find(|seen| seen.last >= span.first && is_meant(seen))
    }

    /// Single addresses of a span that are claimed.
    pub(super) fn count(&self, span: &Span, now: Duration) -> u128 {
        self.addresses.range(span.first..=span.last).filter(|(_, seen)| seen.stands(now)).count() as u128
    }

    /// Those of them that another node claims.
    pub(super) fn count_others(&self, span: &Span, now: Duration) -> u128 {
        let others = self.addresses.range(span.first..=span.last);
        others.filter(|(_, seen)| seen.stands(now) && matches!(seen.holder, Holder::Other(_))).count() as u128
    }
}
