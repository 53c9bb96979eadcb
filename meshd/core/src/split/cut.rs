//! The rolling header.

use std::net::IpAddr;
use std::ops::Range;

use crate::checksum::Sum;
use crate::ip::{PROTO_TCP, PROTO_UDP, V4_HEADER_LEN, V6_HEADER_LEN};
use crate::split::{
    HEADER_LEN_MAX, Outgoing, TCP_CHECKSUM_AT, TCP_FLAGS_AT, TCP_HEADER_LEN, UDP_HEADER_LEN, Upper,
};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// A packet being cut into segments of `size` payload bytes.
#[derive(Debug)]
pub(super) struct Cut {
    packet: Outgoing,
    header_len: usize,
    size: usize,
    segments: usize,
    next: usize,
    /// All headers, with zeros where segments differ.
    template: [u8; HEADER_LEN_MAX],
    fields: Fields,
}

/// What the headers say of the first segment, and the sums of all that segments have in common.
#[derive(Debug, Clone, Copy, Default)]
struct Fields {
    ip_id: u16,
    ip_sum: Sum,
    sequence: u32,
    tcp_flags: u8,
    upper_sum: Sum,
}

impl Cut {
    pub(super) fn new(packet: &Outgoing, size: usize, segments: usize) -> Self {
        Self {
            packet: *packet,
            header_len: packet.header_len(),
            size,
            segments,
            next: 0,
            template: [0; HEADER_LEN_MAX],
            fields: Fields::default(),
        }
    }

    pub(super) fn segments(&self) -> usize {
        self.segments
    }

    pub(super) fn len_max(&self) -> usize {
        self.header_len + self.size
    }

    #[inline]
    pub(super) fn next(&mut self, packet: &mut [u8]) -> Option<Range<usize>> {
        if self.next == self.segments {
            return None;
        }
        if self.next == 0 {
            self.learn(packet)?;
        }
        let begin = self.next * self.size;
        let end = (begin + self.len_max()).min(self.packet.len);
        self.write(packet.get_mut(begin..end)?)?;
        self.next += 1;
        Some(begin..end)
    }

    /// Takes the headers out of the packet before the first segment changes them.
    fn learn(&mut self, packet: &[u8]) -> Option<()> {
        let Outgoing { len, upper_at, upper, checksum, .. } = self.packet;
        let header = self.template.get_mut(..self.header_len)?;
        header.copy_from_slice(packet.get(..self.header_len)?);
        let (ip, upper_header) = header.split_at_mut_checked(upper_at)?;
        let fields = &mut self.fields;
        if self.packet.flow.is_v6 {
            ip.first_chunk_mut::<V6_HEADER_LEN>()?[4..6].fill(0);
        } else {
            let fixed = ip.first_chunk_mut::<V4_HEADER_LEN>()?;
            fields.ip_id = u16::from_be_bytes([fixed[4], fixed[5]]);
            fixed[2..6].fill(0);
            fixed[10..12].fill(0);
            fields.ip_sum = Sum::of(ip);
        }
        let protocol = match upper {
            Upper::Tcp { .. } => {
                let tcp = upper_header.first_chunk_mut::<TCP_HEADER_LEN>()?;
                fields.sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
                fields.tcp_flags = tcp[TCP_FLAGS_AT];
                tcp[4..8].fill(0);
                tcp[TCP_FLAGS_AT] = 0;
                tcp[TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2].fill(0);
                PROTO_TCP
            }
            Upper::Udp => {
                upper_header.first_chunk_mut::<UDP_HEADER_LEN>()?[4..8].fill(0);
                PROTO_UDP
            }
            Upper::Opaque => return None,
        };
        let pseudo = self.pseudo(protocol)?;
        self.fields.upper_sum = pseudo.with(self.template.get(upper_at..self.header_len)?);
        if checksum.is_none() {
            // A complete checksum sums to nothing. If it is wrong, the rest makes that of every segment wrong too.
            let upper_len = u16::try_from(len.checked_sub(upper_at)?).ok()?;
            let rest = pseudo.with_number(upper_len).with(packet.get(upper_at..len)?);
            self.fields.upper_sum = self.fields.upper_sum.with_sum(rest);
        }
        Some(())
    }

    /// Sum of the pseudo header without the length.
    fn pseudo(&self, protocol: u8) -> Option<Sum> {
        match (self.packet.source, self.packet.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Some(Sum::pseudo_v4(source, destination, 0, protocol))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Some(Sum::pseudo_v6(source, destination, 0, protocol))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// Writes the headers of the next segment before its payload.
    fn write(&self, segment: &mut [u8]) -> Option<()> {
        let len = u16::try_from(segment.len()).ok()?;
        let (header, payload) = segment.split_at_mut_checked(self.header_len)?;
        header.copy_from_slice(self.template.get(..self.header_len)?);
        let upper_at = u16::try_from(self.packet.upper_at).ok()?;
        let (ip, upper) = header.split_at_mut_checked(self.packet.upper_at)?;
        if self.packet.flow.is_v6 {
            // No underflow: the header is at least that long.
            let payload_len = len.checked_sub(V6_HEADER_LEN as u16)?;
            ip.first_chunk_mut::<V6_HEADER_LEN>()?[4..6].copy_from_slice(&payload_len.to_be_bytes());
        } else {
            let id = self.fields.ip_id.wrapping_add(self.next as u16);
            let ip = ip.first_chunk_mut::<V4_HEADER_LEN>()?;
            ip[2..4].copy_from_slice(&len.to_be_bytes());
            ip[4..6].copy_from_slice(&id.to_be_bytes());
            ip[10..12].copy_from_slice(&self.fields.ip_sum.with_number(len).with_number(id).finish());
        }
        let upper_len = len.checked_sub(upper_at)?;
        let sum = self.fields.upper_sum.with_number(upper_len).with(payload);
        match self.packet.upper {
            Upper::Tcp { .. } => self.write_tcp(upper.first_chunk_mut()?, sum),
            Upper::Udp => {
                let udp = upper.first_chunk_mut::<UDP_HEADER_LEN>()?;
                udp[4..6].copy_from_slice(&upper_len.to_be_bytes());
                udp[6..8].copy_from_slice(&sum.with_number(upper_len).finish_nonzero());
            }
            Upper::Opaque => return None,
        }
        Some(())
    }

    fn write_tcp(&self, tcp: &mut [u8; TCP_HEADER_LEN], sum: Sum) {
        let sequence = self.fields.sequence.wrapping_add((self.next * self.size) as u32).to_be_bytes();
        let mut flags = self.fields.tcp_flags;
        if self.next > 0 {
            flags &= !CWR;
        }
        if self.next + 1 < self.segments {
            flags &= !(FIN | PSH);
        }
        tcp[4..8].copy_from_slice(&sequence);
        tcp[TCP_FLAGS_AT] = flags;
        let sum = sum.with_four(sequence).with_number(flags.into());
        tcp[TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2].copy_from_slice(&sum.finish_nonzero());
    }
}
