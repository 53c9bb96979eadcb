//! The ICMP answer to a packet whose destination nobody serves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::bucket::TokenBucket;
use crate::checksum;
use crate::ip::{IpPacket, PROTO_ICMP, PROTO_ICMPV6, V4_HEADER_LEN, V6_HEADER_LEN};

/// Longest ICMPv4 error: RFC 1812 section 4.3.2.3.
pub const V4_LEN_MAX: usize = 576;
/// Longest ICMPv6 error: the minimum MTU, RFC 4443 section 2.4 (c).
pub const V6_LEN_MAX: usize = 1280;

/// Errors a second: a port scan of the mesh learns its answers quickly, a loop cannot burn a core.
const RATE_PER_S: u32 = 200;
/// Errors at once: a ping sweep of a /24 gets all its answers.
const BURST: u32 = 256;
/// Bytes of the ICMP header before the quoted packet.
const ICMP_HEADER_LEN: usize = 8;
const TTL: u8 = 64;

/// Says why a packet gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e) forbid an answer to this packet.
    #[error("not a packet that may be answered with an error")]
    Forbidden,
    /// Too many answers were given in the last second.
    #[error("too many errors were sent")]
    RateLimited,
}

/// Builds "unreachable" answers: ICMP type 3 code 1 (host), ICMPv6 type 1 code 3 (address).
///
/// An answer comes from the unreachable address itself: the host refuses its own address as the source of a
/// received packet, and a reverse path filter accepts the answer because that address is routed to the device.
#[derive(Debug)]
pub struct Unreachable {
    overlay: Vec<IpNet>,
    bucket: TokenBucket,
}

impl Unreachable {
    /// `overlay` are the prefixes whose broadcast addresses are never answered for.
    pub fn new(overlay: Vec<IpNet>, now: Duration) -> Self {
        Self { overlay, bucket: TokenBucket::new(RATE_PER_S, BURST, now) }
    }

    /// The complete answer to `packet`, ready for the device it came from.
    pub fn answer(&mut self, packet: &IpPacket<'_>, now: Duration) -> Result<Vec<u8>, NoAnswer> {
        if !self.may_answer(packet) {
            return Err(NoAnswer::Forbidden);
        }
        if !self.bucket.take(now) {
            return Err(NoAnswer::RateLimited);
        }
        match (packet.source(), packet.destination()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Ok(answer_v4(packet.bytes(), destination, source))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Ok(answer_v6(packet.bytes(), destination, source))
            }
            _ => Err(NoAnswer::Forbidden),
        }
    }

    fn may_answer(&self, packet: &IpPacket<'_>) -> bool {
        self.is_host(packet.source())
            && self.is_host(packet.destination())
            && !packet.is_later_fragment()
            && !is_icmp_error(packet)
    }

    /// Whether `address` names one host: no multicast, broadcast, loopback or unspecified address.
    fn is_host(&self, address: IpAddr) -> bool {
        if address.is_multicast() || address.is_unspecified() || address.is_loopback() {
            return false;
        }
        match address {
            IpAddr::V4(v4) => {
                !v4.is_broadcast()
                    && v4.octets()[0] != 0
                    && !self.overlay.iter().any(|net| match net {
                        IpNet::V4(net) => net.prefix_len() < 31 && net.broadcast() == v4,
                        IpNet::V6(_) => false,
                    })
            }
            IpAddr::V6(_) => true,
        }
    }
}

/// Whether the packet is an ICMP message other than a query, or too short to tell.
fn is_icmp_error(packet: &IpPacket<'_>) -> bool {
    let kind = packet.payload().first().copied();
    match packet.protocol() {
        // Echo, router solicitation, timestamp, information, address mask and their replies are no errors.
        PROTO_ICMP => !matches!(kind, Some(0 | 8 | 9 | 10 | 13..=18 | 42 | 43)),
        PROTO_ICMPV6 => kind.is_none_or(|kind| kind < 128 || kind == 137),
        _ => false,
    }
}

fn answer_v4(offending: &[u8], source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let quoted = offending.get(..V4_LEN_MAX - V4_HEADER_LEN - ICMP_HEADER_LEN).unwrap_or(offending);
    let total = V4_HEADER_LEN + ICMP_HEADER_LEN + quoted.len();
    let mut icmp = [3, 1, 0, 0, 0, 0, 0, 0];
    let sum = checksum::finish(checksum::add(checksum::add(0, &icmp), quoted));
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut answer = Vec::with_capacity(total);
    answer.extend(v4_header(source, destination, total as u16, PROTO_ICMP));
    answer.extend(icmp);
    answer.extend(quoted);
    answer
}

fn answer_v6(offending: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let quoted = offending.get(..V6_LEN_MAX - V6_HEADER_LEN - ICMP_HEADER_LEN).unwrap_or(offending);
    let payload_len = ICMP_HEADER_LEN + quoted.len();
    let mut icmp = [1, 3, 0, 0, 0, 0, 0, 0];
    let pseudo = checksum::pseudo_v6(source, destination, payload_len, PROTO_ICMPV6);
    let sum = checksum::finish(checksum::add(checksum::add(pseudo, &icmp), quoted));
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut answer = Vec::with_capacity(V6_HEADER_LEN + payload_len);
    answer.extend(v6_header(source, destination, payload_len as u16, PROTO_ICMPV6));
    answer.extend(icmp);
    answer.extend(quoted);
    answer
}

pub(crate) fn v4_header(source: Ipv4Addr, destination: Ipv4Addr, total: u16, protocol: u8) -> [u8; 20] {
    let mut header = [0u8; V4_HEADER_LEN];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    // Don't fragment: with it a zero identification is unique enough (RFC 6864).
    header[6] = 0x40;
    header[8] = TTL;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum = checksum::finish(checksum::add(0, &header));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

pub(crate) fn v6_header(source: Ipv6Addr, destination: Ipv6Addr, payload_len: u16, protocol: u8) -> [u8; 40] {
    let mut header = [0u8; V6_HEADER_LEN];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&payload_len.to_be_bytes());
    header[6] = protocol;
    header[7] = TTL;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
                assert_eq!(checksum::finish(checksum::add(0, &answer[..V4_HEADER_LEN])), 0);
                assert_eq!(checksum::finish(checksum::add(0, parsed.payload())), 0);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                assert!(answer.len() <= V6_LEN_MAX);
                assert_eq!(parsed.payload()[..2], [1, 3]);
                let pseudo = checksum::pseudo_v6(source, destination, parsed.payload().len(), PROTO_ICMPV6);
                assert_eq!(checksum::finish(checksum::add(pseudo, parsed.payload())), 0);
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
