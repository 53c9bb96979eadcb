//! The ICMP answer to a packet that the path to its destination cannot carry.

use std::time::Duration;

use ipnet::IpNet;

use crate::icmp_error::{Errors, Header, NoAnswer};
use crate::ip::IpPacket;

/// No IPv6 path is narrower (RFC 8200 section 5), so a host does not believe a smaller number.
const V6_MTU_MIN: u16 = 1280;

/// Builds "fragmentation needed" (ICMP type 3 code 4) and "packet too big" (ICMPv6 type 2) answers.
#[derive(Debug)]
pub struct TooBig(Errors);

impl TooBig {
    /// `overlay` are the prefixes whose broadcast addresses are never answered for.
    pub fn new(overlay: Vec<IpNet>, now: Duration) -> Self {
        Self(Errors::new(overlay, now))
    }

    /// The complete answer to `packet`, which is longer than `mtu`, ready for the device it came from.
    pub fn answer(&mut self, packet: &IpPacket<'_>, mtu: u16, now: Duration) -> Result<Vec<u8>, NoAnswer> {
        let [v4_high, v4_low] = mtu.to_be_bytes();
        let [v6_high, v6_low] = mtu.max(V6_MTU_MIN).to_be_bytes();
        let header =
            Header { v4: [3, 4, 0, 0, 0, 0, v4_high, v4_low], v6: [2, 0, 0, 0, 0, 0, v6_high, v6_low] };
        self.0.answer(packet, header, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Sum;
    use crate::icmp_error::BURST;
    use crate::ip::{PROTO_UDP, V4_HEADER_LEN, v4_header, v6_header};
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn v4_packet() -> Vec<u8> {
        let mut packet =
            v4_header(Ipv4Addr::new(10, 91, 0, 1), Ipv4Addr::new(10, 91, 0, 2), 1420, PROTO_UDP).to_vec();
        packet.resize(1420, 7);
        packet
    }

    fn answer(packet: &[u8], mtu: u16) -> Vec<u8> {
        TooBig::new(Vec::new(), Duration::ZERO)
            .answer(&IpPacket::parse(packet).unwrap(), mtu, Duration::ZERO)
            .unwrap()
    }

    #[test]
    fn the_sender_learns_the_mtu_in_ipv4() {
        let packet = v4_packet();
        let answer = answer(&packet, 1240);
        let parsed = IpPacket::parse(&answer).unwrap();
        assert_eq!(parsed.destination(), IpPacket::parse(&packet).unwrap().source());
        assert_eq!(parsed.payload()[..2], [3, 4]);
        assert_eq!(parsed.payload()[4..8], [0, 0, 1240u16.to_be_bytes()[0], 1240u16.to_be_bytes()[1]]);
        assert!(packet.starts_with(&parsed.payload()[8..]));
        assert_eq!(Sum::of(&answer[..V4_HEADER_LEN]).finish(), [0, 0]);
        assert_eq!(Sum::of(parsed.payload()).finish(), [0, 0]);
    }

    #[test]
    fn the_sender_learns_the_mtu_in_ipv6_but_none_below_the_minimum() {
        let (source, destination) = (Ipv6Addr::from([0xfd; 16]), Ipv6Addr::from([0xfc; 16]));
        let mut packet = v6_header(source, destination, 1380, PROTO_UDP).to_vec();
        packet.resize(1420, 7);
        for (mtu, told) in [(1400u16, 1400u32), (1000, 1280)] {
            let answer = answer(&packet, mtu);
            let parsed = IpPacket::parse(&answer).unwrap();
            assert_eq!(parsed.payload()[..2], [2, 0]);
            assert_eq!(parsed.payload()[4..8], told.to_be_bytes());
            let pseudo =
                Sum::pseudo_v6(destination, source, parsed.payload().len() as u16, parsed.protocol());
            assert_eq!(pseudo.with(parsed.payload()).finish(), [0, 0]);
        }
    }

    #[test]
    fn a_flood_is_answered_at_the_rate_only_and_an_error_never() {
        let mut too_big = TooBig::new(Vec::new(), Duration::ZERO);
        let bytes = v4_packet();
        let packet = IpPacket::parse(&bytes).unwrap();
        let answered = (0..1000).filter(|_| too_big.answer(&packet, 1240, Duration::ZERO).is_ok()).count();
        assert_eq!(answered, BURST as usize);
        let error = answer(&bytes, 1240);
        let refused = too_big.answer(&IpPacket::parse(&error).unwrap(), 500, Duration::from_secs(9));
        assert_eq!(refused, Err(NoAnswer::Forbidden));
    }
}
