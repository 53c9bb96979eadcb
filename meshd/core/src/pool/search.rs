//! Which address or block of a pool is free.

use std::time::Duration;

use super::layout::Span;
use super::own::Use;
use super::{Pool, Step, Wish};

/// What stands at an address, up to its last one.
pub(super) struct Obstacle {
    last: u128,
    is_lasting: bool,
}

impl<H> Pool<H> {
    /// The lowest free address of a span, and how far everything below is taken for good.
    pub(super) fn lowest_free(&self, span: Span, now: Duration) -> Option<(u128, u128)> {
        let mut full_below = self.full_below;
        let mut at = if span.first <= full_below { full_below } else { span.first };
        while at <= span.last {
            let Some(obstacle) = self.obstacle(at, now) else { return Some((at, full_below)) };
            if at == full_below && obstacle.is_lasting {
                full_below = obstacle.last + 1;
            }
            at = obstacle.last + 1;
        }
        None
    }

    /// An address in an own block: one in step, else the next one behind the last.
    pub(super) fn free_in_blocks(&self, spans: &[Span], wish: &Wish<'_>, now: Duration) -> Option<u128> {
        let is_good = |offset: &u128| {
            spans.iter().any(|span| span.contains(*offset)) && self.obstacle(*offset, now).is_none()
        };
        let held = || self.own.held_blocks();
        let blocks: Vec<Span> = held().map(|index| self.layout.span_of_block(index)).collect();
        if let Some(step) = wish.step {
            let same_block = self.own.holds_block(step.block).then_some(step.block);
            let mut indices = same_block.into_iter().chain(held());
            let in_step = |index| Some(self.layout.in_step(index, step.position)).filter(is_good);
            // Out of step it takes nobody else's place if it lies where those in step seldom are.
            let halves = blocks.iter().map(Span::upper_half);
            let found = indices.find_map(in_step).or_else(|| self.free_in(halves, spans, now));
            if found.is_some() {
                return found;
            }
        }
        let behind = blocks.iter().filter_map(|block| block.behind(self.last));
        let before = blocks.iter().filter_map(|block| block.up_to(self.last));
        self.free_in(behind.chain(before), spans, now)
    }

    /// The first free address of some parts, as far as they lie in some spans.
    fn free_in(&self, parts: impl Iterator<Item = Span>, spans: &[Span], now: Duration) -> Option<u128> {
        let mut parts = parts.flat_map(|part| spans.iter().filter_map(move |span| span.meet(part)));
        parts.find_map(|part| self.first_free(part, now))
    }

    fn first_free(&self, span: Span, now: Duration) -> Option<u128> {
        let mut at = span.first;
        while at <= span.last {
            match self.obstacle(at, now) {
                None => return Some(at),
                Some(obstacle) => at = obstacle.last + 1,
            }
        }
        None
    }

    /// A block to claim: the one in step, else the lowest that nobody has and of which at least half is free.
    pub(super) fn free_block(&self, spans: &[Span], step: Option<Step>, now: Duration) -> Option<u128> {
        let in_step = step.map(|step| step.block).filter(|index| self.is_block_free(*index, spans, now));
        let lowest = || spans.iter().find_map(|span| self.lowest_free_block(*span, spans, now));
        in_step.or_else(lowest)
    }

    fn lowest_free_block(&self, span: Span, spans: &[Span], now: Duration) -> Option<u128> {
        let (mut index, last) = (self.layout.block_of(span.first), self.layout.block_of(span.last));
        while index <= last {
            if self.is_block_free(index, spans, now) {
                return Some(index);
            }
            // What somebody has can be as large as the pool.
            let block = self.layout.span_of_block(index);
            let taken_to = self.known.last_of_block_on(&block, now).unwrap_or(block.last).max(block.last);
            index = self.layout.block_of(taken_to) + 1;
        }
        None
    }

    fn is_block_free(&self, index: u128, spans: &[Span], now: Duration) -> bool {
        if index >= self.layout.blocks() || self.own.has_block(index) {
            return false;
        }
        let block = self.layout.span_of_block(index);
        let taken = self.known.count(&block, now) + self.own.count(&block, now);
        self.known.last_of_block_on(&block, now).is_none()
            && taken * 2 <= block.len()
            && spans
                .iter()
                .filter_map(|span| span.meet(block))
                .any(|part| self.first_free(part, now).is_some())
    }

    /// Whether three quarters of the own blocks are used, but for one that is to go back.
    pub(super) fn is_crowded(&self, without: Option<u128>, now: Duration) -> bool {
        let kept = self.own.held_blocks().filter(|index| Some(*index) != without);
        let (mut used, mut all) = (0, 0);
        for block in kept.map(|index| self.layout.span_of_block(index)) {
            used += self.own.count(&block, now) + self.known.count_others(&block, now);
            all += block.len();
        }
        used * 4 >= all * 3
    }

    pub(super) fn spans(&self, wish: &Wish<'_>) -> Vec<Span> {
        if wish.ranges.is_empty() {
            return vec![self.layout.whole()];
        }
        let mut spans: Vec<Span> = wish.ranges.iter().filter_map(|range| self.layout.span(*range)).collect();
        spans.sort_by_key(|span| span.first);
        spans
    }

    /// Why an address is not free.
    pub(super) fn obstacle(&self, offset: u128, now: Duration) -> Option<Obstacle> {
        if let Some(last) = self.layout.reserved_up_to(offset) {
            return Some(Obstacle { last, is_lasting: true });
        }
        match self.own.on(offset) {
            Some(Use::Asked | Use::Held) => return Some(Obstacle { last: offset, is_lasting: true }),
            Some(Use::Rests { until }) if until >= now => {
                return Some(Obstacle { last: offset, is_lasting: false });
            }
            Some(Use::Rests { .. }) | None => {}
        }
        let seen = self.known.on(offset, now)?;
        Some(Obstacle { last: seen.last, is_lasting: seen.rests_until.is_none() })
    }
}
