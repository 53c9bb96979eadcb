//! Who has a name right now: nodes in force, and endpoints that can be reached.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use meshd_trust::{NodeView, Standing};
use meshd_wire::name::is_host_name;
use meshd_wire::record::NodeCert;
use meshd_wire::{NodeId, OrgId};

use super::Mesh;
use crate::config::DnsConfig;
use crate::dataplane;
use crate::names::{Asked, Draft, Fault, Names, Suffix, Zone};
use crate::os::{GATEWAY4, ipv6_is_enabled};

/// The names of a mesh, and who serves them.
pub(super) struct Naming {
    suffix: Suffix,
    zone: Arc<Zone>,
    served: Option<Names>,
}

impl Naming {
    /// Serves names at the node's addresses, if they shall be served.
    pub(super) fn start(config: &DnsConfig, own: (Ipv4Addr, Ipv6Addr)) -> Self {
        let at = [
            Some((IpAddr::from(own.0), Asked::ByAnybody)),
            ipv6_is_enabled().then_some((IpAddr::from(own.1), Asked::ByAnybody)),
            Some((IpAddr::from(GATEWAY4), Asked::ByOwnEndpoints)),
        ];
        let served = config.serve.then(|| Names::serve(at.into_iter().flatten()));
        Self { suffix: config.suffix.clone(), zone: Arc::new(Zone::of_nobody()), served }
    }

    /// Name of a node.
    pub(super) fn name_of(&self, cert: &NodeCert) -> Option<String> {
        self.name_at(cert.ipv4().into())
    }

    /// Name of who has an address.
    pub(super) fn name_at(&self, address: IpAddr) -> Option<String> {
        self.zone.name_of(address)
    }

    /// Where names can't be asked for.
    pub(super) fn faults(&self) -> Vec<Fault> {
        self.served.as_ref().map_or_else(Vec::new, Names::faults)
    }

    /// Ends serving.
    pub(super) async fn stop(self) {
        if let Some(served) = self.served {
            served.stop().await;
        }
    }

    fn replace(&mut self, draft: Draft, now_s: u64) {
        if draft.is_said_by(&self.zone) {
            return;
        }
        // A serial of DNS has 32 bits and wraps.
        let next = self.zone.serial().wrapping_add(1);
        self.zone = Arc::new(draft.finish(next.max(now_s as u32)));
        if let Some(served) = &self.served {
            served.publish(Arc::clone(&self.zone));
        }
    }
}

impl Mesh {
    /// Lets names follow what a tunnel does.
    pub fn on_tunnel(&mut self, event: &dataplane::Event) {
        match event {
            dataplane::Event::PeerUp { node, .. } | dataplane::Event::PeerDown { node } => {
                let attaches =
                    |node| self.roster.node(node).is_some_and(|view| view.endpoints().next().is_some());
                if attaches(node) {
                    self.apply_names();
                }
            }
            dataplane::Event::PathChanged { .. }
            | dataplane::Event::DeviceLost
            | dataplane::Event::ThreadRestarted { .. }
            | dataplane::Event::ThreadEnded { .. } => {}
        }
    }

    /// Lets names follow the roster and the tunnels.
    ///
    /// While the roster can't be stored, what is new in it has no name; what is over loses its name all the same.
    pub(super) fn apply_names(&mut self) {
        let Some(own) = self.roster.node(&self.node) else { return };
        let now = self.clock.now();
        let own_addresses = (own.cert().ipv4(), own.cert().ipv6());
        let mut draft = Draft::new(&self.naming.suffix, own_addresses, self.overlay());
        own.claimed(now)
            .filter_map(|(address, len)| IpNet::new(address, len).ok())
            .for_each(|network| draft.own(network));
        let labels = self.org_labels();
        let is_usable =
            |labels: &str, address: &IpAddr| !self.unsaved || self.naming.zone.is_called(*address, labels);
        let named = self.named_nodes();
        for view in &named {
            let (cert, Some(org)) = (view.cert(), labels.get(&view.org())) else { continue };
            let labels = format!("{}.{org}", cert.name);
            let addresses = [IpAddr::from(cert.ipv4()), IpAddr::from(cert.ipv6())];
            draft.name(&labels, addresses.into_iter().filter(|address| is_usable(&labels, address)));
        }
        let up = self.reachable();
        for view in named.iter().filter(|view| up.contains(&view.id())) {
            let Some(org) = labels.get(&view.org()) else { continue };
            for endpoint in view.endpoints().filter(|endpoint| endpoint.is_claimed(now)) {
                let record = endpoint.record();
                let Some(name) = &record.name else { continue };
                let labels = format!("{name}.{org}");
                let addresses = record.prefixes().map(|(address, _)| address);
                draft.name(&labels, addresses.filter(|address| is_usable(&labels, address)));
            }
        }
        self.naming.replace(draft, now.0);
    }

    /// Organisations whose nodes have no names.
    pub(super) fn nameless_orgs(&self) -> Vec<String> {
        let labels = self.org_labels();
        let nameless = self.roster.orgs().filter(|org| !labels.contains_key(&org.id()));
        nameless.map(|org| org.name().to_owned()).collect()
    }

    /// Nodes in force, the newest certificate first: who took a name over from another has it.
    fn named_nodes(&self) -> Vec<NodeView<'_>> {
        let is_own = |view: &NodeView<'_>| {
            view.id() == self.node && self.roster.standing(&self.node, self.clock.now()) == Standing::InForce
        };
        let is_named = |view: &NodeView<'_>| is_own(view) || self.member(&view.id()).is_some();
        let mut named: Vec<NodeView<'_>> = self.roster.nodes().filter(is_named).collect();
        named.sort_by_key(|view| Reverse((view.cert().root_version, view.cert().serial)));
        named
    }

    fn reachable(&self) -> BTreeSet<NodeId> {
        let up = self.plane.peers().into_iter().filter(|stats| stats.up).map(|stats| stats.node);
        up.chain([self.node]).collect()
    }

    fn org_labels(&self) -> BTreeMap<OrgId, String> {
        let named = self.roster.orgs().map(|org| (org.id(), org.name().to_owned()));
        org_labels(&self.membership.org, named)
    }
}

/// The label of each organisation: its name. One that another has, too, means the own organisation or nobody; who
/// founds a mesh with others chooses their names no more than they choose ours.
fn org_labels(own: &OrgId, named: impl Iterator<Item = (OrgId, String)>) -> BTreeMap<OrgId, String> {
    let mut holders: BTreeMap<String, Vec<OrgId>> = BTreeMap::new();
    for (id, name) in named.filter(|(_, name)| is_host_name(name)) {
        holders.entry(name).or_default().push(id);
    }
    let labels = holders.into_iter().filter_map(|(name, ids)| match ids.as_slice() {
        [only] => Some((*only, name)),
        several => several.contains(own).then_some((*own, name)),
    });
    labels.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: OrgId = OrgId([1; 32]);
    const OTHER: OrgId = OrgId([2; 32]);
    const THIRD: OrgId = OrgId([3; 32]);

    fn labels<const N: usize>(named: [(OrgId, &str); N]) -> Vec<(OrgId, String)> {
        org_labels(&OWN, named.into_iter().map(|(id, name)| (id, name.to_owned()))).into_iter().collect()
    }

    #[test]
    fn an_organisation_is_called_by_its_name() {
        let labels = labels([(OWN, "clinic"), (OTHER, "lab"), (THIRD, "Data Market")]);
        assert_eq!(
            labels,
            [(OWN, "clinic".to_owned()), (OTHER, "lab".to_owned())],
            "the third is no host name"
        );
    }

    #[test]
    fn nobody_takes_the_name_of_the_own_organisation_and_others_share_none() {
        assert_eq!(labels([(OTHER, "clinic"), (OWN, "clinic")]), [(OWN, "clinic".to_owned())]);
        assert_eq!(labels([(OWN, "clinic"), (OTHER, "lab"), (THIRD, "lab")]), [(OWN, "clinic".to_owned())]);
    }
}
