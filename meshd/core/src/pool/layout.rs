//! Where addresses and blocks stand in a pool: numbers from its first address on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::BadPool;

/// Lengths of the smallest and the largest pools.
const LEN4: std::ops::RangeInclusive<u8> = 8..=28;
const LEN6: std::ops::RangeInclusive<u8> = 64..=124;
/// Length of a block in a pool with room, and the longest there is.
const BLOCK_LEN4: u8 = 26;
const BLOCK_LEN4_MAX: u8 = 30;
const BLOCK_LEN6: u8 = 112;
const BLOCK_LEN6_MAX: u8 = 126;
/// A pool has at least so many blocks, as a power of two, if it can.
const BLOCKS_MIN_LOG2: u8 = 4;
/// The address that stands for the next hop.
const GATEWAY: u128 = 1;

/// Numbers from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Span {
    pub(super) fn len(&self) -> u128 {
        self.last - self.first + 1
    }

    pub(super) fn contains(&self, offset: u128) -> bool {
        (self.first..=self.last).contains(&offset)
    }

    /// What two spans share.
    pub(super) fn meet(&self, other: Self) -> Option<Self> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { first, last })
    }

    pub(super) fn upper_half(&self) -> Self {
        Self { first: self.first + self.len() / 2, last: self.last }
    }

    /// The part behind a number.
    pub(super) fn behind(&self, offset: u128) -> Option<Self> {
        self.meet(Self { first: offset + 1, last: self.last.max(offset + 1) })
    }

    /// The part up to a number.
    pub(super) fn up_to(&self, offset: u128) -> Option<Self> {
        self.meet(Self { first: 0, last: offset })
    }
}

/// What a prefix is in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Address(u128),
    Block(u128),
}

/// A pool and its blocks. Their size follows from the pool alone, so all nodes have the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    net: IpNet,
    len: u128,
    block_len: u8,
    block_size: u128,
}

impl Layout {
    pub(super) fn new(net: IpNet) -> Result<Self, BadPool> {
        let (lens, block_len, block_len_max) = match net {
            IpNet::V4(_) => (LEN4, BLOCK_LEN4, BLOCK_LEN4_MAX),
            IpNet::V6(_) => (LEN6, BLOCK_LEN6, BLOCK_LEN6_MAX),
        };
        if net.prefix_len() < *lens.start() {
            return Err(BadPool::TooLarge);
        }
        if net.prefix_len() > *lens.end() {
            return Err(BadPool::TooSmall);
        }
        if net.trunc() != net {
            return Err(BadPool::HostBits(net.trunc()));
        }
        let block_len = block_len.max(net.prefix_len() + BLOCKS_MIN_LOG2).min(block_len_max);
        let size = |len: u8| 1u128 << (net.max_prefix_len() - len);
        Ok(Self { net, len: size(net.prefix_len()), block_len, block_size: size(block_len) })
    }

    pub(super) fn net(&self) -> IpNet {
        self.net
    }

    pub(super) fn whole(&self) -> Span {
        Span { first: 0, last: self.len - 1 }
    }

    pub(super) fn gateway(&self) -> IpAddr {
        self.address(GATEWAY)
    }

    pub(super) fn offset(&self, addr: IpAddr) -> Option<u128> {
        match (self.net, addr) {
            (IpNet::V4(net), IpAddr::V4(v4)) => {
                u32::from(v4).checked_sub(u32::from(net.network())).map(u128::from)
            }
            (IpNet::V6(net), IpAddr::V6(v6)) => u128::from(v6).checked_sub(u128::from(net.network())),
            (IpNet::V4(_), IpAddr::V6(_)) | (IpNet::V6(_), IpAddr::V4(_)) => None,
        }
        .filter(|offset| *offset < self.len)
    }

    pub(super) fn address(&self, offset: u128) -> IpAddr {
        match self.net {
            // No truncation: numbers of a pool of IPv4 are smaller than it.
            IpNet::V4(net) => Ipv4Addr::from(u32::from(net.network()) + offset as u32).into(),
            IpNet::V6(net) => Ipv6Addr::from(u128::from(net.network()) + offset).into(),
        }
    }

    /// The part of a prefix that lies in the pool.
    pub(super) fn span(&self, net: IpNet) -> Option<Span> {
        if net.contains(&self.net) {
            return Some(self.whole());
        }
        let (first, last) = (self.offset(net.network())?, self.offset(net.broadcast())?);
        Some(Span { first, last })
    }

    pub(super) fn place_of(&self, net: IpNet) -> Option<Place> {
        let offset = self.offset(net.network())?;
        if net.prefix_len() == net.max_prefix_len() {
            return Some(Place::Address(offset));
        }
        let is_block = net.prefix_len() == self.block_len && self.offset(net.broadcast()).is_some();
        is_block.then(|| Place::Block(self.block_of(offset)))
    }

    pub(super) fn block_of(&self, offset: u128) -> u128 {
        offset / self.block_size
    }

    pub(super) fn blocks(&self) -> u128 {
        self.len / self.block_size
    }

    pub(super) fn block(&self, index: u128) -> IpNet {
        let first = self.address(index * self.block_size);
        // The length is one of its family.
        IpNet::new(first, self.block_len).unwrap_or(self.net)
    }

    pub(super) fn span_of_block(&self, index: u128) -> Span {
        let first = index * self.block_size;
        Span { first, last: first + self.block_size - 1 }
    }

    /// The place that has the same block and the same last digits as a place in another pool.
    pub(super) fn in_step(&self, block: u128, position: u128) -> u128 {
        block.saturating_mul(self.block_size).saturating_add(position % self.block_size)
    }

    pub(super) fn is_reserved(&self, offset: u128) -> bool {
        self.reserved_up_to(offset).is_some()
    }

    /// The last of the addresses from this one on that are nobody's: the network's and the gateway's at the beginning,
    /// that of broadcast, which IPv6 does not have, at the end.
    pub(super) fn reserved_up_to(&self, offset: u128) -> Option<u128> {
        let is_broadcast = matches!(self.net, IpNet::V4(_)) && offset == self.len - 1;
        if offset <= GATEWAY { Some(GATEWAY) } else { is_broadcast.then_some(offset) }
    }
}
