//! Where peers are, whether they live, and how wide the way to them is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshd_core::path::canonical;
use meshd_tunnel::{PeerId, TunnelId, TxSession};

use super::super::header;
use super::super::outbound::note_sent;
use super::super::peer::{Peer, Reach, Way};
use super::super::probe::{MESSAGE_LEN, Probe};
use super::super::shared::Shared;
use super::super::staged::PACKETS_MAX;
use super::super::train::{Refused, TrainSender};
use super::track::Silence;
use super::{DatagramSocket, Event, MTU_MIN, Reason, Tunnels, spread};

/// Time between calls after a handshake was given up.
const CALL_AGAIN: Duration = Duration::from_secs(25);
/// These calls are spread, so that absent peers do not wake together.
const CALL_AGAIN_SPREAD: Duration = Duration::from_secs(5);

impl Tunnels<'_> {
    /// Takes the source of an authentic, fresh message as the place where the peer is.
    pub(super) fn heard(&mut self, id: PeerId, source: SocketAddr, now: Duration) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let endpoint = canonical(source);
        let moved = tracked.path.confirm(endpoint);
        let was_up = tracked.peer.set_up(true);
        let node = tracked.peer.identity.node;
        if moved {
            tracked.peer.set_proven(endpoint);
            tracked.note_move(now);
        }
        if !was_up {
            tracked.tell_at = None;
            tracing::info!(%node, "peer is up");
            tracing::debug!(%node, %endpoint, "endpoint proven");
            self.shared.events.send(Event::PeerUp { node, endpoint }, &self.shared.counters);
        }
        if moved {
            self.publish(id, now);
        }
        self.schedule(id);
    }

    /// Tells that a peer has moved, if that is due.
    fn tell_move(&mut self, id: PeerId, now: Duration) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let node = tracked.peer.identity.node;
        if let Some(endpoint) = tracked.path.endpoint().filter(|_| tracked.takes_move(now)) {
            tracing::info!(%node, "peer moved");
            tracing::debug!(%node, %endpoint, "endpoint proven");
            self.shared.events.send(Event::PathChanged { node, endpoint }, &self.shared.counters);
        }
    }

    /// A handshake is complete, and its message from the peer came from `source`.
    pub(super) fn established(&mut self, tunnel: TunnelId, source: SocketAddr, now: Duration) {
        let Some(id) = self.by_tunnel.get(&tunnel).copied() else { return };
        self.note_keys(id, tunnel, now);
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        // On a session that this host answered, data has come since, perhaps from another place.
        let newer = tracked.peer.take_heard_from();
        tracked.peer.set_established(Some(now));
        tracked.peer.set_reach(Reach::Hoped);
        (tracked.call_at, tracked.asked_at) = (None, None);
        self.heard(id, source, now);
        if let Some(tracked) = self.tracked.get_mut(&id) {
            tracked.peer.note_heard(canonical(source), now);
            if !tracked.peer.is_external {
                tracked.mtu.start(now);
            }
        }
        self.probe(id, now);
        if let Some(newer) = newer {
            self.heard(id, newer, now);
        }
    }

    pub(super) fn gave_up(&mut self, tunnel: TunnelId, now: Duration) {
        let Some(id) = self.by_tunnel.get(&tunnel).copied() else { return };
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        if !tracked.tunnels.called().contains(&tunnel) {
            return;
        }
        if !tracked.peer.is_external {
            tracked.call_at = Some(now + CALL_AGAIN + spread(id, CALL_AGAIN_SPREAD));
        }
        if !tracked.tunnels.can_send(now) {
            tracked.peer.set_reach(Reach::Absent);
            let discarded = tracked.peer.staged().discard(&self.shared.staged_total);
            self.shared.counters.add_many(Reason::QueueFull, discarded);
            self.down(id);
        }
        self.schedule(id);
    }

    pub(super) fn expired(&self, tunnel: TunnelId) {
        let tracked = self.by_tunnel.get(&tunnel).and_then(|id| self.tracked.get(id));
        if let Some(tracked) = tracked.filter(|tracked| !tracked.has_session()) {
            tracked.peer.set_established(None);
        }
    }

    /// Sends on a new session from now on.
    pub(super) fn install(&mut self, tunnel: TunnelId, session: Arc<TxSession>, now: Duration) {
        let Some(id) = self.by_tunnel.get(&tunnel).copied() else { return };
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let before = tracked.tunnels.called();
        tracked.tunnels.install(tunnel, session, now);
        self.tell_who_calls(id, now);
        // The peer has shown that it is ready for a key.
        self.call_beyond(id, &before, now);
        self.publish(id, now);
        self.schedule(id);
    }

    pub(super) fn uninstall(&mut self, tunnel: TunnelId, now: Duration) {
        let Some(id) = self.by_tunnel.get(&tunnel).copied() else { return };
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        tracked.tunnels.uninstall(tunnel);
        tracked.peer.set_way(tracked.way());
        self.tell_who_calls(id, now);
    }

    /// Asks for a session, if there is anywhere to ask. The tunnel that is to be replaced must last until the peer
    /// knows the other one, too.
    pub(super) fn call(&mut self, id: PeerId, now: Duration) {
        let Some(tracked) = self.tracked.get(&id) else { return };
        if tracked.path.is_known() {
            for tunnel in tracked.tunnels.called() {
                self.engine.want_session(now, tunnel);
            }
        } else {
            tracked.peer.set_reach(Reach::NoPath);
            let discarded = tracked.peer.staged().discard(&self.shared.staged_total);
            self.shared.counters.add_many(Reason::QueueFull, discarded);
        }
    }

    /// Lets the data threads see how to send, and sends what waited for it: nearly all before they see it, as what they
    /// read then would overtake it, and afterwards what came meanwhile.
    pub(super) fn publish(&mut self, id: PeerId, now: Duration) {
        let Some(tracked) = self.tracked.get(&id) else { return };
        let (peer, way) = (Arc::clone(&tracked.peer), tracked.way());
        let Some(way) = way else { return peer.set_way(None) };
        send_staged(self.shared, &mut self.train, &peer, &way, now);
        peer.set_way(Some(way));
        self.flush_staged(id, now);
        self.probe(id, now);
    }

    /// Sends staged packets, or sees to it that there will be a session for them.
    pub(super) fn flush_staged(&mut self, id: PeerId, now: Duration) {
        let Some(tracked) = self.tracked.get(&id) else { return };
        let peer = Arc::clone(&tracked.peer);
        let sent = match &*peer.way() {
            Some(way) => send_staged(self.shared, &mut self.train, &peer, way, now),
            None => false,
        };
        if !sent {
            self.call(id, now);
        }
        if let Some(refused) = self.train.take_refused() {
            self.refused(refused, now);
        }
    }

    /// This host's link has refused packets as long as the path was believed to carry.
    pub(super) fn refused(&mut self, refused: Refused, now: Duration) {
        let Refused { peer: id, len } = refused;
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        if tracked.mtu.on_data_refused(len, now) {
            self.settle_mtu(id, true, now);
        }
    }

    /// Does what time has brought about.
    pub(super) fn meet_deadlines(&mut self, now: Duration) {
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            let Some(tracked) = self.tracked.get_mut(&id) else { continue };
            tracked.due = None;
            for ended in tracked.tunnels.take_ended(now) {
                self.drop_tunnel(ended);
            }
            let Some(tracked) = self.tracked.get_mut(&id) else { continue };
            if tracked.call_at.take_if(|at| *at <= now).is_some() && !tracked.tunnels.can_send(now) {
                self.call(id, now);
            }
            self.tell_move(id, now);
            self.listen(id, now);
            let changed = self.tracked.get_mut(&id).is_some_and(|tracked| tracked.mtu.on_timeout(now));
            self.settle_mtu(id, changed, now);
        }
    }

    /// Looks whether the peer is silent.
    fn listen(&mut self, id: PeerId, now: Duration) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        match tracked.silence(now) {
            Silence::Fine => {}
            Silence::Suspect => {
                tracked.asked_at = Some(now);
                self.call(id, now);
            }
            Silence::Down => self.down(id),
        }
    }

    /// Tells, once, that a peer lives no more.
    pub(super) fn down(&self, id: PeerId) {
        let Some(tracked) = self.tracked.get(&id) else { return };
        let node = tracked.peer.identity.node;
        if tracked.peer.set_up(false) {
            tracing::info!(%node, "peer is down");
            self.shared.events.send(Event::PeerDown { node }, &self.shared.counters);
        }
    }

    /// Takes an answer to a probe.
    pub(super) fn probed(&mut self, id: PeerId, now: Duration) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let Some(ack) = tracked.peer.take_probed() else { return };
        let changed = tracked.mtu.on_ack(ack, now);
        self.settle_mtu(id, changed, now);
    }

    /// Lets the data threads see what is known of the path's width now, and goes on with the search.
    fn settle_mtu(&mut self, id: PeerId, changed: bool, now: Duration) {
        if let Some(tracked) = self.tracked.get(&id).filter(|_| changed) {
            let (mtu, fragments) = (tracked.mtu.mtu(), tracked.mtu.fragments());
            let node = tracked.peer.identity.node;
            tracing::debug!(%node, mtu, fragments, "path mtu");
            if mtu < MTU_MIN {
                tracing::warn!(%node, mtu, "the path is too narrow for IPv6 and carries no fragments");
            }
            self.publish(id, now);
        }
        self.probe(id, now);
        self.schedule(id);
    }

    /// Sends the probe that is due, and those that follow from what this host's own link refuses.
    fn probe(&mut self, id: PeerId, now: Duration) {
        let mut changed = false;
        while self.send_probe(id, now) {
            let Some(tracked) = self.tracked.get_mut(&id) else { return };
            changed |= tracked.mtu.on_probe_refused(now);
        }
        if changed {
            self.settle_mtu(id, changed, now);
        }
        self.schedule(id);
    }

    /// Sends the probe that is due, and a short one with it. True if the link did not take it.
    fn send_probe(&mut self, id: PeerId, now: Duration) -> bool {
        let Some(tracked) = self.tracked.get_mut(&id) else { return false };
        let Some(way) = tracked.way() else { return false };
        let Some(probe) = tracked.mtu.poll() else { return false };
        let socket = if tracked.mtu.asks_in_fragments() { &self.shared.control } else { &self.shared.data };
        let short = Probe { len: MESSAGE_LEN as u16, ..probe };
        for (probe, socket) in [(short, &self.shared.data), (probe, socket)] {
            let message = probe.write(&mut self.probe_buffer);
            let (Some(message), Ok(mut reservation)) = (message, way.session.reserve(now, 1)) else { break };
            // A probe has the length it asks about, without padding.
            let Ok(len) = reservation.seal(message, 0, &mut self.sealed_probe) else { break };
            let sealed = self.sealed_probe.get(..len).unwrap_or_default();
            if let Err(error) = socket.send(sealed, len, way.endpoint, 0) {
                tracing::trace!(%error, len, "probe not sent");
                if error.raw_os_error() == Some(libc::EMSGSIZE) {
                    return true;
                }
            }
            way.session.activity().note_sent(now, false);
        }
        false
    }

    /// Puts the peer's next deadline into the queue.
    pub(super) fn schedule(&mut self, id: PeerId) {
        let Some(tracked) = self.tracked.get_mut(&id) else { return };
        let due = tracked.deadline();
        if due != tracked.due {
            if let Some(before) = std::mem::replace(&mut tracked.due, due) {
                self.deadlines.remove(&(before, id));
            }
            if let Some(due) = due {
                self.deadlines.insert((due, id));
            }
        }
    }
}

/// Sends the packets that wait for a peer; false if its session takes them no more. Whatever is staged meanwhile has a
/// note of its own.
fn send_staged(
    shared: &Shared,
    train: &mut TrainSender<'_, dyn DatagramSocket>,
    peer: &Arc<Peer>,
    way: &Way,
    now: Duration,
) -> bool {
    let mut is_usable = true;
    for _ in 0..PACKETS_MAX {
        if peer.staged().is_empty() {
            break;
        }
        // Before a packet is taken: one that cannot be sent waits for the next session.
        let Ok(mut reservation) = way.session.reserve(now, 1) else {
            is_usable = false;
            break;
        };
        let Some(packet) = peer.staged().pop(&shared.staged_total) else { break };
        if packet.len() > usize::from(way.mtu) {
            shared.counters.add(Reason::TooBig);
            continue;
        }
        train.add(way, &mut reservation, &packet, header::ecn(&packet).unwrap_or_default());
        note_sent(shared, peer, way, now);
        peer.count_sent(1, packet.len() as u64);
    }
    train.flush();
    is_usable
}
