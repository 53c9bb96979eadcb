//! Keys of this node and of its peers come and go, and tunnels with them.

use std::time::Duration;

use meshd_core::rotation::{Epoch, OwnEpochs, Pair, Pairing};
use meshd_tunnel::{PeerId, TunnelId, TunnelSpec};

use super::super::handshakes::Ends;
use super::super::keys::{EXTERNAL, OwnKeys, PeerKeys, TunnelUse, key_id};
use super::Tunnels;
use super::track::Tracked;

/// Interval of the empty messages that keep NATs open and tell both ends that the other lives.
const KEEPALIVE: Duration = Duration::from_secs(25);

impl Tunnels<'_> {
    /// Replaces this node's keys. Tunnels of a key that stays are not touched; those of one that goes end now.
    pub(super) fn set_keys(&mut self, keys: OwnKeys, now: Duration) {
        let before = std::mem::replace(&mut self.keys, keys);
        for (epoch, key) in self.keys.all().filter(|(epoch, _)| !before.has(*epoch)) {
            if let Err(error) = self.engine.add_key(key_id(epoch), key.clone()) {
                tracing::error!(%epoch, %error, "no tunnels with this key");
            }
        }
        let ids: Vec<PeerId> = self.tracked.keys().copied().collect();
        for id in ids {
            self.renew_tunnels(id, now);
            self.schedule(id);
        }
        // Only now: their tunnels are gone, and data threads have other sessions to send with.
        for (epoch, _) in before.all().filter(|(epoch, _)| !self.keys.has(*epoch)) {
            self.engine.remove_key(key_id(epoch));
        }
    }

    /// How all tunnels are used.
    pub(super) fn uses(&self, now: Duration) -> Vec<TunnelUse> {
        let of = |tracked: &Tracked| -> Vec<TunnelUse> {
            let node = tracked.peer.identity.node;
            let one = |(id, pair, is_confirmed): (TunnelId, Pair, bool)| {
                let received = self.engine.status(id).and_then(|status| status.received_at);
                let last_received = received.map(|at| now.saturating_sub(at));
                TunnelUse { node, own: pair.own, peer: pair.peer, is_confirmed, last_received }
            };
            tracked.tunnels.uses().map(one).collect()
        };
        self.tracked.values().flat_map(of).collect()
    }

    /// What this node's keys and a peer's make together.
    pub(super) fn pairing(&self, is_external: bool, keys: &PeerKeys) -> Pairing {
        let own = if is_external { OwnEpochs::single(EXTERNAL) } else { self.keys.epochs() };
        Pairing { own, peer: keys.epochs() }
    }

    /// Makes the tunnels that a peer's keys and this node's ask for, drops the others, and calls on the right ones.
    pub(super) fn renew_tunnels(&mut self, id: PeerId, now: Duration) {
        let Some(tracked) = self.tracked.get(&id) else { return };
        let before = tracked.tunnels.called();
        let has_lost = self.make_tunnels(id, now);
        self.call_beyond(id, &before, now);
        if has_lost {
            self.publish(id, now);
        }
    }

    /// Asks for a session on each tunnel that this end calls on and did not before.
    pub(super) fn call_beyond(&mut self, id: PeerId, before: &[TunnelId], now: Duration) {
        let Some(tracked) = self.tracked.get(&id).filter(|tracked| tracked.path.is_known()) else { return };
        for tunnel in tracked.tunnels.called().into_iter().filter(|tunnel| !before.contains(tunnel)) {
            self.engine.want_session(now, tunnel);
        }
    }

    /// True if tunnels had to go.
    pub(super) fn make_tunnels(&mut self, id: PeerId, now: Duration) -> bool {
        let Some(tracked) = self.tracked.get(&id) else { return false };
        let pairing = self.pairing(tracked.peer.is_external, &tracked.keys);
        let Some(tracked) = self.tracked.get_mut(&id) else { return false };
        let mut gone = tracked.tunnels.pair(pairing);
        // One number is one key, but a node that lost its state may break that.
        let keys = tracked.keys;
        let has_other_key = |id: TunnelId, pair: Pair| {
            let spec = self.engine.spec(id);
            spec.is_some_and(|spec| {
                keys.all().all(|key| key.epoch != pair.peer || key.public != spec.peer_key)
            })
        };
        gone.extend(tracked.tunnels.remove_if(has_other_key));
        let missing = tracked.tunnels.missing();
        let has_lost = !gone.is_empty();
        for tunnel in gone {
            self.drop_tunnel(tunnel);
        }
        for pair in missing {
            self.add_tunnel(id, pair, now);
        }
        self.tell_who_calls(id, now);
        has_lost
    }

    /// Lets the engine know on which tunnels this end calls; on the others it answers.
    pub(super) fn tell_who_calls(&mut self, id: PeerId, now: Duration) {
        let Some(tracked) = self.tracked.get(&id) else { return };
        let called = tracked.tunnels.called();
        for tunnel in tracked.tunnels.all() {
            self.engine.set_calling(now, tunnel, called.contains(&tunnel));
        }
    }

    fn add_tunnel(&mut self, id: PeerId, pair: Pair, now: Duration) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let Some(theirs) = tracked.keys.all().find(|key| key.epoch == pair.peer) else { return };
        let agreed = tracked.tunnels.agreed();
        let spec = TunnelSpec {
            key: key_id(pair.own),
            peer: id,
            peer_key: theirs.public,
            my_epoch: pair.own.0,
            peer_epoch: pair.peer.0,
            suite: agreed.suite,
            psk: agreed.psk.clone(),
            keepalive: (!tracked.peer.is_external).then_some(KEEPALIVE),
        };
        match self.engine.add(now, spec) {
            Ok(tunnel) => {
                tracked.tunnels.add(tunnel, pair);
                self.by_tunnel.insert(tunnel, id);
            }
            Err(error) => {
                let (node, Pair { own, peer }) = (tracked.peer.identity.node, pair);
                tracing::warn!(%node, %own, %peer, %error, "no tunnel with these keys");
            }
        }
    }

    pub(super) fn drop_tunnel(&mut self, tunnel: TunnelId) {
        self.by_tunnel.remove(&tunnel);
        self.engine.retire(tunnel);
    }

    /// Takes note of the keys that a handshake was completed with.
    pub(super) fn note_keys(&self, id: PeerId, tunnel: TunnelId, now: Duration) {
        let (Some(tracked), Some(spec)) = (self.tracked.get(&id), self.engine.spec(tunnel)) else { return };
        let (own, theirs) = (Epoch(spec.my_epoch), Epoch(spec.peer_epoch));
        let Some((_, key)) = self.keys.all().find(|(epoch, _)| *epoch == own) else { return };
        let ends = Ends {
            peer: tracked.peer.identity,
            is_external: tracked.peer.is_external,
            own: (own, key.public()),
            theirs: (theirs, spec.peer_key),
            suite: spec.suite,
            has_psk: spec.psk.is_some(),
        };
        self.shared.handshakes.note(ends, now);
    }

    /// Whether a key is one of this node's own.
    pub(super) fn is_own(&self, public: &[u8; 32]) -> bool {
        self.keys.all().any(|(_, own)| own.public() == *public)
    }
}
