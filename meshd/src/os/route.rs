//! Routes: those of the overlay, and those in its way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link::links;
use super::link_owner::is_host_end;
use super::netlink::{Netlink, NetlinkError};

/// Metric of the routes that answer "unreachable": worse than any route that leads somewhere.
const UNREACHABLE_METRIC: u32 = 9_999;
/// What the kernel gives an IPv6 route without a metric.
const IP6_METRIC_DEFAULT: u32 = 1_024;

/// Says why a route could not be added or removed.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The same prefix is routed elsewhere.
    #[error("{prefix} is routed to {holder} already")]
    Taken {
        /// The prefix.
        prefix: IpNet,
        /// The link that has it.
        holder: String,
    },
}

/// Describes the local route or address that overlaps `prefix`, if there is one on another device than `own` and the
/// links of endpoints.
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
        if counts && overlaps && route.prefix.prefix_len() > 0 && device != own && !is_host_end(device) {
            let what = if route.kind == RouteType::Local { "address" } else { "route" };
            conflicts.push((route.kind == RouteType::Local, format!("{what} {} on {device}", route.prefix)));
        }
    })?;
    // A route says more than the address that brought it along.
    conflicts.sort();
    Ok(conflicts.into_iter().next().map(|(_, text)| text))
}

/// Addresses that lead to links of endpoints, each with the name of its link.
pub fn endpoint_routes() -> Result<BTreeSet<(String, IpAddr)>, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let links: BTreeMap<u32, String> = links(&mut netlink)?
        .into_iter()
        .filter(|link| is_host_end(&link.name))
        .map(|link| (link.index, link.name))
        .collect();
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        routes(&mut netlink, family, |route| {
            let is_one = route.prefix.prefix_len() == route.prefix.max_prefix_len();
            if let Some(link) = route.device.and_then(|index| links.get(&index))
                && is_one
                && route.kind == RouteType::Unicast
                // The kernel's own route to an address of the link has none.
                && route.source.is_some()
            {
                found.insert((link.clone(), route.prefix.addr()));
            }
        })?;
    }
    Ok(found)
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
    let route = Route::to_link(prefix, link).from(source);
    netlink.change(
        "route a mesh prefix to the device",
        RouteNetlinkMessage::NewRoute(route.message()),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Answers "unreachable" for what of `prefix` has no better route, now and when the overlay device is gone: nothing
/// of it ever follows the default route.
pub fn hold_prefix(prefix: IpNet) -> Result<(), RouteError> {
    ensure(&mut Netlink::open()?, &Route::unreachable(prefix))
}

/// Takes back [`hold_prefix`].
pub fn release_prefix(prefix: IpNet) -> Result<(), RouteError> {
    remove(&mut Netlink::open()?, &Route::unreachable(prefix))
}

/// Adds a route that may be there already; one that leads elsewhere is an error, never replaced.
pub(super) fn ensure(netlink: &mut Netlink, route: &Route) -> Result<(), RouteError> {
    let message = RouteNetlinkMessage::NewRoute(route.message());
    let Err(error) = netlink.change("add a route", message, NLM_F_CREATE | NLM_F_EXCL) else { return Ok(()) };
    if error.raw_os_error() != Some(libc::EEXIST) {
        return Err(error.into());
    }
    let holders = holders(netlink, route)?;
    if holders.iter().any(|holder| holder.is_like(route)) {
        return Ok(());
    }
    let device = holders.first().and_then(|holder| holder.device);
    let name = links(netlink)?.into_iter().find(|link| Some(link.index) == device).map(|link| link.name);
    let holder = name.unwrap_or_else(|| "no device".to_owned());
    Err(RouteError::Taken { prefix: route.prefix, holder })
}

/// Whether the kernel has exactly this route.
pub(super) fn is_there(netlink: &mut Netlink, route: &Route) -> Result<bool, NetlinkError> {
    Ok(holders(netlink, route)?.iter().any(|holder| holder.is_like(route)))
}

/// Routes that stand where this one is or would be.
fn holders(netlink: &mut Netlink, route: &Route) -> Result<Vec<Route>, NetlinkError> {
    let mut holders = Vec::new();
    routes(netlink, family_of(route.prefix), |found| {
        if found.prefix == route.prefix && found.metric() == route.metric() {
            holders.push(found);
        }
    })?;
    Ok(holders)
}

/// Takes back [`ensure`]; the route may be gone already.
pub(super) fn remove(netlink: &mut Netlink, route: &Route) -> Result<(), RouteError> {
    match netlink.change("remove a route", RouteNetlinkMessage::DelRoute(route.message()), 0) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error.into()),
        _ => Ok(()),
    }
}

/// A route of the main table.
#[derive(Debug, Clone)]
pub(super) struct Route {
    prefix: IpNet,
    kind: RouteType,
    device: Option<u32>,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    priority: Option<u32>,
}

impl Route {
    pub(super) fn to_link(prefix: IpNet, device: u32) -> Self {
        let (kind, device) = (RouteType::Unicast, Some(device));
        Self { prefix: prefix.trunc(), kind, device, gateway: None, source: None, priority: None }
    }

    fn unreachable(prefix: IpNet) -> Self {
        let (kind, priority) = (RouteType::Unreachable, Some(UNREACHABLE_METRIC));
        Self { prefix: prefix.trunc(), kind, device: None, gateway: None, source: None, priority }
    }

    pub(super) fn via(self, gateway: IpAddr) -> Self {
        Self { gateway: Some(gateway), ..self }
    }

    pub(super) fn from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The kernel shows its own default for a route that was given none.
    fn metric(&self) -> u32 {
        self.priority.unwrap_or(match self.prefix {
            IpNet::V4(_) => 0,
            IpNet::V6(_) => IP6_METRIC_DEFAULT,
        })
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(self.prefix);
        message.header.destination_prefix_length = self.prefix.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = match self.prefix {
            IpNet::V4(_) if self.device.is_some() && self.gateway.is_none() => RouteScope::Link,
            IpNet::V4(_) | IpNet::V6(_) => RouteScope::Universe,
        };
        message.header.kind = self.kind;
        message.attributes.push(RouteAttribute::Destination(self.prefix.network().into()));
        message.attributes.extend(self.device.map(RouteAttribute::Oif));
        message.attributes.extend(self.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        message.attributes.extend(self.source.map(|source| RouteAttribute::PrefSource(source.into())));
        message.attributes.extend(self.priority.map(RouteAttribute::Priority));
        message
    }

    /// `None` for what is of another family.
    fn of_message(message: &RouteMessage) -> Option<Self> {
        let len = message.header.destination_prefix_length;
        let prefix: IpNet = match message.header.address_family {
            AddressFamily::Inet => Ipv4Net::new(Ipv4Addr::UNSPECIFIED, len).ok()?.into(),
            AddressFamily::Inet6 => Ipv6Net::new(Ipv6Addr::UNSPECIFIED, len).ok()?.into(),
            _ => return None,
        };
        let (kind, device, gateway) = (message.header.kind, None, None);
        let mut route = Self { prefix, kind, device, gateway, source: None, priority: None };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => {
                    route.prefix = IpNet::new(ip(address)?, len).ok()?.trunc();
                }
                RouteAttribute::Oif(index) => route.device = Some(*index),
                RouteAttribute::MultiPath(hops) => {
                    route.device = hops.first().map(|hop| hop.interface_index);
                }
                RouteAttribute::Gateway(address) => route.gateway = ip(address),
                RouteAttribute::PrefSource(address) => route.source = ip(address),
                RouteAttribute::Priority(priority) => route.priority = Some(*priority),
                _ => {}
            }
        }
        Some(route)
    }

    /// Whether both do the same; the kernel adds a default metric, and a device to what has none.
    fn is_like(&self, other: &Self) -> bool {
        let device = |route: &Self| route.device.filter(|_| route.kind == RouteType::Unicast);
        self.prefix == other.prefix
            && self.kind == other.kind
            && device(self) == device(other)
            && self.gateway == other.gateway
            && self.source == other.source
            && self.metric() == other.metric()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.prefix)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        Ok(())
    }
}

fn routes(
    netlink: &mut Netlink,
    family: AddressFamily,
    mut each: impl FnMut(Route),
) -> Result<(), NetlinkError> {
    let mut request = RouteMessage::default();
    request.header.address_family = family;
    netlink.dump("list routes", RouteNetlinkMessage::GetRoute(request), |reply| {
        if let RouteNetlinkMessage::NewRoute(message) = reply
            && let Some(route) = Route::of_message(&message)
        {
            each(route);
        }
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn family_of(prefix: IpNet) -> AddressFamily {
    match prefix {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}
