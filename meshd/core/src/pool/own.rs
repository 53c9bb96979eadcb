//! What this node has of a pool, and what it asks for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::layout::Span;

/// What an own address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The registry was asked for it.
    Asked,
    /// An endpoint has it.
    Held,
    /// It was given back.
    Rests {
        /// Last moment of that.
        until: Duration,
    },
}

#[derive(Debug, Clone, Copy)]
struct Block {
    state: BlockState,
    /// When an address of it was given or given back last.
    used_at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockState {
    /// The registry was asked for it.
    Asked,
    /// It was asked, and nobody knows what it did.
    Unanswered,
    Held,
}

/// Addresses and blocks of this node.
#[derive(Debug, Clone, Default)]
pub(super) struct Own {
    addresses: BTreeMap<u128, Use>,
    blocks: BTreeMap<u128, Block>,
}

impl Own {
    pub(super) fn on(&self, offset: u128) -> Option<Use> {
        self.addresses.get(&offset).copied()
    }

    pub(super) fn is_used(&self, offset: u128) -> bool {
        matches!(self.on(offset), Some(Use::Asked | Use::Held))
    }

    pub(super) fn put(&mut self, offset: u128, what: Use) {
        self.addresses.insert(offset, what);
    }

    pub(super) fn claimed(&mut self, offset: u128) {
        if let Some(asked @ Use::Asked) = self.addresses.get_mut(&offset) {
            *asked = Use::Held;
        }
    }

    pub(super) fn refused(&mut self, offset: u128) {
        if self.on(offset) == Some(Use::Asked) {
            self.addresses.remove(&offset);
        }
    }

    pub(super) fn forget_rested(&mut self, now: Duration) {
        self.addresses.retain(|_, what| !matches!(what, Use::Rests { until } if *until < now));
    }

    /// Own addresses of a span that are not free.
    pub(super) fn count(&self, span: &Span, now: Duration) -> u128 {
        let uses = self.addresses.range(span.first..=span.last);
        uses.filter(|(_, what)| !matches!(what, Use::Rests { until } if *until < now)).count() as u128
    }

    pub(super) fn held_blocks(&self) -> impl Iterator<Item = u128> {
        self.blocks.iter().filter(|(_, block)| block.state == BlockState::Held).map(|(index, _)| *index)
    }

    pub(super) fn holds_block(&self, index: u128) -> bool {
        self.blocks.get(&index).is_some_and(|block| block.state == BlockState::Held)
    }

    pub(super) fn has_block(&self, index: u128) -> bool {
        self.blocks.contains_key(&index)
    }

    pub(super) fn is_asking(&self) -> bool {
        self.blocks.values().any(|block| block.state != BlockState::Held)
    }

    pub(super) fn block_used_at(&self, index: u128) -> Option<Duration> {
        self.blocks.get(&index).map(|block| block.used_at)
    }

    pub(super) fn ask_block(&mut self, index: u128, now: Duration) {
        self.blocks.insert(index, Block { state: BlockState::Asked, used_at: now });
    }

    /// A block that was asked for without an answer; it counts as asked from now on.
    pub(super) fn ask_again(&mut self) -> Option<u128> {
        let mut blocks = self.blocks.iter_mut();
        let (index, block) = blocks.find(|(_, block)| block.state == BlockState::Unanswered)?;
        block.state = BlockState::Asked;
        Some(*index)
    }

    pub(super) fn unanswered(&mut self, index: u128) {
        if let Some(block) = self.blocks.get_mut(&index).filter(|block| block.state == BlockState::Asked) {
            block.state = BlockState::Unanswered;
        }
    }

    pub(super) fn hold_block(&mut self, index: u128, now: Duration) {
        let block = self.blocks.entry(index).or_insert(Block { state: BlockState::Held, used_at: now });
        block.state = BlockState::Held;
    }

    pub(super) fn refused_block(&mut self, index: u128) {
        if !self.holds_block(index) {
            self.blocks.remove(&index);
        }
    }

    pub(super) fn forget_block(&mut self, index: u128) {
        self.blocks.remove(&index);
    }

    pub(super) fn touch_block(&mut self, index: u128, now: Duration) {
        if let Some(block) = self.blocks.get_mut(&index) {
            block.used_at = now;
        }
    }
}
