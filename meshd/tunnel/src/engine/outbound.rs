//! Messages to peers.

use std::time::Duration;

use crate::engine::tunnel::{Attempt, Handshake, JITTER_MAX, REKEY_TIMEOUT};
use crate::engine::{Action, Engine, START_SPREAD_MAX, START_SPREAD_PER_TUNNEL, To};
use crate::mac::{Mac1, mac2};
use crate::message::{MAC_LEN, Message};
use crate::noise::{Initiator, Terms};
use crate::{Refused, TunnelId};

impl Engine {
    /// Starts to send initiations, unless that is going on, or this end does not call.
    pub(super) fn begin(&mut self, now: Duration, id: TunnelId) {
        let tunnels = u32::try_from(self.tunnels.len()).unwrap_or(u32::MAX);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if tunnel.attempt.is_some() || !tunnel.is_calling {
            return;
        }
        let started = self.config.started.saturating_add(START_SPREAD_MAX) > now;
        let spread = START_SPREAD_PER_TUNNEL.saturating_mul(tunnels).min(START_SPREAD_MAX);
        let spread = if started { self.rng.up_to(spread) } else { Duration::ZERO };
        // Also after a response: it is on its way, and the peer will use the session it makes.
        let not_before = tunnel.handshake_sent.map_or(Duration::ZERO, |at| at.saturating_add(REKEY_TIMEOUT));
        tunnel.given_up = false;
        tunnel.attempt = Some(Attempt::new(now, now.saturating_add(spread).max(not_before)));
    }

    /// Ends the initiations of a tunnel: they were answered, or given up.
    pub(super) fn end_attempt(&mut self, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        tunnel.attempt = None;
        tunnel.given_up = false;
        if let Some(handshake) = tunnel.handshake.take() {
            self.indices.release(handshake.index);
        }
    }

    /// Sends an initiation in place of the one before, if any.
    pub(super) fn initiate(&mut self, now: Duration, id: TunnelId) {
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let Some(key) = self.keys.get(&tunnel.spec.key) else { return };
        if let Some(unanswered) = tunnel.handshake.take() {
            self.indices.release(unanswered.index);
        }
        let terms = Terms { local: key.local.pair(), suite: tunnel.spec.suite, ephemeral: self.rng.secret() };
        let stamp = self.clock.stamp(now);
        let Ok((noise, message)) =
            Initiator::start(terms, &tunnel.spec.peer_key, tunnel.spec.psk_bytes(), stamp)
        else {
            // A point of low order: whoever holds this key is nobody.
            return self.refuse(Refused::BadPeerKey);
        };
        let index = self.indices.allocate(&mut self.rng, id);
        let Some(message) = self.send_handshake(now, id, To::Chosen, Message::initiation(index, &message))
        else {
            return;
        };
        if let Some(tunnel) = self.tunnels.get_mut(&id) {
            tunnel.handshake = Some(Handshake { noise, index, message, was_answered_badly: false });
        }
    }

    /// Sends the last initiation once more as it is.
    pub(super) fn send_copy(&mut self, id: TunnelId) {
        let handshake = self.tunnels.get(&id).and_then(|tunnel| tunnel.handshake.as_ref());
        if let Some(message) = handshake.map(|handshake| handshake.message) {
            self.actions.push_back(Action::Send { tunnel: Some(id), to: To::Chosen, message });
        }
    }

    /// Puts both MACs on a handshake message and sends it; gives what was sent.
    pub(super) fn send_handshake(
        &mut self,
        now: Duration,
        id: TunnelId,
        to: To,
        mut message: Message,
    ) -> Option<Message> {
        let tunnel = self.tunnels.get_mut(&id)?;
        let mac1 = Mac1::new(tunnel.spec.suite, &tunnel.spec.peer_key);
        let cookie = tunnel.cookie.as_ref().and_then(|cookie| cookie.value(now));
        let second = |bytes: &[u8]| cookie.map_or([0; MAC_LEN], |cookie| mac2(cookie, bytes));
        tunnel.mac1_sent = message.set_macs(|bytes| mac1.tag(bytes), second);
        tunnel.handshake_sent = Some(now);
        tunnel.jitter = self.rng.up_to(JITTER_MAX);
        tunnel.activity.note_sent(now, false);
        self.actions.push_back(Action::Send { tunnel: Some(id), to, message });
        Some(message)
    }

    /// Sends an empty data message. False if no session can.
    pub(super) fn send_empty(&mut self, now: Duration, id: TunnelId) -> bool {
        let Some(tunnel) = self.tunnels.get(&id) else { return false };
        let Some(session) = tunnel.usable(now) else { return false };
        let Ok(mut counter) = session.tx.reserve(now, 1) else { return false };
        let Ok(message) = Message::filled_by(|out| counter.seal(&[], 0, out)) else { return false };
        tunnel.activity.note_sent(now, false);
        let wants_renewal = session.tx.wants_renewal(now);
        self.actions.push_back(Action::Send { tunnel: Some(id), to: To::Chosen, message });
        if wants_renewal {
            self.begin(now, id);
        }
        true
    }
}
