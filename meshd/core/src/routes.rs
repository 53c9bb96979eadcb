//! Which peer owns an address.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

/// Longest-prefix-match table from overlay prefixes to their owners.
///
/// It is built once, published and never changed: a new set of peers is a new table.
#[derive(Debug, Clone)]
pub struct RouteTable<T> {
    v4: PrefixMap<Ipv4Net, T>,
    v6: PrefixMap<Ipv6Net, T>,
}

/// Says that an inner source address does not belong to the peer that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("source address {0} does not belong to the sender")]
pub struct BadSource(pub IpAddr);

impl<T> Default for RouteTable<T> {
    fn default() -> Self {
        Self { v4: PrefixMap::new(), v6: PrefixMap::new() }
    }
}

impl<T> RouteTable<T> {
    /// Gives `prefix` to `owner` unless it has an owner already: the first claim stays. Returns whether it
    /// was given.
    pub fn claim(&mut self, prefix: IpNet, owner: T) -> bool {
        match prefix.trunc() {
            IpNet::V4(prefix) => match self.v4.entry(prefix) {
                prefix_trie::map::Entry::Vacant(entry) => {
                    entry.insert(owner);
                    true
                }
                prefix_trie::map::Entry::Occupied(_) => false,
            },
            IpNet::V6(prefix) => match self.v6.entry(prefix) {
                prefix_trie::map::Entry::Vacant(entry) => {
                    entry.insert(owner);
                    true
                }
                prefix_trie::map::Entry::Occupied(_) => false,
            },
        }
    }

    /// Owner of the most specific prefix that holds `address`.
    pub fn owner(&self, address: IpAddr) -> Option<&T> {
        match address {
            IpAddr::V4(address) => self.v4.get_lpm(&Ipv4Net::from(address)).map(|(_, owner)| owner),
            IpAddr::V6(address) => self.v6.get_lpm(&Ipv6Net::from(address)).map(|(_, owner)| owner),
        }
    }

    /// Accepts a source address only if its most specific owner satisfies `is_sender`.
    ///
    /// A wider prefix of the sender does not help when someone else owns a narrower one inside it.
    pub fn check_source(&self, source: IpAddr, is_sender: impl Fn(&T) -> bool) -> Result<(), BadSource> {
        match self.owner(source) {
            Some(owner) if is_sender(owner) => Ok(()),
            _ => Err(BadSource(source)),
        }
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
            let expected =
                list.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
            prop_assert_eq!(table.owner(address.into()), expected.map(|(_, owner)| owner));
            for sender in 0..8 {
                let accepted = table.check_source(address.into(), |owner| *owner == sender).is_ok();
                prop_assert_eq!(accepted, expected.is_some_and(|(_, owner)| *owner == sender));
            }
        }
    }
}
