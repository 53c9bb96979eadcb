//! The pools of this node: which address an endpoint gets, and which blocks the node has.
//!
//! What is held here is held for good: the loop holds what it finds in its file and in the roster, and releases what
//! an endpoint gives back. Between the two a [`super::Claimant`] takes addresses, many at a time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use meshd_core::pool::{Allocation, BadPool, Claimed, Holder, Next, NoAddress, Pool, Step, Wish};
use meshd_trust::{ClaimState, Roster};
use meshd_wire::{NodeId, Timestamp};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Says why a prefix is no pool of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPool {
    /// It can't be one.
    #[error(transparent)]
    Bad(#[from] BadPool),
    /// It shares addresses with another one.
    #[error("the pool overlaps {0}, another pool of this node")]
    Overlaps(IpNet),
}

/// The pools of this node; clones are handles of the same pools.
#[derive(Debug, Clone, Default)]
pub struct Addresses(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    pools: Mutex<BTreeMap<IpNet, Pool<NodeId>>>,
    /// A block was claimed, or was not: whoever waits for one asks again.
    answered: Notify,
}

impl Addresses {
    /// Makes a pool known. One that is known stays as it is, but for how addresses are chosen from now on.
    pub fn pool(&self, net: IpNet, allocation: Allocation) -> Result<(), NoPool> {
        let mut pools = self.pools();
        if let Some(pool) = pools.get_mut(&net) {
            pool.choose(allocation);
            return Ok(());
        }
        let pool = Pool::new(net, allocation)?;
        if let Some(other) = pools.keys().find(|other| other.contains(&net) || net.contains(*other)) {
            return Err(NoPool::Overlaps(*other));
        }
        pools.insert(net, pool);
        Ok(())
    }

    /// Forgets a pool. Gives the blocks that this node has of it, to be withdrawn.
    pub fn forget_pool(&self, net: IpNet) -> Vec<IpNet> {
        let pool = self.pools().remove(&net);
        self.0.answered.notify_waiters();
        pool.map_or_else(Vec::new, |pool| pool.blocks().collect())
    }

    /// The pools that are known.
    pub fn nets(&self) -> Vec<IpNet> {
        self.pools().keys().copied().collect()
    }

    /// Takes over an address or a block that this node has.
    pub fn hold(&self, net: IpNet, now: Timestamp) {
        self.with(net, |pool| pool.hold(net, time(now)));
    }

    /// Takes back an address that an endpoint had; it rests.
    pub fn release(&self, addr: IpAddr, now: Timestamp) {
        self.with(addr.into(), |pool| pool.release(addr, time(now)));
    }

    /// Whether an address or a block is this node's, or is being claimed.
    pub fn has(&self, net: IpNet) -> bool {
        self.with(net, |pool| pool.has(net)).unwrap_or(false)
    }

    /// Forgets a block that this node turned out not to have; the addresses in it that are used stay used.
    pub fn lose_block(&self, block: IpNet) {
        self.with(block, |pool| pool.release_block(block));
    }

    /// The blocks of this node, in all pools.
    pub fn blocks(&self) -> Vec<IpNet> {
        self.pools().values().flat_map(Pool::blocks).collect()
    }

    /// Where an address stands in its pool, so that one of another family can take the same place.
    pub fn step(&self, addr: IpAddr) -> Option<Step> {
        self.with(addr.into(), |pool| pool.step(addr)).flatten()
    }

    /// The address that stands for the next hop in the pool of an address.
    pub fn gateway(&self, addr: IpAddr) -> Option<IpAddr> {
        self.with(addr.into(), |pool| pool.gateway())
    }

    /// Takes over what the roster says of all pools.
    pub fn learn(&self, roster: &Roster, node: &NodeId, now: Timestamp) {
        for (net, pool) in self.pools().iter_mut() {
            pool.learn(claims_on(roster, node, *net, now), time(now));
        }
        self.0.answered.notify_waiters();
    }

    /// Chooses an address; the one that is wanted, if there is one.
    pub(super) fn next(
        &self,
        pool: IpNet,
        wanted: Option<IpAddr>,
        wish: &Wish<'_>,
        now: Timestamp,
    ) -> Option<Result<Next, NoAddress<NodeId>>> {
        self.with(pool, |pool| match wanted {
            Some(addr) => pool.exactly(addr, time(now)),
            None => pool.next(wish, time(now)),
        })
    }

    /// Claims that want to be begun, and those that end, without anybody asking for an address: blocks ahead of need,
    /// and blocks that were empty for long, which are given back with this.
    pub fn block_changes(&self, now: Timestamp) -> (Vec<IpNet>, Vec<IpNet>) {
        let (mut wanted, mut given_back) = (Vec::new(), Vec::new());
        for pool in self.pools().values_mut() {
            wanted.extend(pool.block_wanted(time(now)));
            if let Some(block) = pool.block_to_give_back(time(now)) {
                pool.release_block(block);
                given_back.push(block);
            }
        }
        (wanted, given_back)
    }

    /// Notes what became of a claim, and wakes whoever waits for that.
    pub(super) fn answer(&self, asked: IpNet, note: impl FnOnce(&mut Pool<NodeId>)) {
        self.with(asked, note);
        self.0.answered.notify_waiters();
    }

    /// Ends when a claim is answered after this call, even if nobody waits yet.
    pub(super) fn answered(&self) -> Notified<'_> {
        self.0.answered.notified()
    }

    fn with<T>(&self, net: IpNet, act: impl FnOnce(&mut Pool<NodeId>) -> T) -> Option<T> {
        let mut pools = self.pools();
        let (_, pool) = pools.iter_mut().find(|(pool, _)| pool.contains(&net))?;
        Some(act(pool))
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<IpNet, Pool<NodeId>>> {
        self.0.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims that share an address with a prefix, as a roster tells them.
pub fn claims_on(roster: &Roster, node: &NodeId, net: IpNet, now: Timestamp) -> Vec<Claimed<NodeId>> {
    let claims = roster.claims_on(net.addr(), net.prefix_len(), now).into_iter();
    let claims = claims.filter_map(|claim| {
        // What stands in a certificate is no endpoint's, also in the own one.
        let is_own = claim.node == *node && claim.endpoint.is_some();
        Some(Claimed {
            net: IpNet::new(claim.addr, claim.len).ok()?,
            holder: if is_own { Holder::This } else { Holder::Other(claim.node) },
            rests_until: match claim.state {
                ClaimState::Live => None,
                ClaimState::Rests { until } => Some(time(until)),
            },
        })
    });
    claims.collect()
}

/// The time as pools count it.
pub(super) fn time(now: Timestamp) -> Duration {
    Duration::from_secs(now.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000);

    fn net(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    #[test]
    fn a_pool_that_is_forgotten_gives_its_blocks_back_and_makes_room_for_others() {
        let addresses = Addresses::default();
        let (pool, inner, beside) = (net("10.91.128.0/20"), net("10.91.128.0/24"), net("10.91.144.0/20"));
        for known in [pool, beside, pool] {
            assert_eq!(addresses.pool(known, Allocation::Blocks), Ok(()));
        }
        for block in ["10.91.128.64/26", "10.91.144.0/26"] {
            addresses.hold(net(block), NOW);
        }
        for overlapping in [inner, net("10.91.0.0/16")] {
            assert!(matches!(addresses.pool(overlapping, Allocation::Blocks), Err(NoPool::Overlaps(_))));
        }
        assert_eq!(addresses.forget_pool(pool), [net("10.91.128.64/26")]);
        assert_eq!(addresses.forget_pool(pool), []);
        assert_eq!(addresses.pool(inner, Allocation::Blocks), Ok(()));
        assert_eq!(
            (addresses.nets(), addresses.blocks()),
            (vec![inner, beside], vec![net("10.91.144.0/26")])
        );
    }
}
