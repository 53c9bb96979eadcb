//! The host's end of an endpoint's link: gateway, settings, and the routes to the endpoint.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use netlink_packet_route::address::AddressScope;

use super::endpoint_id::EndpointId;
use super::ipv6::ipv6_is_enabled;
use super::netlink::{Netlink, NetlinkError};
use super::route::{self, Route, RouteError};
use super::sysctl::{self, SysctlError};
use super::{address, link};

/// Next hop of every endpoint. The same on every link, which is fine for an address that no packet leaves with.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Next hop of every endpoint for IPv6.
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// Settings of the host end: strict about where packets come from, and deaf to what would change the host.
const SETTINGS4: [(&str, &str); 3] = [("rp_filter", "1"), ("proxy_arp", "0"), ("forwarding", "1")];
const SETTINGS6: [(&str, &str); 3] = [("disable_ipv6", "0"), ("accept_ra", "0"), ("forwarding", "1")];

/// Says why the host end of a link could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HostEndError {
    /// The link is gone.
    #[error("link {link} is gone")]
    Vanished {
        /// Its name.
        link: String,
    },
    /// The kernel refused a step.
    #[error("link {link}")]
    Netlink {
        /// Its name.
        link: String,
        /// The step that failed.
        #[source]
        source: NetlinkError,
    },
    /// A setting could not be changed.
    #[error("link {link}")]
    Sysctl {
        /// Its name.
        link: String,
        /// The setting.
        #[source]
        source: SysctlError,
    },
    /// An address could not be routed to the link.
    #[error("link {link}")]
    Route {
        /// Its name.
        link: String,
        /// What is in the way.
        #[source]
        source: RouteError,
    },
}

/// The host's end of an endpoint's link.
pub struct HostEnd {
    netlink: Netlink,
    name: String,
    index: u32,
}

impl HostEnd {
    /// Finds it.
    pub fn of(id: EndpointId) -> Result<Self, HostEndError> {
        let name = id.host_link();
        let failed = |source| HostEndError::Netlink { link: name.clone(), source };
        let mut netlink = Netlink::open().map_err(failed)?;
        match link::find(&mut netlink, &name).map_err(failed)? {
            Some(link) => Ok(Self { netlink, name, index: link.index }),
            None => Err(HostEndError::Vanished { link: name }),
        }
    }

    /// Gives it the gateway's addresses and brings it up. Undone by deleting the pair.
    pub fn set_up(&mut self) -> Result<(), HostEndError> {
        let Self { netlink, name, index } = self;
        let unset = |source| HostEndError::Sysctl { link: name.clone(), source };
        let failed = |source| HostEndError::Netlink { link: name.clone(), source };
        let has_ipv6 = ipv6_is_enabled();
        for (setting, value) in SETTINGS4 {
            sysctl::set_interface("ipv4", name, setting, value).map_err(unset)?;
        }
        for (setting, value) in SETTINGS6.into_iter().filter(|_| has_ipv6) {
            sysctl::set_interface("ipv6", name, setting, value).map_err(unset)?;
        }
        // With a scope of its own it is never taken as a packet's source, not even by masquerading.
        address::add(netlink, *index, IpAddr::from(GATEWAY4).into(), AddressScope::Link).map_err(failed)?;
        if has_ipv6 {
            address::add(netlink, *index, gateway6_on_link(), AddressScope::Link).map_err(failed)?;
        }
        link::set_up(netlink, *index).map_err(failed)
    }

    /// Leads packets for `address` to the endpoint; those that start here have the address `source`.
    pub fn route(&mut self, address: IpAddr, source: IpAddr) -> Result<(), HostEndError> {
        let route = Route::to_link(address.into(), self.index).from(source);
        route::ensure(&mut self.netlink, &route).map_err(|source| self.unrouted(source))
    }

    /// Takes back [`HostEnd::route`].
    pub fn unroute(&mut self, address: IpAddr) -> Result<(), HostEndError> {
        let route = Route::to_link(address.into(), self.index);
        route::remove(&mut self.netlink, &route).map_err(|source| self.unrouted(source))
    }

    fn unrouted(&self, source: RouteError) -> HostEndError {
        HostEndError::Route { link: self.name.clone(), source }
    }
}

fn gateway6_on_link() -> IpNet {
    Ipv6Net::new_assert(GATEWAY6, 64).into()
}
