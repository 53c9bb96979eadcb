//! The host's end of an endpoint's link: gateway, settings, and the routes to the endpoint.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use meshd_wire::EndpointId;
use netlink_packet_route::address::AddressScope;

use super::ipv6::ipv6_is_enabled;
use super::link_end::{LinkEnd, LinkEndError};
use super::link_owner::host_link;
use super::route::Route;

/// Next hop of every endpoint. The same on every link, which is fine for an address that no packet leaves with.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Next hop of every endpoint for IPv6.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Next hop of every endpoint in the family of an address.
pub fn gateway_of_all(address: &IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => GATEWAY4.into(),
        IpAddr::V6(_) => GATEWAY6.into(),
    }
}

/// Settings of the host end: strict about where packets come from, and deaf to what would change the host.
const SETTINGS4: [(&str, &str, &str); 3] =
    [("ipv4", "rp_filter", "1"), ("ipv4", "proxy_arp", "0"), ("ipv4", "forwarding", "1")];
const SETTINGS6: [(&str, &str, &str); 3] =
    [("ipv6", "disable_ipv6", "0"), ("ipv6", "accept_ra", "0"), ("ipv6", "forwarding", "1")];

/// What the host's end shall look like. Undone by deleting the pair.
#[derive(Debug)]
pub struct HostEnd<'a> {
    /// The endpoint.
    pub id: EndpointId,
    /// Addresses of the endpoint, each with the one that packets of this host have which go there.
    pub routes: &'a [(IpAddr, IpAddr)],
    /// Next hops that the endpoint has; those of every endpoint are there in any case.
    pub gateways: &'a [IpAddr],
}

impl HostEnd<'_> {
    /// Gives it the gateway's addresses and brings it up.
    pub fn set_up(&self) -> Result<(), LinkEndError> {
        self.wanted().set_up()
    }

    /// Leads packets to the endpoint.
    pub fn route(&self) -> Result<(), LinkEndError> {
        self.wanted().route(|link| self.planned_routes(link))
    }

    /// Takes back [`HostEnd::route`].
    pub fn unroute(&self) -> Result<(), LinkEndError> {
        self.wanted().unroute(|link| self.planned_routes(link))
    }

    /// One line for each thing that is missing or different.
    pub fn faults(&self) -> Result<Vec<String>, LinkEndError> {
        self.wanted().faults(|link| self.planned_routes(link))
    }

    fn wanted(&self) -> LinkEnd {
        // With a scope of its own it is never taken as a packet's source, not even by masquerading.
        let mut addresses = vec![(IpNet::from(IpAddr::from(GATEWAY4)), AddressScope::Link)];
        let mut settings = SETTINGS4.to_vec();
        if ipv6_is_enabled() {
            addresses.push((Ipv6Net::new_assert(GATEWAY6, 64).into(), AddressScope::Link));
            settings.extend(SETTINGS6);
        }
        let own = self.gateways.iter().filter(|own| **own != gateway_of_all(own));
        addresses.extend(own.map(|own| (IpNet::from(*own), AddressScope::Link)));
        // A route goes with the address that its packets have, and the overlay device goes with the daemon: here the
        // node's addresses stay, so that the host reaches its endpoints, and they each other, without it.
        let sources: BTreeSet<IpAddr> = self.routes.iter().map(|(_, source)| *source).collect();
        addresses.extend(sources.into_iter().map(|source| (source.into(), AddressScope::Host)));
        LinkEnd { name: host_link(self.id), settings, addresses }
    }

    fn planned_routes(&self, link: u32) -> Vec<Route> {
        let route = |&(address, source): &(IpAddr, IpAddr)| Route::to_link(address.into(), link).from(source);
        self.routes.iter().map(route).collect()
    }
}
