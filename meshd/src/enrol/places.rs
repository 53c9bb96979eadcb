//! Bounds on connections of clients that have proved nothing yet.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections without an admitted key at one time; each holds one descriptor and at most one request.
const PLACES_MAX: usize = 384;
/// Of them, connections of one source: 200 hosts behind one address may join at once.
const PLACES_PER_SOURCE_MAX: usize = 256;

/// Where a connection comes from: an IPv4 address, or an IPv6 /64, since a host owns all of its /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(v4) => Self(v4.into()),
            IpAddr::V6(v6) => {
                let network = u128::from(v6) & !u128::from(u64::MAX);
                Self(Ipv6Addr::from(network).into())
            }
        }
    }
}

/// Counts what each source holds.
#[derive(Debug)]
pub(super) struct Places {
    held: Mutex<BTreeMap<Source, usize>>,
    max: usize,
    per_source_max: usize,
}

impl Places {
    /// Places of connections.
    pub(super) fn for_connections() -> Arc<Self> {
        Self::new(PLACES_MAX, PLACES_PER_SOURCE_MAX)
    }

    /// Bounds of any size.
    fn new(max: usize, per_source_max: usize) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), max, per_source_max })
    }

    /// Takes a place, if one is left for this source.
    pub(super) fn take(self: &Arc<Self>, source: Source) -> Option<Place> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.values().sum::<usize>() >= self.max {
            return None;
        }
        let count = held.entry(source).or_default();
        if *count >= self.per_source_max {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), source })
    }
}

/// A place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    source: Source,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
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

    #[test]
    fn one_source_never_takes_the_places_of_all() {
        let places = Places::new(3, 2);
        let held = [places.take(source("192.0.2.1")), places.take(source("192.0.2.1"))];
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(source("192.0.2.1")).is_none());
        let other = places.take(source("192.0.2.2"));
        assert!(other.is_some());
        assert!(places.take(source("192.0.2.3")).is_none());
        drop(other);
        assert!(places.take(source("192.0.2.3")).is_some());
        drop(held);
        assert!(places.held.lock().expect("lock").is_empty());
    }

    #[test]
    fn hosts_of_one_network_are_one_source_and_mapped_addresses_are_ipv4() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }
}
