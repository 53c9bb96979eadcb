//! Where one peer is reached: hints until a datagram of the peer proves an address.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Candidates published by one node and kept for one peer; a record may claim more, nobody has more that help.
pub const CANDIDATES_MAX: usize = 12;
/// Candidates of one address family that an initiation is sent to: bounds the amplification a record causes.
pub const FAMILY_MAX: usize = 6;

/// The candidates of a peer and its proven endpoint.
///
/// Only authenticated datagrams move the endpoint; a new set of candidates never does.
#[derive(Debug, Clone, Default)]
pub struct Path {
    candidates: Vec<SocketAddr>,
    confirmed: Option<SocketAddr>,
}

impl Path {
    /// A path with no proven endpoint.
    pub fn new(candidates: &[SocketAddr], overlay: &[IpNet]) -> Self {
        let mut path = Self::default();
        path.set_candidates(candidates, overlay);
        path
    }

    /// Replaces the candidates, keeps the proven endpoint. Returns whether an address was added.
    pub fn set_candidates(&mut self, candidates: &[SocketAddr], overlay: &[IpNet]) -> bool {
        let mut kept: Vec<SocketAddr> = Vec::with_capacity(candidates.len().min(CANDIDATES_MAX));
        let (mut v4, mut v6) = (0, 0);
        for candidate in candidates {
            let candidate = canonical(*candidate);
            if !is_usable(candidate, overlay) || kept.contains(&candidate) {
                continue;
            }
            let family = if candidate.is_ipv4() { &mut v4 } else { &mut v6 };
            if *family < FAMILY_MAX && kept.len() < CANDIDATES_MAX {
                *family += 1;
                kept.push(candidate);
            }
        }
        let added = kept.iter().any(|candidate| !self.candidates.contains(candidate));
        self.candidates = kept;
        added
    }

    /// Takes the source of an authenticated datagram as the endpoint. Returns whether it changed.
    pub fn confirm(&mut self, source: SocketAddr) -> bool {
        let source = canonical(source);
        let changed = self.confirmed != Some(source);
        self.confirmed = Some(source);
        changed
    }

    /// The proven endpoint.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        self.confirmed
    }

    /// Whether there is any address to send to.
    pub fn is_known(&self) -> bool {
        self.confirmed.is_some() || !self.candidates.is_empty()
    }

    /// Where a handshake initiation goes: the proven endpoint alone while it answers, else everywhere.
    pub fn initiation_targets(&self, answers: bool) -> Vec<SocketAddr> {
        match self.confirmed {
            Some(endpoint) if answers => vec![endpoint],
            Some(endpoint) => {
                let others = self.candidates.iter().copied().filter(|candidate| *candidate != endpoint);
                std::iter::once(endpoint).chain(others).collect()
            }
            None => self.candidates.clone(),
        }
    }
}

/// An IPv4-mapped IPv6 address is the IPv4 address; flow labels do not tell endpoints apart.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => SocketAddr::V6(std::net::SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id())),
        },
    }
}

/// Whether `address` lies inside one of the overlay prefixes: such an outer address would loop the tunnel
/// into itself.
pub fn is_overlay(address: IpAddr, overlay: &[IpNet]) -> bool {
    overlay.iter().any(|prefix| prefix.contains(&address))
}

fn is_usable(candidate: SocketAddr, overlay: &[IpNet]) -> bool {
    let ip = candidate.ip();
    let local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    candidate.port() != 0
        && !local
        && !ip.is_unspecified()
        && !ip.is_loopback()
        && !ip.is_multicast()
        && !is_overlay(ip, overlay)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV6;

    use super::*;
    use proptest::prelude::*;

    fn overlay() -> Vec<IpNet> {
        vec!["10.91.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()]
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn candidates_that_lead_nowhere_or_into_the_tunnel_are_refused() {
        let refused = addresses(&[
            "10.91.3.4:51820",
            "[::ffff:10.91.3.4]:51820",
            "[fd00::5]:51820",
            "127.0.0.1:51820",
            "0.0.0.0:51820",
            "224.0.0.1:51820",
            "255.255.255.255:51820",
            "169.254.1.1:51820",
            "[fe80::1]:51820",
            "192.0.2.1:0",
            "0.1.2.3:51820",
            "[::]:51820",
            "[::1]:51820",
            "[ff02::1]:51820",
        ]);
        let path = Path::new(&refused, &overlay());
        assert!(!path.is_known(), "{path:?}");
    }

    #[test]
    fn an_unproven_path_tries_every_candidate() {
        let candidates = addresses(&["192.0.2.1:51820", "[2001:db8::1]:51820"]);
        let path = Path::new(&candidates, &overlay());
        assert_eq!(path.initiation_targets(true), candidates);
        assert_eq!(path.endpoint(), None);
    }

    #[test]
    fn a_proven_endpoint_is_used_alone_until_it_falls_silent() {
        let candidates = addresses(&["192.0.2.1:51820", "192.0.2.2:51820"]);
        let proven: SocketAddr = "198.51.100.1:4000".parse().unwrap();
        let mut path = Path::new(&candidates, &overlay());
        assert!(path.confirm(proven));
        assert!(!path.confirm(proven));
        assert_eq!(path.initiation_targets(true), vec![proven]);
        assert_eq!(path.initiation_targets(false), [&[proven][..], &candidates].concat());
    }

    #[test]
    fn new_candidates_never_move_a_proven_endpoint() {
        let proven: SocketAddr = "198.51.100.1:4000".parse().unwrap();
        let mut path = Path::default();
        path.confirm(proven);
        assert!(path.set_candidates(&addresses(&["192.0.2.9:51820"]), &overlay()));
        assert_eq!(path.endpoint(), Some(proven));
        assert!(!path.set_candidates(&addresses(&["192.0.2.9:51820"]), &overlay()));
    }

    #[test]
    fn one_endpoint_has_one_form() {
        let mut path = Path::default();
        assert!(path.confirm("[::ffff:192.0.2.1]:51820".parse().unwrap()));
        assert_eq!(path.endpoint(), Some("192.0.2.1:51820".parse().unwrap()));
        assert!(!path.confirm("192.0.2.1:51820".parse().unwrap()));

        let v6 = |flow, scope| {
            SocketAddr::V6(SocketAddrV6::new("2001:db8::1".parse().unwrap(), 4000, flow, scope))
        };
        assert!(path.confirm(v6(1, 0)));
        assert!(!path.confirm(v6(2, 0)));
        // The same address on another link is another endpoint.
        assert!(path.confirm(v6(2, 3)));
    }

    #[test]
    fn an_address_is_tried_once() {
        let once = addresses(&["192.0.2.1:51820"]);
        let mut path = Path::new(&[once[0], once[0]], &overlay());
        assert_eq!(path.initiation_targets(false), once);
        path.confirm(once[0]);
        assert_eq!(path.initiation_targets(false), once);
    }

    #[test]
    fn a_peer_that_moves_takes_the_endpoint_along() {
        let mut path = Path::default();
        for source in addresses(&["192.0.2.1:4000", "192.0.2.1:4001", "[2001:db8::1]:4000"]) {
            assert!(path.confirm(source));
            assert_eq!(path.initiation_targets(true), [source]);
        }
    }

    #[test]
    fn candidates_that_a_newer_record_lacks_are_tried_no_more() {
        let mut path = Path::new(&addresses(&["192.0.2.1:51820", "192.0.2.2:51820"]), &overlay());
        let newer = addresses(&["192.0.2.2:51820"]);
        assert!(!path.set_candidates(&newer, &overlay()));
        assert_eq!(path.initiation_targets(false), newer);
    }

    proptest! {
        #[test]
        fn a_record_cannot_make_us_send_to_more_than_the_bound(
            candidates in proptest::collection::vec((any::<[u8; 16]>(), any::<u16>(), any::<bool>()), 0..64),
        ) {
            let candidates: Vec<SocketAddr> = candidates
                .into_iter()
                .map(|(bytes, port, v4)| {
                    let ip = if v4 {
                        IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
                    } else {
                        IpAddr::from(bytes)
                    };
                    SocketAddr::new(ip, port)
                })
                .collect();
            let targets = Path::new(&candidates, &overlay()).initiation_targets(false);
            prop_assert!(targets.len() <= CANDIDATES_MAX);
            prop_assert!(targets.iter().filter(|target| target.is_ipv4()).count() <= FAMILY_MAX);
            prop_assert!(targets.iter().filter(|target| target.is_ipv6()).count() <= FAMILY_MAX);
            prop_assert!(targets.iter().all(|target| is_usable(*target, &overlay())));
        }
    }
}
