//! One IP packet, its header parsed with bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Sum;

/// Bytes of the shortest IPv4 header.
pub const V4_HEADER_LEN: usize = 20;
/// Bytes of the IPv6 header without extensions.
pub const V6_HEADER_LEN: usize = 40;
/// Protocol number of ICMP for IPv4.
pub const PROTO_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTO_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTO_UDP: u8 = 17;
/// Protocol number of ICMP for IPv6.
pub const PROTO_ICMPV6: u8 = 58;

/// Hops that a packet of the daemon itself may take.
const TTL: u8 = 64;
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

/// Which piece of a fragmented packet this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification that all pieces have in common.
    pub id: u32,
    /// Whether this piece begins the packet: only then it has the upper layer's header.
    pub first: bool,
}

/// A view on one IP packet, trimmed to the length its header states.
#[derive(Debug, Clone, Copy)]
pub struct IpPacket<'a> {
    bytes: &'a [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload_at: usize,
    fragment: Option<Fragment>,
}

impl<'a> IpPacket<'a> {
    /// Parses the header; bytes beyond the stated length (padding) are cut off.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, NotIp> {
        Self::parse_trimmed(bytes, |bytes, len| bytes.get(..len))
    }

    /// Parses the beginning of a packet that an ICMP error quotes, which may lack the rest.
    pub(crate) fn parse_quote(bytes: &'a [u8]) -> Result<Self, NotIp> {
        Self::parse_trimmed(bytes, |bytes, len| Some(bytes.get(..len).unwrap_or(bytes)))
    }

    #[inline]
    fn parse_trimmed(
        bytes: &'a [u8],
        trim: impl Fn(&'a [u8], usize) -> Option<&'a [u8]>,
    ) -> Result<Self, NotIp> {
        match bytes.first().ok_or(NotIp::TooShort)? >> 4 {
            4 => Self::parse_v4(bytes, trim),
            6 => Self::parse_v6(bytes, trim),
            version => Err(NotIp::Version(version)),
        }
    }

    #[inline]
    fn parse_v4(bytes: &'a [u8], trim: impl Fn(&'a [u8], usize) -> Option<&'a [u8]>) -> Result<Self, NotIp> {
        let header: &[u8; V4_HEADER_LEN] = bytes.first_chunk().ok_or(NotIp::TooShort)?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header_len < V4_HEADER_LEN || total_len < header_len {
            return Err(NotIp::Length);
        }
        // More fragments, and the offset; "don't fragment" is no part of it.
        let piece = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
        let id = u32::from(u16::from_be_bytes([header[4], header[5]]));
        Ok(Self {
            bytes: trim(bytes, total_len).ok_or(NotIp::Length)?,
            source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
            destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
            protocol: header[9],
            payload_at: header_len,
            fragment: (piece != 0).then_some(Fragment { id, first: piece & 0x1fff == 0 }),
        })
    }

    #[inline]
    fn parse_v6(bytes: &'a [u8], trim: impl Fn(&'a [u8], usize) -> Option<&'a [u8]>) -> Result<Self, NotIp> {
        let header: &[u8; V6_HEADER_LEN] = bytes.first_chunk().ok_or(NotIp::TooShort)?;
        let total_len = usize::from(u16::from_be_bytes([header[4], header[5]])) + V6_HEADER_LEN;
        let bytes = trim(bytes, total_len).ok_or(NotIp::Length)?;
        let address = |at: usize| -> Ipv6Addr { std::array::from_fn::<u8, 16, _>(|i| header[at + i]).into() };
        let Upper { protocol, at, fragment } = Upper::walk(bytes, header[6]);
        Ok(Self {
            bytes,
            source: address(8).into(),
            destination: address(24).into(),
            protocol,
            payload_at: at,
            fragment,
        })
    }

    /// The packet, without padding.
    #[inline]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> IpAddr {
        self.source
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        self.destination
    }

    /// Upper-layer protocol, behind IPv6 extension headers.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Length of the IP header with its options or extension headers.
    #[inline]
    pub fn header_len(&self) -> usize {
        self.payload_at
    }

    /// The two bits of explicit congestion notification (RFC 3168).
    #[inline]
    pub fn ecn(&self) -> u8 {
        ecn(self.bytes).unwrap_or_default()
    }

    /// Bytes of the upper layer; empty when they lie beyond the packet.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.payload_at..).unwrap_or_default()
    }

    /// Which piece of a packet this is; none for a whole one.
    #[inline]
    pub fn fragment(&self) -> Option<Fragment> {
        self.fragment
    }

    /// Whether this is a fragment other than the first, which carries no upper-layer header.
    #[inline]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| !fragment.first)
    }
}

/// The congestion mark of a packet (RFC 3168) that may be of any kind; none of one without the byte for it.
#[inline]
pub fn ecn(packet: &[u8]) -> Option<u8> {
    let [first, second] = *packet.first_chunk()?;
    Some(if first >> 4 == 4 { second & 3 } else { second >> 4 & 3 })
}

/// What stands behind the extension headers of an IPv6 packet.
struct Upper {
    protocol: u8,
    at: usize,
    fragment: Option<Fragment>,
}

impl Upper {
    fn walk(bytes: &[u8], mut next: u8) -> Self {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const DESTINATION: u8 = 60;
        let mut at = V6_HEADER_LEN;
        let mut fragment = None;
        for _ in 0..EXTENSIONS_MAX {
            if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION) {
                break;
            }
            let Some(extension) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) else {
                return Self { protocol: next, at: bytes.len(), fragment };
            };
            let [following, len, high, low, id @ ..] = *extension;
            let piece = u16::from_be_bytes([high, low]);
            let is_fragment = next == FRAGMENT;
            at += if is_fragment { 8 } else { 8 + usize::from(len) * 8 };
            next = following;
            // Offset and "more fragments"; with neither set the packet is whole (RFC 6946).
            if is_fragment && piece & 0xfff9 != 0 {
                let first = piece & 0xfff8 == 0;
                fragment = Some(Fragment { id: u32::from_be_bytes(id), first });
                if !first {
                    break;
                }
            }
        }
        Self { protocol: next, at, fragment }
    }
}

/// The header of a packet from this daemon itself.
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
    let checksum = Sum::of(&header).finish();
    header[10..12].copy_from_slice(&checksum);
    header
}

/// The header of a packet from this daemon itself.
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
    fn an_atomic_fragment_is_a_whole_packet() {
        // Nothing set; the reserved bits.
        for field in [[0, 0], [0, 6]] {
            let mut bytes = v6_packet(44, &[17, 0, 0, 0, 0, 0, 0, 7, 1, 2]);
            bytes[42..44].copy_from_slice(&field);
            assert_eq!(IpPacket::parse(&bytes).unwrap().fragment(), None, "{field:?}");
        }
    }

    #[test]
    fn nothing_behind_the_header_of_a_later_fragment_is_read() {
        let bytes = v6_packet(44, &[60, 0, 0, 8, 0, 0, 0, 7, 17, 0, 1, 4, 0, 0, 0, 0]);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.protocol(), packet.header_len()), (60, 48));
    }

    #[test]
    fn extension_headers_are_walked_to_a_bound_and_to_the_end() {
        let padding = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        for (count, protocol) in [(EXTENSIONS_MAX, 17), (EXTENSIONS_MAX + 1, 60)] {
            let mut body = padding(60).repeat(count - 1);
            body.extend(padding(17));
            body.extend([5, 6]);
            assert_eq!(IpPacket::parse(&v6_packet(60, &body)).unwrap().protocol(), protocol, "{count}");
        }
        // It ends inside of an extension header.
        let bytes = v6_packet(60, &[17, 0, 1, 4, 0, 0, 0]);
        let packet = IpPacket::parse(&bytes).unwrap();
        assert_eq!((packet.protocol(), packet.payload()), (60, &[][..]));
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
