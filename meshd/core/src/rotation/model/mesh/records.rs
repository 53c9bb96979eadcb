//! How records of keys, with the proofs beside them, come to whom they concern: through registries, and on control
//! channels.

use super::super::super::{Content, Epoch};
use super::super::ghost::Invariant;
use super::super::node::Node;
use super::queue::{Cosigners, End, Event, Ms, SECOND};
use super::service::Held;
use super::simulation::{RECONCILE_EVERY, Simulation};
use super::station::Said;

/// What did not arrive on a control channel is said again after so long.
const GREET_AGAIN: Ms = 5 * SECOND;

impl Simulation {
    /// Signs what the machine says of its keys.
    pub(super) fn sign(&mut self, node: u16, content: Content) {
        let now = self.queue.now;
        let station = self.station(node);
        let memory = station.memory.clone();
        // One that is lost is accepted no more, whatever was promised; so says the daemon.
        let prev = content.prev.filter(|(prev, _)| memory.contains_key(&prev.epoch));
        let content = Content { prev, ..content };
        let key_of = |epoch: Epoch| memory.get(&epoch).copied();
        let mut said = Said::new(content, now, &memory);
        // A key that it made before it was told may have a number that another one has.
        let is_untold = station.untold.is_some();
        said.has_two = said.keys.iter().flatten().any(|(epoch, key)| {
            let mut before = station.said.iter().filter(|before| !before.is_forgotten);
            let is_other = before.any(|before| before.key(*epoch).is_some_and(|other| other != *key));
            let was_untold = |before: &Said| before.is_untold && before.key(*epoch) == Some(*key);
            is_other && (is_untold || station.said.iter().any(was_untold))
        });
        said.is_untold = is_untold || said.has_two;
        let is_fine = station.ghost.publish(content, key_of) || said.is_untold;
        station.said.push(said);
        let was_silent = station.newest.is_none();
        station.newest = Some(station.said.len() as u32 - 1);
        if !is_fine {
            self.break_at(Invariant::NumbersGrow, node, &format!("{content:?}"));
        }
        if was_silent {
            self.hinder(node);
        }
        self.say(node);
    }

    /// Gives the newest record and the proofs to registries and connected peers.
    pub(super) fn say(&mut self, node: u16) {
        for registry in 0..self.registries.len() {
            self.put_into(node, registry);
        }
        for link in 0..self.station(node).links.len() {
            self.tell(End { node, link: link as u8 });
        }
    }

    fn put_into(&mut self, node: u16, registry: usize) {
        let station = &self.stations[usize::from(node)];
        let Some(index) = station.newest else { return };
        let cosigners = station.proofs.of_record(&station.said[index as usize]);
        if !self.reaches(node, &self.registries[registry].place) {
            return;
        }
        if self.is_lost() {
            return self.reconcile_after(node, RECONCILE_EVERY);
        }
        let latency = self.latency();
        self.queue.after(latency, Event::Put { registry: registry as u8, node, index, cosigners });
    }

    /// A registry takes a record, and tells those whom it concerns.
    pub(super) fn put(&mut self, registry: usize, node: u16, index: u32, cosigners: Cosigners) {
        if self.station(node).said[index as usize].is_forgotten {
            return;
        }
        let place = &mut self.registries[registry];
        if place.place.outages > 0 {
            return self.reconcile_after(node, RECONCILE_EVERY);
        }
        place.puts += 1;
        let held = &mut place.held[usize::from(node)];
        // One connection keeps the order of what is put, so no older value takes the place of a newer one.
        if held.is_some_and(|held| held.index > index) {
            return;
        }
        let before = held.filter(|held| held.index == index).map_or([0; 3], |held| held.cosigners);
        let cosigners = std::array::from_fn(|key| before[key] | cosigners[key]);
        *held = Some(Held { index, cosigners });
        for link in 0..self.station(node).links.len() {
            let to = self.station(node).links[link].peer;
            if !self.reaches(to.node, &self.registries[registry].place) {
                continue;
            }
            if self.is_lost() {
                self.reconcile_after(to.node, RECONCILE_EVERY);
            } else {
                let latency = self.latency();
                self.queue.after(latency, Event::Record { to, index, cosigners });
            }
        }
    }

    /// Tells a peer on the control channel what it has not heard.
    fn tell(&mut self, from: End) {
        let link = self.link(from);
        let station = &self.stations[usize::from(from.node)];
        let Some(index) = station.newest.filter(|_| link.is_direct && link.is_open) else { return };
        let said = station.said[index as usize];
        let cosigners = station.proofs.of_record(&said);
        let peer = self.link(link.peer);
        let has_proofs =
            peer.proofs.of_record(&said).iter().zip(cosigners).all(|(has, said)| said & !has == 0);
        if peer.known.is_some_and(|known| known >= index) && has_proofs {
            return;
        }
        self.send(from, |to| Event::Record { to, index, cosigners });
        // Whether it arrives is known later.
        self.greet_after(from, GREET_AGAIN);
    }

    pub(super) fn greet_after(&mut self, from: End, wait: Ms) {
        if !std::mem::replace(&mut self.link_mut(from).is_greeting, true) {
            self.queue.after(wait, Event::Greet { from });
        }
    }

    pub(super) fn greet(&mut self, from: End) {
        let link = self.link_mut(from);
        link.is_greeting = false;
        let (is_told, known, peer) = (link.is_direct && link.is_open, link.known, link.peer);
        self.tell(from);
        // A peer that came back with an old state hears what it has said.
        if let Some(known) = known.filter(|_| is_told) {
            self.tell_own(peer.node, known);
        }
    }

    pub(super) fn reconcile_after(&mut self, node: u16, wait: Ms) {
        if !std::mem::replace(&mut self.station(node).is_reconciling, true) {
            self.queue.after(wait, Event::Reconcile { node });
        }
    }

    /// Compares what registries have with what a node has, in both ways.
    pub(super) fn reconcile(&mut self, node: u16) {
        self.station(node).is_reconciling = false;
        let mut has_looked = false;
        for registry in 0..self.registries.len() {
            if !self.reaches(node, &self.registries[registry].place) {
                continue;
            }
            if self.is_lost() {
                self.reconcile_after(node, RECONCILE_EVERY);
                continue;
            }
            has_looked = true;
            self.fetch(node, registry);
        }
        let time = self.time(node);
        let station = self.station(node);
        if has_looked && station.is_up {
            station.machine.looked(time);
            self.settle(node);
        }
    }

    fn fetch(&mut self, node: u16, registry: usize) {
        let station = &self.stations[usize::from(node)];
        let own = self.registries[registry].held[usize::from(node)];
        let cosigners = station.says().map(|said| station.proofs.of_record(&said));
        let has_it =
            own.is_some_and(|held| Some(held.index) == station.newest && Some(held.cosigners) == cosigners);
        if let Some(held) = own {
            self.tell_own(node, held.index);
        }
        if !has_it {
            self.put_into(node, registry);
        }
        for link in 0..self.station(node).links.len() {
            let to = End { node, link: link as u8 };
            let of = self.link(to).peer.node;
            if let Some(Held { index, cosigners }) = self.registries[registry].held[usize::from(of)] {
                self.receive(to, index, cosigners);
            }
        }
    }

    /// Tells a node of a record that it has signed itself.
    fn tell_own(&mut self, node: u16, index: u32) {
        let time = self.time(node);
        let station = self.station(node);
        if !station.is_up {
            return;
        }
        let content = station.said[index as usize].content;
        station.untold = station.untold.filter(|untold| *untold > index);
        station.machine.own_record_seen(time, content.seq, content.cur.epoch, Node::highest(&content));
        self.settle(node);
    }

    /// As the roster does: newer records that keep to the rules.
    pub(super) fn receive(&mut self, to: End, index: u32, cosigners: Cosigners) {
        let (age_max, of) = (self.plan.periods.lengths().age_max.as_secs(), self.link(to).peer.node);
        let said = &self.stations[usize::from(of)].said;
        let new = said[index as usize];
        let known = self.link(to).known.map(|known| said[known as usize]);
        let station = self.station(to.node);
        if !station.is_up || new.is_forgotten {
            return;
        }
        let org = station.org;
        let link = &mut station.links[usize::from(to.link)];
        let is_newer = known.is_none_or(|known| new.content.seq > known.content.seq);
        let is_more_proven = link.proofs.add_of_record(&new, cosigners, is_newer);
        if !is_newer && !is_more_proven {
            return;
        }
        if let Some(known) = known.filter(|_| is_newer) {
            let (new_epoch, old_epoch) = (new.content.cur.epoch, known.content.cur.epoch);
            if new_epoch < old_epoch || (new_epoch == old_epoch && new.key(new_epoch) != known.key(old_epoch))
            {
                if !new.is_untold && !known.is_untold {
                    let why = format!("the newest record of node {of} is refused");
                    self.break_at(Invariant::Recovers, to.node, &why);
                }
                return;
            }
        }
        if is_newer {
            link.known = Some(index);
        }
        let Some(known) = link.known else { return };
        let content = self.stations[usize::from(of)].said[known as usize].content;
        let link = self.link_mut(to);
        link.judge(&content, org, age_max);
        let is_direct = link.is_direct;
        if let Some(next) = content.next.filter(|_| is_newer && is_direct) {
            self.acknowledge(to, next.epoch);
        }
        self.set_date(to);
        self.settle_link(to);
    }

    /// Tells a peer on the control channel that its next key is known here.
    pub(super) fn acknowledge(&mut self, from: End, epoch: Epoch) {
        if !self.send(from, |to| Event::Installed { to, epoch }) && self.link(from).is_open {
            self.queue.after(GREET_AGAIN, Event::Receipt { from, epoch });
        }
    }

    /// Looks at the tunnels again when one of them ends by its date.
    pub(super) fn set_date(&mut self, at: End) {
        let date = self.time(at.node).date;
        let station = &self.stations[usize::from(at.node)];
        let pairing = station.pairing(usize::from(at.link));
        if let Some(ends) = date.and_then(|date| pairing?.changes_at(date)) {
            let ends = station.at_date(ends);
            self.queue.at(ends, Event::Date { at });
        }
    }
}
