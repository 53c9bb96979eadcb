//! Packets for the tests of splitting and merging.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Sum;
use crate::ip::{IpPacket, PROTO_TCP, PROTO_UDP, v4_header, v6_header};
use crate::vnet::{Gso, VnetHeader};

pub(crate) use crate::upper::tcp::{ACK, CWR, FIN, PSH, SYN};

/// A TCP or UDP packet to be.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) is_v6: bool,
    pub(crate) is_tcp: bool,
    pub(crate) source_port: u16,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
    /// TCP options, a multiple of four bytes.
    pub(crate) options: Vec<u8>,
    pub(crate) ip_id: u16,
    pub(crate) payload: Vec<u8>,
}

impl Recipe {
    pub(crate) fn tcp(is_v6: bool, sequence: u32, payload: Vec<u8>) -> Self {
        // A time stamp, as nearly every connection has one.
        let options = vec![1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4];
        Self { is_v6, is_tcp: true, source_port: 4000, sequence, flags: ACK, options, ip_id: 0xfff0, payload }
    }

    pub(crate) fn udp(is_v6: bool, payload: Vec<u8>) -> Self {
        Self { is_tcp: false, options: Vec::new(), ..Self::tcp(is_v6, 0, payload) }
    }

    pub(crate) fn upper_at(&self) -> usize {
        if self.is_v6 { 40 } else { 20 }
    }

    pub(crate) fn header_len(&self) -> usize {
        self.upper_at() + if self.is_tcp { 20 + self.options.len() } else { 8 }
    }

    /// The packet with its checksums complete.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut packet = self.unfinished();
        let at = self.checksum_at();
        let checksum = Sum::of(&packet[self.upper_at()..]).finish_nonzero();
        packet[at..at + 2].copy_from_slice(&checksum);
        packet
    }

    /// The packet as the kernel hands it to a device that finishes checksums.
    pub(crate) fn unfinished(&self) -> Vec<u8> {
        let upper_len = (self.header_len() - self.upper_at() + self.payload.len()) as u16;
        let protocol = if self.is_tcp { PROTO_TCP } else { PROTO_UDP };
        let (mut packet, pseudo) = if self.is_v6 {
            let [source, destination] = [Ipv6Addr::from([0xfd; 16]), Ipv6Addr::from([0xfc; 16])];
            let pseudo = Sum::pseudo_v6(source, destination, upper_len, protocol);
            (v6_header(source, destination, upper_len, protocol).to_vec(), pseudo)
        } else {
            let [source, destination] = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
            let mut header = v4_header(source, destination, upper_len + 20, protocol);
            header[4..6].copy_from_slice(&self.ip_id.to_be_bytes());
            header[10..12].fill(0);
            let checksum = Sum::of(&header).finish();
            header[10..12].copy_from_slice(&checksum);
            (header.to_vec(), Sum::pseudo_v4(source, destination, upper_len, protocol))
        };
        packet.extend(self.source_port.to_be_bytes());
        packet.extend(5000u16.to_be_bytes());
        if self.is_tcp {
            packet.extend(self.sequence.to_be_bytes());
            packet.extend(7u32.to_be_bytes());
            packet.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags, 1, 0, 0, 0, 0, 0]);
            packet.extend(&self.options);
        } else {
            packet.extend(upper_len.to_be_bytes());
            packet.extend([0, 0]);
        }
        let at = self.checksum_at();
        packet[at..at + 2].copy_from_slice(&pseudo.folded());
        packet.extend(&self.payload);
        packet
    }

    /// What the kernel says of the packet as a super-packet with segments of `size` bytes.
    pub(crate) fn vnet(&self, size: u16) -> VnetHeader {
        let gso = match (self.is_tcp, self.is_v6) {
            (true, false) => Gso::TcpV4 { ecn: false },
            (true, true) => Gso::TcpV6 { ecn: false },
            (false, _) => Gso::UdpL4,
        };
        VnetHeader { gso, gso_size: size, hdr_len: self.header_len() as u16, ..self.vnet_single() }
    }

    /// What the kernel says of the packet as one whose checksum is to be finished.
    pub(crate) fn vnet_single(&self) -> VnetHeader {
        VnetHeader {
            needs_csum: true,
            csum_start: self.upper_at() as u16,
            csum_offset: (self.checksum_at() - self.upper_at()) as u16,
            ..VnetHeader::default()
        }
    }

    fn checksum_at(&self) -> usize {
        self.upper_at() + if self.is_tcp { 16 } else { 6 }
    }
}

/// Whether the checksums of a packet without extension headers hold.
pub(crate) fn is_valid(packet: &[u8]) -> bool {
    let Ok(parsed) = IpPacket::parse(packet) else { return false };
    let len = parsed.payload().len() as u16;
    let pseudo = match (parsed.source(), parsed.destination()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            if Sum::of(&packet[..parsed.header_len()]).finish() != [0, 0] {
                return false;
            }
            Sum::pseudo_v4(source, destination, len, parsed.protocol())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Sum::pseudo_v6(source, destination, len, parsed.protocol())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    parsed.bytes().len() == packet.len() && pseudo.with(parsed.payload()).finish() == [0, 0]
}

/// Bytes that differ from place to place.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}
