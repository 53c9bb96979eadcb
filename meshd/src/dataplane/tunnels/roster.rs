//! Who the peers are: what the control plane says becomes tunnels, paths and a snapshot.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use meshd_core::Path;
use meshd_tunnel::PeerId;

use super::super::keys::PeerKey;
use super::super::peer::{Peer, Reach};
use super::super::probe::PathMtu;
use super::super::snapshot::{Known, Owner, Snapshot};
use super::peer_tunnels::{Agreed, PeerTunnels};
use super::track::Tracked;
use super::{PeerConfig, Tunnels, spread};

/// The side with the greater key calls this much later: two nodes that hear of each other together make one session
/// and not two. Whom a node knows when it starts it calls without: such a peer may have known it before, send on a session
/// that has ended with the last run, and hear nothing. If both ends have just started, their handshakes cross, which
/// makes a session more and loses none.
const SECOND_CALLER_DELAY: Duration = Duration::from_millis(500);
/// First calls are spread over this time.
const CALL_SPREAD: Duration = Duration::from_millis(100);

impl Tunnels<'_> {
    /// Replaces the peers.
    pub(super) fn set_peers(&mut self, configs: Vec<PeerConfig>, now: Duration) {
        let old = self.shared.snapshot.load_full();
        let routes = self.shared.own_routes(&self.own);
        let mut new = Snapshot { generation: old.generation + 1, routes, ..Snapshot::default() };
        self.claims.clear();
        let mut taken = HashSet::with_capacity(configs.len());
        let mut kept = HashSet::with_capacity(configs.len());
        for mut config in configs {
            let is_taken = |key: &mut PeerKey| taken.contains(&key.public) || self.is_own(&key.public);
            if new.by_node.contains_key(&config.node) || is_taken(&mut config.keys.cur) {
                tracing::warn!(node = %config.node, name = config.name, "tunnel key is in use by another node");
                continue;
            }
            config.keys.next.take_if(is_taken);
            config.keys.prev.take_if(is_taken);
            taken.extend(config.keys.all().map(|key| key.public));
            let known = old.by_node.get(&config.node).map(|known| &known.peer);
            let same = known.filter(|peer| self.is_same(peer, &config));
            let peer = match same {
                Some(peer) => {
                    self.update(peer.id, &config, now);
                    Arc::clone(peer)
                }
                None => match self.track(&config, now) {
                    Some(peer) => peer,
                    None => continue,
                },
            };
            kept.insert(peer.id);
            self.claim(&mut new, &config, peer);
        }
        self.second_delay = SECOND_CALLER_DELAY;
        self.replace_snapshot(new, &kept);
        let gone: Vec<PeerId> = self.tracked.keys().copied().filter(|id| !kept.contains(id)).collect();
        for id in gone {
            self.forget(id);
        }
    }

    /// Whether a peer is the one it was. Another identity is another peer: what rules said of the one is not said of it.
    /// So is one that has none of its keys any more: it may be another host, in another place.
    fn is_same(&self, peer: &Peer, config: &PeerConfig) -> bool {
        let Some(tracked) = self.tracked.get(&peer.id) else { return false };
        (peer.identity, peer.is_external) == (config.identity(), config.is_external)
            && config.keys.all().any(|key| tracked.keys.all().any(|known| known == key))
    }

    /// Makes a peer and its tunnels.
    fn track(&mut self, config: &PeerConfig, now: Duration) -> Option<Arc<Peer>> {
        let id = PeerId(self.peers_made);
        self.peers_made = self.peers_made.wrapping_add(1);
        let peer = Arc::new(Peer::new(config.identity(), id, config.is_external));
        let path = Path::new(&config.candidates, &self.shared.overlay);
        let mtu = if config.is_external {
            PathMtu::unprobed(self.shared.mtu)
        } else {
            PathMtu::new(self.shared.mtu)
        };
        let agreed = Agreed { suite: config.suite, psk: config.psk.clone() };
        let tunnels = PeerTunnels::new(agreed, self.pairing(config.is_external, &config.keys));
        let mut tracked = Tracked::new(Arc::clone(&peer), path, tunnels, config.keys, mtu);
        if tracked.path.is_known() {
            let is_first = self.keys.older.key.public() < config.keys.cur.public;
            let wait = if is_first { Duration::ZERO } else { self.second_delay };
            tracked.call_at = Some(now + wait + spread(id, CALL_SPREAD));
        } else {
            peer.set_reach(Reach::NoPath);
        }
        self.tracked.insert(id, tracked);
        self.make_tunnels(id, now);
        if self.tracked.get(&id).is_none_or(|tracked| tracked.tunnels.all().next().is_none()) {
            self.forget(id);
            return None;
        }
        tracing::debug!(node = %config.node, name = config.name, "peer added");
        self.schedule(id);
        Some(peer)
    }

    /// Takes over what changed of a peer that stays.
    fn update(&mut self, id: PeerId, config: &PeerConfig, now: Duration) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let added = tracked.path.set_candidates(&config.candidates, &self.shared.overlay);
        if added && !tracked.tunnels.can_send(now) {
            tracked.peer.set_reach(Reach::Hoped);
            tracked.call_at = None;
            for tunnel in tracked.tunnels.called() {
                self.engine.path_found(now, tunnel);
            }
        }
        tracked.keys = config.keys;
        let agreed = Agreed { suite: config.suite, psk: config.psk.clone() };
        if tracked.tunnels.agreed() != &agreed {
            tracing::debug!(node = %config.node, name = config.name, suite = ?agreed.suite, "peer agrees to other tunnels");
        }
        for gone in tracked.tunnels.agree(agreed) {
            self.drop_tunnel(gone);
        }
        self.renew_tunnels(id, now);
        self.schedule(id);
    }

    /// Replaces the addresses and prefixes that this node has for its endpoints.
    pub(super) fn set_own(&mut self, own: Vec<IpNet>) {
        if self.own == own {
            return;
        }
        self.own = own;
        let old = self.shared.snapshot.load_full();
        let mut routes = self.shared.own_routes(&self.own);
        for (prefix, peer) in &self.claims {
            routes.claim(*prefix, Owner::Peer(Arc::clone(peer)));
        }
        let (generation, by_node) = (old.generation + 1, old.by_node.clone());
        self.shared.snapshot.store(Arc::new(Snapshot { generation, routes, by_node }));
    }

    /// Enters the peer and what it owns; the first claim to an address stays.
    fn claim(&mut self, new: &mut Snapshot, config: &PeerConfig, peer: Arc<Peer>) {
        let (mut own4, mut own6) = (None, None);
        for prefix in &config.addrs {
            let is_host = prefix.prefix_len() == prefix.max_prefix_len();
            self.claims.push((*prefix, Arc::clone(&peer)));
            if !new.routes.claim(*prefix, Owner::Peer(Arc::clone(&peer))) {
                tracing::warn!(node = %config.node, name = config.name, "address is in use by another node");
                continue;
            }
            match prefix.addr() {
                IpAddr::V4(v4) if is_host => own4 = own4.or(Some(v4)),
                IpAddr::V6(v6) if is_host => own6 = own6.or(Some(v6)),
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
        }
        new.by_node.insert(config.node, Known { peer, v4: own4, v6: own6 });
    }

    /// Publishes the snapshot; the totals of bytes never see a peer twice, or not at all.
    fn replace_snapshot(&self, new: Snapshot, kept: &HashSet<PeerId>) {
        let mut retired = self.shared.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.shared.snapshot.swap(Arc::new(new));
        for peer in old.peers().filter(|peer| !kept.contains(&peer.id)) {
            for (total, bytes) in retired.iter_mut().zip(peer.bytes()) {
                *total += bytes;
            }
        }
    }

    /// Cuts off a peer that is no longer one.
    fn forget(&mut self, id: PeerId) {
        self.down(id);
        let Some(tracked) = self.tracked.remove(&id) else { return };
        if let Some(due) = tracked.due {
            self.deadlines.remove(&(due, id));
        }
        for tunnel in tracked.tunnels.all() {
            self.drop_tunnel(tunnel);
        }
        // A data thread may still hold the peer; it finds nothing to send with.
        tracked.peer.set_way(None);
        tracked.peer.set_reach(Reach::NoPath);
        tracked.peer.staged().discard(&self.shared.staged_total);
    }
}
