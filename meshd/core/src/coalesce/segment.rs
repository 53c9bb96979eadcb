//! The headers that decide whether two packets can be one.

use crate::checksum::Sum;
use crate::ip::{PROTO_TCP, PROTO_UDP, V4_HEADER_LEN, V6_HEADER_LEN};
use crate::vnet::{Gso, VnetHeader};

const TCP_HEADER_LEN: usize = 20;
const TCP_CHECKSUM_AT: usize = 16;
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const UDP_HEADER_LEN: usize = 8;
const UDP_CHECKSUM_AT: usize = 6;

/// A whole TCP or UDP packet without IP options or extension headers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) is_tcp: bool,
    is_v6: bool,
    /// Whether it can be part of a super-packet: it has a payload and tells nothing but data.
    pub(super) is_mergeable: bool,
    pub(super) push: bool,
    pub(super) sequence: u32,
    /// All headers.
    pub(super) header_len: usize,
    pub(super) payload_len: usize,
}

impl Segment {
    /// Reads the headers; none of any other packet.
    #[inline]
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

    #[inline]
    fn read_tcp(is_v6: bool, upper: &[u8]) -> Option<Self> {
        let tcp = upper.first_chunk::<TCP_HEADER_LEN>()?;
        let tcp_len = usize::from(tcp[12] >> 4) * 4;
        if tcp_len < TCP_HEADER_LEN {
            return None;
        }
        let payload_len = upper.len().checked_sub(tcp_len)?;
        // The bits beside the header's length are flags too.
        let is_plain = tcp[12] & 0x0f == 0 && tcp[13] & !PSH == ACK;
        Some(Self {
            is_tcp: true,
            is_v6,
            is_mergeable: is_plain && payload_len > 0,
            push: tcp[13] & PSH != 0,
            sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            header_len: upper_at(is_v6) + tcp_len,
            payload_len,
        })
    }

    #[inline]
    fn read_udp(is_v6: bool, upper: &[u8]) -> Option<Self> {
        let udp = upper.first_chunk::<UDP_HEADER_LEN>()?;
        let payload_len = upper.len() - UDP_HEADER_LEN;
        let is_exact = usize::from(u16::from_be_bytes([udp[4], udp[5]])) == upper.len();
        // A datagram without a checksum would get one.
        let has_checksum = [udp[6], udp[7]] != [0, 0];
        Some(Self {
            is_tcp: false,
            is_v6,
            is_mergeable: is_exact && has_checksum && payload_len > 0,
            push: false,
            sequence: 0,
            header_len: upper_at(is_v6) + UDP_HEADER_LEN,
            payload_len,
        })
    }

    /// Whether both have the same addresses, protocol and ports.
    #[inline]
    pub(super) fn is_same_flow(&self, packet: &[u8], other: &Self, other_packet: &[u8]) -> bool {
        if (self.is_v6, self.is_tcp) != (other.is_v6, other.is_tcp) {
            return false;
        }
        // The ports follow the addresses.
        if self.is_v6 {
            part::<8, 36>(packet) == part::<8, 36>(other_packet)
        } else {
            part::<12, 12>(packet) == part::<12, 12>(other_packet)
        }
    }

    /// Whether this one of the same flow can follow `first` in one super-packet: equal in all that a segment cannot
    /// say for itself, and no longer than it.
    #[inline]
    pub(super) fn is_alike(&self, packet: &[u8], first: &Self, first_packet: &[u8]) -> bool {
        if self.header_len != first.header_len || self.payload_len > first.payload_len {
            return false;
        }
        let same_ip = if self.is_v6 {
            // Version, class and flow label; hop limit.
            part::<0, 4>(packet) == part::<0, 4>(first_packet)
                && part::<7, 1>(packet) == part::<7, 1>(first_packet)
        } else {
            // Type of service; flags, fragment offset and time to live.
            part::<1, 1>(packet) == part::<1, 1>(first_packet)
                && part::<6, 3>(packet) == part::<6, 3>(first_packet)
        };
        let at = upper_at(self.is_v6);
        same_ip
            && (!self.is_tcp
                // Acknowledgement; window; options. The flags are plain in both.
                || packet.get(at + 8..at + 12) == first_packet.get(at + 8..at + 12)
                    && packet.get(at + 14..at + 16) == first_packet.get(at + 14..at + 16)
                    && packet.get(at + TCP_HEADER_LEN..self.header_len)
                        == first_packet.get(at + TCP_HEADER_LEN..self.header_len))
    }

    /// Makes the headers of `first` those of a super-packet of `len` bytes, and gives the vnet header for it.
    pub(super) fn enlarge(&self, first: &mut [u8], len: usize, push: bool) -> VnetHeader {
        let at = upper_at(self.is_v6);
        let upper_len = (len - at) as u16;
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
                upper[13] |= PSH;
            }
            TCP_CHECKSUM_AT
        } else {
            upper[4..6].copy_from_slice(&upper_len.to_be_bytes());
            UDP_CHECKSUM_AT
        };
        upper[checksum_at..checksum_at + 2].copy_from_slice(&pseudo);
        VnetHeader {
            needs_csum: true,
            gso: match (self.is_tcp, self.is_v6) {
                (true, false) => Gso::TcpV4 { ecn: false },
                (true, true) => Gso::TcpV6 { ecn: false },
                (false, _) => Gso::UdpL4,
            },
            hdr_len: self.header_len as u16,
            gso_size: self.payload_len as u16,
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

fn upper_at(is_v6: bool) -> usize {
    if is_v6 { V6_HEADER_LEN } else { V4_HEADER_LEN }
}

/// `LEN` bytes from `AT` on: of a length that the compiler knows, so that it compares them in one go.
#[inline]
fn part<const AT: usize, const LEN: usize>(packet: &[u8]) -> Option<&[u8; LEN]> {
    packet.get(AT..)?.first_chunk()
}
