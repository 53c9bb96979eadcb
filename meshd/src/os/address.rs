//! Addresses of this host that peers may reach it at.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link::reachable_links;
use super::netlink::{Netlink, NetlinkError};

/// Temporary addresses (RFC 8981) change too often to be published; the flag shares its bit with "secondary".
const TEMPORARY: AddressFlags = AddressFlags::Secondary;

/// Global addresses of links that are up, in a stable order: never loopback, link-local, overlay, container
/// bridges, temporary, deprecated or not yet verified addresses.
pub fn local_candidates(overlay: &[IpNet]) -> Result<Vec<IpAddr>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let links = reachable_links(&mut netlink)?;
    let mut candidates = Vec::new();
    netlink.dump("list addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()), |reply| {
        if let RouteNetlinkMessage::NewAddress(message) = reply
            && links.contains(&message.header.index)
            && let Some(address) = candidate(&message)
            && !overlay.iter().any(|prefix| prefix.contains(&address))
        {
            candidates.push(address);
        }
    })?;
    candidates.sort();
    candidates.dedup();
    Ok(candidates)
}

/// Gives an address to a link, which may have it already.
pub(super) fn add(
    netlink: &mut Netlink,
    link: u32,
    address: IpNet,
    scope: AddressScope,
) -> Result<(), NetlinkError> {
    let mut message = AddressMessage::default();
    message.header.index = link;
    message.header.family = match address {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = address.prefix_len();
    message.header.scope = scope;
    // The mesh guarantees that an address has one holder; a probe on its links could find nothing out.
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Local(address.addr()));
    message.attributes.push(AddressAttribute::Address(address.addr()));
    if scope == AddressScope::Link
        && let IpAddr::V6(own) = address.addr()
        && !own.is_unicast_link_local()
    {
        // IPv6 knows no such scope; what is deprecated is a packet's source only if nothing else can be.
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_preferred, lifetime.ifa_valid) = (0, u32::MAX);
        message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    }
    netlink.change(
        "add an address to the device",
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
    )
}

/// The addresses of a link that are in use.
pub(super) fn of_link(netlink: &mut Netlink, link: u32) -> Result<Vec<IpNet>, NetlinkError> {
    let mut found = Vec::new();
    netlink.dump("list addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()), |reply| {
        if let RouteNetlinkMessage::NewAddress(message) = reply
            && message.header.index == link
        {
            let (address, flags) = address_and_flags(&message);
            let is_in_use = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
            found.extend(
                address
                    .filter(|_| is_in_use)
                    .and_then(|address| IpNet::new(address, message.header.prefix_len).ok()),
            );
        }
    })?;
    Ok(found)
}

fn candidate(message: &AddressMessage) -> Option<IpAddr> {
    let (address, flags) = address_and_flags(message);
    let address = address?;
    let unusable = AddressFlags::Tentative | AddressFlags::Deprecated | AddressFlags::Dadfailed;
    let temporary = address.is_ipv6() && flags.intersects(TEMPORARY);
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let wide = matches!(message.header.scope, AddressScope::Universe | AddressScope::Site);
    (wide && !link_local && !temporary && !flags.intersects(unusable) && !address.is_loopback())
        .then_some(address)
}

fn address_and_flags(message: &AddressMessage) -> (Option<IpAddr>, AddressFlags) {
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    let (mut local, mut remote) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Flags(all) => flags = *all,
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => remote = Some(*address),
            _ => {}
        }
    }
    // On a point-to-point link the plain attribute is the other end.
    (local.or(remote), flags)
}
