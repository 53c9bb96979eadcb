//! One IP packet, its header parsed with bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of the shortest IPv4 header.
pub const V4_HEADER_LEN: usize = 20;
/// Bytes of the IPv6 header without extensions.
pub const V6_HEADER_LEN: usize = 40;
/// Protocol number of ICMP for IPv4.
pub const PROTO_ICMP: u8 = 1;
/// Protocol number of ICMP for IPv6.
pub const PROTO_ICMPV6: u8 = 58;

/// Extension headers walked before a packet is called opaque: more than any honest host sends.
const EXTENSIONS_MAX: usize = 8;

/// Says why bytes are not an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotIp {
    /// Fewer bytes than a header has.
    #[error("too short for an IP header")]
    TooShort,
    /// Neither version 4 nor 6.
    #[error("unknown IP version {0}")]
    Version(u8),
    /// The header's own length does not fit.
    #[error("wrong length in the IP header")]
    Length,
}

/// A view on one IP packet, trimmed to the length its header states.
#[derive(Debug, Clone, Copy)]
pub struct IpPacket<'a> {
    bytes: &'a [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload_at: usize,
    later_fragment: bool,
}

impl<'a> IpPacket<'a> {
    /// Parses the header; bytes beyond the stated length (padding) are cut off.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotIp> {
        match bytes.first().ok_or(NotIp::TooShort)? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            version => Err(NotIp::Version(version)),
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Result<Self, NotIp> {
        let header: &[u8; V4_HEADER_LEN] = bytes.first_chunk().ok_or(NotIp::TooShort)?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_len < V4_HEADER_LEN || total_len < header_len {
            return Err(NotIp::Length);
        }
        let bytes = bytes.get(..total_len).ok_or(NotIp::Length)?;
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
        Ok(Self {
            bytes,
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            protocol: header[9],
            payload_at: header_len,
            later_fragment: fragment != 0,
        })
    }

    fn parse_v6(bytes: &'a [u8]) -> Result<Self, NotIp> {
        let header: &[u8; V6_HEADER_LEN] = bytes.first_chunk().ok_or(NotIp::TooShort)?;
        let total_len = usize::from(u16::from_be_bytes([header[4], header[5]])) + V6_HEADER_LEN;
        let bytes = bytes.get(..total_len).ok_or(NotIp::Length)?;
        let address = |at: usize| -> Result<Ipv6Addr, NotIp> {
            let octets: [u8; 16] =
                bytes.get(at..at + 16).and_then(|b| b.try_into().ok()).ok_or(NotIp::TooShort)?;
            Ok(octets.into())
        };
        let (protocol, payload_at, later_fragment) = upper_layer_v6(bytes, header[6]);
        Ok(Self {
            bytes,
            source: address(8)?.into(),
            destination: address(24)?.into(),
            protocol,
            payload_at,
            later_fragment,
        })
    }

    /// The packet, without padding.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Source address.
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// Destination address.
    pub fn destination(&self) -> IpAddr {
        self.destination
    }

    /// Upper-layer protocol, behind IPv6 extension headers.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Bytes of the upper layer; empty when they lie beyond the packet.
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.payload_at..).unwrap_or_default()
    }

    /// Whether this is a fragment other than the first, which carries no upper-layer header.
    pub fn is_later_fragment(&self) -> bool {
        self.later_fragment
    }
}

/// Walks IPv6 extension headers to (protocol, offset of its header, later fragment).
fn upper_layer_v6(bytes: &[u8], mut next: u8) -> (u8, usize, bool) {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const DESTINATION: u8 = 60;
    let mut at = V6_HEADER_LEN;
    let mut later = false;
    for _ in 0..EXTENSIONS_MAX {
        if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
            break;
        }
        let Some(extension) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
            return (next, bytes.len(), later);
        };
        if next == FRAGMENT {
            later |= u16::from_be_bytes([extension[2], extension[3]]) & 0xfff8 != 0;
            at += 8;
        } else {
            at += 8 + usize::from(extension[1]) * 8;
        }
        next = extension[0];
        if later {
            break;
        }
    }
    (next, at, later)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0u8..16) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = (*first & 0x0f) | (version << 4);
            }
            if let Ok(packet) = IpPacket::parse(&bytes) {
                prop_assert!(packet.bytes().len() <= bytes.len());
                prop_assert!(packet.payload().len() <= packet.bytes().len());
            }
        }

        #[test]
        fn extension_headers_never_lead_outside(
            next in prop::sample::select(vec![0u8, 43, 44, 60]),
            body in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend((body.len() as u16).to_be_bytes());
            bytes.extend([next, 64]);
            bytes.extend([0; 32]);
            bytes.extend(&body);
            let packet = IpPacket::parse(&bytes).unwrap();
            prop_assert!(packet.payload().len() <= body.len());
        }
    }

    #[test]
    fn padding_is_cut_off() {
        let mut bytes = vec![0u8; 32];
        bytes[0] = 0x45;
        bytes[3] = 24;
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.bytes().len(), 24);
        assert_eq!(packet.payload().len(), 4);
    }

    #[test]
    fn only_fragments_after_the_first_carry_no_upper_layer_header() {
        // More fragments follow; offset 1; don't fragment.
        for (field, later) in [([0x20, 0], false), ([0x20, 1], true), ([0, 1], true), ([0x40, 0], false)] {
            let mut bytes = vec![0u8; 24];
            (bytes[0], bytes[3], bytes[9]) = (0x45, 24, 17);
            bytes[6..8].copy_from_slice(&field);
            assert_eq!(IpPacket::parse(&bytes).unwrap().is_later_fragment(), later, "IPv4 {field:?}");
        }
        // More fragments follow; offset 1; the reserved bits say nothing.
        for (field, later) in [([0, 1], false), ([0, 9], true), ([0, 8], true), ([0, 6], false)] {
            let mut bytes = v6_packet(44, &[17, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
            bytes[42..44].copy_from_slice(&field);
            assert_eq!(IpPacket::parse(&bytes).unwrap().is_later_fragment(), later, "IPv6 {field:?}");
        }
    }

    #[test]
    fn the_upper_layer_begins_behind_options_and_extension_headers() {
        let mut bytes = vec![0u8; 28];
        (bytes[0], bytes[3], bytes[9]) = (0x46, 28, 17);
        bytes[24] = 5;
        assert_eq!(IpPacket::parse(&bytes).unwrap().payload(), [5, 0, 0, 0]);

        // Hop-by-hop of 16 bytes, a fragment header whose reserved byte is no length, then UDP.
        let mut body = vec![44, 1];
        body.extend([0; 14]);
        body.extend([17, 3, 0, 1, 0, 0, 0, 0]);
        body.extend([5, 6]);
        let bytes = v6_packet(0, &body);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.protocol(), packet.payload()), (17, &[5, 6][..]));
    }

    #[test]
    fn lengths_that_contradict_the_header_are_refused() {
        // A header of 16 bytes; a packet shorter than its header.
        for (first, total) in [(0x44, 24), (0x46, 20)] {
            let mut bytes = vec![0u8; 24];
            (bytes[0], bytes[3]) = (first, total);
            assert_eq!(IpPacket::parse(&bytes).unwrap_err(), NotIp::Length, "{first:#x}");
        }
    }

    fn v6_packet(next: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend([next, 64]);
        bytes.extend([0; 32]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_stated_length_beyond_the_bytes_is_refused() {
        let mut bytes = vec![0u8; 20];
        bytes[0] = 0x45;
        bytes[3] = 21;
        assert_eq!(IpPacket::parse(&bytes).unwrap_err(), NotIp::Length);
    }
}
