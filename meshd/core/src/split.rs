//! One packet or super-packet of the host, cut into the packets that its path can carry.
//!
//! The kernel hands over up to 64 KiB of TCP or UDP payload behind one set of headers. [`Splitter`] gives every segment
//! its own headers where it lies: header `i` goes right before payload `i`, over the end of payload `i - 1`, which is
//! sealed by then. So every packet is contiguous, and no payload byte is copied:
//!
//! ```text
//! | header 0 | payload 0 ..... | payload 1 ..... | payload 2 |
//!                   | header 1 | payload 1 ..... |
//!                                     | header 2 | payload 2 |
//! ```
//!
//! This holds for payloads shorter than the header too: what a header covers lies before its own payload.

mod cut;

use std::net::IpAddr;

use crate::checksum::Sum;
use crate::flow::{FlowKey, NoPorts};
use crate::ip::{Fragment, IpPacket, NotIp, PROTO_TCP, PROTO_UDP, V4_HEADER_LEN, V6_HEADER_LEN};
use crate::mss;
use crate::upper::{tcp, udp};
use crate::vnet::{Gso, VnetHeader};

use cut::Cut;

/// Segments of one super-packet: 64 KiB at the smallest segment size that Linux lets a connection have (48 B).
const SEGMENTS_MAX: usize = 65_535 / 48;
/// All headers of a packet that is cut: IPv6 and TCP with full options, and 156 bytes of extension headers.
const HEADER_LEN_MAX: usize = 256;

/// Says why what the host sent is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// No IP packet.
    #[error(transparent)]
    Ip(#[from] NotIp),
    /// It ends before its upper-layer header.
    #[error(transparent)]
    Upper(#[from] NoPorts),
    /// The packet is not of the kind that the vnet header states.
    #[error("headers contradict the kind of super-packet")]
    Kind,
    /// The checksum field is not where the vnet header states.
    #[error("checksum at an impossible place")]
    Checksum,
    /// More segments or longer headers than any connection has.
    #[error("too many segments or too long headers")]
    Limits,
}

/// Says that a packet is longer than its path can carry and is none that may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("longer than the path's {mtu} bytes")]
pub struct OverMtu {
    /// What the path carries.
    pub mtu: usize,
}

/// A packet or super-packet that the host sends, its headers understood.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing {
    /// Addresses, protocol and ports.
    pub flow: FlowKey,
    /// Which piece of a packet it is; none for a whole one.
    pub fragment: Option<Fragment>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Congestion mark.
    pub ecn: u8,
    /// Packets in it.
    pub segments: usize,
    /// Length of its longest packet.
    pub segment_len_max: usize,
    len: usize,
    upper_at: usize,
    upper: Upper,
    /// Payload of a full segment; all of it in a single packet.
    size: usize,
    checksum: Option<Unfinished>,
}

/// What a packet may be cut by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upper {
    Tcp {
        header_len: usize,
        is_syn: bool,
    },
    Udp,
    /// Anything else, and fragments.
    Opaque,
}

/// A checksum of which only the pseudo header is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unfinished {
    start: usize,
    field: usize,
}

/// Understands the packet behind `vnet`. The header's own `hdr_len` is wrong on forwarded packets and not read.
pub fn parse(vnet: &VnetHeader, packet: &[u8]) -> Result<Outgoing, BadPacket> {
    let packet = IpPacket::parse(packet)?;
    let upper = Upper::of(&packet);
    let checksum = vnet.needs_csum.then(|| Unfinished::parse(vnet, &packet)).transpose()?;
    let mut outgoing = Outgoing {
        flow: FlowKey::of(&packet)?,
        fragment: packet.fragment(),
        source: packet.source(),
        destination: packet.destination(),
        ecn: packet.ecn(),
        segments: 1,
        segment_len_max: packet.bytes().len(),
        len: packet.bytes().len(),
        upper_at: packet.header_len(),
        upper,
        size: 0,
        checksum,
    };
    outgoing.size = outgoing.payload_len();
    if vnet.gso != Gso::None {
        outgoing.take_size(vnet)?;
    }
    Ok(outgoing)
}

impl Outgoing {
    /// Cuts for a path that carries packets of `mtu` bytes. Only TCP is cut smaller than it comes.
    pub fn splitter(&self, mtu: usize) -> Result<Splitter, OverMtu> {
        let over = OverMtu { mtu };
        if self.segments == 1 && self.len <= mtu {
            return Ok(Splitter(Plan::Whole(Whole::new(self, mtu))));
        }
        let room = mtu.checked_sub(self.header_len()).ok_or(over)?;
        let size = if self.may_be_cut() { self.size.min(room) } else { self.size };
        if size == 0 || size > room || (self.segments == 1 && !self.may_be_cut()) {
            return Err(over);
        }
        let segments = self.payload_len().div_ceil(size);
        if segments > SEGMENTS_MAX || self.header_len() > HEADER_LEN_MAX {
            return Err(over);
        }
        Ok(Splitter(Plan::Cut(Cut::new(self, size, segments))))
    }

    /// Takes the segment size from the header of a super-packet.
    fn take_size(&mut self, vnet: &VnetHeader) -> Result<(), BadPacket> {
        let (is_kind, field) = match (vnet.gso, self.upper) {
            (Gso::TcpV4 { .. }, Upper::Tcp { .. }) => (!self.flow.is_v6, tcp::CHECKSUM_AT),
            (Gso::TcpV6 { .. }, Upper::Tcp { .. }) => (self.flow.is_v6, tcp::CHECKSUM_AT),
            (Gso::UdpL4, Upper::Udp) => (true, udp::CHECKSUM_AT),
            _ => (false, 0),
        };
        if !is_kind {
            return Err(BadPacket::Kind);
        }
        if self.checksum != Some(Unfinished { start: self.upper_at, field: self.upper_at + field }) {
            return Err(BadPacket::Checksum);
        }
        // A segment longer than what there is would be a length that no packet has.
        self.size = usize::from(vnet.gso_size).min(self.size);
        self.segments = self.payload_len().div_ceil(self.size.max(1)).max(1);
        self.segment_len_max = self.header_len() + self.size;
        if self.segments > SEGMENTS_MAX || self.header_len() > HEADER_LEN_MAX {
            return Err(BadPacket::Limits);
        }
        Ok(())
    }

    /// Whether it is TCP whose checksum is understood: complete, or unfinished in its own field.
    fn may_be_cut(&self) -> bool {
        let field = self.upper_at + tcp::CHECKSUM_AT;
        match self.upper {
            Upper::Tcp { is_syn, .. } => {
                !is_syn && self.checksum.is_none_or(|sum| sum == Unfinished { start: self.upper_at, field })
            }
            Upper::Udp | Upper::Opaque => false,
        }
    }

    fn header_len(&self) -> usize {
        self.upper_at
            + match self.upper {
                Upper::Tcp { header_len, .. } => header_len,
                Upper::Udp => udp::HEADER_LEN,
                Upper::Opaque => 0,
            }
    }

    fn payload_len(&self) -> usize {
        self.len.saturating_sub(self.header_len())
    }
}

impl Upper {
    fn of(packet: &IpPacket<'_>) -> Self {
        let payload = packet.payload();
        match packet.protocol() {
            _ if packet.fragment().is_some() => Self::Opaque,
            PROTO_TCP => {
                let Some(header) = payload.first_chunk::<{ tcp::HEADER_LEN }>() else { return Self::Opaque };
                let header_len = usize::from(header[tcp::OFFSET_AT] >> 4) * 4;
                if header_len < tcp::HEADER_LEN || header_len > payload.len() {
                    return Self::Opaque;
                }
                Self::Tcp { header_len, is_syn: header[tcp::FLAGS_AT] & tcp::SYN != 0 }
            }
            PROTO_UDP if payload.len() >= udp::HEADER_LEN => Self::Udp,
            _ => Self::Opaque,
        }
    }
}

impl Unfinished {
    fn parse(vnet: &VnetHeader, packet: &IpPacket<'_>) -> Result<Self, BadPacket> {
        let start = usize::from(vnet.csum_start);
        let field = start + usize::from(vnet.csum_offset);
        // The field is under the sum and behind the IP header, whose own checksum is another one.
        let fixed_len = if packet.source().is_ipv4() { V4_HEADER_LEN } else { V6_HEADER_LEN };
        if start < fixed_len || field + 2 > packet.bytes().len() {
            return Err(BadPacket::Checksum);
        }
        Ok(Self { start, field })
    }

    fn finish(&self, packet: &mut [u8]) {
        let Some(summed) = packet.get(self.start..) else { return };
        let checksum = Sum::of(summed).finish_nonzero();
        if let Some(field) = packet.get_mut(self.field..self.field + 2) {
            field.copy_from_slice(&checksum);
        }
    }
}

/// Gives the packets one by one, each finished in its place.
#[derive(Debug)]
pub struct Splitter(Plan);

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it lives on the stack, for one packet")]
enum Plan {
    Whole(Whole),
    Cut(Cut),
}

impl Splitter {
    /// Packets that it gives.
    pub fn segments(&self) -> usize {
        match &self.0 {
            Plan::Whole(_) => 1,
            Plan::Cut(cut) => cut.segments(),
        }
    }

    /// Length of the longest one.
    pub fn len_max(&self) -> usize {
        match &self.0 {
            Plan::Whole(whole) => whole.len,
            Plan::Cut(cut) => cut.len_max(),
        }
    }

    /// Finishes the next packet and gives it. It stays intact until the next call, which overwrites its end.
    ///
    /// `packet` is the one that was parsed; of another one the result is useless, but nothing else happens.
    #[inline]
    pub fn next<'p>(&mut self, packet: &'p mut [u8]) -> Option<&'p mut [u8]> {
        match &mut self.0 {
            Plan::Whole(whole) => whole.next(packet),
            Plan::Cut(cut) => cut.next(packet),
        }
    }
}

/// A packet that is sent as it is.
#[derive(Debug)]
struct Whole {
    len: usize,
    checksum: Option<Unfinished>,
    /// Where a SYN's TCP header is, and the size that it may announce.
    syn: Option<(usize, u16)>,
    is_given: bool,
}

impl Whole {
    fn new(packet: &Outgoing, mtu: usize) -> Self {
        let syn = match packet.upper {
            Upper::Tcp { is_syn: true, .. } => {
                // The option counts neither IP nor TCP options (RFC 6691).
                let headers = tcp::HEADER_LEN + if packet.flow.is_v6 { V6_HEADER_LEN } else { V4_HEADER_LEN };
                Some((packet.upper_at, u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX)))
            }
            Upper::Tcp { is_syn: false, .. } | Upper::Udp | Upper::Opaque => None,
        };
        Self { len: packet.len, checksum: packet.checksum, syn, is_given: false }
    }

    fn next<'p>(&mut self, packet: &'p mut [u8]) -> Option<&'p mut [u8]> {
        if self.is_given {
            return None;
        }
        self.is_given = true;
        let packet = packet.get_mut(..self.len)?;
        if let Some(unfinished) = &self.checksum {
            unfinished.finish(packet);
        }
        if let Some((at, mss_max)) = self.syn {
            mss::clamp(packet.get_mut(at..)?, mss_max);
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests;
