//! Where hosts with a control port are now: stewards and registries move, invitations do not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use meshd_core::Path;
use meshd_wire::{NodeId, OrgId};

use super::Mesh;

/// Addresses of one host: a member that claims to serve can't crowd out those who do.
const PER_HOST_MAX: usize = 3;
/// Addresses of all hosts.
const ALL_MAX: usize = 8;

impl Mesh {
    /// Named addresses of a control port, and those where one may be by now.
    pub fn with_whereabouts(&self, named: &[SocketAddr]) -> Vec<SocketAddr> {
        self.whereabouts.among(named)
    }

    /// Control ports of members in force, of all organisations.
    pub(super) fn control_hosts(&self) -> Vec<SocketAddr> {
        self.control_hosts_of(|_| true)
    }

    /// Control ports of members in force of some organisations: first where the tunnel proves the host to be, then where it says it is.
    pub(super) fn control_hosts_of(&self, is_meant: impl Fn(&OrgId) -> bool) -> Vec<SocketAddr> {
        let proven: BTreeMap<NodeId, IpAddr> =
            self.plane.peers().iter().filter_map(|peer| Some((peer.node, peer.endpoint?.ip()))).collect();
        let overlay = self.overlay();
        let mut all = Vec::new();
        let meant = self.roster.nodes().filter(|view| is_meant(&view.cert().org));
        for view in meant.filter(|view| self.member(&view.id()).is_some()) {
            let Some(paths) = view.paths() else { continue };
            let Some(port) = paths.control_port else { continue };
            let candidates: Vec<SocketAddr> =
                paths.candidates.iter().filter_map(|candidate| candidate.socket_addr()).collect();
            // A path leaves out what leads nowhere, or back into this host or the overlay.
            let said = Path::new(&candidates, &overlay).initiation_targets(false);
            let mut own: Vec<SocketAddr> = Vec::new();
            for ip in proven.get(&view.id()).copied().into_iter().chain(said.iter().map(SocketAddr::ip)) {
                let at = SocketAddr::new(ip, port);
                if own.len() < PER_HOST_MAX && !own.contains(&at) {
                    own.push(at);
                }
            }
            all.extend(own);
        }
        all.truncate(ALL_MAX);
        all
    }
}
