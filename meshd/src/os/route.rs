//! Routes: those of the overlay, and those in its way.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link::links;
use super::netlink::{Netlink, NetlinkError};

/// Describes the local route or address that overlaps `prefix`, if there is one on another device than `own`.
///
/// A default route overlaps everything and is no conflict.
pub fn conflicting_route(prefix: IpNet, own: &str) -> Result<Option<String>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let links = links(&mut netlink)?;
    let name_of = |index: u32| links.iter().find(|link| link.index == index).map_or("?", |link| &link.name);
    let mut conflicts = Vec::new();
    routes(&mut netlink, family_of(prefix), |route| {
        let device = route.device.map_or("no device", name_of);
        let counts = matches!(route.kind, RouteType::Unicast | RouteType::Local);
        let overlaps = route.prefix.contains(&prefix) || prefix.contains(&route.prefix);
        if counts && overlaps && route.prefix.prefix_len() > 0 && device != own {
            let what = if route.kind == RouteType::Local { "address" } else { "route" };
            conflicts.push((route.kind == RouteType::Local, format!("{what} {} on {device}", route.prefix)));
        }
    })?;
    // A route says more than the address that brought it along.
    conflicts.sort();
    Ok(conflicts.into_iter().next().map(|(_, text)| text))
}

/// Links that hold a default route of either family.
pub(super) fn default_links(netlink: &mut Netlink) -> Result<BTreeSet<u32>, NetlinkError> {
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        routes(netlink, family, |route| {
            if route.prefix.prefix_len() == 0 && route.kind == RouteType::Unicast {
                found.extend(route.device);
            }
        })?;
    }
    Ok(found)
}

/// Routes `prefix` to a link, with `source` as the address of packets that start here. A route that somebody
/// else has for the same prefix is an error, never replaced.
pub(super) fn add(
    netlink: &mut Netlink,
    prefix: IpNet,
    link: u32,
    source: IpAddr,
) -> Result<(), NetlinkError> {
    let mut message = RouteMessage::default();
    message.header.address_family = family_of(prefix);
    message.header.destination_prefix_length = prefix.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = if prefix.addr().is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Destination(prefix.network().into()));
    message.attributes.push(RouteAttribute::Oif(link));
    message.attributes.push(RouteAttribute::PrefSource(source.into()));
    netlink.change(
        "route a mesh prefix to the device",
        RouteNetlinkMessage::NewRoute(message),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

struct Route {
    prefix: IpNet,
    kind: RouteType,
    device: Option<u32>,
}

fn routes(
    netlink: &mut Netlink,
    family: AddressFamily,
    mut each: impl FnMut(Route),
) -> Result<(), NetlinkError> {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    netlink.dump("list routes", RouteNetlinkMessage::GetRoute(request), |reply| {
        let RouteNetlinkMessage::NewRoute(message) = reply else { return };
        let destination = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(address) => Some(address),
            _ => None,
        });
        let device = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            RouteAttribute::MultiPath(hops) => hops.first().map(|hop| hop.interface_index),
            _ => None,
        });
        let len = message.header.destination_prefix_length;
        let prefix = match (message.header.address_family, destination) {
            (AddressFamily::Inet, Some(RouteAddress::Inet(address))) => {
                Ipv4Net::new(*address, len).ok().map(IpNet::from)
            }
            (AddressFamily::Inet6, Some(RouteAddress::Inet6(address))) => {
                Ipv6Net::new(*address, len).ok().map(IpNet::from)
            }
            (AddressFamily::Inet, None) => Some(Ipv4Net::default().into()),
            (AddressFamily::Inet6, None) => Some(Ipv6Net::default().into()),
            _ => None,
        };
        if let Some(prefix) = prefix {
            each(Route { prefix: prefix.trunc(), kind: message.header.kind, device });
        }
    })
}

fn family_of(prefix: IpNet) -> AddressFamily {
    match prefix {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}
