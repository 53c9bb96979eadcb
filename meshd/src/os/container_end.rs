//! The endpoint's end of its link, inside its network namespace.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::InfoKind;

use super::host_end::{GATEWAY4, GATEWAY6};
use super::namespace::{Namespace, NamespaceError};
use super::netlink::{Netlink, NetlinkError};
use super::route::{self, Route, RouteError};
use super::sysctl::{self, SysctlError};
use super::{address, link};

/// Settings of the endpoint's end, if it has an IPv6 address: the mesh gave it what it needs, and nobody else could
/// have its addresses.
const SETTINGS6: [(&str, &str); 3] = [("disable_ipv6", "0"), ("accept_ra", "0"), ("accept_dad", "0")];

/// What the endpoint's end shall look like. Undone by deleting the pair.
#[derive(Debug)]
pub struct ContainerEnd<'a> {
    /// Its name in the namespace.
    pub ifname: &'a str,
    /// Its addresses, at most one of each family.
    pub addresses: &'a [IpAddr],
    /// Prefixes that lead through it; those of a family without an address have no meaning.
    pub routes: &'a [IpNet],
}

/// Says why the endpoint's end of a link could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum ContainerEndError {
    /// The namespace can't be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// There is no such link in the namespace.
    #[error("interface {ifname} is gone")]
    Vanished {
        /// Its name.
        ifname: String,
    },
    /// The kernel refused a step.
    #[error("interface {ifname}")]
    Netlink {
        /// Its name.
        ifname: String,
        /// The step that failed.
        #[source]
        source: NetlinkError,
    },
    /// A setting could not be changed.
    #[error("interface {ifname}")]
    Sysctl {
        /// Its name.
        ifname: String,
        /// The setting.
        #[source]
        source: SysctlError,
    },
    /// A prefix could not be routed.
    #[error("interface {ifname}")]
    Route {
        /// Its name.
        ifname: String,
        /// What is in the way.
        #[source]
        source: RouteError,
    },
}

impl ContainerEnd<'_> {
    /// Gives it addresses and routes and brings it up.
    pub fn set_up(&self, namespace: &Namespace) -> Result<(), ContainerEndError> {
        namespace.run(|| self.set_up_here())?
    }

    fn set_up_here(&self) -> Result<(), ContainerEndError> {
        let ifname = || self.ifname.to_owned();
        let failed = |source| ContainerEndError::Netlink { ifname: ifname(), source };
        let unset = |source| ContainerEndError::Sysctl { ifname: ifname(), source };
        let unrouted = |source| ContainerEndError::Route { ifname: ifname(), source };
        let mut netlink = Netlink::open().map_err(failed)?;
        let found = link::find(&mut netlink, self.ifname).map_err(failed)?;
        let Some(link) = found.filter(|link| link.kind == Some(InfoKind::Veth)) else {
            return Err(ContainerEndError::Vanished { ifname: ifname() });
        };
        let has_ipv6 = self.addresses.iter().any(IpAddr::is_ipv6);
        for (setting, value) in SETTINGS6.into_iter().filter(|_| has_ipv6) {
            sysctl::set_interface("ipv6", self.ifname, setting, value).map_err(unset)?;
        }
        for own in self.addresses {
            address::add(&mut netlink, link.index, (*own).into(), AddressScope::Universe).map_err(failed)?;
        }
        link::set_up(&mut netlink, link.index).map_err(failed)?;
        for route in self.planned_routes(link.index) {
            route::ensure(&mut netlink, &route).map_err(unrouted)?;
        }
        Ok(())
    }

    /// The way to the gateway, then what leads through it.
    fn planned_routes(&self, link: u32) -> Vec<Route> {
        let mut planned = Vec::new();
        for own in self.addresses {
            let gateway = match own {
                IpAddr::V4(_) => IpAddr::from(GATEWAY4),
                IpAddr::V6(_) => IpAddr::from(GATEWAY6),
            };
            planned.push(Route::to_link(gateway.into(), link));
            let prefixes = self.routes.iter().filter(|prefix| prefix.addr().is_ipv4() == own.is_ipv4());
            planned.extend(prefixes.map(|prefix| Route::to_link(*prefix, link).via(gateway).from(*own)));
        }
        planned
    }
}
