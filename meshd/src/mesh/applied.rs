//! Uses what is verified and stored: tunnels, admission to the registry, and news for those who watch.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use meshd_api::EventKind;
use meshd_trust::{Freshness, NodeView, Standing};
use meshd_tunnel::Suite;
use meshd_wire::{NodeId, Timestamp};

use super::Mesh;
use crate::config::Suites;
use crate::dataplane::PeerConfig;

/// A member in force, as events and tables name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Host name.
    pub name: String,
    /// Name of its organisation.
    pub org: String,
}

impl Mesh {
    /// Lets the tunnels, the admission and the published records follow the roster.
    ///
    /// While the roster can't be stored, what is new in it is not used; what is no longer in force ends all
    /// the same.
    pub fn apply(&mut self) {
        let now = self.clock.now();
        let mut peers = BTreeMap::new();
        let mut members = BTreeMap::new();
        let mut holders = BTreeMap::new();
        let own_suites = self.signed_suites();
        for view in self.roster.nodes() {
            let standing = self.roster.standing(&view.id(), now);
            let is_usable = !self.unsaved || self.holders.of(&view.cert().transport).is_some();
            if standing.may_speak() && is_usable {
                holders.insert(view.cert().transport, (view.id(), view.org()));
            }
            if standing != Standing::InForce || view.id() == self.node {
                continue;
            }
            let peer = match self.peers.get(&view.id()) {
                Some(stored) if self.unsaved => {
                    PeerConfig { candidates: candidates(&view), ..stored.clone() }
                }
                None if self.unsaved => continue,
                Some(_) | None => match peer_config(&view, own_suites) {
                    Some(peer) => peer,
                    None => continue,
                },
            };
            members
                .insert(view.id(), MemberView { name: view.cert().name.clone(), org: self.org_name(&view) });
            peers.insert(view.id(), peer);
        }
        self.admission.replace(holders.keys().copied().collect());
        self.holders.replace(holders);
        let externals = self.external_peers();
        // A node that publishes the key of an external takes nothing away from it.
        let is_of_external =
            |peer: &PeerConfig| externals.iter().any(|one| one.public_key == peer.public_key);
        peers.retain(|_, peer| !is_of_external(peer));
        self.plane.set_peers(peers.values().cloned().chain(externals).collect());
        self.peers = peers;
        self.tell_members(members);
        self.tell_stale(now);
        self.publish();
    }

    /// Suites that this node's signed keys list, as far as it still offers them.
    fn signed_suites(&self) -> u8 {
        let signed = self.roster.node(&self.node).and_then(|view| view.keys().map(|keys| keys.suites));
        signed.unwrap_or_default() & self.suites.bits()
    }

    /// Tells once when an organisation falls silent, and again only after it was heard.
    fn tell_stale(&mut self, now: Timestamp) {
        let mut stale = BTreeMap::new();
        for org in self.roster.orgs() {
            match (org.freshness(now), org.state_age(now)) {
                (Freshness::Stale | Freshness::Expired, Some(age)) => {
                    stale.insert(org.id(), (org.name().to_owned(), age));
                }
                (Freshness::Fresh, _) | (_, None) => {}
            }
        }
        for (id, (org, state_age_s)) in &stale {
            if !self.stale.contains(id) {
                tracing::warn!(org, state_age_s, "an organisation has not been heard of");
                self.emit(EventKind::OrgStale { org: org.clone(), state_age_s: *state_age_s });
            }
        }
        self.stale = stale.into_keys().collect();
    }

    fn tell_members(&mut self, members: BTreeMap<NodeId, MemberView>) {
        let before = std::mem::replace(&mut self.members, members);
        for (id, member) in &before {
            if self.members.contains_key(id) {
                continue;
            }
            let reason = self.roster.standing(id, self.clock.now());
            tracing::info!(node = %id.short(), name = member.name, ?reason, "member removed");
            self.emit(EventKind::MemberRemoved {
                name: member.name.clone(),
                id: id.to_string(),
                org: member.org.clone(),
                reason: standing_word(reason).to_owned(),
            });
        }
        for (id, member) in &self.members {
            if before.contains_key(id) {
                continue;
            }
            let Some(view) = self.roster.node(id) else { continue };
            tracing::info!(node = %id.short(), name = member.name, "member added");
            self.emit(EventKind::MemberAdded {
                name: member.name.clone(),
                id: id.to_string(),
                org: member.org.clone(),
                addr4: view.cert().ipv4(),
                addr6: view.cert().ipv6(),
            });
        }
    }

    /// Name of a node's organisation.
    pub fn org_name(&self, view: &NodeView<'_>) -> String {
        self.roster.org(&view.org()).map_or_else(|| view.org().short(), |org| org.name().to_owned())
    }

    /// A member in force.
    pub fn member(&self, node: &NodeId) -> Option<&MemberView> {
        self.members.get(node)
    }
}

/// Word for a standing in events and tables.
pub fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::InForce => "in-force",
        Standing::Unknown => "unknown",
        Standing::Revoked => "revoked",
        Standing::Severed => "severed",
        Standing::StewardGone => "steward-gone",
        Standing::NotYetValid => "not-yet-valid",
        Standing::Expired => "expired",
        Standing::AgreementOver => "agreement-over",
        Standing::OrgStale => "org-stale",
        Standing::NoKeys => "no-keys",
        Standing::KeysExpired => "keys-expired",
    }
}

fn peer_config(view: &NodeView<'_>, own_suites: u8) -> Option<PeerConfig> {
    let (cert, keys) = (view.cert(), view.keys()?);
    let host = |addr: IpAddr| IpNet::from(addr);
    let claimed = cert.prefixes.iter().filter_map(|prefix| {
        let (addr, len) = prefix.parts()?;
        IpNet::new(addr, len).ok()
    });
    Some(PeerConfig {
        node: view.id(),
        org: view.org(),
        name: cert.name.clone(),
        public_key: keys.cur.key.0,
        addrs: [host(cert.ipv4().into()), host(cert.ipv6().into())].into_iter().chain(claimed).collect(),
        candidates: candidates(view),
        psk: None,
        suite: if Suites::both_have_aes(own_suites, keys.suites) { Suite::Aes } else { Suite::Wg },
        is_external: false,
    })
}

fn candidates(view: &NodeView<'_>) -> Vec<SocketAddr> {
    view.paths().map_or_else(Vec::new, |paths| {
        paths.candidates.iter().filter_map(|candidate| candidate.socket_addr()).collect()
    })
}
