//! Which packets belong together, and what is remembered of whether they pass.
//!
//! The rules are the caller's: `decide` says whether they let a flow begin. The packet path asks a [`FlowCache`], one
//! per thread: it knows the verdict on a flow it has seen under the present rules, and asks `decide` about others,
//! on their first packet and not on each. What one direction of a flow was allowed by the rules, the other may
//! answer; as the two directions meet different threads, the permission lies in a [`FlowTable`] that all threads of a
//! network share and ask only about flows they do not know.

mod cache;
mod table;
mod ways;

pub use cache::FlowCache;
pub use table::FlowTable;

use std::net::{IpAddr, Ipv4Addr};

use crate::ip::{Fragment, IpPacket, PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP};

const PROTO_DCCP: u8 = 33;
const PROTO_SCTP: u8 = 132;
const PROTO_UDP_LITE: u8 = 136;

/// Addresses, protocol and ports of a packet.
///
/// Echo has ports too: the side that asks has the identifier as its port, the other one the ICMP type (times 256), so
/// that a reply is the reverse of its request. Of other ICMP messages type and code are the destination port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Source address, an IPv4 address as IPv4-mapped.
    pub source: [u8; 16],
    /// Destination address, likewise.
    pub destination: [u8; 16],
    /// Source port; 0 where there are none.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Upper-layer protocol.
    pub protocol: u8,
    /// IP version 6; an IPv6 packet may carry IPv4-mapped addresses.
    pub is_v6: bool,
}

/// Says that a packet ends before its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too short for its upper-layer header")]
pub struct NoPorts;

impl FlowKey {
    /// The flow of a packet; that of a later fragment has no ports.
    ///
    /// An ICMP error between the two ends of the flow it speaks of is an answer in that flow.
    #[inline]
    pub fn of(packet: &IpPacket<'_>) -> Result<Self, NoPorts> {
        let key = Self::of_header(packet)?;
        if matches!(packet.protocol(), PROTO_ICMP | PROTO_ICMPV6)
            && let Some(answer) = answered(packet, &key)
        {
            return Ok(answer);
        }
        Ok(key)
    }

    #[inline]
    fn of_header(packet: &IpPacket<'_>) -> Result<Self, NoPorts> {
        let (source_port, destination_port) =
            if packet.is_later_fragment() { (0, 0) } else { ports(packet.protocol(), packet.payload())? };
        let (source, destination) = match (packet.source(), packet.destination()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => (mapped(source), mapped(destination)),
            (source, destination) => (octets(source), octets(destination)),
        };
        Ok(Self {
            source,
            destination,
            source_port,
            destination_port,
            protocol: packet.protocol(),
            is_v6: packet.source().is_ipv6(),
        })
    }

    /// The flow of the answers.
    pub fn reversed(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..*self
        }
    }
}

/// Whether a packet comes from this host or goes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From this host to a peer.
    Out,
    /// From a peer to this host.
    In,
}

impl Direction {
    /// The other way.
    pub fn reversed(self) -> Self {
        match self {
            Self::Out => Self::In,
            Self::In => Self::Out,
        }
    }
}

/// What becomes of the packets of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They pass.
    Allow,
    /// They are dropped and counted.
    Deny,
}

/// What a verdict is asked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Addresses, protocol and ports.
    pub key: FlowKey,
    /// Which way the packet goes.
    pub direction: Direction,
    /// A number that stands for the peer at the other end of the tunnel as long as it is one. It is part of every
    /// remembered flow, so it is short; who the peer is, `decide` knows from elsewhere.
    pub peer: u32,
    /// Which piece of a packet this is; none for a whole one.
    pub fragment: Option<Fragment>,
}

impl Flow {
    /// The flow of the answers to this one.
    pub fn reversed(&self) -> Self {
        Self { key: self.key.reversed(), direction: self.direction.reversed(), ..*self }
    }
}

#[inline]
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => mapped(v4),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// An IPv4-mapped address, as one number that the compiler keeps in a register.
#[inline]
fn mapped(address: Ipv4Addr) -> [u8; 16] {
    (0xffff_0000_0000 | u128::from(address.to_bits())).to_be_bytes()
}

#[inline]
fn ports(protocol: u8, payload: &[u8]) -> Result<(u16, u16), NoPorts> {
    match protocol {
        PROTO_TCP | PROTO_UDP | PROTO_SCTP | PROTO_DCCP | PROTO_UDP_LITE => {
            let [a, b, c, d] = payload.first_chunk().ok_or(NoPorts)?;
            Ok((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
        }
        PROTO_ICMP | PROTO_ICMPV6 => {
            let [kind, code, _, _, id @ ..] = payload.first_chunk::<6>().ok_or(NoPorts)?;
            let id = u16::from_be_bytes(*id);
            Ok(match (protocol, kind) {
                (PROTO_ICMP, 8) | (PROTO_ICMPV6, 128) => (id, u16::from_be_bytes([*kind, 0])),
                (PROTO_ICMP, 0) => (u16::from_be_bytes([8, 0]), id),
                (PROTO_ICMPV6, 129) => (u16::from_be_bytes([128, 0]), id),
                _ => (0, u16::from_be_bytes([*kind, *code])),
            })
        }
        _ => Ok((0, 0)),
    }
}

/// The flow in which an ICMP error of flow `key` is an answer. The quoted packet is cut short, so its stated length
/// proves nothing.
fn answered(packet: &IpPacket<'_>, key: &FlowKey) -> Option<FlowKey> {
    const ICMP_HEADER_LEN: usize = 8;
    let kind = *packet.payload().first()?;
    let is_error =
        if packet.protocol() == PROTO_ICMP { matches!(kind, 3 | 11 | 12) } else { matches!(kind, 1..=4) };
    if !is_error || packet.fragment().is_some() {
        return None;
    }
    let quoted = IpPacket::parse_quote(packet.payload().get(ICMP_HEADER_LEN..)?).ok()?;
    let answer = FlowKey::of_header(&quoted).ok()?.reversed();
    // The same addresses: whoever checks those of the flow has checked those of the packet.
    let is_between =
        (answer.source, answer.destination, answer.is_v6) == (key.source, key.destination, key.is_v6);
    is_between.then_some(answer)
}

#[cfg(test)]
mod tests;
