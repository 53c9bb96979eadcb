//! Counts bad handshakes by the network they come from, in fixed memory.

use std::net::IpAddr;
use std::time::Duration;

use crate::rng::Rng;

/// Bad handshakes a second that one network may send: more than a site full of removed peers makes by retrying.
const PER_S: u32 = 20;
/// How many of them may come at once.
const BURST: u32 = 40;
const INTERVAL: Duration = Duration::from_millis(1000 / PER_S as u64);
const SETS: usize = 1024;
/// Networks with the same hash that are told apart.
const WAYS: usize = 4;

/// One bucket for each IPv4 address and IPv6 /64, for the 4,096 that failed last: 128 KiB.
///
/// A bucket is the time at which it will be full again. So an entry whose time has passed is as good as an
/// empty one: everything ages by itself, whether there are peers and traffic or not.
pub(crate) struct Buckets {
    sets: Box<[[Bucket; WAYS]]>,
    hash_key: [u64; 2],
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    network: u64,
    is_v4: bool,
    full_at: Duration,
}

impl Buckets {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let random = [rng.bytes(), rng.bytes()].map(u64::from_le_bytes);
        let sets = vec![[Bucket::default(); WAYS]; SETS].into_boxed_slice();
        Self { sets, hash_key: [random[0], random[1] | 1] }
    }

    /// Whether a network has used up its bad handshakes for now.
    pub(crate) fn is_empty(&self, now: Duration, source: IpAddr) -> bool {
        let (network, is_v4) = network(source);
        let debt = |bucket: &Bucket| bucket.full_at.saturating_sub(now);
        self.sets[self.set(network)]
            .iter()
            .any(|bucket| bucket.is(network, is_v4) && debt(bucket) > INTERVAL * (BURST - 1))
    }

    /// Notes one bad handshake. A new network takes the place of the one that has the least to its name.
    pub(crate) fn take(&mut self, now: Duration, source: IpAddr) {
        let (network, is_v4) = network(source);
        let set = self.set(network);
        let set = &mut self.sets[set];
        let known = set.iter().position(|bucket| bucket.is(network, is_v4));
        let at = known.unwrap_or_else(|| {
            let least = set.iter().enumerate().min_by_key(|(_, bucket)| bucket.full_at);
            least.map_or(0, |(at, _)| at)
        });
        let bucket = &mut set[at];
        if known.is_none() {
            *bucket = Bucket { network, is_v4, full_at: Duration::ZERO };
        }
        // Never deeper in debt than empty: how long it stays closed does not depend on how much was tried.
        bucket.full_at = (bucket.full_at.max(now) + INTERVAL).min(now + INTERVAL * BURST);
    }

    fn set(&self, network: u64) -> usize {
        let [key, odd] = self.hash_key;
        ((network ^ key).wrapping_mul(odd) >> 32) as usize % SETS
    }
}

impl Bucket {
    fn is(&self, network: u64, is_v4: bool) -> bool {
        self.network == network && self.is_v4 == is_v4
    }
}

fn network(source: IpAddr) -> (u64, bool) {
    match source.to_canonical() {
        IpAddr::V4(address) => (u64::from(u32::from(address)), true),
        IpAddr::V6(address) => ((u128::from(address) >> 64) as u64, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_network_is_closed_after_its_burst_and_opens_again_by_time_alone() {
        let mut buckets = Buckets::new(&mut Rng::new([1; 32]));
        let attacker: IpAddr = "192.0.2.1".parse().expect("an address");
        for _ in 0..10 * BURST {
            buckets.take(S(100), attacker);
        }
        assert!(buckets.is_empty(S(100), attacker));
        assert!(!buckets.is_empty(S(100), "192.0.2.2".parse().expect("an address")));
        assert!(!buckets.is_empty(S(103), attacker));
    }

    #[test]
    fn all_of_a_v6_64_is_one_network_and_a_mapped_address_is_its_v4_one() {
        let mut buckets = Buckets::new(&mut Rng::new([2; 32]));
        for host in 0..u128::from(BURST) {
            buckets.take(S(1), IpAddr::V6((0x2001_0db8_u128 << 96 | host).into()));
        }
        assert!(buckets.is_empty(S(1), "2001:db8::ffff".parse().expect("an address")));
        assert!(!buckets.is_empty(S(1), "2001:db8:0:1::1".parse().expect("an address")));
        for _ in 0..BURST {
            buckets.take(S(1), "::ffff:192.0.2.1".parse().expect("an address"));
        }
        assert!(buckets.is_empty(S(1), "192.0.2.1".parse().expect("an address")));
    }

    #[test]
    fn a_million_networks_need_no_more_memory_than_one() {
        let mut buckets = Buckets::new(&mut Rng::new([3; 32]));
        for address in 0..1_000_000_u32 {
            buckets.take(S(1), IpAddr::V4(address.into()));
        }
        assert_eq!(buckets.sets.len() * WAYS * size_of::<Bucket>(), 128 * 1024);
    }
}
