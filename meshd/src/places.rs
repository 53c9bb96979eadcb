//! Bounds on connections of clients that have proved nothing.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Where a connection comes from: an IPv4 address, or an IPv6 /64, since a host owns all of its /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    pub fn of(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(v4) => Self(v4.into()),
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                Self(Ipv6Addr::from(network).into())
            }
        }
    }
}

/// Who holds places, oldest first for each source.
///
/// When all are taken, a newcomer gets the oldest place of the source that holds most, unless that is
/// no more than its own share: whoever takes much, loses first.
#[derive(Debug)]
pub struct Places {
    held: Mutex<BTreeMap<Source, VecDeque<Arc<Notify>>>>,
    max: usize,
    per_source_max: usize,
}

impl Places {
    /// So many places, and so many of them for one source.
    pub fn new(max: usize, per_source_max: usize) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), max, per_source_max })
    }

    /// Takes a place, if this source may have one.
    pub fn take(self: &Arc<Self>, source: Source) -> Option<Place> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.get(&source).map_or(0, VecDeque::len);
        if own >= self.per_source_max {
            return None;
        }
        if held.values().map(VecDeque::len).sum::<usize>() >= self.max {
            let most = held.values_mut().max_by_key(|places| places.len())?;
            if most.len() <= own + 1 {
                return None;
            }
            most.pop_front()?.notify_one();
        }
        let evicted = Arc::new(Notify::new());
        held.entry(source).or_default().push_back(evicted.clone());
        Some(Place { places: self.clone(), source, evicted })
    }
}

/// A place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    source: Source,
    evicted: Arc<Notify>,
}

impl Place {
    /// Waits until another source needs the place more.
    pub async fn lost(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = held.get_mut(&self.source) {
            places.retain(|place| !Arc::ptr_eq(place, &self.evicted));
            if places.is_empty() {
                held.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().expect("address"))
    }

    #[tokio::test]
    async fn a_newcomer_gets_the_oldest_place_of_whoever_holds_most() {
        let places = Places::new(3, 3);
        let greedy: Vec<_> = (0..3).map(|_| places.take(source("192.0.2.1")).expect("place")).collect();
        assert!(places.take(source("192.0.2.1")).is_none(), "more than its share");
        let modest = places.take(source("192.0.2.2")).expect("place");
        greedy[0].lost().await;
        assert!(places.take(source("192.0.2.2")).is_none(), "both would hold two, and one");
        let third = places.take(source("192.0.2.3")).expect("place");
        greedy[1].lost().await;
        assert!(places.take(source("192.0.2.4")).is_none(), "everybody holds one");
        drop((greedy, modest, third));
        assert!(places.held.lock().expect("lock").is_empty());
    }

    #[test]
    fn no_source_takes_more_than_its_bound() {
        let places = Places::new(9, 2);
        let held = [places.take(source("192.0.2.1")), places.take(source("192.0.2.1"))];
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(source("192.0.2.1")).is_none());
        drop(held);
        assert!(places.take(source("192.0.2.1")).is_some());
    }

    #[test]
    fn hosts_of_one_network_are_one_source_and_mapped_addresses_are_ipv4() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }
}
