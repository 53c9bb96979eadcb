//! The addresses of a container network: which one an endpoint gets, and which block a node claims.
//!
//! ```text
//! next ─▶ Given                      inside a block of this node: nobody is asked
//!      ─▶ Claim ──────▶ registry ─▶ claimed | refused ─▶ next
//!      ─▶ ClaimBlock ─▶ registry ─▶ claimed_block | refused | unanswered ─▶ next
//! ```
//!
//! Whoever claims an address writes it to the registry and then reads the blocks there; whoever claims a block writes
//! it and then reads the addresses inside. So of two that meet, one sees the other: an address inside the block of
//! another node is given up, an address found inside an own block is never given. The registry needs nothing but
//! compare-and-swap on single keys.
//!
//! A pool is of one family; a network with two has two pools, kept in step by [`Step`]. The caller bounds how many
//! endpoints a node has, and the roster how many there are in the mesh.

mod known;
mod layout;
mod own;
mod search;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use known::Known;
use layout::{Layout, Span};
use own::{Own, Use};

/// How long an address that was given back is left alone: late packets and answers of DNS still name it.
pub const REST: Duration = Duration::from_secs(60);
/// How long a block stays empty before it goes back.
pub const BLOCK_KEPT: Duration = Duration::from_secs(600);

/// How addresses are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Each node takes from blocks of its own, also while the registry is away.
    Blocks,
    /// The lowest that is free on all nodes.
    Sequential,
}

/// Says why a prefix cannot be a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPool {
    /// Too few addresses to share out.
    #[error("a pool has at least 16 addresses: a /28, or a /124 of IPv6")]
    TooSmall,
    /// More than an organisation has.
    #[error("a pool is no larger than a /8, or a /64 of IPv6")]
    TooLarge,
    /// Bits behind the prefix.
    #[error("a pool begins with its first address: {0}")]
    HostBits(IpNet),
}

/// Who claims something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder<H> {
    /// This node.
    This,
    /// Another one.
    Other(H),
}

/// A claim on an address or a prefix, as the registry or the roster tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed<H> {
    /// The address, with a full length, or the prefix.
    pub net: IpNet,
    /// Whose it is.
    pub holder: Holder<H>,
    /// The claim is over, and its addresses rest until then.
    pub rests_until: Option<Duration>,
}

/// What is to be done for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It lies in a block of this node, and is given.
    Given(IpAddr),
    /// It is free as far as this node knows: the registry decides.
    Claim(IpAddr),
    /// No block has room: the registry decides whose this one is, then ask again.
    ClaimBlock(IpNet),
    /// A block is being claimed: ask again when the answer is here.
    Wait,
}

/// Says why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress<H> {
    /// Not of this pool.
    #[error("the address lies outside the pool")]
    Outside,
    /// The first, the last, or the gateway's.
    #[error("the address is the network's, the gateway's or the broadcast address")]
    Reserved,
    /// Somebody has it, or a block around it.
    #[error("the address is taken")]
    Taken(Holder<H>),
    /// Its node was lost and may still use it.
    #[error("the address rests, because the node that had it was lost")]
    Rests {
        /// Last moment of that.
        until: Duration,
    },
    /// Nothing is free.
    #[error("no address of the pool is free")]
    Exhausted,
}

/// Where an address stands in its pool, so that another pool can take the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    block: u128,
    position: u128,
}

/// What an address should be like.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish<'a> {
    /// Only in these prefixes; none for the whole pool.
    pub ranges: &'a [IpNet],
    /// At this place, if it is free.
    pub step: Option<Step>,
}

/// A pool as one node sees it.
#[derive(Debug, Clone)]
pub struct Pool<H> {
    layout: Layout,
    allocation: Allocation,
    own: Own,
    known: Known<H>,
    /// The address given last: the next one is searched from there, so that one given back is not given at once.
    last: u128,
    /// All below is taken for longer than a rest, so the search for the lowest begins here.
    full_below: u128,
}

impl<H: Clone> Pool<H> {
    /// A pool of which nothing is known.
    pub fn new(net: IpNet, allocation: Allocation) -> Result<Self, BadPool> {
        let layout = Layout::new(net)?;
        let (own, known) = (Own::default(), Known::default());
        Ok(Self { layout, allocation, own, known, last: 0, full_below: 0 })
    }

    /// Chooses an address and notes it, so that nobody else on this node gets it.
    pub fn next(&mut self, wish: &Wish<'_>, now: Duration) -> Result<Next, NoAddress<H>> {
        let spans = self.spans(wish);
        if self.allocation == Allocation::Sequential {
            return self.claim_lowest(&spans, wish, now);
        }
        if let Some(offset) = self.free_in_blocks(&spans, wish, now) {
            return Ok(self.give(offset, now));
        }
        if let Some(index) = self.own.ask_again() {
            return Ok(Next::ClaimBlock(self.layout.block(index)));
        }
        if self.own.is_asking() {
            return Ok(Next::Wait);
        }
        match self.free_block(&spans, wish.step, now) {
            Some(index) => Ok(self.ask_block(index, now)),
            // All blocks are somebody's, or crowded: what lies between is claimed one by one.
            None => self.claim_lowest(&spans, wish, now),
        }
    }

    /// Asks for one address and no other. One that its node gave back need not rest.
    pub fn exactly(&mut self, addr: IpAddr, now: Duration) -> Result<Next, NoAddress<H>> {
        let offset = self.layout.offset(addr).ok_or(NoAddress::Outside)?;
        if self.layout.is_reserved(offset) {
            return Err(NoAddress::Reserved);
        }
        if self.own.is_used(offset) {
            return Err(NoAddress::Taken(Holder::This));
        }
        // What the roster still says of this node is older than what the node knows of itself.
        if let Some(seen) = self.known.of_others(offset, now) {
            match seen.rests_until {
                None => return Err(NoAddress::Taken(seen.holder.clone())),
                Some(until) if until > now + REST => return Err(NoAddress::Rests { until }),
                Some(_) => {}
            }
        }
        if self.own.holds_block(self.layout.block_of(offset)) {
            return Ok(self.give(offset, now));
        }
        self.own.put(offset, Use::Asked);
        Ok(Next::Claim(addr))
    }

    /// Says which block to claim before there is need for it: three quarters of the own ones are used, or nobody knows
    /// what became of the last claim.
    pub fn block_wanted(&mut self, now: Duration) -> Option<IpNet> {
        if let Some(index) = self.own.ask_again() {
            return Some(self.layout.block(index));
        }
        let has_blocks = self.own.held_blocks().next().is_some();
        if self.own.is_asking() || !has_blocks || !self.is_crowded(None, now) {
            return None;
        }
        let index = self.free_block(&[self.layout.whole()], None, now)?;
        self.own.ask_block(index, now);
        Some(self.layout.block(index))
    }

    /// Says which block was empty so long that it goes back; one stays.
    pub fn block_to_give_back(&self, now: Duration) -> Option<IpNet> {
        let empty = self.own.held_blocks().skip(1).find(|index| {
            let is_old = self.own.block_used_at(*index).is_some_and(|at| at + BLOCK_KEPT <= now);
            is_old && self.own.count(&self.layout.span_of_block(*index), now) == 0
        })?;
        (!self.is_crowded(Some(empty), now)).then(|| self.layout.block(empty))
    }

    /// A claim on an address stands.
    pub fn claimed(&mut self, addr: IpAddr) {
        if let Some(offset) = self.layout.offset(addr) {
            self.own.claimed(offset);
        }
    }

    /// A claim on a block stands; `inside` is what others have in it.
    pub fn claimed_block(
        &mut self,
        block: IpNet,
        inside: impl IntoIterator<Item = Claimed<H>>,
        now: Duration,
    ) {
        for claim in inside {
            self.hear(claim, now);
        }
        self.hold(block, now);
    }

    /// A claim does not stand, because of another one on the same address, or on a block that it lies in.
    pub fn refused(&mut self, asked: IpNet, because: Claimed<H>, now: Duration) {
        self.not_asked(asked);
        self.hear(because, now);
    }

    /// A claim was not made: nobody has heard of it.
    pub fn not_asked(&mut self, asked: IpNet) {
        match self.layout.place_of(asked) {
            Some(layout::Place::Address(offset)) => {
                self.own.refused(offset);
                self.full_below = self.full_below.min(offset);
            }
            Some(layout::Place::Block(index)) => self.own.refused_block(index),
            None => {}
        }
    }

    /// Nobody knows whether a claim on a block stands: the same one is claimed again.
    pub fn unanswered(&mut self, block: IpNet) {
        if let Some(layout::Place::Block(index)) = self.layout.place_of(block) {
            self.own.unanswered(index);
        }
    }

    /// Takes over an address or a block that this node has, after a restart.
    pub fn hold(&mut self, net: IpNet, now: Duration) {
        match self.layout.place_of(net) {
            Some(layout::Place::Address(offset)) => self.own.put(offset, Use::Held),
            Some(layout::Place::Block(index)) => self.own.hold_block(index, now),
            None => {}
        }
    }

    /// An address was given back, or its claim was given up; it rests.
    pub fn release(&mut self, addr: IpAddr, now: Duration) {
        let Some(offset) = self.layout.offset(addr).filter(|offset| self.own.is_used(*offset)) else {
            return;
        };
        self.own.put(offset, Use::Rests { until: now + REST });
        self.own.touch_block(self.layout.block_of(offset), now);
        self.full_below = self.full_below.min(offset);
    }

    /// A block was given back.
    pub fn release_block(&mut self, block: IpNet) {
        if let Some(layout::Place::Block(index)) = self.layout.place_of(block) {
            self.own.forget_block(index);
            self.full_below = 0;
        }
    }

    /// Replaces what the roster says of the pool. What the registry alone has said stays until the roster must have
    /// heard it too. Blocks of this node are taken over.
    pub fn learn(&mut self, claims: impl IntoIterator<Item = Claimed<H>>, now: Duration) {
        self.own.forget_rested(now);
        self.known.begin(now);
        for claim in claims {
            self.note(claim, None, now);
        }
        self.full_below = 0;
    }

    /// Chooses addresses in another way from now on. Blocks stay until they are empty.
    pub fn choose(&mut self, allocation: Allocation) {
        self.allocation = allocation;
    }

    /// Whether an address or a block is this node's, or is being claimed.
    pub fn has(&self, net: IpNet) -> bool {
        match self.layout.place_of(net) {
            Some(layout::Place::Address(offset)) => self.own.is_used(offset),
            Some(layout::Place::Block(index)) => self.own.has_block(index),
            None => false,
        }
    }

    /// The blocks that are this node's.
    pub fn blocks(&self) -> impl Iterator<Item = IpNet> {
        self.own.held_blocks().map(|index| self.layout.block(index))
    }

    /// The prefix.
    pub fn net(&self) -> IpNet {
        self.layout.net()
    }

    /// The address that stands for the next hop where a runtime wants one; the same on every node, nobody's.
    pub fn gateway(&self) -> IpAddr {
        self.layout.gateway()
    }

    /// Where an address stands.
    pub fn step(&self, addr: IpAddr) -> Option<Step> {
        let position = self.layout.offset(addr)?;
        Some(Step { block: self.layout.block_of(position), position })
    }

    fn hear(&mut self, claim: Claimed<H>, now: Duration) {
        if let Some(span) = self.layout.span(claim.net).filter(|_| claim.rests_until.is_some()) {
            self.full_below = self.full_below.min(span.first);
        }
        self.note(claim, Some(now), now);
    }

    fn note(&mut self, claim: Claimed<H>, heard_at: Option<Duration>, now: Duration) {
        let is_own = matches!(claim.holder, Holder::This);
        match self.layout.place_of(claim.net) {
            Some(layout::Place::Block(index)) if is_own => {
                // One that is being claimed is not given from before it is known what lies in it.
                if claim.rests_until.is_none() && !self.own.has_block(index) {
                    self.own.hold_block(index, now);
                }
            }
            Some(layout::Place::Address(_) | layout::Place::Block(_)) | None => {
                if let Some(span) = self.layout.span(claim.net) {
                    self.known.note(span, claim.holder, claim.rests_until, heard_at);
                }
            }
        }
    }

    fn give(&mut self, offset: u128, now: Duration) -> Next {
        self.own.put(offset, Use::Held);
        self.own.touch_block(self.layout.block_of(offset), now);
        self.last = offset;
        Next::Given(self.layout.address(offset))
    }

    fn ask_block(&mut self, index: u128, now: Duration) -> Next {
        self.own.ask_block(index, now);
        Next::ClaimBlock(self.layout.block(index))
    }

    fn claim_lowest(&mut self, spans: &[Span], wish: &Wish<'_>, now: Duration) -> Result<Next, NoAddress<H>> {
        let in_step = wish.step.map(|step| step.position).filter(|offset| {
            spans.iter().any(|span| span.contains(*offset)) && self.obstacle(*offset, now).is_none()
        });
        let lowest = || spans.iter().find_map(|span| self.lowest_free(*span, now));
        let (offset, full_below) = match in_step {
            Some(offset) => (offset, self.full_below),
            None => lowest().ok_or(NoAddress::Exhausted)?,
        };
        self.full_below = full_below;
        self.own.put(offset, Use::Asked);
        Ok(Next::Claim(self.layout.address(offset)))
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
