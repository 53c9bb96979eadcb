//! Messages of peers.

use std::sync::Arc;
use std::time::Duration;

use crate::cookie::Cookie;
use crate::engine::gate::{ANSWERS_MAX, Passage};
use crate::engine::tunnel::{Answer, Handshake, JITTER_MAX, Session};
use crate::engine::{Action, Engine, Precedence, To, TunnelEvent, Via};
use crate::mac::{Mac1, cookie_key};
use crate::message::{CookieReply, Incoming, Initiation, MAC_LEN, Macs, Message, Response};
use crate::noise::{Responder, Terms};
use crate::{KeyId, Refused, SessionKeys, SessionSpec, Suite, Tai64n, TunnelId, pair};

/// Initiations of one peer that come faster than this are dropped: 50 a second, as in the kernel.
const INITIATION_INTERVAL_MIN: Duration = Duration::from_millis(20);

impl Engine {
    /// Tells how soon to handle a message, at the price of a few hashes at most: a crowd of strangers must not keep
    /// those waiting who have shown that they are none.
    pub fn precedence(&mut self, now: Duration, via: Via, message: &[u8]) -> Precedence {
        self.tell(now);
        let (holds, precedence) = match Incoming::parse(message) {
            Some(Incoming::Initiation(initiation)) => {
                (self.gate.is_proven(now, &mut self.rng, via, &initiation.macs), Precedence::Proven)
            }
            Some(Incoming::Response(response)) => (self.awaits(response.receiver), Precedence::Awaited),
            Some(Incoming::CookieReply(reply)) => {
                (self.indices.owner(reply.receiver).is_some(), Precedence::Awaited)
            }
            None => return Precedence::Last,
        };
        if holds { precedence } else { Precedence::Last }
    }

    /// Takes a message that is no data message. `queue_depth` is how many more of them wait: it decides load.
    pub fn on_control(&mut self, now: Duration, via: Via, message: &[u8], queue_depth: usize) {
        self.tell(now);
        self.gate.note_load(now, queue_depth);
        let done = match Incoming::parse(message) {
            Some(Incoming::Initiation(initiation)) => self.on_initiation(now, via, &initiation),
            Some(Incoming::Response(response)) => self.on_response(now, via, &response),
            Some(Incoming::CookieReply(reply)) => self.on_cookie_reply(now, &reply),
            None => Err(Refused::NotTunnel),
        };
        if let Err(refused) = done {
            self.refuse(refused);
        }
    }

    fn on_initiation(&mut self, now: Duration, via: Via, initiation: &Initiation<'_>) -> Result<(), Refused> {
        let (key, suite) = self.recognise(&initiation.macs).ok_or(Refused::BadMac)?;
        let cookie_key = self.keys.get(&key).ok_or(Refused::BadMac)?.cookie_key;
        let proven = match self.gate.admit(now, &mut self.rng, (via, &cookie_key), initiation) {
            Passage::Open { proven } => proven,
            Passage::Challenge(message) => {
                self.actions.push_back(Action::Send { tunnel: None, to: To::Reply(via), message });
                return Err(Refused::RateLimited);
            }
            Passage::Closed(refused) => return Err(refused),
        };
        if self.gate.is_copy(initiation.macs.mac1) {
            self.answer_again(now, via, initiation.macs.mac1);
            return Err(Refused::HandshakeReplay);
        }
        let answered = self.answer(now, via, initiation, key, suite);
        if let Err(refused) = answered {
            self.gate.failed(now, via, proven);
            // The sender's next copy may come when this node knows more, or has rested.
            if matches!(refused, Refused::NoPeer | Refused::SuiteMismatch | Refused::HandshakeTooSoon) {
                self.gate.forget(initiation.macs.mac1);
            }
        }
        answered
    }

    /// Sends the answer to an initiation once more, if it may be lost. It is as large as it was, smaller than what asks for
    /// it, and says nothing new, so whoever replays initiations gains nothing.
    fn answer_again(&mut self, now: Duration, via: Via, mac1: &[u8; MAC_LEN]) {
        for index in self.gate.answers_to(mac1).into_iter().flatten() {
            let Some(id) = self.indices.owner(index) else { continue };
            let message = self.tunnels.get_mut(&id).and_then(|tunnel| tunnel.answer_again(now, index));
            if let Some(message) = message {
                self.actions.push_back(Action::Send { tunnel: Some(id), to: To::Reply(via), message });
            }
        }
    }

    /// Whether the response to an initiation of ours may still come to this index.
    fn awaits(&self, index: u32) -> bool {
        let tunnel = self.indices.owner(index).and_then(|id| self.tunnels.get(&id));
        let handshake = tunnel.and_then(|tunnel| tunnel.handshake.as_ref());
        handshake.is_some_and(|handshake| handshake.index == index)
    }

    /// Finds the static key and the suite a message was made for, before any curve work.
    fn recognise(&self, macs: &Macs<'_>) -> Option<(KeyId, Suite)> {
        self.keys.iter().find_map(|(id, key)| {
            let verifies = |mac1: &Mac1| mac1.verifies(macs.covered_by_mac1, macs.mac1);
            key.mac1.iter().find_map(|(suite, mac1)| verifies(mac1).then_some((*id, *suite)))
        })
    }

    /// The one Noise pass over an initiation, then what it says: who, in which suite, when.
    fn answer(
        &mut self,
        now: Duration,
        via: Via,
        initiation: &Initiation<'_>,
        key: KeyId,
        suite: Suite,
    ) -> Result<(), Refused> {
        let responder = self.read(initiation, key, suite)?;
        let (peer, stamp) = ((key, responder.peer), responder.stamp);
        let tunnels = self.tunnels_of(peer, suite)?;
        self.accept(now, peer, stamp)?;
        let mut responder = Some(responder);
        for id in tunnels.into_iter().flatten() {
            let responder = match responder.take() {
                Some(responder) => responder,
                None => self.read(initiation, key, suite)?,
            };
            self.respond(now, via, initiation, id, responder)?;
        }
        Ok(())
    }

    fn read(&mut self, initiation: &Initiation<'_>, key: KeyId, suite: Suite) -> Result<Responder, Refused> {
        let local = self.keys.get(&key).ok_or(Refused::BadMac)?.local.pair();
        let terms = Terms { local, suite, ephemeral: self.rng.secret() };
        Responder::read(terms, initiation.noise).map_err(|_| Refused::BadHandshake)
    }

    /// The newest tunnels with a peer in a suite.
    fn tunnels_of(
        &self,
        peer: (KeyId, [u8; 32]),
        suite: Suite,
    ) -> Result<[Option<TunnelId>; ANSWERS_MAX], Refused> {
        let peer = self.peers.get(&peer).ok_or(Refused::NoPeer)?;
        let in_suite = |id: &&TunnelId| self.tunnels.get(id).is_some_and(|tunnel| tunnel.spec.suite == suite);
        let mut tunnels = peer.tunnels.iter().rev().filter(in_suite).copied();
        let found = [(); ANSWERS_MAX].map(|()| tunnels.next());
        if found[0].is_none() { Err(Refused::SuiteMismatch) } else { Ok(found) }
    }

    /// Lets an initiation of a peer count, unless it is a copy, older than another, or too soon after it.
    fn accept(&mut self, now: Duration, peer: (KeyId, [u8; 32]), stamp: Tai64n) -> Result<(), Refused> {
        let peer = self.peers.get_mut(&peer).ok_or(Refused::NoPeer)?;
        if peer.last_stamp.is_some_and(|last| stamp <= last) {
            return Err(Refused::HandshakeReplay);
        }
        if peer.accepted_at.is_some_and(|at| now.saturating_sub(at) < INITIATION_INTERVAL_MIN) {
            return Err(Refused::HandshakeTooSoon);
        }
        peer.last_stamp = Some(stamp);
        peer.accepted_at = Some(now);
        Ok(())
    }

    fn respond(
        &mut self,
        now: Duration,
        via: Via,
        initiation: &Initiation<'_>,
        id: TunnelId,
        responder: Responder,
    ) -> Result<(), Refused> {
        let peer_index = initiation.sender;
        let tunnel = self.tunnels.get(&id).ok_or(Refused::NoPeer)?;
        let (noise, keys) = responder.respond(tunnel.spec.psk_bytes()).map_err(|_| Refused::BadHandshake)?;
        let index = self.indices.allocate(&mut self.rng, id);
        let Some(session) = self.install(now, via, id, keys, (index, peer_index), false) else {
            return Ok(());
        };
        let sent = self.send_handshake(now, id, To::Reply(via), Message::response(index, peer_index, &noise));
        self.gate.note_answer(initiation.macs.mac1, index);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return Ok(()) };
        tunnel.answer = sent.map(|message| Answer::new(index, message, now));
        tunnel.activity.note_received(now, false);
        let gone = tunnel.expect(session);
        self.forget(gone);
        self.set_timer(id);
        Ok(())
    }

    fn on_response(&mut self, now: Duration, via: Via, response: &Response<'_>) -> Result<(), Refused> {
        let id = self.indices.owner(response.receiver).ok_or(Refused::UnknownIndex)?;
        let tunnel = self.tunnels.get_mut(&id).ok_or(Refused::UnknownIndex)?;
        let key = self.keys.get(&tunnel.spec.key).ok_or(Refused::UnknownIndex)?;
        if !key.mac1(tunnel.spec.suite).verifies(response.macs.covered_by_mac1, response.macs.mac1) {
            return Err(Refused::BadMac);
        }
        // The index of a session: the response that made it has come again.
        let of_session = |handshake: &&mut Handshake| handshake.index == response.receiver;
        let handshake = tunnel.handshake.as_mut().filter(of_session).ok_or(Refused::HandshakeReplay)?;
        if handshake.was_answered_badly {
            let about = (via, &key.cookie_key);
            if let Some(message) = self.gate.challenge_response(now, &mut self.rng, about, response) {
                self.actions.push_back(Action::Send { tunnel: None, to: To::Reply(via), message });
                return Err(Refused::RateLimited);
            }
        }
        let Ok(keys) = handshake.noise.finish(response.noise) else {
            handshake.was_answered_badly = true;
            return Err(Refused::BadHandshake);
        };
        tunnel.handshake = None;
        tunnel.activity.note_received(now, false);
        let indices = (response.receiver, response.sender);
        let Some(session) = self.install(now, via, id, keys, indices, true) else { return Ok(()) };
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return Ok(()) };
        let tx = Arc::clone(&session.tx);
        let gone = tunnel.adopt(session);
        self.actions.push_back(Action::InstallTx { tunnel: id, tx });
        self.actions.push_back(Action::Event(TunnelEvent::Established { tunnel: id, via }));
        self.end_attempt(id);
        self.forget(gone);
        // The responder sends nothing before it has heard something on the new session.
        self.send_empty(now, id);
        self.look(now, id);
        Ok(())
    }

    /// Makes the session of a complete handshake and hands out its receiving half.
    fn install(
        &mut self,
        now: Duration,
        via: Via,
        id: TunnelId,
        keys: SessionKeys,
        (index, peer_index): (u32, u32),
        is_initiator: bool,
    ) -> Option<Session> {
        let tunnel = self.tunnels.get(&id)?;
        let spec = SessionSpec {
            suite: tunnel.spec.suite,
            index,
            peer_index,
            is_initiator,
            born: now,
            activity: Arc::clone(&tunnel.activity),
            tunnel: id,
            peer: tunnel.spec.peer,
        };
        let (tx, rx) = pair(keys, spec);
        self.actions.push_back(Action::InstallRx { tunnel: id, rx: Arc::new(rx) });
        Some(Session { tx: Arc::new(tx), index, born: now, via })
    }

    fn on_cookie_reply(&mut self, now: Duration, reply: &CookieReply<'_>) -> Result<(), Refused> {
        let id = self.indices.owner(reply.receiver).ok_or(Refused::UnknownIndex)?;
        let tunnel = self.tunnels.get_mut(&id).ok_or(Refused::UnknownIndex)?;
        let key = cookie_key(&tunnel.spec.peer_key);
        let cookie = Cookie::open(now, &key, &tunnel.mac1_sent, reply).ok_or(Refused::BadCookie)?;
        tunnel.cookie = Some(cookie);
        // The next regular retry would be seconds away, which is long for whoever waits behind a flood of others.
        if let Some(attempt) = &mut tunnel.attempt {
            attempt.hurry(now, self.rng.up_to(JITTER_MAX));
        }
        self.set_timer(id);
        Ok(())
    }
}
