//! Nodes that ask their steward for leaves, and stewards that append them.

use super::super::super::{Cosigned, Epoch, Leaf, State};
use super::queue::{Event, MINUTE, Ms, SECOND};
use super::service::{Answer, Call, LEAVES_MAX, Stated};
use super::simulation::Simulation;

/// A steward gathers leaves for so long.
const BATCH: Ms = SECOND;
/// What an append takes, and each leaf of it.
const APPEND: Ms = 20;
const LEAVES_PER_MS: usize = 10;
/// A steward that does not answer is asked again after so long, doubled up to a minute.
const ASK_AGAIN: Ms = SECOND / 2;
const DOUBLINGS_MAX: u32 = 7;
/// A witness that was away is asked again after so long.
const COSIGN_AGAIN: Ms = MINUTE;

impl Simulation {
    /// The first key of a node was logged when it joined.
    pub(super) fn log_first(&mut self, node: u16) {
        let station = &self.stations[usize::from(node)];
        for (epoch, key) in &station.memory {
            self.stewards[usize::from(station.org)].logged.insert((node, *epoch), *key);
        }
    }

    /// Asks for what waits, the oldest first.
    pub(super) fn ask(&mut self, node: u16) {
        let station = self.station(node);
        if !station.is_up || station.is_asking || station.unlogged.is_empty() {
            return;
        }
        station.is_asking = true;
        let mut leaves = [None; LEAVES_MAX];
        for (place, leaf) in leaves.iter_mut().zip(&station.unlogged) {
            let key = match leaf {
                Leaf::Announce(epoch) | Leaf::Activate(epoch) => station.memory.get(epoch).copied(),
                Leaf::Destroy(_) | Leaf::Compromised(_) | Leaf::Rollback(_) => None,
            };
            *place = Some(Stated { leaf: *leaf, key });
        }
        let call = Call { node, life: station.life, leaves };
        let org = usize::from(station.org);
        if self.reaches(node, &self.stewards[org].place) && !self.is_lost() {
            let latency = self.latency();
            self.queue.after(latency, Event::Asked(call));
        } else {
            self.unanswered(node);
        }
    }

    fn unanswered(&mut self, node: u16) {
        let time = self.time(node);
        let station = self.station(node);
        if !station.is_up {
            return;
        }
        let wait = ASK_AGAIN << station.unanswered.min(DOUBLINGS_MAX);
        station.unanswered += 1;
        station.machine.log_answers(time, false);
        self.queue.after(wait, Event::Ask { node });
    }

    pub(super) fn asked(&mut self, call: Call) {
        let org = self.station(call.node).org;
        let steward = &mut self.stewards[usize::from(org)];
        steward.waiting.push(call);
        if !std::mem::replace(&mut steward.is_gathering, true) {
            self.queue.after(BATCH, Event::Batch { org });
        }
    }

    pub(super) fn append(&mut self, org: u8) {
        let cosigners = self.cosigners(org);
        let steward = &mut self.stewards[usize::from(org)];
        steward.is_gathering = false;
        let calls = std::mem::take(&mut steward.waiting);
        let mut leaves = 0;
        let mut answers = Vec::with_capacity(calls.len());
        for Call { node, life, leaves: asked } in calls {
            let is_away = self.stewards[usize::from(org)].place.outages > 0;
            let answer = asked.map(|stated| {
                let stated = stated.filter(|_| !is_away)?;
                leaves += 1;
                let is_logged = self.log(org, node, stated);
                Some(Answer { leaf: stated.leaf, cosigners: is_logged.then_some(cosigners) })
            });
            answers.push((node, life, answer));
        }
        let took = APPEND + (leaves / LEAVES_PER_MS) as Ms;
        for (node, life, answers) in answers {
            let is_there = self.reaches(node, &self.stewards[usize::from(org)].place) && !self.is_lost();
            if is_there {
                let latency = self.latency();
                self.queue.after(took + latency, Event::Answered { node, life, answers });
            } else if self.station(node).life == life {
                self.unanswered(node);
            }
        }
    }

    /// Appends a leaf, unless the log is against it or has it; false if it is refused.
    fn log(&mut self, org: u8, node: u16, stated: Stated) -> bool {
        let may_refuse = self.queue.now < self.calm_at;
        let is_refused = may_refuse && self.dice.happens(self.plan.rates.refusal_ppm);
        let steward = &mut self.stewards[usize::from(org)];
        steward.leaves += 1;
        let Stated { leaf: Leaf::Announce(epoch) | Leaf::Activate(epoch), key } = stated else { return true };
        match (steward.logged.get(&(node, epoch)), key) {
            (Some(logged), key) => key == Some(*logged),
            (None, None) => false,
            (None, Some(_)) if is_refused || steward.refused.contains(&(node, epoch)) => {
                steward.refused.insert((node, epoch));
                self.tally.refused += 1;
                self.disturb(node);
                false
            }
            (None, Some(key)) => {
                steward.logged.insert((node, epoch), key);
                true
            }
        }
    }

    /// Who cosigns what a steward logs now.
    fn cosigners(&self, org: u8) -> u8 {
        let own = &self.stewards[usize::from(org)].place;
        let cosigns = |other: &u8| {
            let place = &self.stewards[usize::from(*other)].place;
            *other == org || (place.outages == 0 && place.sides == own.sides)
        };
        (0..self.plan.orgs).filter(cosigns).fold(0, |all, other| all | 1 << other)
    }

    pub(super) fn answered(&mut self, node: u16, life: u8, answers: [Option<Answer>; LEAVES_MAX]) {
        let time = self.time(node);
        if !self.station(node).is_up || self.station(node).life != life {
            return;
        }
        self.station(node).is_asking = false;
        if answers.iter().all(Option::is_none) {
            self.station(node).is_asking = true;
            return self.unanswered(node);
        }
        self.station(node).unanswered = 0;
        self.station(node).machine.log_answers(time, true);
        for Answer { leaf, cosigners } in answers.into_iter().flatten() {
            let station = self.station(node);
            if station.unlogged.front() == Some(&leaf) {
                station.unlogged.pop_front();
            }
            let (Leaf::Announce(epoch) | Leaf::Activate(epoch)) = leaf else { continue };
            match cosigners {
                Some(cosigners) => self.prove(node, epoch, cosigners),
                None => station.machine.proof_refused(time, epoch),
            }
        }
        self.settle(node);
        self.ask(node);
    }

    fn prove(&mut self, node: u16, epoch: Epoch, cosigners: u8) {
        let everybody = (1 << self.plan.orgs) - 1;
        let station = self.station(node);
        // It may be gone by now.
        let Some(key) = station.memory.get(&epoch).copied() else { return };
        let is_more = station.proofs.add(epoch, key, cosigners, true);
        if station.proofs.of(epoch) & everybody != everybody {
            self.queue.after(COSIGN_AGAIN, Event::Cosign { node, epoch });
        }
        if is_more {
            self.tell_proof(node);
            self.settle(node);
            // Of a key that is announced, the machine says when peers may see it.
            let machine = &self.station(node).machine;
            if machine.state() != State::Announced || machine.current().epoch == epoch {
                self.say(node);
            }
            self.hinder(node);
        }
    }

    pub(super) fn cosign(&mut self, node: u16, epoch: Epoch) {
        let org = self.station(node).org;
        let station = &self.stations[usize::from(node)];
        if !station.memory.contains_key(&epoch) || station.proofs.of(epoch) == 0 {
            return;
        }
        if self.reaches(node, &self.stewards[usize::from(org)].place) {
            let cosigners = self.cosigners(org);
            self.prove(node, epoch, cosigners);
        } else {
            self.queue.after(COSIGN_AGAIN, Event::Cosign { node, epoch });
        }
    }

    /// Tells the machine of the newest proof.
    pub(super) fn tell_proof(&mut self, node: u16) {
        let time = self.time(node);
        let station = &self.stations[usize::from(node)];
        let connected = station.links.iter().filter(|link| link.is_connected);
        let orgs = connected.map(|link| self.stations[usize::from(link.peer.node)].org);
        let needed = orgs.fold(0, |all, org| all | 1 << org);
        let Some((epoch, cosigners)) = station.proofs.newest() else { return };
        let cosigned = if needed & !cosigners == 0 { Cosigned::All } else { Cosigned::InPart };
        self.station(node).machine.proven(time, epoch, cosigned);
    }
}
