//! The endpoint's end of its link, inside its network namespace.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_route::address::AddressScope;

use super::host_end::gateway_of_all;
use super::link_end::{LinkEnd, LinkEndError};
use super::namespace::{Namespace, NamespaceError};
use super::route::Route;

/// Settings of the endpoint's end, if it has an IPv6 address: the mesh gave it what it needs, and nobody else could
/// have its addresses.
const SETTINGS6: [(&str, &str, &str); 3] =
    [("ipv6", "disable_ipv6", "0"), ("ipv6", "accept_ra", "0"), ("ipv6", "accept_dad", "0")];

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

/// Says why the endpoint's end of a link could not be set up or looked at.
#[derive(Debug, thiserror::Error)]
pub enum ContainerEndError {
    /// The namespace can't be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A step failed inside.
    #[error("inside the endpoint's namespace")]
    Link(#[source] LinkEndError),
}

impl ContainerEnd<'_> {
    /// Gives it addresses and routes and brings it up.
    pub fn set_up(&self, namespace: &Namespace) -> Result<(), ContainerEndError> {
        let wanted = self.wanted();
        let act = || wanted.set_up().and_then(|()| wanted.route(|link| self.planned_routes(link)));
        namespace.run(act)?.map_err(ContainerEndError::Link)
    }

    /// One line for each thing that is missing or different.
    pub fn faults(&self, namespace: &Namespace) -> Result<Vec<String>, ContainerEndError> {
        let wanted = self.wanted();
        namespace.run(|| wanted.faults(|link| self.planned_routes(link)))?.map_err(ContainerEndError::Link)
    }

    fn wanted(&self) -> LinkEnd {
        let has_ipv6 = self.addresses.iter().any(IpAddr::is_ipv6);
        let settings = if has_ipv6 { SETTINGS6.to_vec() } else { Vec::new() };
        let addresses =
            self.addresses.iter().map(|own| (IpNet::from(*own), AddressScope::Universe)).collect();
        LinkEnd { name: self.ifname.to_owned(), settings, addresses }
    }

    /// The way to the gateway, then what leads through it.
    fn planned_routes(&self, link: u32) -> Vec<Route> {
        let mut planned = Vec::new();
        for own in self.addresses {
            let gateway = gateway_of_all(own);
            planned.push(Route::to_link(gateway.into(), link));
            let prefixes = self.routes.iter().filter(|prefix| prefix.addr().is_ipv4() == own.is_ipv4());
            planned.extend(prefixes.map(|prefix| Route::to_link(*prefix, link).via(gateway).from(*own)));
        }
        planned
    }
}
