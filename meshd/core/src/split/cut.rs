//! The rolling header.

use std::net::IpAddr;

use crate::checksum::Sum;
use crate::ip::{PROTO_TCP, PROTO_UDP, V4_HEADER_LEN, V6_HEADER_LEN};
use crate::split::{HEADER_LEN_MAX, Outgoing, Upper};
use crate::upper::tcp::{self, CWR, FIN, PSH};
use crate::upper::{field, udp};

/// A packet being cut into segments of `size` payload bytes.
#[derive(Debug)]
pub(super) struct Cut {
    packet: Outgoing,
    header_len: usize,
    size: usize,
    segments: usize,
    next: usize,
    /// How many of the next segments have the length and the flags of the template, and that length.
    alike: usize,
    len: usize,
    /// Where the headers of the next segment begin.
    begin: usize,
    /// All headers as the next segment has them, with zeros where every segment differs from the one before:
    /// identification, sequence number and checksums.
    template: [u8; HEADER_LEN_MAX],
    fields: Fields,
    shape: Shape,
}

/// What the headers say of the first segment, and the sums of what no segment changes.
#[derive(Debug, Clone, Copy, Default)]
struct Fields {
    ip_id: u16,
    ip_sum: Sum,
    sequence: u32,
    tcp_flags: u8,
    upper_sum: Sum,
}

/// What segments of one length and with the same flags have in common: all but the first and the last.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    ip_sum: Sum,
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
            alike: 0,
            len: 0,
            begin: 0,
            template: [0; HEADER_LEN_MAX],
            fields: Fields::default(),
            shape: Shape::default(),
        }
    }

    pub(super) fn segments(&self) -> usize {
        self.segments
    }

    pub(super) fn len_max(&self) -> usize {
        self.header_len + self.size
    }

    pub(super) fn next<'p>(&mut self, packet: &'p mut [u8]) -> Option<&'p mut [u8]> {
        if self.alike == 0 {
            self.turn(packet)?;
        }
        let segment = packet.get_mut(self.begin..)?.get_mut(..self.len)?;
        self.write(segment)?;
        self.alike -= 1;
        self.next += 1;
        self.begin += self.size;
        Some(segment)
    }

    /// Gets ready for the next segments that are alike; none if there are no more.
    #[inline(never)]
    fn turn(&mut self, packet: &[u8]) -> Option<()> {
        if self.next == 0 {
            self.learn(packet)?;
        }
        // Only the first may carry CWR, only the last FIN and PSH, and only the last may be shorter.
        let alike = match (self.next, self.segments.checked_sub(self.next)?) {
            (_, 0) => return None,
            (0, _) | (_, 1) => 1,
            (_, left) => left - 1,
        };
        self.len = self.packet.len.checked_sub(self.begin)?.min(self.len_max());
        self.take_shape(self.len)?;
        self.alike = alike;
        Some(())
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
                let tcp = upper_header.first_chunk_mut::<{ tcp::HEADER_LEN }>()?;
                let sequence = field::<{ tcp::SEQUENCE_AT }, _, _>(tcp);
                fields.sequence = u32::from_be_bytes(*sequence);
                *sequence = [0; 4];
                fields.tcp_flags = std::mem::take(&mut tcp[tcp::FLAGS_AT]);
                *field::<{ tcp::CHECKSUM_AT }, _, _>(tcp) = [0; 2];
                PROTO_TCP
            }
            Upper::Udp => {
                let udp = upper_header.first_chunk_mut::<{ udp::HEADER_LEN }>()?;
                *field::<{ udp::LEN_AT }, _, _>(udp) = [0; 2];
                *field::<{ udp::CHECKSUM_AT }, _, _>(udp) = [0; 2];
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

    /// Makes the template that of the next segment, which has `len` bytes.
    fn take_shape(&mut self, len: usize) -> Option<()> {
        let len = u16::try_from(len).ok()?;
        let upper_at = u16::try_from(self.packet.upper_at).ok()?;
        let upper_len = len.checked_sub(upper_at)?;
        let (ip, upper) = self.template.split_at_mut_checked(self.packet.upper_at)?;
        if self.packet.flow.is_v6 {
            // No underflow: the upper layer begins behind that header.
            *field::<4, _, V6_HEADER_LEN>(ip.first_chunk_mut()?) = (len - V6_HEADER_LEN as u16).to_be_bytes();
        } else {
            *field::<2, _, V4_HEADER_LEN>(ip.first_chunk_mut()?) = len.to_be_bytes();
            self.shape.ip_sum = self.fields.ip_sum.with_number(len);
        }
        let upper_sum = self.fields.upper_sum.with_number(upper_len);
        self.shape.upper_sum = match self.packet.upper {
            Upper::Tcp { .. } => {
                let mut flags = self.fields.tcp_flags;
                if self.next > 0 {
                    flags &= !CWR;
                }
                if self.next + 1 < self.segments {
                    flags &= !(FIN | PSH);
                }
                upper.first_chunk_mut::<{ tcp::HEADER_LEN }>()?[tcp::FLAGS_AT] = flags;
                upper_sum.with_number(flags.into())
            }
            Upper::Udp => {
                let udp = upper.first_chunk_mut::<{ udp::HEADER_LEN }>()?;
                *field::<{ udp::LEN_AT }, _, _>(udp) = upper_len.to_be_bytes();
                upper_sum.with_number(upper_len)
            }
            Upper::Opaque => return None,
        };
        Some(())
    }

    /// Writes the headers of the next segment before its payload.
    #[inline]
    fn write(&self, segment: &mut [u8]) -> Option<()> {
        let (header, payload) = segment.split_at_mut_checked(self.header_len)?;
        header.copy_from_slice(self.template.get(..self.header_len)?);
        let (ip, upper) = header.split_at_mut_checked(self.packet.upper_at)?;
        if !self.packet.flow.is_v6 {
            let id = self.fields.ip_id.wrapping_add(self.next as u16);
            let ip = ip.first_chunk_mut::<V4_HEADER_LEN>()?;
            *field::<4, _, _>(ip) = id.to_be_bytes();
            *field::<10, _, _>(ip) = self.shape.ip_sum.with_number(id).finish();
        }
        let sum = self.shape.upper_sum.with(payload);
        match self.packet.upper {
            Upper::Tcp { .. } => {
                let tcp = upper.first_chunk_mut::<{ tcp::HEADER_LEN }>()?;
                let sequence = self.fields.sequence.wrapping_add(self.begin as u32).to_be_bytes();
                *field::<{ tcp::SEQUENCE_AT }, _, _>(tcp) = sequence;
                *field::<{ tcp::CHECKSUM_AT }, _, _>(tcp) = sum.with_four(sequence).finish_nonzero();
            }
            Upper::Udp => {
                let udp = upper.first_chunk_mut::<{ udp::HEADER_LEN }>()?;
                *field::<{ udp::CHECKSUM_AT }, _, _>(udp) = sum.finish_nonzero();
            }
            Upper::Opaque => return None,
        }
        Some(())
    }
}
