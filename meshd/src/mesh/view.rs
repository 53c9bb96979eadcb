//! The mesh as tables show it.

use std::net::IpAddr;

use meshd_api::{
    ApiError, ErrorCode, Freshness, Labels, Membership, MeshStatus, NodeStatus, OrganisationStatus, Peer,
    PeerCount, PeerState, RegistryKind, RegistryStatus, Warning,
};
use meshd_trust::{NodeView, Standing, address};
use meshd_wire::NodeId;
use meshd_wire::record::{NodeCert, Prefix};

use super::Mesh;
use super::links::{OWN_REGISTRY, RegistryLink};
use crate::dataplane::PeerStats;
use crate::metrics::Snapshot;

impl Mesh {
    /// The node itself.
    pub fn node_status(&self) -> Result<NodeStatus, ApiError> {
        let view = self
            .roster
            .node(&self.node)
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the own certificate is not in the roster"))?;
        let cert = view.cert();
        let control = self.control.as_ref().map_or_else(String::new, |control| {
            self.duties
                .addresses()
                .first()
                .map_or_else(String::new, |at| std::net::SocketAddr::new(at.ip(), control.port()).to_string())
        });
        Ok(NodeStatus {
            name: cert.name.clone(),
            id: self.node.to_string(),
            org: self.org_name(&view),
            addr4: cert.ipv4(),
            addr6: cert.ipv6(),
            dns_name: self.naming.name_of(cert),
            device: self.device.clone(),
            udp_port: self.plane.local_port(),
            control,
            roles: self.roles(),
            cert_expires_at: cert.not_after.0,
            identity: cert.identity.to_string(),
        })
    }

    fn roles(&self) -> Vec<String> {
        let steward = self.steward.is_some().then(|| "steward".to_owned());
        let serves = self.control.as_ref().is_some_and(|control| control.serves_registry());
        steward.into_iter().chain(serves.then(|| "registry".to_owned())).collect()
    }

    /// Whether the node counts as a member now.
    pub fn standing(&self) -> Membership {
        match self.roster.standing(&self.node, self.clock.now()) {
            Standing::Revoked | Standing::Severed => Membership::Revoked,
            Standing::Expired | Standing::AgreementOver => Membership::Expired,
            Standing::InForce
            | Standing::Unknown
            | Standing::StewardGone
            | Standing::NotYetValid
            | Standing::OrgStale
            | Standing::NoKeys
            | Standing::KeysExpired => Membership::Member,
        }
    }

    /// The mesh as a whole.
    pub fn mesh_status(&self) -> MeshStatus {
        let (prefix6, len6) = address::mesh_prefix6(&self.membership.mesh);
        let genesis = self.roster.genesis();
        let now = self.clock.now();
        let organisations = self.roster.orgs().map(|org| OrganisationStatus {
            name: org.name().to_owned(),
            id: org.id().to_string(),
            prefix4: prefix_text(&org.member().prefix4),
            freshness: match org.freshness(now) {
                _ if org.state().is_none() => Freshness::Unknown,
                meshd_trust::Freshness::Fresh => Freshness::Fresh,
                meshd_trust::Freshness::Stale => Freshness::Stale,
                meshd_trust::Freshness::Expired => Freshness::Expired,
            },
            state_age_s: org.state_age(now),
        });
        MeshStatus {
            name: genesis.map_or_else(String::new, |genesis| genesis.name.clone()),
            id: self.membership.mesh.to_string(),
            lab: genesis.is_some_and(|genesis| genesis.lab),
            prefix6: format!("{prefix6}/{len6}"),
            organisations: organisations.collect(),
        }
    }

    /// Where records are exchanged.
    pub fn registry_status(&self) -> RegistryStatus {
        let etcd = self.links.iter().any(|link| link.url.starts_with("http"));
        let up = self.links.iter().find(|link| link.connected == Some(true));
        RegistryStatus {
            kind: match (self.links.is_empty(), etcd) {
                (true, _) => RegistryKind::None,
                (false, true) => RegistryKind::Etcd,
                (false, false) => RegistryKind::Embedded,
            },
            endpoints: self.links.iter().map(|link| self.endpoint_text(link)).collect(),
            connected: up.is_some(),
            since: up.or(self.links.first()).map(|link| link.since.0),
        }
    }

    /// Address of a registry as other founders write it; the one served here has the addresses of this host.
    fn endpoint_text(&self, link: &RegistryLink) -> String {
        if link.url != OWN_REGISTRY {
            return link.url.clone();
        }
        let at: Vec<String> = self.control_addresses().iter().map(ToString::to_string).collect();
        match &self.steward {
            Some(steward) => format!("meshd://{}@{}", steward.public_keys().tls, at.join(",")),
            None => link.url.clone(),
        }
    }

    /// The other nodes, sorted by organisation and name.
    pub fn peers(&self) -> Vec<Peer> {
        let (stats, now) = (self.plane.peers(), self.clock.now());
        let mut peers: Vec<Peer> = self
            .roster
            .nodes()
            .filter(|view| view.id() != self.node)
            // Who has left is no peer; its records stay in the roster, so that it can't come back by them.
            .filter(|view| self.roster.standing(&view.id(), now) != Standing::Revoked)
            .map(|view| self.peer(&view, stats.iter().find(|one| one.node == view.id())))
            .collect();
        peers.sort_by(|a, b| (&a.org, &a.name, &a.id).cmp(&(&b.org, &b.name, &b.id)));
        peers
    }

    /// How many other nodes there are; those taken back do not count.
    pub fn peer_count(&self) -> PeerCount {
        let is_node = |stats: &&PeerStats| self.members.contains_key(&stats.node);
        let connected = self.plane.peers().iter().filter(|stats| stats.up).filter(is_node).count();
        PeerCount { total: self.members.len() as u32, connected: connected as u32 }
    }

    fn peer(&self, view: &NodeView<'_>, stats: Option<&PeerStats>) -> Peer {
        let cert = view.cert();
        Peer {
            name: cert.name.clone(),
            id: view.id().to_string(),
            org: self.org_name(view),
            addr4: cert.ipv4(),
            addr6: cert.ipv6(),
            dns_name: self.naming.name_of(cert),
            labels: labels(cert),
            state: self.peer_state(view, stats),
            path: stats.and_then(|stats| stats.endpoint).map(|at| format!("udp {at}")),
            rtt_ms: None,
            last_handshake_s: stats.and_then(|stats| stats.last_handshake).map(|ago| ago.as_secs()),
            rx_bytes: stats.map_or(0, |stats| stats.rx_bytes),
            tx_bytes: stats.map_or(0, |stats| stats.tx_bytes),
            key_epoch: view.keys().map(|keys| keys.cur.epoch),
            cert_expires_at: cert.not_after.0,
        }
    }

    fn peer_state(&self, view: &NodeView<'_>, stats: Option<&PeerStats>) -> PeerState {
        match self.roster.standing(&view.id(), self.clock.now()) {
            Standing::InForce => match stats {
                Some(stats) if stats.up => PeerState::Connected,
                Some(_) if view.paths().is_none() => PeerState::Unreachable,
                Some(_) => PeerState::Connecting,
                None => PeerState::Idle,
            },
            Standing::Revoked | Standing::Severed => PeerState::Revoked,
            Standing::Expired | Standing::AgreementOver | Standing::NotYetValid => PeerState::Expired,
            Standing::StewardGone | Standing::OrgStale => PeerState::Stale,
            Standing::NoKeys => PeerState::NoKeys,
            Standing::KeysExpired => PeerState::KeysExpired,
            Standing::Unknown => PeerState::Unknown,
        }
    }

    /// What an administrator should look at.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |code: &str, message: String, hint: Option<&str>| {
            warnings.push(Warning { code: code.into(), message, hint: hint.map(str::to_owned) });
        };
        if self.unsaved {
            let hint = "make room in the state directory or mend its disk; tunnels go on meanwhile";
            warn("state-not-stored", "new records can't be stored and are not used".into(), Some(hint));
        }
        if self.clock.is_suspect() {
            let message = "this host's clock and the organisation's differ by more than five minutes";
            warn("clock-suspect", message.into(), Some("set the clock"));
        }
        let now = self.clock.now();
        for org in self.roster.orgs().filter(|org| org.state().is_some()) {
            match org.freshness(now) {
                meshd_trust::Freshness::Fresh => {}
                meshd_trust::Freshness::Stale => {
                    let age = org.state_age(now).map_or_else(String::new, |age| format!(" for {age} s"));
                    let message = format!("organisation {} has not been heard of{age}", org.name());
                    warn("org-stale", message, Some("look after its steward and the registry"));
                }
                meshd_trust::Freshness::Expired => {
                    let message =
                        format!("organisation {} is cut off: no fresh word of its steward", org.name());
                    warn("org-expired", message, Some("look after its steward and the registry"));
                }
            }
        }
        if let Some(days) = self.delegation_ends_in() {
            let message = format!("the root lets this steward act for {days} more days");
            warn(
                "delegation-ends",
                message,
                Some("bring the root key: `meshctl steward renew --root-key FILE`"),
            );
        }
        for (org, missing_s) in self.missing_cosigners() {
            let message = format!("organisation {org} has not cosigned the audit log for {missing_s} s");
            warn(
                "log-not-cosigned",
                message,
                Some("look after its steward, and whether this host reaches it"),
            );
        }
        for (org, path) in self.forked_logs() {
            let message = format!("the audit log of organisation {org} shows two faces");
            let hint = format!("`meshctl audit split-view` shows both: the evidence is {path}");
            warn("log-forked", message, Some(&hint));
        }
        for (org, unproven_s) in self.unproven_logs() {
            let message = format!(
                "the audit log of organisation {org} has not shown for {unproven_s} s that it only grew"
            );
            warn("log-unproven", message, Some("look after its steward, and whether this host reaches it"));
        }
        for fault in self.naming.faults() {
            let message = format!("names can't be asked for at {}: {}", fault.at, fault.why);
            let hint = "keep other DNS servers off this address, or set `dns.serve` to false";
            warn("dns-not-served", message, Some(hint));
        }
        for org in self.nameless_orgs() {
            let message = format!("nodes of organisation {org} have no names in DNS");
            let hint = "its name is no host name, or another organisation has the same";
            warn("org-without-names", message, Some(hint));
        }
        for link in self.links.iter().filter(|link| link.connected == Some(false)) {
            let message = format!("registry {} does not answer; tunnels go on from what is known", link.url);
            warn("registry-down", message, None);
        }
        warnings
    }

    /// Node that a name, `name.org`, name in DNS, id or address means.
    pub fn find(&self, target: &str) -> Result<NodeView<'_>, ApiError> {
        self.find_among(target, |view| self.is_current(view))
    }

    /// The same among all nodes that are not revoked, those included that are away for so long that they do not count.
    pub(super) fn find_any(&self, target: &str) -> Result<NodeView<'_>, ApiError> {
        let now = self.clock.now();
        self.find_among(target, |view| self.roster.standing(&view.id(), now) != Standing::Revoked)
    }

    fn find_among(
        &self,
        target: &str,
        is_meant: impl Fn(&NodeView<'_>) -> bool,
    ) -> Result<NodeView<'_>, ApiError> {
        let by_id = target.parse::<NodeId>().ok();
        let by_addr = target.parse::<IpAddr>().ok();
        let fits = |view: &NodeView<'_>| {
            let cert = view.cert();
            match (by_id, by_addr) {
                (Some(id), _) => view.id() == id,
                (None, Some(IpAddr::V4(v4))) => cert.ipv4() == v4,
                (None, Some(IpAddr::V6(v6))) => cert.ipv6() == v6,
                (None, None) => {
                    cert.name == target
                        || format!("{}.{}", cert.name, self.org_name(view)) == target
                        || self.naming.name_of(cert).as_deref() == Some(target)
                }
            }
        };
        let mut found = self.roster.nodes().filter(|view| is_meant(view) && fits(view));
        let Some(first) = found.next() else {
            return Err(ApiError::new(ErrorCode::NotFound, format!("no node is called `{target}`"))
                .with_hint("`meshctl peers` lists names and addresses"));
        };
        match found.next() {
            None => Ok(first),
            Some(_) => {
                Err(ApiError::new(ErrorCode::Ambiguous, format!("several nodes are called `{target}`"))
                    .with_hint("write NAME.ORGANISATION, the node id or the address"))
            }
        }
    }

    fn is_current(&self, view: &NodeView<'_>) -> bool {
        view.id() == self.node || self.member(&view.id()).is_some()
    }

    /// Fills in what is measured.
    pub fn measure(&self, snapshot: &mut Snapshot) {
        let now = self.clock.now();
        let count = self.peer_count();
        snapshot.peers_known = count.total.into();
        snapshot.peers_connected = count.connected.into();
        snapshot.channels = self.channels.connected() as u64;
        let up = self.links.iter().filter(|link| link.connected == Some(true)).count();
        snapshot.registries = (up as u64, self.links.len() as u64);
        snapshot.cert_left_s = self.roster.node(&self.node).map(|view| view.cert().not_after.since(now));
        for org in self.roster.orgs() {
            if let Some(age) = org.state_age(now) {
                snapshot.state_age_s.insert(org.name().to_owned(), age);
            }
        }
        snapshot.drops = self.plane.counters();
        snapshot.trains_refused = self.plane.trains_refused();
        snapshot.bytes = self.plane.bytes();
        snapshot.connections = self.control.as_ref().map_or_else(Vec::new, |role| role.failures().to_vec());
    }
}

fn labels(cert: &NodeCert) -> Labels {
    cert.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect()
}

/// A prefix as people write it.
pub fn prefix_text(prefix: &Prefix) -> String {
    prefix.parts().map_or_else(|| "?".to_owned(), |(addr, len)| format!("{addr}/{len}"))
}
