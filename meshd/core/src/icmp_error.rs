//! ICMP errors that the daemon answers packets with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use crate::bucket::TokenBucket;
use crate::checksum::Sum;
use crate::ip::{self, IpPacket, PROTO_ICMP, PROTO_ICMPV6, V4_HEADER_LEN, V6_HEADER_LEN};

/// Longest ICMPv4 error: RFC 1812 section 4.3.2.3.
pub const V4_LEN_MAX: usize = 576;
/// Longest ICMPv6 error: the minimum MTU, RFC 4443 section 2.4 (c).
pub const V6_LEN_MAX: usize = 1280;

/// Errors a second: a port scan of the mesh learns its answers quickly, a loop cannot burn a core.
pub(crate) const RATE_PER_S: u32 = 200;
/// Errors at once: a ping sweep of a /24 gets all its answers.
pub(crate) const BURST: u32 = 256;
/// Bytes of the ICMP header before the quoted packet.
pub(crate) const ICMP_HEADER_LEN: usize = 8;

/// Says why a packet gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e) forbid an answer to this packet.
    #[error("not a packet that may be answered with an error")]
    Forbidden,
    /// Too many answers were given in the last second.
    #[error("too many errors were sent")]
    RateLimited,
}

/// First bytes of an error in either version: type, code, checksum, and four bytes that say more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) v4: [u8; ICMP_HEADER_LEN],
    pub(crate) v6: [u8; ICMP_HEADER_LEN],
}

/// Builds errors of one kind at a bounded rate.
///
/// An answer comes from the address that the packet was for: the host refuses its own address as the source of a
/// received packet, and a reverse path filter accepts the answer because that address is routed to the device.
#[derive(Debug)]
pub(crate) struct Errors {
    overlay: Vec<IpNet>,
    bucket: TokenBucket,
}

impl Errors {
    /// `overlay` are the prefixes whose broadcast addresses are never answered for.
    pub(crate) fn new(overlay: Vec<IpNet>, now: Duration) -> Self {
        Self { overlay, bucket: TokenBucket::new(RATE_PER_S, BURST, now) }
    }

    /// The complete answer to `packet`.
    pub(crate) fn answer(
        &mut self,
        packet: &IpPacket<'_>,
        header: Header,
        now: Duration,
    ) -> Result<Vec<u8>, NoAnswer> {
        if !self.may_answer(packet) {
            return Err(NoAnswer::Forbidden);
        }
        if !self.bucket.take(now) {
            return Err(NoAnswer::RateLimited);
        }
        match (packet.source(), packet.destination()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Ok(answer_v4(header.v4, packet.bytes(), destination, source))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Ok(answer_v6(header.v6, packet.bytes(), destination, source))
            }
            _ => Err(NoAnswer::Forbidden),
        }
    }

    fn may_answer(&self, packet: &IpPacket<'_>) -> bool {
        self.is_host(packet.source())
            && self.is_host(packet.destination())
            && !packet.is_later_fragment()
            && !is_icmp_error(packet)
    }

    /// Whether `address` names one host: no multicast, broadcast, loopback or unspecified address.
    fn is_host(&self, address: IpAddr) -> bool {
        if address.is_multicast() || address.is_unspecified() || address.is_loopback() {
            return false;
        }
        match address {
            IpAddr::V4(v4) => {
                !v4.is_broadcast()
                    && v4.octets()[0] != 0
                    && !self.overlay.iter().any(|net| match net {
                        IpNet::V4(net) => net.prefix_len() < 31 && net.broadcast() == v4,
                        IpNet::V6(_) => false,
                    })
            }
            IpAddr::V6(_) => true,
        }
    }
}

/// Whether the packet is an ICMP message other than a query, or too short to tell.
fn is_icmp_error(packet: &IpPacket<'_>) -> bool {
    let kind = packet.payload().first().copied();
    match packet.protocol() {
        // Echo, router solicitation, timestamp, information, address mask and their replies are no errors.
        PROTO_ICMP => !matches!(kind, Some(0 | 8 | 9 | 10 | 13..=18 | 42 | 43)),
        PROTO_ICMPV6 => kind.is_none_or(|kind| kind < 128 || kind == 137),
        _ => false,
    }
}

fn answer_v4(mut icmp: [u8; 8], offending: &[u8], source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
    let quoted = offending.get(..V4_LEN_MAX - V4_HEADER_LEN - ICMP_HEADER_LEN).unwrap_or(offending);
    let total = V4_HEADER_LEN + ICMP_HEADER_LEN + quoted.len();
    let checksum = Sum::of(&icmp).with(quoted).finish();
    icmp[2..4].copy_from_slice(&checksum);

    let mut answer = Vec::with_capacity(total);
    answer.extend(ip::v4_header(source, destination, total as u16, PROTO_ICMP));
    answer.extend(icmp);
    answer.extend(quoted);
    answer
}

fn answer_v6(mut icmp: [u8; 8], offending: &[u8], source: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let quoted = offending.get(..V6_LEN_MAX - V6_HEADER_LEN - ICMP_HEADER_LEN).unwrap_or(offending);
    let payload_len = (ICMP_HEADER_LEN + quoted.len()) as u16;
    let pseudo = Sum::pseudo_v6(source, destination, payload_len, PROTO_ICMPV6);
    let checksum = pseudo.with(&icmp).with(quoted).finish();
    icmp[2..4].copy_from_slice(&checksum);

    let mut answer = Vec::with_capacity(V6_HEADER_LEN + usize::from(payload_len));
    answer.extend(ip::v6_header(source, destination, payload_len, PROTO_ICMPV6));
    answer.extend(icmp);
    answer.extend(quoted);
    answer
}
