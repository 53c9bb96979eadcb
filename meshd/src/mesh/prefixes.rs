//! The addresses of the mesh and those of the host, which must not meet.

use std::net::SocketAddr;

use ipnet::{IpNet, Ipv6Net};
use meshd_api::{ApiError, ErrorCode};
use meshd_trust::{Roster, address};

use super::Mesh;
use crate::config::Config;
use crate::os;

impl Mesh {
    /// Underlay addresses with the tunnels' port, as this host would publish them now.
    pub fn host_addresses(&self, config: &Config) -> Vec<SocketAddr> {
        let port = self.plane.local_port();
        let advertised = config.advertise.iter().map(|at| match at.port() {
            0 => SocketAddr::new(at.ip(), port),
            _ => *at,
        });
        let local = match os::local_candidates(&self.overlay()) {
            Ok(local) => local,
            Err(error) => {
                let error = crate::chain::of(&error);
                tracing::warn!(error, "the host's addresses can't be read");
                return self.duties.addresses().to_vec();
            }
        };
        let mut all: Vec<SocketAddr> = advertised.collect();
        for ip in local {
            let at = SocketAddr::new(ip, port);
            if !all.contains(&at) {
                all.push(at);
            }
        }
        all.truncate(meshd_core::path::CANDIDATES_MAX);
        all
    }

    pub(super) fn overlay(&self) -> Vec<IpNet> {
        overlay_prefixes(&self.roster)
    }
}

/// All prefixes of the mesh.
pub fn overlay_prefixes(roster: &Roster) -> Vec<IpNet> {
    let (prefix6, len6) = address::mesh_prefix6(&roster.mesh());
    let v4 = roster.agreement().into_iter().flat_map(|agreement| &agreement.members).filter_map(|member| {
        let (addr, len) = member.prefix4.parts()?;
        IpNet::new(addr, len).ok()
    });
    v4.chain(Ipv6Net::new(prefix6, len6).ok().map(IpNet::from)).collect()
}

/// Refuses a mesh whose prefix overlaps a route this host has: its traffic would go astray.
pub fn refuse_conflicts(roster: &Roster, device: &str) -> Result<(), Box<ApiError>> {
    for prefix in overlay_prefixes(roster) {
        let conflict = os::conflicting_route(prefix, device).map_err(|error| {
            ApiError::new(ErrorCode::DeviceFailed, "the host's routes can't be read")
                .with_cause(crate::chain::of(&error))
        })?;
        if let Some(route) = conflict {
            let error = format!("overlay prefix {prefix} overlaps a route of this host");
            let hint = "found the mesh with another --prefix, or remove the route";
            let error = ApiError::new(ErrorCode::PrefixConflict, error).with_cause(route).with_hint(hint);
            return Err(Box::new(error));
        }
    }
    Ok(())
}
