//! Which peer owns an address.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// Longest-prefix-match table from overlay prefixes to their owners.
///
/// It is built once, published and never changed: a new set of peers is a new table. Nearly all prefixes of a mesh are
/// single hosts, which are found by hash; a trie has the rest.
#[derive(Debug, Clone)]
pub struct RouteTable<T> {
    owners: Vec<T>,
    /// Indices of owners, here and below.
    hosts4: HashMap<u32, u32>,
    hosts6: HashMap<u128, u32>,
    nets4: PrefixMap<Ipv4Net, u32>,
    nets6: PrefixMap<Ipv6Net, u32>,
}

/// Says that an inner source address does not belong to the peer that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("source address {0} does not belong to the sender")]
pub struct BadSource(pub IpAddr);

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self {
            owners: Vec::new(),
            hosts4: HashMap::new(),
            hosts6: HashMap::new(),
            nets4: PrefixMap::new(),
            nets6: PrefixMap::new(),
        }
    }
}

impl<T> RouteTable<T> {
    /// Gives `prefix` to `owner` unless it has an owner already: the first claim stays. Returns whether it
    /// was given.
    pub fn claim(&mut self, prefix: IpNet, owner: T) -> bool {
        // No truncation: a table of 2^32 prefixes does not fit in memory.
        let index = self.owners.len() as u32;
        let holder = match prefix.trunc() {
            IpNet::V4(net) if net.prefix_len() == 32 => {
                *self.hosts4.entry(net.addr().into()).or_insert(index)
            }
            IpNet::V6(net) if net.prefix_len() == 128 => {
                *self.hosts6.entry(net.addr().into()).or_insert(index)
            }
            IpNet::V4(net) => *self.nets4.entry(net).or_insert(index),
            IpNet::V6(net) => *self.nets6.entry(net).or_insert(index),
        };
        let is_given = holder == index;
        if is_given {
            self.owners.push(owner);
        }
        is_given
    }

    /// Owner of the most specific prefix that holds `address`.
    #[inline]
    pub fn owner(&self, address: IpAddr) -> Option<&T> {
        let index = match address {
            IpAddr::V4(v4) => match self.hosts4.get(&u32::from(v4)) {
                Some(index) => index,
                None => self.nets4.get_lpm(&Ipv4Net::from(v4))?.1,
            },
            IpAddr::V6(v6) => match self.hosts6.get(&u128::from(v6)) {
                Some(index) => index,
                None => self.nets6.get_lpm(&Ipv6Net::from(v6))?.1,
            },
        };
        self.owners.get(*index as usize)
    }

    /// Accepts a source address only if its most specific owner satisfies `is_sender`.
    ///
    /// A wider prefix of the sender does not help when someone else owns a narrower one inside it.
    pub fn check_source(&self, source: IpAddr, is_sender: impl Fn(&T) -> bool) -> Result<(), BadSource> {
        check(self.owner(source), source, is_sender)
    }

    /// Lookups that remember the last one.
    pub fn lookups(&self) -> Lookups<'_, T> {
        Lookups { table: self, last: None }
    }
}

/// Lookups in one table by one thread: packets to or from the address before cost a comparison.
///
/// It borrows the table, so it cannot outlive what it remembers.
#[derive(Debug)]
pub struct Lookups<'t, T> {
    table: &'t RouteTable<T>,
    last: Option<(IpAddr, &'t T)>,
}

impl<'t, T> Lookups<'t, T> {
    /// As [`RouteTable::owner`].
    #[inline]
    pub fn owner(&mut self, address: IpAddr) -> Option<&'t T> {
        if let Some((last, owner)) = self.last
            && last == address
        {
            return Some(owner);
        }
        let owner = self.table.owner(address)?;
        self.last = Some((address, owner));
        Some(owner)
    }

    /// As [`RouteTable::check_source`].
    #[inline]
    pub fn check_source(&mut self, source: IpAddr, is_sender: impl Fn(&T) -> bool) -> Result<(), BadSource> {
        check(self.owner(source), source, is_sender)
    }
}

#[inline]
fn check<T>(owner: Option<&T>, source: IpAddr, is_sender: impl Fn(&T) -> bool) -> Result<(), BadSource> {
    match owner {
        Some(owner) if is_sender(owner) => Ok(()),
        Some(_) | None => Err(BadSource(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(claims: &[(&str, u32)]) -> RouteTable<u32> {
        let mut table = RouteTable::default();
        for (prefix, owner) in claims {
            table.claim(prefix.parse().unwrap(), *owner);
        }
        table
    }

    #[test]
    fn the_most_specific_prefix_wins() {
        let table = table(&[("10.91.0.0/24", 1), ("10.91.0.7/32", 2), ("fd00::/64", 3), ("fd00::7/128", 4)]);
        assert_eq!(table.owner("10.91.0.7".parse().unwrap()), Some(&2));
        assert_eq!(table.owner("10.91.0.8".parse().unwrap()), Some(&1));
        assert_eq!(table.owner("fd00::7".parse().unwrap()), Some(&4));
        assert_eq!(table.owner("fd00::8".parse().unwrap()), Some(&3));
        assert_eq!(table.owner("10.92.0.1".parse().unwrap()), None);
    }

    #[test]
    fn the_owner_of_a_wide_prefix_cannot_speak_for_a_narrow_one() {
        let table = table(&[("10.91.0.0/24", 1), ("10.91.0.7/32", 2)]);
        let source = "10.91.0.7".parse().unwrap();
        assert_eq!(table.check_source(source, |owner| *owner == 1), Err(BadSource(source)));
        assert_eq!(table.check_source(source, |owner| *owner == 2), Ok(()));
    }

    #[test]
    fn the_first_claim_stays() {
        let mut table = table(&[("10.91.0.7/32", 1)]);
        assert!(!table.claim("10.91.0.7/32".parse().unwrap(), 2));
        assert_eq!(table.owner("10.91.0.7".parse().unwrap()), Some(&1));
        assert!(table.claim("fd00::7/128".parse().unwrap(), 1));
        assert!(!table.claim("fd00::7/128".parse().unwrap(), 2));
        assert_eq!(table.owner("fd00::7".parse().unwrap()), Some(&1));
    }

    #[test]
    fn host_bits_make_no_other_prefix() {
        let mut table = table(&[("10.91.0.7/24", 1), ("fd00::7/64", 1)]);
        assert!(!table.claim("10.91.0.0/24".parse().unwrap(), 2));
        assert!(!table.claim("fd00::/64".parse().unwrap(), 2));
        assert_eq!(table.owner("10.91.0.9".parse().unwrap()), Some(&1));
        assert_eq!(table.owner("fd00::9".parse().unwrap()), Some(&1));
    }

    #[test]
    fn a_lookup_remembers_no_other_address() {
        let table = table(&[("10.91.0.7/32", 1), ("10.91.0.0/24", 2), ("fd00::7/128", 3)]);
        let mut lookups = table.lookups();
        for _ in 0..2 {
            for (address, owner) in
                [("10.91.0.7", Some(1)), ("10.91.0.8", Some(2)), ("fd00::7", Some(3)), ("::1", None)]
            {
                assert_eq!(lookups.owner(address.parse().unwrap()).copied(), owner, "{address}");
            }
        }
        let source = "10.91.0.7".parse().unwrap();
        assert_eq!(lookups.check_source(source, |owner| *owner == 2), Err(BadSource(source)));
        assert_eq!(lookups.check_source(source, |owner| *owner == 1), Ok(()));
    }

    proptest! {
        #[test]
        fn lookup_agrees_with_a_linear_search(
            claims in proptest::collection::vec((any::<u32>(), 0u8..=32, 0u32..8), 0..40),
            probe in any::<u32>(),
        ) {
            let mut table = RouteTable::default();
            let mut list: Vec<(Ipv4Net, u32)> = Vec::new();
            for (bits, len, owner) in claims {
                let net = Ipv4Net::new(bits.into(), len).unwrap().trunc();
                if table.claim(net.into(), owner) {
                    list.push((net, owner));
                }
            }
            let address = std::net::Ipv4Addr::from(probe);
            let mut lookups = table.lookups();
            let expected =
                list.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
            prop_assert_eq!(table.owner(address.into()), expected.map(|(_, owner)| owner));
            prop_assert_eq!(lookups.owner(address.into()), table.owner(address.into()));
            for sender in 0..8 {
                prop_assert_eq!(
                    lookups.check_source(address.into(), |owner| *owner == sender),
                    table.check_source(address.into(), |owner| *owner == sender)
                );
                let accepted = table.check_source(address.into(), |owner| *owner == sender).is_ok();
                prop_assert_eq!(accepted, expected.is_some_and(|(_, owner)| *owner == sender));
            }
        }
    }
}
