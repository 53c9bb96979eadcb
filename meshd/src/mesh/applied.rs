//! Uses what is verified and stored: tunnels, admission to the registry, and news for those who watch.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use meshd_api::EventKind;
use meshd_core::rotation::Epoch;
use meshd_trust::{Freshness, NodeView, Standing};
use meshd_tunnel::Suite;
use meshd_wire::record::{EpochKey, NodeKeys};
use meshd_wire::{NodeId, Timestamp};

use super::Mesh;
use super::rotation::is_accepted;
use crate::config::Suites;
use crate::dataplane::{PeerConfig, PeerKey, PeerKeys};

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
        self.shut_out_forked();
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
                    // Its keys follow as well: it would else be cut off when it has replaced the one that is stored.
                    let keys = view.keys().map_or(stored.keys, |keys| peer_keys(keys, now));
                    PeerConfig { candidates: candidates(&view), keys, ..stored.clone() }
                }
                None if self.unsaved => continue,
                Some(_) | None => match peer_config(&view, own_suites, now) {
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
        let is_of_external = |peer: &PeerConfig| {
            externals.iter().any(|one| peer.keys.all().any(|key| key.public == one.keys.cur.public))
        };
        peers.retain(|_, peer| !is_of_external(peer));
        self.plane.set_peers(peers.values().cloned().chain(externals).collect());
        self.peers = peers;
        self.tell_members(members);
        self.apply_names();
        self.apply_channels();
        self.rules_may_have_changed();
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

fn peer_config(view: &NodeView<'_>, own_suites: u8, now: Timestamp) -> Option<PeerConfig> {
    let (cert, keys) = (view.cert(), view.keys()?);
    let host = |addr: IpAddr| IpNet::from(addr);
    let certified = cert.prefixes.iter().filter_map(|prefix| prefix.parts());
    let claimed = certified.chain(claimed(view, now)).filter_map(|(addr, len)| IpNet::new(addr, len).ok());
    Some(PeerConfig {
        node: view.id(),
        org: view.org(),
        name: cert.name.clone(),
        keys: peer_keys(keys, now),
        addrs: [host(cert.ipv4().into()), host(cert.ipv6().into())].into_iter().chain(claimed).collect(),
        candidates: candidates(view),
        psk: None,
        suite: if Suites::both_have_aes(own_suites, keys.suites) { Suite::Aes } else { Suite::Wg },
        is_external: false,
    })
}

fn peer_keys(keys: &NodeKeys, now: Timestamp) -> PeerKeys {
    PeerKeys {
        cur: peer_key(keys.cur),
        next: keys.next.map(peer_key),
        prev: keys.prev.filter(|_| is_accepted(keys, now)).map(peer_key),
    }
}

fn peer_key(key: EpochKey) -> PeerKey {
    PeerKey { epoch: Epoch(key.epoch), public: key.key.0 }
}

/// What a node claims for its endpoints, without the addresses in its own blocks, which need no route of their own.
fn claimed(view: &NodeView<'_>, now: Timestamp) -> Vec<(IpAddr, u8)> {
    let nets = || view.claimed(now).filter_map(|(addr, len)| IpNet::new(addr, len).ok());
    let is_block = |net: &IpNet| net.prefix_len() < net.max_prefix_len();
    let blocks: Vec<IpNet> = nets().filter(is_block).collect();
    let is_covered = |net: &IpNet| !is_block(net) && blocks.iter().any(|block| block.contains(net));
    nets().filter(|net| !is_covered(net)).map(|net| (net.addr(), net.prefix_len())).collect()
}

pub(super) fn candidates(view: &NodeView<'_>) -> Vec<SocketAddr> {
    view.paths().map_or_else(Vec::new, |paths| {
        paths.candidates.iter().filter_map(|candidate| candidate.socket_addr()).collect()
    })
}

#[cfg(test)]
mod tests {
    use meshd_wire::record::Endpoint;

    use super::super::fixture::Meadow;
    use super::*;

    #[test]
    fn a_peer_has_its_own_addresses_its_blocks_and_what_lies_outside_of_them() {
        let meadow = Meadow::new();
        let mut roster = meadow.roster([1, 2]);
        let addrs = |roster: &meshd_trust::Roster, now: Timestamp| -> Vec<String> {
            let view = roster.node(&meadow.node(2)).expect("held");
            let peer = peer_config(&view, 1, now).expect("a peer");
            peer.addrs.iter().skip(2).map(ToString::to_string).collect()
        };
        assert_eq!(addrs(&roster, meadow.now), Vec::<String>::new());
        let claims =
            [&["10.91.128.0/26"][..], &["10.91.128.5/32"], &["10.91.128.64/32"], &["10.91.128.65/32"]];
        for (claim, seq) in claims.into_iter().zip(1..) {
            let claim = meadow.signed(2, &meadow.claim(2, seq, claim));
            roster.accept(&claim, meadow.now).expect("a claim");
        }
        let gone = Endpoint { seq: 9, withdrawn: true, ..meadow.claim(2, 0, &["10.91.128.65/32"]) };
        roster.accept(&meadow.signed(2, &gone), meadow.now).expect("a withdrawal");
        let mut routes = addrs(&roster, meadow.now);
        routes.sort();
        assert_eq!(routes, ["10.91.128.0/26", "10.91.128.64/32"]);
        assert_eq!(addrs(&roster, meadow.now.plus(86_401)), Vec::<String>::new(), "claims that are over");
    }
}
