//! Addresses as ranges, since what is left of a prefix without parts of it is no prefix.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses of both families: sorted ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    v4: Vec<Range>,
    v6: Vec<Range>,
}

/// First and last address, as numbers.
type Range = (u128, u128);

impl Ranges {
    /// Unites prefixes, each without parts of it.
    pub fn of<'a>(parts: impl Iterator<Item = (&'a IpNet, &'a [IpNet])>) -> Self {
        let mut ranges = Self::default();
        for (net, except) in parts {
            let is_v4 = net.addr().is_ipv4();
            let except = except.iter().filter(|one| one.addr().is_ipv4() == is_v4);
            let left = without(range(net), united(except.map(range).collect()));
            if is_v4 { &mut ranges.v4 } else { &mut ranges.v6 }.extend(left);
        }
        Self { v4: united(ranges.v4), v6: united(ranges.v6) }
    }

    /// First and last addresses of one family; nothing if all addresses of it are meant.
    pub(super) fn of_family(&self, is_v4: bool) -> Option<Vec<(IpAddr, IpAddr)>> {
        let (ranges, last) = if is_v4 { (&self.v4, u128::from(u32::MAX)) } else { (&self.v6, u128::MAX) };
        let address = |number: u128| match u32::try_from(number) {
            Ok(number) if is_v4 => IpAddr::V4(Ipv4Addr::from(number)),
            Ok(_) | Err(_) => IpAddr::V6(Ipv6Addr::from(number)),
        };
        if ranges.as_slice() == [(0, last)] {
            return None;
        }
        Some(ranges.iter().map(|(first, last)| (address(*first), address(*last))).collect())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

fn range(net: &IpNet) -> Range {
    match net {
        IpNet::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}

fn united(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut united: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match united.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            Some(_) | None => united.push((first, last)),
        }
    }
    united
}

/// What is left of a range; what is taken away is sorted and does not overlap.
fn without((first, last): Range, taken: Vec<Range>) -> Vec<Range> {
    let (mut left, mut next) = (Vec::new(), Some(first));
    for (from, to) in taken.into_iter().filter(|(from, to)| *from <= last && *to >= first) {
        if let Some(next) = next.filter(|next| *next < from) {
            left.push((next, from - 1));
        }
        next = to.checked_add(1);
    }
    left.extend(next.filter(|next| *next <= last).map(|next| (next, last)));
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a prefix")).collect()
    }

    fn shown(parts: &[(&str, &[&str])], is_v4: bool) -> Option<Vec<String>> {
        let parts: Vec<(IpNet, Vec<IpNet>)> =
            parts.iter().map(|(net, except)| (net.parse().expect("a prefix"), nets(except))).collect();
        let ranges = Ranges::of(parts.iter().map(|(net, except)| (net, except.as_slice())));
        let ranges = ranges.of_family(is_v4)?;
        Some(ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect())
    }

    #[test]
    fn exceptions_hold_for_their_own_peer_alone() {
        let all = ("0.0.0.0/0", &["10.0.0.0/8"][..]);
        assert_eq!(
            shown(&[all], true),
            Some(vec!["0.0.0.0-9.255.255.255".into(), "11.0.0.0-255.255.255.255".into()])
        );
        assert_eq!(shown(&[all, ("10.0.0.0/8", &[])], true), None);
        assert_eq!(shown(&[("10.0.0.0/24", &["10.0.0.0/24"])], true), Some(Vec::new()));
        assert_eq!(shown(&[("10.0.0.0/24", &["0.0.0.0/0"])], true), Some(Vec::new()));
        assert_eq!(
            shown(&[("::/0", &["8000::/1"])], false),
            Some(vec!["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".into()])
        );
        assert_eq!(shown(&[("::/0", &["10.0.0.0/8"])], false), None);
    }

    proptest! {
        #[test]
        fn an_address_is_in_if_a_peer_has_it_and_does_not_except_it(
            parts in proptest::collection::vec(
                ((0u8..16, 24u8..=32), proptest::collection::vec((0u8..16, 26u8..=32), 0..4)), 0..5),
        ) {
            let net = |(last, len): (u8, u8)| IpNet::new([192, 0, 2, last * 16].into(), len).expect("net").trunc();
            let parts: Vec<(IpNet, Vec<IpNet>)> = parts
                .into_iter()
                .map(|(one, except)| (net(one), except.into_iter().map(net).collect()))
                .collect();
            let ranges = Ranges::of(parts.iter().map(|(net, except)| (net, except.as_slice())));
            let ranges = ranges.of_family(true).expect("not all");
            for last in 0..=255 {
                let address = IpAddr::from([192, 0, 2, last]);
                let wanted = parts.iter().any(|(net, except)| {
                    net.contains(&address) && !except.iter().any(|one| one.contains(&address))
                });
                let found = ranges.iter().filter(|(first, last)| (*first..=*last).contains(&address)).count();
                prop_assert_eq!(found, usize::from(wanted));
            }
        }
    }
}
