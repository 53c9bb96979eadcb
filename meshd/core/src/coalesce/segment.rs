//! The headers that decide whether two packets can be one.

use crate::checksum::Sum;
use crate::ip::{PROTO_TCP, PROTO_UDP, V4_HEADER_LEN, V6_HEADER_LEN};
use crate::upper::tcp::{self, ACK, PSH};
use crate::upper::udp;
use crate::vnet::{Gso, VnetHeader};

use super::mask::{agree, mask};

// What segments of one super-packet have in common. Free are length, identification and checksums, and in TCP the
// sequence number and what is behind the window; the flags are plain but for PSH.
const V4_TCP: [u64; 5] = mask(&[[2, 6], [10, 12], [24, 28], [36, 40]], V4_HEADER_LEN + tcp::FLAGS_AT);
const V4_UDP: [u64; 3] = mask(&[[2, 6], [10, 12]], usize::MAX);
const V6_TCP: [u64; 7] = mask(&[[4, 6], [44, 48]], V6_HEADER_LEN + tcp::FLAGS_AT);
const V6_UDP: [u64; 6] = mask(&[[4, 6], [44, 48]], usize::MAX);

/// A whole TCP or UDP packet without IP options or extension headers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Segment {
    pub(super) is_tcp: bool,
    pub(super) is_v6: bool,
    /// Whether it can be part of a super-packet: it has a payload and tells nothing but data.
    pub(super) is_mergeable: bool,
    pub(super) push: bool,
    pub(super) sequence: u32,
    /// All headers.
    pub(super) header_len: u16,
    pub(super) payload_len: u16,
}

impl Segment {
    /// Reads the headers; none of any other packet.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let (is_v6, protocol) = match packet.first()? {
            // Header of five words.
            0x45 => {
                let ip = packet.first_chunk::<V4_HEADER_LEN>()?;
                let fragment = u16::from_be_bytes([ip[6], ip[7]]) & !0x4000;
                if usize::from(u16::from_be_bytes([ip[2], ip[3]])) != packet.len() || fragment != 0 {
                    return None;
                }
                (false, ip[9])
            }
            0x60..=0x6f => {
                let ip = packet.first_chunk::<V6_HEADER_LEN>()?;
                if usize::from(u16::from_be_bytes([ip[4], ip[5]])) + V6_HEADER_LEN != packet.len() {
                    return None;
                }
                (true, ip[6])
            }
            _ => return None,
        };
        let upper = packet.get(upper_at(is_v6)..)?;
        match protocol {
            PROTO_TCP => Self::read_tcp(is_v6, upper),
            PROTO_UDP => Self::read_udp(is_v6, upper),
            _ => None,
        }
    }

    fn read_tcp(is_v6: bool, upper: &[u8]) -> Option<Self> {
        let header = upper.first_chunk::<{ tcp::HEADER_LEN }>()?;
        let (offset, flags) = (header[tcp::OFFSET_AT], header[tcp::FLAGS_AT]);
        let tcp_len = usize::from(offset >> 4) * 4;
        if tcp_len < tcp::HEADER_LEN {
            return None;
        }
        let payload_len = upper.len().checked_sub(tcp_len)?;
        // The bits beside the header's length are flags too.
        let is_plain = offset & 0x0f == 0 && flags & !PSH == ACK;
        Some(Self {
            is_tcp: true,
            is_v6,
            is_mergeable: is_plain && payload_len > 0,
            push: flags & PSH != 0,
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            header_len: (upper_at(is_v6) + tcp_len) as u16,
            payload_len: payload_len as u16,
        })
    }

    fn read_udp(is_v6: bool, upper: &[u8]) -> Option<Self> {
        let header = upper.first_chunk::<{ udp::HEADER_LEN }>()?;
        let payload_len = upper.len() - udp::HEADER_LEN;
        let is_exact = usize::from(u16::from_be_bytes([header[4], header[5]])) == upper.len();
        // A datagram without a checksum would get one.
        let has_checksum = [header[6], header[7]] != [0, 0];
        Some(Self {
            is_tcp: false,
            is_v6,
            is_mergeable: is_exact && has_checksum && payload_len > 0,
            push: false,
            sequence: 0,
            header_len: (upper_at(is_v6) + udp::HEADER_LEN) as u16,
            payload_len: payload_len as u16,
        })
    }

    /// Whether both have the same addresses, protocol and ports.
    pub(super) fn is_same_flow(&self, packet: &[u8], first: &Self, first_packet: &[u8]) -> bool {
        // The ports follow the addresses.
        let flow = if self.is_v6 { 8..V6_HEADER_LEN + 4 } else { 12..V4_HEADER_LEN + 4 };
        (self.is_v6, self.is_tcp) == (first.is_v6, first.is_tcp)
            && packet.get(flow.clone()) == first_packet.get(flow)
    }

    /// Whether `packet` can be the next segment of the super-packet that `first_packet` begins, with that sequence
    /// number in TCP: it agrees with the first in all that a segment cannot say for itself, and is no longer.
    ///
    /// Nearly every packet of a bulk flow is asked this first, so it reads no more of the packet than it compares.
    #[inline]
    pub(super) fn is_followed_by(&self, first_packet: &[u8], packet: &[u8], sequence: u32) -> bool {
        let header_len = usize::from(self.header_len);
        if packet.len() <= header_len || packet.len() > first_packet.len() {
            return false;
        }
        let is_alike = match (self.is_v6, self.is_tcp) {
            (false, true) => agree(&V4_TCP, first_packet, packet),
            (false, false) => agree(&V4_UDP, first_packet, packet),
            (true, true) => agree(&V6_TCP, first_packet, packet),
            (true, false) => agree(&V6_UDP, first_packet, packet),
        };
        let at = upper_at(self.is_v6);
        let stated_len = if self.is_v6 { number(packet, 4) + V6_HEADER_LEN } else { number(packet, 2) };
        if !is_alike || stated_len != packet.len() {
            return false;
        }
        if self.is_tcp {
            let options = at + tcp::HEADER_LEN..header_len;
            packet.get(at + tcp::SEQUENCE_AT..at + tcp::SEQUENCE_AT + 4) == Some(&sequence.to_be_bytes())
                && packet.get(options.clone()) == first_packet.get(options)
        } else {
            number(packet, at + udp::LEN_AT) == packet.len() - at
                && number(packet, at + udp::CHECKSUM_AT) != 0
        }
    }

    /// Whether a packet like this one asks to be handed over at once.
    #[inline]
    pub(super) fn has_push(&self, packet: &[u8]) -> bool {
        self.is_tcp && packet.get(upper_at(self.is_v6) + tcp::FLAGS_AT).is_some_and(|flags| flags & PSH != 0)
    }

    /// Makes the headers of `first` those of a super-packet of `len` bytes, and gives the vnet header for it.
    pub(super) fn enlarge(&self, first: &mut [u8], len: u32, push: bool) -> VnetHeader {
        let at = upper_at(self.is_v6);
        let upper_len = (len as usize - at) as u16;
        let protocol = if self.is_tcp { PROTO_TCP } else { PROTO_UDP };
        let addresses = addresses(first).unwrap_or_default();
        let pseudo = Sum::of(addresses).with_number(upper_len).with_number(protocol.into()).folded();
        let (ip, upper) = first.split_at_mut(at);
        if self.is_v6 {
            ip[4..6].copy_from_slice(&upper_len.to_be_bytes());
        } else {
            ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            ip[10..12].fill(0);
            let checksum = Sum::of(ip).finish();
            ip[10..12].copy_from_slice(&checksum);
        }
        let checksum_at = if self.is_tcp {
            if push {
                upper[tcp::FLAGS_AT] |= PSH;
            }
            tcp::CHECKSUM_AT
        } else {
            upper[udp::LEN_AT..udp::LEN_AT + 2].copy_from_slice(&upper_len.to_be_bytes());
            udp::CHECKSUM_AT
        };
        upper[checksum_at..checksum_at + 2].copy_from_slice(&pseudo);
        VnetHeader {
            needs_csum: true,
            gso: match (self.is_tcp, self.is_v6) {
                (true, false) => Gso::TcpV4 { ecn: false },
                (true, true) => Gso::TcpV6 { ecn: false },
                (false, _) => Gso::UdpL4,
            },
            hdr_len: self.header_len,
            gso_size: self.payload_len,
            csum_start: at as u16,
            csum_offset: checksum_at as u16,
        }
    }
}

/// Source and destination address of any IP packet.
pub(super) fn addresses(packet: &[u8]) -> Option<&[u8]> {
    match packet.first()? >> 4 {
        4 => packet.get(12..20),
        6 => packet.get(8..40),
        _ => None,
    }
}

pub(super) fn upper_at(is_v6: bool) -> usize {
    if is_v6 { V6_HEADER_LEN } else { V4_HEADER_LEN }
}

/// The number in two bytes of a packet that has them; zero beyond its end.
#[inline]
fn number(packet: &[u8], at: usize) -> usize {
    packet
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |number| u16::from_be_bytes(*number).into())
}
