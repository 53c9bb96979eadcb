//! Handshakes and packets between two nodes.

use super::super::super::{Epoch, Pair, Pairing, State};
use super::super::ghost::Invariant;
use super::super::node::Session;
use super::queue::{End, Event, Ms, SECOND};
use super::simulation::Simulation;

/// A handshake that is not answered is tried again after so long, then ever later.
const CALL_AGAIN: Ms = 5 * SECOND;
/// Handshakes of many peers are spread, and come after the proof that they need.
const SPREAD: std::ops::Range<Ms> = 150..400;
/// Doublings of it, up to more than a minute.
const DOUBLINGS_MAX: u32 = 4;
/// Each end sends so often at least.
const KEEPALIVE: Ms = 25 * SECOND;
/// Most packets on the newest tunnel tell nobody anything: of so many one is played.
const KEEPALIVES_SKIPPED: u32 = 6;

impl Simulation {
    /// Drops tunnels that are over, and calls on those that are missing.
    pub(super) fn settle_link(&mut self, end: End) {
        let date = self.time(end.node).date;
        let station = self.station(end.node);
        let Some(pairing) = station.pairing(usize::from(end.link)).filter(|_| station.is_up) else { return };
        let life = station.life;
        let link = &mut station.links[usize::from(end.link)];
        link.sessions.retain(|(pair, _)| pairing.keeps(*pair, date));
        if link.is_open {
            let mut calls = Vec::new();
            for pair in pairing.pairs(date) {
                let is_confirmed = link.confirmed().any(|confirmed| confirmed == pair);
                let calls_it = !is_confirmed && pairing.calls(pair, date, link.confirmed());
                if calls_it && !link.called.contains(&pair) {
                    link.called.push(pair);
                    calls.push(pair);
                }
            }
            if !calls.is_empty() && !std::mem::replace(&mut link.is_calling, true) {
                let wait = CALL_AGAIN << link.rounds.min(DOUBLINGS_MAX);
                self.queue.after(wait, Event::Call { from: end });
            }
            for pair in calls {
                let wait = self.dice.within(SPREAD);
                self.send_after(wait, end, |to| Event::Initiation { to, pair, life });
            }
        }
        self.inspect_link(end);
    }

    pub(super) fn call_again(&mut self, from: End) {
        let link = self.link_mut(from);
        link.is_calling = false;
        link.called.clear();
        link.rounds += 1;
        self.settle_link(from);
    }

    pub(super) fn respond(&mut self, at: End, pair: Pair, life: u8) {
        let Some((pairing, date)) = self.pairing(at) else { return };
        // Who knows another key under a number makes a handshake that can't be read.
        if !self.is_known_by_peer(at, pair.own) || !self.is_known_by_peer(self.link(at).peer, pair.peer) {
            return;
        }
        let station = self.station(at.node);
        let own = station.life;
        let link = &mut station.links[usize::from(at.link)];
        let held = link.session(pair).copied();
        if !pairing.keeps(pair, date) || held.is_some_and(|held| held.life > life) {
            return;
        }
        let is_confirmed = held.is_some_and(|held| held.life == life && held.is_confirmed);
        link.set_session(pair, Session { life, is_confirmed });
        self.send(at, |to| Event::Response { to, pair, to_life: life, life: own });
    }

    pub(super) fn confirm(&mut self, at: End, pair: Pair, to_life: u8, life: u8) {
        let Some((pairing, date)) = self.pairing(at) else { return };
        let station = self.station(at.node);
        let is_own = to_life == station.life;
        let link = &mut station.links[usize::from(at.link)];
        let is_outdated = link.session(pair).is_some_and(|held| held.life > life);
        if is_own && pairing.keeps(pair, date) && !is_outdated {
            link.set_session(pair, Session { life, is_confirmed: true });
            link.rounds = 0;
            self.send_on(at, pair);
            self.settle_link(at);
        }
    }

    pub(super) fn open(&mut self, at: End, pair: Pair, to_life: u8, life: u8) {
        let time = self.time(at.node);
        let peer_life = self.stations[usize::from(self.link(at).peer.node)].life;
        let station = self.station(at.node);
        if !station.is_up || to_life != station.life || life != peer_life {
            return;
        }
        let link = &mut station.links[usize::from(at.link)];
        let Some(session) = link.session(pair).filter(|session| session.life == life) else {
            if !self.is_excused(at) {
                let why = format!("a packet of {:?} on {pair:?} can't be opened", self.link(at).peer);
                self.break_at(Invariant::NoBlackHole, at.node, &why);
            }
            return;
        };
        let was_confirmed = std::mem::replace(&mut session.is_confirmed, true);
        let was_connected = std::mem::replace(&mut link.is_connected, true);
        link.rounds = 0;
        self.tally.packets += 1;
        if !was_connected {
            self.tell_connected(at.node);
        }
        let station = self.station(at.node);
        station.machine.heard(time, pair.own);
        station.machine.switched(time, at.link, pair.own);
        self.settle(at.node);
        if !was_confirmed {
            self.settle_link(at);
            self.send_data(at);
        }
    }

    /// Sends a packet as the data plane would.
    pub(super) fn send_data(&mut self, from: End) {
        let Some((pairing, date)) = self.pairing(from) else { return };
        if let Some(pair) = pairing.sends_on(date, self.link(from).confirmed()) {
            self.send_on(from, pair);
        }
    }

    fn send_on(&mut self, from: End, pair: Pair) {
        let station = self.station(from.node);
        let (life, org) = (station.life, station.org);
        let is_proven = station.proofs.of(pair.own) != 0;
        let link = &mut station.links[usize::from(from.link)];
        let is_peer_proven = link.proofs.of(pair.peer) & (1 << org) != 0;
        let Some(to_life) = link.session(pair).map(|session| session.life) else { return };
        if !is_proven || !is_peer_proven {
            self.break_at(Invariant::LogBeforeUse, from.node, &format!("a packet goes on {pair:?}"));
        }
        if !self.send(from, |to| Event::Data { to, pair, to_life, life }) && self.link(from).is_open {
            self.queue.after(KEEPALIVE, Event::Keepalive { from });
        }
    }

    /// Packets in both ways on all links of a node, for as long as it rotates.
    pub(super) fn talk(&mut self, node: u16) {
        let station = self.station(node);
        station.is_talking = station.is_up && station.machine.state() != State::Steady;
        if !station.is_talking {
            return;
        }
        let is_turning = matches!(station.machine.state(), State::Proving | State::Committed);
        let says_all = station.talks.is_multiple_of(KEEPALIVES_SKIPPED);
        station.talks += 1;
        for link in 0..station.links.len() {
            let end = End { node, link: link as u8 };
            if says_all || (is_turning && !self.is_on_newest(end)) {
                self.send_data(end);
                self.send_data(self.link(end).peer);
            }
        }
        self.queue.after(KEEPALIVE, Event::Traffic { node });
    }

    /// Whether both ends send on the newest tunnel that they can have, so that packets tell nothing new.
    pub(super) fn is_on_newest(&self, end: End) -> bool {
        let on = |end: End| {
            let (pairing, date) = self.pairing(end)?;
            let on = pairing.sends_on(date, self.link(end).confirmed())?;
            (Some(on) == pairing.pairs(date).last()).then_some(on)
        };
        on(end).is_some_and(|here| on(self.link(end).peer) == Some(here.turned()))
    }

    /// Whether the peer knows a key of this end as the one that it is.
    fn is_known_by_peer(&self, end: End, epoch: Epoch) -> bool {
        let station = &self.stations[usize::from(end.node)];
        let known = self.link(self.link(end).peer).known.map(|known| station.said[known as usize]);
        known.and_then(|known| known.key(epoch)) == station.memory.get(&epoch).copied()
    }

    /// The pairing at an end of a node that is up, and its date.
    pub(super) fn pairing(&self, at: End) -> Option<(Pairing, Option<u64>)> {
        let station = &self.stations[usize::from(at.node)];
        let pairing = station.pairing(usize::from(at.link)).filter(|_| station.is_up)?;
        Some((pairing, self.time(at.node).date))
    }
}
