//! Who the peers are: what the control plane says becomes tunnels, paths and a snapshot.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use meshd_core::Path;
use meshd_tunnel::{KeyId, PeerId, TunnelId, TunnelSpec};

use super::super::peer::{Peer, Reach};
use super::super::probe::PathMtu;
use super::super::snapshot::{Known, Owner, Snapshot};
use super::track::{Agreed, Tracked};
use super::{PeerConfig, Tunnels, spread};

/// Interval of the empty messages that keep NATs open and tell both ends that the other lives.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// The side with the greater key calls this much later: two nodes that hear of each other together make one session
/// and not two. Whom a node knows when it starts it calls without: such a peer may have known it before, send on a session
/// that has ended with the last run, and hear nothing. If both ends have just started, their handshakes cross, which
/// makes a session more and loses none.
const SECOND_CALLER_DELAY: Duration = Duration::from_millis(500);
/// First calls are spread over this time.
const CALL_SPREAD: Duration = Duration::from_millis(100);
/// The only static key there is for now.
pub(in super::super) const OWN_KEY: KeyId = KeyId(0);

impl Tunnels<'_> {
    /// Replaces the peers.
    pub(super) fn set_peers(&mut self, configs: Vec<PeerConfig>, now: Duration) {
        let old = self.shared.snapshot.load_full();
        let routes = self.shared.own_routes(&self.own);
        let mut new = Snapshot { generation: old.generation + 1, routes, ..Snapshot::default() };
        self.claims.clear();
        let mut keys = HashSet::with_capacity(configs.len());
        let mut kept = HashSet::with_capacity(configs.len());
        for config in configs {
            let is_taken = new.by_node.contains_key(&config.node) || !keys.insert(config.public_key);
            if is_taken || config.public_key == self.own_key {
                tracing::warn!(node = %config.node, name = config.name, "tunnel key is in use by another node");
                continue;
            }
            let known = old.by_node.get(&config.node).map(|known| &known.peer);
            let same = known.filter(|peer| {
                // Another identity under the same key is another peer: what rules said of the one is not said of it.
                (peer.identity, peer.public_key, peer.is_external)
                    == (config.identity(), config.public_key, config.is_external)
            });
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

    /// Makes a peer and its tunnel.
    fn track(&mut self, config: &PeerConfig, now: Duration) -> Option<Arc<Peer>> {
        let id = PeerId(self.peers_made);
        self.peers_made = self.peers_made.wrapping_add(1);
        let agreed = Agreed { suite: config.suite, psk: config.psk.clone() };
        let tunnel = self.add_tunnel(id, config, &agreed, now)?;
        tracing::debug!(node = %config.node, name = config.name, "peer added");
        let peer = Arc::new(Peer::new(config.identity(), id, config.public_key, config.is_external));
        let path = Path::new(&config.candidates, &self.shared.overlay);
        let mtu = if config.is_external {
            PathMtu::unprobed(self.shared.mtu)
        } else {
            PathMtu::new(self.shared.mtu)
        };
        let mut tracked = Tracked::new(Arc::clone(&peer), path, agreed, tunnel, mtu);
        if tracked.path.is_known() {
            let wait = if self.own_key < config.public_key { Duration::ZERO } else { self.second_delay };
            tracked.call_at = Some(now + wait + spread(id, CALL_SPREAD));
        } else {
            peer.set_reach(Reach::NoPath);
        }
        self.tracked.insert(id, tracked);
        self.schedule(id);
        Some(peer)
    }

    /// Takes over what changed of a peer that stays.
    fn update(&mut self, id: PeerId, config: &PeerConfig, now: Duration) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let added = tracked.path.set_candidates(&config.candidates, &self.shared.overlay);
        if added && !tracked.can_send(now) {
            tracked.peer.set_reach(Reach::Hoped);
            tracked.call_at = None;
            let tunnel = tracked.tunnel;
            self.engine.path_found(now, tunnel);
        }
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let agreed = Agreed { suite: config.suite, psk: config.psk.clone() };
        if tracked.agreed != agreed
            && let Some(tunnel) = self.add_tunnel(id, config, &agreed, now)
        {
            if let Some(tracked) = self.tracked.get_mut(&id)
                && let Some(replaced) = tracked.replace_tunnel(tunnel, agreed)
            {
                self.drop_tunnel(replaced);
            }
            if let Some(tracked) = self.tracked.get(&id).filter(|tracked| tracked.path.is_known()) {
                self.engine.want_session(now, tracked.tunnel);
            }
        }
        self.schedule(id);
    }

    fn add_tunnel(
        &mut self,
        id: PeerId,
        config: &PeerConfig,
        agreed: &Agreed,
        now: Duration,
    ) -> Option<TunnelId> {
        let spec = TunnelSpec {
            key: OWN_KEY,
            peer: id,
            peer_key: config.public_key,
            my_epoch: 0,
            peer_epoch: 0,
            suite: agreed.suite,
            psk: agreed.psk.clone(),
            keepalive: (!config.is_external).then_some(KEEPALIVE),
        };
        match self.engine.add(now, spec) {
            Ok(tunnel) => {
                self.by_tunnel.insert(tunnel, id);
                Some(tunnel)
            }
            Err(error) => {
                tracing::warn!(node = %config.node, name = config.name, %error, "no tunnel to this node");
                None
            }
        }
    }

    pub(super) fn drop_tunnel(&mut self, tunnel: TunnelId) {
        self.by_tunnel.remove(&tunnel);
        self.engine.retire(tunnel);
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
        for tunnel in tracked.tunnels() {
            self.drop_tunnel(tunnel);
        }
        // A data thread may still hold the peer; it finds nothing to send with.
        tracked.peer.set_way(None);
        tracked.peer.set_reach(Reach::NoPath);
        tracked.peer.staged().discard(&self.shared.staged_total);
    }
}
