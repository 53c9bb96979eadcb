//! The tunnels to one peer: one for each pair of a key of this node and one of the peer's.

use std::sync::Arc;
use std::time::Duration;

use meshd_core::rotation::{Pair, Pairing};
use meshd_tunnel::{Psk, Suite, TunnelId, TxSession};

/// How long a tunnel of another agreement still receives: the peer sends on it until it has seen the new one.
const OLD_RECEIVES_FOR: Duration = Duration::from_secs(10);

/// What both ends must agree about besides keys; another agreement is another tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) suite: Suite,
    pub(super) psk: Option<Psk>,
}

/// One tunnel.
#[derive(Debug)]
struct Held {
    id: TunnelId,
    pair: Pair,
    /// Whether it is of the agreement in force.
    is_agreed: bool,
    /// Its session, which is there once both ends have shown that they hold its keys.
    sending: Option<Arc<TxSession>>,
}

/// All tunnels to one peer. Packets come on any of them; which one they leave on is the pairing's choice.
#[derive(Debug)]
pub(super) struct PeerTunnels {
    agreed: Agreed,
    pairing: Pairing,
    /// The oldest first.
    held: Vec<Held>,
    /// When the tunnels of another agreement end.
    old_ends_at: Option<Duration>,
}

impl PeerTunnels {
    pub(super) fn new(agreed: Agreed, pairing: Pairing) -> Self {
        Self { agreed, pairing, held: Vec::new(), old_ends_at: None }
    }

    pub(super) fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Goes over to another agreement; gives the tunnels that must go, because of those that wait to be replaced one is
    /// enough: the one that works.
    pub(super) fn agree(&mut self, agreed: Agreed) -> Vec<TunnelId> {
        if self.agreed == agreed {
            return Vec::new();
        }
        self.agreed = agreed;
        let kept = self.best().or(self.held.first()).map(|held| held.id);
        self.held.iter_mut().for_each(|held| held.is_agreed = false);
        self.old_ends_at = None;
        self.remove(|held| Some(held.id) != kept)
    }

    /// Goes over to other keys; gives the tunnels that must go.
    pub(super) fn pair(&mut self, pairing: Pairing) -> Vec<TunnelId> {
        self.pairing = pairing;
        self.remove(|held| !pairing.keeps(held.pair, None))
    }

    /// Takes out the tunnels that somebody knows must go.
    pub(super) fn remove_if(&mut self, goes: impl Fn(TunnelId, Pair) -> bool) -> Vec<TunnelId> {
        self.remove(|held| goes(held.id, held.pair))
    }

    /// The pairs of keys that have no tunnel of the agreement in force.
    pub(super) fn missing(&self) -> Vec<Pair> {
        let has = |pair: &Pair| self.held.iter().any(|held| held.is_agreed && held.pair == *pair);
        self.pairing.pairs(None).filter(|pair| !has(pair)).collect()
    }

    pub(super) fn add(&mut self, id: TunnelId, pair: Pair) {
        self.held.push(Held { id, pair, is_agreed: true, sending: None });
    }

    /// Takes a session to send with.
    pub(super) fn install(&mut self, id: TunnelId, session: Arc<TxSession>, now: Duration) {
        let Some(held) = self.held.iter_mut().find(|held| held.id == id) else { return };
        held.sending = Some(session);
        if !held.is_agreed {
            return;
        }
        for old in self.held.iter_mut().filter(|held| !held.is_agreed) {
            old.sending = None;
            self.old_ends_at = self.old_ends_at.or(Some(now + OLD_RECEIVES_FOR));
        }
    }

    /// Stops sending on a tunnel.
    pub(super) fn uninstall(&mut self, id: TunnelId) {
        if let Some(held) = self.held.iter_mut().find(|held| held.id == id) {
            held.sending = None;
        }
    }

    /// The tunnels of another agreement, once their time is up.
    pub(super) fn take_ended(&mut self, now: Duration) -> Vec<TunnelId> {
        match self.old_ends_at.take_if(|at| *at <= now) {
            Some(_) => self.remove(|held| !held.is_agreed),
            None => Vec::new(),
        }
    }

    pub(super) fn old_ends_at(&self) -> Option<Duration> {
        self.old_ends_at
    }

    /// The session to send with.
    pub(super) fn sending(&self) -> Option<&Arc<TxSession>> {
        self.best()?.sending.as_ref()
    }

    /// Whether there is a session that can seal: one outlives that, since the peer may still send on it.
    pub(super) fn can_send(&self, now: Duration) -> bool {
        self.held.iter().filter_map(|held| held.sending.as_ref()).any(|session| session.is_usable(now))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = TunnelId> {
        self.held.iter().map(|held| held.id)
    }

    /// All tunnels with their keys, and whether they can be sent on.
    pub(super) fn uses(&self) -> impl Iterator<Item = (TunnelId, Pair, bool)> {
        self.held.iter().map(|held| (held.id, held.pair, held.sending.is_some()))
    }

    /// The tunnels that this end calls on. Those of another agreement only until one in force has a session: the peer may
    /// not know it yet.
    pub(super) fn called(&self) -> Vec<TunnelId> {
        let confirmed: Vec<Pair> = self.confirmed(true).collect();
        let is_called = |held: &&Held| {
            (held.is_agreed || confirmed.is_empty())
                && self.pairing.calls(held.pair, None, confirmed.iter().copied())
        };
        self.held.iter().filter(is_called).map(|held| held.id).collect()
    }

    fn best(&self) -> Option<&Held> {
        [true, false].into_iter().find_map(|is_agreed| {
            let pair = self.pairing.sends_on(None, self.confirmed(is_agreed))?;
            self.held
                .iter()
                .find(|held| held.is_agreed == is_agreed && held.pair == pair && held.sending.is_some())
        })
    }

    fn confirmed(&self, is_agreed: bool) -> impl Iterator<Item = Pair> {
        let held = self.held.iter().filter(move |held| held.is_agreed == is_agreed && held.sending.is_some());
        held.map(|held| held.pair)
    }

    fn remove(&mut self, goes: impl Fn(&Held) -> bool) -> Vec<TunnelId> {
        self.held.extract_if(.., |held| goes(held)).map(|held| held.id).collect()
    }
}
