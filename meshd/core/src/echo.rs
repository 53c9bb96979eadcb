//! ICMP echo, built and recognised for the tunnel-level ping.

use std::net::IpAddr;

use crate::checksum::Sum;
use crate::ip::{self, IpPacket, PROTO_ICMP, PROTO_ICMPV6, V4_HEADER_LEN, V6_HEADER_LEN};

/// Bytes of an echo's ICMP header.
pub const ICMP_HEADER_LEN: usize = 8;

const V4_REQUEST: u8 = 8;
const V4_REPLY: u8 = 0;
const V6_REQUEST: u8 = 128;
const V6_REPLY: u8 = 129;

/// Names one echo request among those in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EchoId {
    /// ICMP identifier.
    pub id: u16,
    /// ICMP sequence number.
    pub sequence: u16,
}

/// Says why no echo request can be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EchoError {
    /// One address is IPv4, the other IPv6.
    #[error("addresses of different families")]
    MixedFamilies,
    /// The payload does not fit an IP packet.
    #[error("payload too long")]
    TooLong,
}

/// A complete echo request packet.
pub fn request(
    source: IpAddr,
    destination: IpAddr,
    echo: EchoId,
    payload: &[u8],
) -> Result<Vec<u8>, EchoError> {
    let icmp_len = ICMP_HEADER_LEN + payload.len();
    let id = echo.id.to_be_bytes();
    let sequence = echo.sequence.to_be_bytes();
    let mut icmp = [0, 0, 0, 0, id[0], id[1], sequence[0], sequence[1]];
    let mut packet = Vec::with_capacity(V6_HEADER_LEN + icmp_len);
    let pseudo = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(V4_HEADER_LEN + icmp_len).map_err(|_| EchoError::TooLong)?;
            packet.extend(ip::v4_header(source, destination, total, PROTO_ICMP));
            icmp[0] = V4_REQUEST;
            Sum::default()
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let len = u16::try_from(icmp_len).map_err(|_| EchoError::TooLong)?;
            packet.extend(ip::v6_header(source, destination, len, PROTO_ICMPV6));
            icmp[0] = V6_REQUEST;
            Sum::pseudo_v6(source, destination, len, PROTO_ICMPV6)
        }
        _ => return Err(EchoError::MixedFamilies),
    };
    let checksum = pseudo.with(&icmp).with(payload).finish();
    icmp[2..4].copy_from_slice(&checksum);
    packet.extend(icmp);
    packet.extend(payload);
    Ok(packet)
}

/// Recognises an echo reply and returns its names and payload. Its checksum is not looked at: the packet
/// came out of an authenticated tunnel.
pub fn reply<'a>(packet: &IpPacket<'a>) -> Option<(EchoId, &'a [u8])> {
    let expected = match (packet.protocol(), packet.source()) {
        (PROTO_ICMP, IpAddr::V4(_)) => V4_REPLY,
        (PROTO_ICMPV6, IpAddr::V6(_)) => V6_REPLY,
        _ => return None,
    };
    if packet.is_later_fragment() {
        return None;
    }
    let (icmp, payload) = packet.payload().split_first_chunk::<ICMP_HEADER_LEN>()?;
    if icmp[0] != expected || icmp[1] != 0 {
        return None;
    }
    let echo = EchoId {
        id: u16::from_be_bytes([icmp[4], icmp[5]]),
        sequence: u16::from_be_bytes([icmp[6], icmp[7]]),
    };
    Some((echo, payload))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ECHO: EchoId = EchoId { id: 0x1234, sequence: 7 };

    #[test]
    fn a_request_turned_into_its_reply_is_recognised() {
        for (source, destination, kind) in
            [("10.0.0.1", "10.0.0.2", V4_REPLY), ("fd00::1", "fd00::2", V6_REPLY)]
        {
            let mut bytes =
                request(source.parse().unwrap(), destination.parse().unwrap(), ECHO, b"payload").unwrap();
            assert_eq!(reply(&IpPacket::parse(&bytes).unwrap()), None, "a request is no reply");
            let at = bytes.len() - b"payload".len() - ICMP_HEADER_LEN;
            bytes[at] = kind;
            assert_eq!(reply(&IpPacket::parse(&bytes).unwrap()), Some((ECHO, &b"payload"[..])));
        }
    }

    #[test]
    fn what_only_looks_like_a_reply_is_none() {
        let source = "10.0.0.1".parse().unwrap();
        let mut honest = request(source, "10.0.0.2".parse().unwrap(), ECHO, b"").unwrap();
        honest[V4_HEADER_LEN] = V4_REPLY;
        // Another code; a later fragment.
        for (at, value) in [(V4_HEADER_LEN + 1, 1), (7, 1)] {
            let mut bytes = honest.clone();
            assert!(reply(&IpPacket::parse(&bytes).unwrap()).is_some());
            bytes[at] = value;
            assert_eq!(reply(&IpPacket::parse(&bytes).unwrap()), None, "byte {at}");
        }
    }

    #[test]
    fn families_do_not_mix() {
        let refused = request("10.0.0.1".parse().unwrap(), "fd00::2".parse().unwrap(), ECHO, &[]);
        assert_eq!(refused, Err(EchoError::MixedFamilies));
    }

    proptest! {
        #[test]
        fn requests_carry_a_correct_checksum(payload in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let bytes =
                request("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), ECHO, &payload).unwrap();
            prop_assert_eq!(Sum::of(&bytes[..V4_HEADER_LEN]).finish(), [0, 0]);
            prop_assert_eq!(Sum::of(&bytes[V4_HEADER_LEN..]).finish(), [0, 0]);
            let (source, destination) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
            let bytes = request(IpAddr::V6(source), IpAddr::V6(destination), ECHO, &payload).unwrap();
            let icmp = &bytes[V6_HEADER_LEN..];
            let pseudo = Sum::pseudo_v6(source, destination, icmp.len() as u16, PROTO_ICMPV6);
            prop_assert_eq!(pseudo.with(icmp).finish(), [0, 0]);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(packet) = IpPacket::parse(&bytes) {
                let _ = reply(&packet);
            }
        }
    }
}
