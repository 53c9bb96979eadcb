//! What must hold, and when something else is excused.

use super::super::super::{Pairing, State, pairing::PAIRS_MAX};
use super::super::ghost::Invariant;
use super::queue::{End, Event, MINUTE, Ms};
use super::simulation::{Breach, GRACE, LATENCY_MAX, Simulation};

/// Own keys at the same time; the design allows one more.
const KEYS_MAX: usize = 2;
/// A record may be under way for so long: into a registry and out of it, and each of the two may be lost a few times.
const NEWS: Ms = 3 * MINUTE;

impl Simulation {
    pub(super) fn break_at(&mut self, invariant: Invariant, node: u16, why: &str) {
        let at = self.queue.now;
        self.breach.get_or_insert_with(|| Breach { invariant, at, node, why: why.to_owned() });
    }

    /// Looks at a node after something has happened to it.
    pub(super) fn inspect(&mut self, node: u16) {
        let (now, longest, period) = (self.queue.now, self.plan.longest(), self.plan.period());
        let station = self.station(node);
        let held = [&station.memory, &station.disk.keys];
        let destroyed = &station.ghost.destroyed;
        let is_held = held.iter().any(|keys| keys.keys().any(|epoch| destroyed.contains(epoch)));
        let is_bounded = station.memory.len() <= KEYS_MAX
            && station.links.iter().all(|link| link.sessions.len() <= PAIRS_MAX);
        if station.machine.state() == State::Steady {
            station.ghost.rotates_since = None;
        }
        let rotates_since = match station.machine.state() {
            State::Steady => None,
            _ => Some(*station.ghost.rotates_since.get_or_insert(now)),
        };
        let served = station.served.filter(|_| station.is_up);
        let is_late = served
            .zip(rotates_since)
            .is_some_and(|(served, since)| now - since.max(served) > longest + MINUTE);
        let is_old = served.is_some_and(|served| {
            now - served > longest + MINUTE && now - station.activated > period + longest
        });
        let state = station.machine.state();
        if is_held {
            self.break_at(Invariant::Destroyed, node, "a key is logged as destroyed and is not");
        }
        if !is_bounded {
            self.break_at(Invariant::Bounded, node, "too many keys or tunnels");
        }
        if is_late {
            self.break_at(Invariant::Ends, node, &format!("{state:?} for too long"));
        }
        if is_old {
            self.break_at(Invariant::InTime, node, &format!("{state:?} with a key that is too old"));
        }
    }

    /// Looks at a link after one of its ends has changed.
    pub(super) fn inspect_link(&mut self, end: End) {
        let low = self.low(end);
        if self.link(low).is_excused {
            if self.is_clear(low) && self.is_well(low) && self.is_on_newest(low) {
                self.pardon(low);
            }
            return;
        }
        // An organisation that does not cosign loses the tunnel, once the key before is gone.
        if !self.is_cosigned(low) {
            return self.excuse(low);
        }
        if self.has_common(low) {
            return;
        }
        let why = format!("no tunnel with {:?} is accepted by both", self.link(low).peer);
        self.break_at(Invariant::NoBlackHole, low.node, &why);
    }

    /// What must hold when faults have been over for long.
    pub(super) fn inspect_end(&mut self) {
        let now = self.queue.now;
        for n in 0..self.stations.len() {
            let node = n as u16;
            self.inspect(node);
            for link in 0..self.station(node).links.len() {
                let end = End { node, link: link as u8 };
                let peer = self.link(end).peer;
                let knows_newest = self.knows_newest(peer)
                    || self.stations[n].says().is_some_and(|newest| now - newest.at < GRACE);
                // Whoever has two keys under one number is excused until the next one.
                let has_two = |n: usize| self.stations[n].says().is_some_and(|said| said.has_two);
                let is_excused =
                    self.link(self.low(end)).is_excused && !has_two(n) && !has_two(usize::from(peer.node));
                if is_excused || !knows_newest || !self.carries(end) {
                    let why = format!(
                        "not well with {peer:?}: excused {is_excused}, known {knows_newest}, clear {}, carries {}",
                        self.is_clear(end),
                        self.carries(end)
                    );
                    self.break_at(Invariant::Recovers, node, &why);
                }
            }
        }
    }

    // Excuses: what a fault may cost that the design does not promise to survive without a gap.

    /// A fault hits a link; it is excused until it is well again.
    pub(super) fn excuse(&mut self, end: End) {
        let low = self.low(end);
        self.link_mut(low).is_excused = true;
        self.tally.excuses += 1;
        self.hinder_link(low);
    }

    /// A stolen or lost key, or an old state, costs packets.
    pub(super) fn trouble(&mut self, node: u16) {
        self.disturb(node);
        for link in 0..self.station(node).links.len() {
            self.excuse(End { node, link: link as u8 });
        }
    }

    /// What a node does now may take as long as if it had begun now.
    pub(super) fn disturb(&mut self, node: u16) {
        let now = self.queue.now;
        let station = self.station(node);
        station.served = station.served.map(|_| now);
    }

    /// Something has changed that keeps the links of a node from being well, or that kept them.
    pub(super) fn hinder(&mut self, node: u16) {
        for link in 0..self.station(node).links.len() {
            self.hinder_link(End { node, link: link as u8 });
        }
    }

    pub(super) fn hinder_link(&mut self, end: End) {
        let at = self.low(end);
        let link = self.link_mut(at);
        link.stamp += 1;
        let stamp = link.stamp;
        if link.is_excused {
            self.queue.after(GRACE, Event::Check { at, stamp });
        }
    }

    /// An excuse ends when nothing has hindered a link for long.
    pub(super) fn check(&mut self, at: End, stamp: u32) {
        let link = self.link(at);
        if !link.is_excused || link.stamp != stamp || !self.is_clear(at) {
            return;
        }
        let has_news = |end: End| {
            let said = self.stations[usize::from(end.node)].says();
            said.is_some_and(|said| self.queue.now - said.at < NEWS)
        };
        if self.is_well(at) {
            self.pardon(at);
        } else if has_news(at) || has_news(link.peer) {
            self.queue.after(NEWS, Event::Check { at, stamp });
        } else {
            let why = format!("nothing hinders the link with {:?}, and it is not well", self.link(at).peer);
            self.break_at(Invariant::Recovers, at.node, &why);
        }
    }

    fn pardon(&mut self, low: End) {
        let now = self.queue.now;
        let link = self.link_mut(low);
        (link.is_excused, link.well_since) = (false, now);
    }

    /// Whether a packet may be lost: it may have been sent before the link was well again.
    pub(super) fn is_excused(&self, end: End) -> bool {
        let link = self.link(self.low(end));
        link.is_excused || self.queue.now - link.well_since < LATENCY_MAX
    }

    /// Whether nothing keeps a link from being well.
    fn is_clear(&self, end: End) -> bool {
        let link = self.link(end);
        let can = |end: End| {
            let station = &self.stations[usize::from(end.node)];
            !station.is_compromised
                && station.untold.is_none()
                && station.says().is_some_and(|said| !said.has_two)
        };
        link.is_open && link.is_heard && can(end) && can(link.peer) && self.is_cosigned(end)
    }

    /// Whether each end knows the newest of the other with its proof, and packets go both ways.
    fn is_well(&self, end: End) -> bool {
        let peer = self.link(end).peer;
        let ends = [end, peer];
        self.has_common(end) && ends.iter().all(|end| self.knows_newest(*end) && self.carries(*end))
    }

    fn knows_newest(&self, end: End) -> bool {
        let link = self.link(end);
        let is_proven = link.peer_epochs.is_some_and(|peer| peer.cur.is_proven);
        is_proven && link.known == self.stations[usize::from(link.peer.node)].newest
    }

    /// Whether a packet of this end would be opened at the other one.
    fn carries(&self, end: End) -> bool {
        let link = self.link(end);
        let on = self.pairing(end).and_then(|(pairing, date)| pairing.sends_on(date, link.confirmed()));
        let held = &self.link(link.peer).sessions;
        on.is_some_and(|on| held.iter().any(|(pair, _)| *pair == on.turned()))
    }

    /// Whether both ends accept the same tunnel.
    fn has_common(&self, end: End) -> bool {
        let of = |end: End| -> Option<(Pairing, Option<u64>)> {
            let station = &self.stations[usize::from(end.node)];
            Some((station.pairing(usize::from(end.link))?, self.time(end.node).date))
        };
        let (Some((here, date)), Some((there, its_date))) = (of(end), of(self.link(end).peer)) else {
            return false;
        };
        here.pairs(date).any(|pair| there.keeps(pair.turned(), its_date))
    }

    /// Whether the keys in use are cosigned by the organisation of the other end.
    fn is_cosigned(&self, end: End) -> bool {
        let peer = self.link(end).peer;
        let of = |end: End, by: End| {
            let (station, by) = (&self.stations[usize::from(end.node)], &self.stations[usize::from(by.node)]);
            station.proofs.of(station.machine.current().epoch) & (1 << by.org) != 0
        };
        of(end, peer) && of(peer, end)
    }

    /// The end of a link that stands for both.
    fn low(&self, end: End) -> End {
        end.min(self.link(end).peer)
    }
}
