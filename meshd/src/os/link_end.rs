//! One end of an endpoint's link, as it shall be: set up, and looked at.

use ipnet::IpNet;
use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::InfoKind;

use super::link::Link;
use super::netlink::{Netlink, NetlinkError};
use super::route::{self, Route, RouteError};
use super::sysctl::{self, SysctlError};
use super::{address, link};

/// Says why one end of an endpoint's link could not be set up or looked at.
#[derive(Debug, thiserror::Error)]
pub enum LinkEndError {
    /// There is no such link.
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
    /// A prefix could not be routed.
    #[error("link {link}")]
    Route {
        /// Its name.
        link: String,
        /// What is in the way.
        #[source]
        source: RouteError,
    },
}

/// One end of a pair in the calling thread's network namespace.
pub(super) struct LinkEnd {
    pub(super) name: String,
    /// Family, name and value of what differs from the kernel's defaults.
    pub(super) settings: Vec<(&'static str, &'static str, &'static str)>,
    pub(super) addresses: Vec<(IpNet, AddressScope)>,
}

impl LinkEnd {
    /// Gives it settings and addresses and brings it up.
    pub(super) fn set_up(&self) -> Result<(), LinkEndError> {
        let (mut netlink, link) = self.open()?;
        for &(family, setting, value) in &self.settings {
            sysctl::set_interface(family, &self.name, setting, value)
                .map_err(|source| LinkEndError::Sysctl { link: self.name.clone(), source })?;
        }
        for &(own, scope) in &self.addresses {
            address::add(&mut netlink, link.index, own, scope).map_err(|source| self.failed(source))?;
        }
        link::set_up(&mut netlink, link.index).map_err(|source| self.failed(source))
    }

    /// Routes what `routes` says of the link with this index.
    pub(super) fn route(&self, routes: impl Fn(u32) -> Vec<Route>) -> Result<(), LinkEndError> {
        let (mut netlink, link) = self.open()?;
        for route in routes(link.index) {
            route::ensure(&mut netlink, &route).map_err(|source| self.unrouted(source))?;
        }
        Ok(())
    }

    /// Takes back [`LinkEnd::route`]. No route is left of a link that is gone.
    pub(super) fn unroute(&self, routes: impl Fn(u32) -> Vec<Route>) -> Result<(), LinkEndError> {
        let (mut netlink, link) = match self.open() {
            Err(LinkEndError::Vanished { .. }) => return Ok(()),
            opened => opened?,
        };
        for route in routes(link.index) {
            route::remove(&mut netlink, &route).map_err(|source| self.unrouted(source))?;
        }
        Ok(())
    }

    /// One line for each thing that is missing or different; changes nothing.
    pub(super) fn faults(&self, routes: impl Fn(u32) -> Vec<Route>) -> Result<Vec<String>, LinkEndError> {
        let (mut netlink, link) = match self.open() {
            Err(gone @ LinkEndError::Vanished { .. }) => return Ok(vec![gone.to_string()]),
            opened => opened?,
        };
        let name = &self.name;
        let mut faults = Vec::new();
        if !link.is_up {
            faults.push(format!("link {name} is down"));
        }
        for &(family, setting, value) in &self.settings {
            if !sysctl::interface_has(family, name, setting, value) {
                faults.push(format!("setting {setting} of {family} on {name} is not {value}"));
            }
        }
        let addresses = address::of_link(&mut netlink, link.index).map_err(|source| self.failed(source))?;
        let missing = self.addresses.iter().filter(|(own, _)| !addresses.contains(own));
        faults.extend(missing.map(|(own, _)| format!("address {own} on {name} is missing")));
        for route in routes(link.index) {
            if !route::is_there(&mut netlink, &route).map_err(|source| self.failed(source))? {
                faults.push(format!("route to {route} on {name} is missing"));
            }
        }
        Ok(faults)
    }

    fn open(&self) -> Result<(Netlink, Link), LinkEndError> {
        let mut netlink = Netlink::open().map_err(|source| self.failed(source))?;
        let found = link::find(&mut netlink, &self.name).map_err(|source| self.failed(source))?;
        match found.filter(|link| link.kind == Some(InfoKind::Veth)) {
            Some(link) => Ok((netlink, link)),
            None => Err(LinkEndError::Vanished { link: self.name.clone() }),
        }
    }

    fn failed(&self, source: NetlinkError) -> LinkEndError {
        LinkEndError::Netlink { link: self.name.clone(), source }
    }

    fn unrouted(&self, source: RouteError) -> LinkEndError {
        LinkEndError::Route { link: self.name.clone(), source }
    }
}
