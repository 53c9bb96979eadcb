//! Which addresses of the mesh belong to whom.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use meshd_wire::record::Prefix;

/// Shortest and longest prefix of an organisation: more than a /8 is not to be had in private space,
/// less than a /30 holds no two nodes.
const ORG_PREFIX_LEN: std::ops::RangeInclusive<u8> = 8..=30;

/// Whether a prefix may be an organisation's: IPv4, of a sane length, host bits zero.
pub(super) fn is_org_prefix(prefix: &Prefix) -> bool {
    matches!(prefix.parts(), Some((IpAddr::V4(_), len)) if ORG_PREFIX_LEN.contains(&len))
}

/// Whether one prefix lies in another of the same family.
pub(super) fn contains(outer: &Prefix, inner: &Prefix) -> bool {
    match (outer.parts(), inner.parts()) {
        (Some((outer, outer_len)), Some((inner, inner_len))) => {
            inner_len >= outer_len && is_inside(outer, outer_len, inner)
        }
        _ => false,
    }
}

/// Whether an address lies in a prefix of the same family.
pub(super) fn is_inside(prefix: IpAddr, len: u8, addr: IpAddr) -> bool {
    match (prefix, addr) {
        (IpAddr::V4(prefix), IpAddr::V4(addr)) => {
            let differing = u32::from(prefix) ^ u32::from(addr);
            differing.checked_shr(32u32.saturating_sub(u32::from(len))).unwrap_or(0) == 0
        }
        (IpAddr::V6(prefix), IpAddr::V6(addr)) => {
            let differing = u128::from(prefix) ^ u128::from(addr);
            differing.checked_shr(128u32.saturating_sub(u32::from(len))).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Whether a prefix is a single address.
pub(super) fn is_host(addr: IpAddr, len: u8) -> bool {
    len == bits_of(addr)
}

/// Bits of an address.
pub(super) fn bits_of(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// First address of the prefix of some length that an address lies in.
pub(super) fn network_of(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) & !host_mask4(len)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) & !host_mask6(len)).into(),
    }
}

/// Last address of a prefix.
pub(super) fn last_of(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) | host_mask4(len)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) | host_mask6(len)).into(),
    }
}

fn host_mask4(len: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(len)).unwrap_or(0)
}

fn host_mask6(len: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(len)).unwrap_or(0)
}

/// Whether an address may be a host of an organisation's prefix: inside, neither first nor last.
pub(super) fn is_host_of(prefix: &Prefix, addr: Ipv4Addr) -> bool {
    let Some((IpAddr::V4(network), len)) = prefix.parts() else { return false };
    let host_bits = host_mask4(len);
    let host = u32::from(addr) & host_bits;
    is_inside(network.into(), len, addr.into()) && host != 0 && host != host_bits
}

/// Whether a prefix lies in the same /64 as an address.
pub(super) fn shares_subnet6(prefix: &Prefix, addr: Ipv6Addr) -> bool {
    match prefix.parts() {
        Some((IpAddr::V6(network), len)) => len >= 64 && is_inside(addr.into(), 64, network.into()),
        Some((IpAddr::V4(_), _)) | None => false,
    }
}
