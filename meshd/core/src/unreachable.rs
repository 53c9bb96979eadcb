//! The ICMP answer to a packet whose destination nobody serves.

use std::time::Duration;

use ipnet::IpNet;

pub use crate::icmp_error::{NoAnswer, V4_LEN_MAX, V6_LEN_MAX};

use crate::icmp_error::{Errors, Header};
use crate::ip::IpPacket;

/// Builds "unreachable" answers: ICMP type 3 code 1 (host), ICMPv6 type 1 code 3 (address).
#[derive(Debug)]
pub struct Unreachable(Errors);

impl Unreachable {
    /// `overlay` are the prefixes whose broadcast addresses are never answered for.
    pub fn new(overlay: Vec<IpNet>, now: Duration) -> Self {
        Self(Errors::new(overlay, now))
    }

    /// The complete answer to `packet`, ready for the device it came from.
    pub fn answer(&mut self, packet: &IpPacket<'_>, now: Duration) -> Result<Vec<u8>, NoAnswer> {
        self.0.answer(packet, Header { v4: [3, 1, 0, 0, 0, 0, 0, 0], v6: [1, 3, 0, 0, 0, 0, 0, 0] }, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Sum;
    use crate::icmp_error::{BURST, ICMP_HEADER_LEN, RATE_PER_S};
    use crate::ip::{PROTO_ICMP, PROTO_ICMPV6, V4_HEADER_LEN, v4_header, v6_header};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    const V4_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);

    fn responder() -> Unreachable {
        Unreachable::new(vec!["10.91.0.0/16".parse().unwrap()], Duration::ZERO)
    }

    fn v4_packet(destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let total = (V4_HEADER_LEN + payload.len()) as u16;
        let mut packet = v4_header(V4_SOURCE, destination, total, protocol).to_vec();
        packet.extend(payload);
        packet
    }

    fn v6_packet(destination: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let source = "fd00::1".parse().unwrap();
        let mut packet =
            v6_header(source, destination.parse().unwrap(), payload.len() as u16, protocol).to_vec();
        packet.extend(payload);
        packet
    }

    fn assert_valid(answer: &[u8], offending: &[u8]) {
        let parsed = IpPacket::parse(answer).unwrap();
        let original = IpPacket::parse(offending).unwrap();
        assert_eq!(parsed.destination(), original.source());
        assert_eq!(parsed.source(), original.destination());
        let quoted = &parsed.payload()[ICMP_HEADER_LEN..];
        assert!(original.bytes().starts_with(quoted));
        match (parsed.source(), parsed.destination()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => {
                assert!(answer.len() <= V4_LEN_MAX);
                assert_eq!(parsed.payload()[..2], [3, 1]);
                assert_eq!(Sum::of(&answer[..V4_HEADER_LEN]).finish(), [0, 0]);
                assert_eq!(Sum::of(parsed.payload()).finish(), [0, 0]);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                assert!(answer.len() <= V6_LEN_MAX);
                assert_eq!(parsed.payload()[..2], [1, 3]);
                let pseudo = Sum::pseudo_v6(source, destination, parsed.payload().len() as u16, PROTO_ICMPV6);
                assert_eq!(pseudo.with(parsed.payload()).finish(), [0, 0]);
            }
            _ => panic!("mixed families"),
        }
    }

    fn answer(bytes: &[u8]) -> Result<Vec<u8>, NoAnswer> {
        responder().answer(&IpPacket::parse(bytes).unwrap(), Duration::ZERO)
    }

    #[test]
    fn an_icmp_error_is_never_answered() {
        let destination = Ipv4Addr::new(10, 91, 0, 9);
        assert_eq!(answer(&v4_packet(destination, PROTO_ICMP, &[3, 1, 0, 0])), Err(NoAnswer::Forbidden));
        assert_eq!(answer(&v4_packet(destination, PROTO_ICMP, &[])), Err(NoAnswer::Forbidden));
        assert!(answer(&v4_packet(destination, PROTO_ICMP, &[8, 0, 0, 0])).is_ok());
        assert_eq!(answer(&v6_packet("fd00::9", PROTO_ICMPV6, &[1, 3, 0, 0])), Err(NoAnswer::Forbidden));
        assert!(answer(&v6_packet("fd00::9", PROTO_ICMPV6, &[128, 0, 0, 0])).is_ok());
    }

    #[test]
    fn multicast_and_broadcast_are_never_answered() {
        for destination in ["224.0.0.1", "255.255.255.255", "10.91.255.255"] {
            let packet = v4_packet(destination.parse().unwrap(), 17, &[0; 8]);
            assert_eq!(answer(&packet), Err(NoAnswer::Forbidden), "{destination}");
        }
        assert_eq!(answer(&v6_packet("ff02::1", 17, &[0; 8])), Err(NoAnswer::Forbidden));
    }

    #[test]
    fn icmp_queries_alone_are_answered() {
        let v4 = |kind: u8| answer(&v4_packet(Ipv4Addr::new(10, 91, 0, 9), PROTO_ICMP, &[kind, 0, 0, 0]));
        for kind in [3, 4, 5, 11, 12, 40] {
            assert_eq!(v4(kind), Err(NoAnswer::Forbidden), "ICMP type {kind}");
        }
        for kind in [0, 8, 13, 18] {
            assert!(v4(kind).is_ok(), "ICMP type {kind}");
        }
        // A redirect, and no type at all.
        for payload in [&[137, 0, 0, 0][..], &[]] {
            let packet = v6_packet("fd00::9", PROTO_ICMPV6, payload);
            assert_eq!(answer(&packet), Err(NoAnswer::Forbidden), "ICMPv6 {payload:?}");
        }
    }

    #[test]
    fn a_later_fragment_is_never_answered() {
        let mut packet = v4_packet(Ipv4Addr::new(10, 91, 0, 9), 17, &[0; 8]);
        packet[7] = 1;
        assert_eq!(answer(&packet), Err(NoAnswer::Forbidden));
        let packet = v6_packet("fd00::9", 44, &[17, 0, 0, 8, 0, 0, 0, 0]);
        assert_eq!(answer(&packet), Err(NoAnswer::Forbidden));
    }

    #[test]
    fn nobody_is_answered_who_is_not_one_host() {
        for source in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "10.91.255.255"] {
            let source: Ipv4Addr = source.parse().unwrap();
            let packet = v4_header(source, Ipv4Addr::new(10, 91, 0, 9), V4_HEADER_LEN as u16, 17);
            assert_eq!(answer(&packet), Err(NoAnswer::Forbidden), "{source}");
        }
        for source in ["::", "::1", "ff02::1"] {
            let packet = v6_header(source.parse().unwrap(), "fd00::9".parse().unwrap(), 0, 17);
            assert_eq!(answer(&packet), Err(NoAnswer::Forbidden), "{source}");
        }
    }

    #[test]
    fn a_prefix_without_a_broadcast_address_has_none() {
        let overlay = vec!["10.91.0.8/31".parse().unwrap(), "10.91.0.7/32".parse().unwrap()];
        let mut responder = Unreachable::new(overlay, Duration::ZERO);
        for destination in [Ipv4Addr::new(10, 91, 0, 9), Ipv4Addr::new(10, 91, 0, 7)] {
            let packet = v4_packet(destination, 17, &[0; 8]);
            let answer = responder.answer(&IpPacket::parse(&packet).unwrap(), Duration::ZERO);
            assert!(answer.is_ok(), "{destination}");
        }
    }

    #[test]
    fn what_is_never_answered_takes_nothing_from_the_rate() {
        let mut responder = responder();
        let forbidden = v4_packet(Ipv4Addr::BROADCAST, 17, &[0; 8]);
        for _ in 0..=BURST {
            let answer = responder.answer(&IpPacket::parse(&forbidden).unwrap(), Duration::ZERO);
            assert_eq!(answer, Err(NoAnswer::Forbidden));
        }
        let packet = v4_packet(Ipv4Addr::new(10, 91, 0, 9), 17, &[0; 8]);
        assert!(responder.answer(&IpPacket::parse(&packet).unwrap(), Duration::ZERO).is_ok());
    }

    #[test]
    fn as_much_of_a_packet_is_quoted_as_may_be() {
        let v4 = v4_packet(Ipv4Addr::new(10, 91, 0, 9), 17, &[7; 2000]);
        assert_eq!(answer(&v4).unwrap().len(), V4_LEN_MAX);
        let v6 = v6_packet("fd00::9", 17, &[7; 2000]);
        assert_eq!(answer(&v6).unwrap().len(), V6_LEN_MAX);
    }

    #[test]
    fn a_flood_is_answered_at_the_rate_only() {
        let mut responder = responder();
        let bytes = v4_packet(Ipv4Addr::new(10, 91, 0, 9), 17, &[0; 8]);
        let packet = IpPacket::parse(&bytes).unwrap();
        let answered = (0..1000).filter(|_| responder.answer(&packet, Duration::ZERO).is_ok()).count();
        assert_eq!(answered, BURST as usize);
        assert_eq!(responder.answer(&packet, Duration::ZERO), Err(NoAnswer::RateLimited));
        let tenth = Duration::from_millis(100);
        let answered = (0..1000).filter(|_| responder.answer(&packet, tenth).is_ok()).count();
        assert_eq!(answered, RATE_PER_S as usize / 10);
    }

    proptest! {
        #[test]
        fn answers_are_well_formed_and_bounded(payload in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let packet = v4_packet(Ipv4Addr::new(10, 91, 0, 9), 17, &payload);
            assert_valid(&answer(&packet).unwrap(), &packet);
            let packet = v6_packet("fd00::9", 17, &payload);
            assert_valid(&answer(&packet).unwrap(), &packet);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), v6 in any::<bool>()) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            if let Ok(packet) = IpPacket::parse(&bytes)
                && let Ok(answer) = responder().answer(&packet, Duration::ZERO)
            {
                assert_valid(&answer, &bytes);
            }
        }
    }
}
