//! The mesh, and what happens in it.

use std::collections::VecDeque;
use std::fmt;

use super::super::super::{Alarm, Channel, Effect, Epoch, Leaf, Now, Rotation, State, Use};
use super::super::ghost::Invariant;
use super::super::node::Disk;
use super::dice::Dice;
use super::faults::{draw, skew};
use super::graph;
use super::link::Link;
use super::plan::Plan;
use super::queue::{End, Event, HOUR, MINUTE, Ms, Queue, SECOND};
use super::service::{Place, Registry, Steward};
use super::station::Station;

/// The virtual clock begins late enough for keys of any age.
const BEGIN: Ms = 100 * HOUR;
/// Silence after which a peer does not count as connected, as in the daemon.
const CONNECTED_FOR: Ms = MINUTE;
/// A WireGuard session that carries nothing ends.
const SESSION_LIVES: Ms = 180 * SECOND;
/// A node whose peer has started again calls it after so long: a keepalive, and a handshake that was not answered.
const NOTICED_AFTER: Ms = 15 * SECOND;
/// What a network without faults needs at most until all is well: some rounds of messages of which some are lost.
pub(super) const GRACE: Ms = 5 * MINUTE;
/// No message takes longer.
pub(super) const LATENCY_MAX: Ms = 2 * SECOND;
/// Registries are compared so often.
pub(super) const RECONCILE_EVERY: Ms = 30 * SECOND;

/// The first thing that must not be.
#[derive(Debug)]
pub(super) struct Breach {
    pub(super) invariant: Invariant,
    pub(super) at: Ms,
    pub(super) node: u16,
    pub(super) why: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { invariant, at, node, why } = self;
        write!(f, "{invariant:?} at {at} ms, node {node}: {why}")
    }
}

/// What was seen, to know that something was tried.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) rotations: u64,
    pub(super) crashes: u64,
    pub(super) refused: u64,
    pub(super) late: u64,
    pub(super) rolled_back: u64,
    pub(super) clones: u64,
    pub(super) excuses: u64,
    pub(super) packets: u64,
}

pub(super) struct Simulation {
    pub(super) plan: Plan,
    pub(super) dice: Dice,
    pub(super) queue: Queue,
    pub(super) stations: Vec<Station>,
    pub(super) registries: Vec<Registry>,
    pub(super) stewards: Vec<Steward>,
    /// No fault begins from then on, and none goes on.
    pub(super) calm_at: Ms,
    pub(super) tally: Tally,
    pub(super) breach: Option<Breach>,
}

impl Simulation {
    /// A mesh whose nodes start all at once, with keys of any age.
    pub(super) fn new(plan: Plan) -> Self {
        let mut dice = Dice::new(plan.seed ^ 0x6d65_7368);
        let mut queue = Queue::new(BEGIN);
        let oldest = plan.period() - plan.lead();
        let mut stations: Vec<Station> = (0..plan.nodes)
            .map(|n| {
                let age = dice.within(0..oldest);
                let mut station = Station::new(
                    (n % usize::from(plan.orgs)) as u8,
                    BEGIN,
                    age,
                    skew(&mut dice),
                    plan.periods,
                );
                station.booted = dice.within(0..BEGIN);
                station
            })
            .collect();
        for [a, b] in graph::links(plan.nodes, &mut dice) {
            let ends = [a, b].map(|node| {
                let link = stations[usize::from(node)].links.len() as u8;
                End { node, link }
            });
            let is_direct = !dice.happens(plan.registry_only_ppm);
            for (end, peer) in [(ends[0], ends[1]), (ends[1], ends[0])] {
                stations[usize::from(end.node)].links.push(Link::new(peer, is_direct));
            }
        }
        let registry = Registry { held: vec![None; plan.nodes], ..Registry::default() };
        let registries = vec![registry; plan.registries];
        let stewards = vec![Steward::default(); usize::from(plan.orgs)];
        for n in 0..plan.nodes {
            queue.after(dice.within(0..SECOND), Event::Start { node: n as u16 });
        }
        let calm_at = BEGIN + plan.faulty;
        for (at, fault) in draw(&plan, &mut dice) {
            queue.after(at, Event::Fault(fault));
        }
        let mut simulation = Self {
            plan,
            dice,
            queue,
            stations,
            registries,
            stewards,
            calm_at,
            tally: Tally::default(),
            breach: None,
        };
        for n in 0..simulation.plan.nodes {
            simulation.log_first(n as u16);
        }
        simulation
    }

    /// Goes on to the end of the plan, or until something breaks.
    pub(super) fn run(&mut self) {
        self.run_until(self.calm_at + self.plan.calm);
        if self.breach.is_none() {
            self.inspect_end();
        }
    }

    pub(super) fn run_until(&mut self, end: Ms) {
        while self.breach.is_none()
            && let Some(event) = self.queue.next_before(end)
        {
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { node } => {
                let at = self.queue.now;
                let station = self.station(node);
                // Another one was set since.
                if station.is_up && station.wakes <= at {
                    station.wakes = Ms::MAX;
                    self.wake(node);
                }
            }
            Event::Written { node, life } => self.written(node, life),
            Event::Start { node } => self.start(node),
            Event::Noticed { node } => self.noticed(node),
            Event::Put { registry, node, index, cosigners } => {
                self.put(usize::from(registry), node, index, cosigners);
            }
            Event::Record { to, index, cosigners } => self.receive(to, index, cosigners),
            Event::Reconcile { node } => self.reconcile(node),
            Event::Greet { from } => self.greet(from),
            Event::Receipt { from, epoch } => self.acknowledge(from, epoch),
            Event::Installed { to, epoch } => {
                let time = self.time(to.node);
                let station = self.station(to.node);
                if station.is_up {
                    station.machine.installed(time, to.link, epoch);
                    self.settle(to.node);
                }
            }
            Event::Initiation { to, pair, life } => self.respond(to, pair.turned(), life),
            Event::Response { to, pair, to_life, life } => self.confirm(to, pair.turned(), to_life, life),
            Event::Data { to, pair, to_life, life } => self.open(to, pair.turned(), to_life, life),
            Event::Call { from } => self.call_again(from),
            Event::Date { at } => self.settle_link(at),
            Event::Traffic { node } => self.talk(node),
            Event::Keepalive { from } => self.send_data(from),
            Event::Silent { at, since } => self.silent(at, since),
            Event::Unheard { at, since } => {
                let link = self.link(at);
                if !link.is_heard && link.heard_turned == since {
                    self.excuse(at);
                }
            }
            Event::Check { at, stamp } => self.check(at, stamp),
            Event::Ask { node } => {
                self.station(node).is_asking = false;
                self.ask(node);
            }
            Event::Asked(call) => self.asked(call),
            Event::Batch { org } => self.append(org),
            Event::Answered { node, life, answers } => self.answered(node, life, answers),
            Event::Cosign { node, epoch } => self.cosign(node, epoch),
            Event::Fault(fault) => self.begin_fault(fault),
            Event::Over(fault) => self.end_fault(fault),
        }
    }

    // What a node is told by its host.

    pub(super) fn wake(&mut self, node: u16) {
        let time = self.time(node);
        let station = self.station(node);
        if station.is_up {
            station.machine.tick(time);
            self.settle(node);
        }
    }

    fn written(&mut self, node: u16, life: u8) {
        let time = self.time(node);
        let station = self.station(node);
        if !station.is_up || station.life != life {
            return;
        }
        let Some((ticket, disk)) = station.writing.pop_front() else { return };
        if station.disk_faults > 0 {
            station.machine.not_stored(time, ticket);
        } else {
            station.disk = disk;
            station.machine.stored(time, ticket);
        }
        self.settle(node);
    }

    pub(super) fn crash(&mut self, node: u16, is_written: bool, is_reboot: bool, lasts: Ms) {
        let now = self.queue.now;
        let station = self.station(node);
        if !station.is_up {
            return;
        }
        station.is_up = false;
        if let Some((_, disk)) = station.writing.pop_front().filter(|_| is_written) {
            station.disk = disk;
        }
        station.writing.clear();
        if is_reboot {
            station.booted = now + lasts;
        }
        self.tally.crashes += 1;
        self.queue.after(lasts, Event::Start { node });
        self.refresh(node);
    }

    fn start(&mut self, node: u16) {
        let seed = self.dice.draw();
        let time = self.time(node);
        let periods = self.plan.periods;
        let station = self.station(node);
        station.life += 1;
        station.is_up = true;
        station.memory = station.disk.keys.clone();
        station.machine = Rotation::restore(time, periods, station.disk.stored, seed);
        if station.untold.is_some() {
            station.machine.never_below(time.date.unwrap_or_default() * 1_000);
        }
        station.own = station.machine.own_epochs();
        station.newest = None;
        station.unlogged = VecDeque::new();
        station.is_asking = false;
        station.is_talking = false;
        station.wakes = Ms::MAX;
        for link in &mut station.links {
            link.sessions.clear();
            link.called.clear();
            link.is_connected = false;
        }
        let lost: Vec<Epoch> =
            station.disk.stored.keys().filter(|epoch| !station.memory.contains_key(epoch)).collect();
        for epoch in lost {
            station.machine.key_lost(time, epoch);
        }
        self.queue.after(NOTICED_AFTER, Event::Noticed { node });
        self.refresh(node);
        self.tell_proof(node);
        self.settle(node);
    }

    fn noticed(&mut self, node: u16) {
        let life = self.station(node).life;
        for link in 0..self.station(node).links.len() {
            let peer = self.station(node).links[link].peer;
            self.link_mut(peer).sessions.retain(|(_, session)| session.life == life);
            self.settle_link(peer);
        }
    }

    /// Does what the machine wants, and what follows from it for tunnels.
    pub(super) fn settle(&mut self, node: u16) {
        let was_compromised = self.station(node).is_compromised;
        let mut has_turned = false;
        while let Some(effect) = self.station(node).machine.poll() {
            if self.queue.now < self.calm_at && self.dice.happens(self.plan.rates.crash_ppm) {
                let (is_written, lasts) = (self.dice.coin(), self.dice.within(1..MINUTE));
                return self.crash(node, is_written, false, lasts);
            }
            has_turned |= matches!(effect, Effect::Use(_) | Effect::Drop { .. });
            self.carry_out(node, effect);
        }
        let is_compromised = self.station(node).machine.state() == State::Compromised;
        self.station(node).is_compromised = is_compromised;
        if was_compromised != is_compromised {
            self.hinder(node);
        }
        if has_turned {
            for link in 0..self.station(node).links.len() {
                self.settle_link(End { node, link: link as u8 });
            }
        }
        self.inspect(node);
        self.set_wake(node);
        if self.station(node).machine.state() != State::Steady && !self.station(node).is_talking {
            self.talk(node);
        }
    }

    fn set_wake(&mut self, node: u16) {
        let time = self.time(node);
        let station = self.station(node);
        let Some(timeout) = station.machine.next_timeout(time) else { return };
        let at = station.booted + timeout.as_nanos().div_ceil(1_000_000) as Ms;
        if at < station.wakes {
            station.wakes = at;
            self.queue.at(at, Event::Wake { node });
        }
    }

    fn carry_out(&mut self, node: u16, effect: Effect) {
        let write = self.dice.within(1..20);
        let now = self.queue.now;
        let station = self.station(node);
        match effect {
            Effect::MakeKey { epoch } => {
                station.ghost.keys_made += 1;
                // One rotation may follow the other without a rest.
                station.ghost.rotates_since = None;
                let key = station.ghost.keys_made;
                station.memory.insert(epoch, key);
                station.proofs.add(epoch, key, 0, true);
            }
            Effect::Store { ticket, stored } => {
                let keys =
                    stored.keys().filter_map(|epoch| Some((epoch, *station.memory.get(&epoch)?))).collect();
                station.writing.push_back((ticket, Disk { stored, keys }));
                let life = station.life;
                self.queue.after(write, Event::Written { node, life });
            }
            Effect::Use(own) => {
                let mut sends = own.all().filter(|(_, usage)| *usage != Use::Answer);
                let is_unproven = sends.any(|(epoch, _)| station.proofs.of(epoch) == 0);
                station.own = own;
                let cur = station.machine.current().epoch;
                if station.cur != cur {
                    station.cur = cur;
                    station.activated = now;
                    self.tally.rotations += 1;
                }
                if is_unproven {
                    self.break_at(Invariant::LogBeforeUse, node, "a key is used without its proof");
                }
            }
            Effect::Drop { epoch } => {
                station.memory.remove(&epoch);
                for link in &mut station.links {
                    link.sessions.retain(|(pair, _)| pair.own != epoch);
                }
            }
            Effect::Publish(content) => self.sign(node, content),
            Effect::Append(leaf) => {
                if let Leaf::Destroy(epoch) = leaf {
                    station.ghost.destroyed.insert(epoch);
                }
                station.unlogged.push_back(leaf);
                self.ask(node);
            }
            Effect::ShowProof { .. } => self.say(node),
            Effect::Alarm(Alarm::RotationLate) => self.tally.late += 1,
            Effect::Alarm(Alarm::StateRollback) => self.tally.rolled_back += 1,
            Effect::Alarm(Alarm::CloneSuspected) => self.tally.clones += 1,
        }
    }

    // Who reaches whom.

    pub(super) fn reaches(&self, node: u16, place: &Place) -> bool {
        let station = &self.stations[usize::from(node)];
        station.is_online() && place.outages == 0 && place.sides == station.sides
    }

    pub(super) fn refresh_all(&mut self) {
        for n in 0..self.plan.nodes {
            self.refresh(n as u16);
        }
    }

    /// Looks at what a node reaches, after something has changed.
    pub(super) fn refresh(&mut self, node: u16) {
        let now = self.queue.now;
        let is_served = self.is_served(node);
        let station = self.station(node);
        station.served = is_served.then(|| station.served.unwrap_or(now));
        for link in 0..self.station(node).links.len() {
            self.refresh_link(End { node, link: link as u8 });
        }
        if self.registries.iter().any(|registry| self.reaches(node, &registry.place)) {
            let wait = self.dice.within(0..RECONCILE_EVERY);
            self.reconcile_after(node, wait);
        }
    }

    /// Whether a node has all that it needs for a rotation.
    fn is_served(&self, node: u16) -> bool {
        let station = &self.stations[usize::from(node)];
        let own = &self.stewards[usize::from(station.org)].place;
        let are_witnesses_there = self
            .stewards
            .iter()
            .all(|steward| steward.place.outages == 0 && steward.place.sides == own.sides);
        station.doubts == 0 && station.disk_faults == 0 && are_witnesses_there && self.reaches(node, own)
    }

    fn refresh_link(&mut self, end: End) {
        let now = self.queue.now;
        let link = self.link(end);
        let (peer, was_open, was_heard, turned) = (link.peer, link.is_open, link.is_heard, link.turned);
        let [a, b] = [end, peer].map(|end| &self.stations[usize::from(end.node)]);
        let is_open = a.is_online() && b.is_online() && a.sides == b.sides && link.breaks == 0;
        let by_registry = |registry: &Registry| {
            self.reaches(end.node, &registry.place) && self.reaches(peer.node, &registry.place)
        };
        let is_heard = (link.is_direct && is_open) || self.registries.iter().any(by_registry);
        if is_heard != was_heard {
            for end in [end, peer] {
                let link = self.link_mut(end);
                (link.is_heard, link.heard_turned) = (is_heard, now);
            }
            if !is_heard {
                let wait = self.plan.promised();
                self.queue.after(wait, Event::Unheard { at: end, since: now });
            }
        }
        if is_open != was_open {
            let is_over = now - turned > SESSION_LIVES;
            for end in [end, peer] {
                let wait = self.dice.within(0..5 * SECOND);
                let link = self.link_mut(end);
                (link.is_open, link.turned) = (is_open, now);
                if !is_open {
                    self.queue.after(CONNECTED_FOR, Event::Silent { at: end, since: now });
                    continue;
                }
                if is_over {
                    link.sessions.clear();
                }
                link.rounds = 0;
                self.greet_after(end, wait);
                self.queue.after(wait, Event::Call { from: end });
            }
        }
        if (is_open, is_heard) != (was_open, was_heard) {
            self.hinder_link(end);
        }
    }

    fn silent(&mut self, at: End, since: Ms) {
        let link = self.link_mut(at);
        if link.is_open || link.turned != since {
            return;
        }
        link.is_connected = false;
        self.excuse(at);
        self.tell_connected(at.node);
    }

    pub(super) fn tell_connected(&mut self, node: u16) {
        let time = self.time(node);
        let station = self.station(node);
        if !station.is_up {
            return;
        }
        let connected = station.links.iter().zip(0..).filter(|(link, _)| link.is_connected);
        let channel = |link: &Link| if link.is_direct { Channel::Direct } else { Channel::Registry };
        let connected: Vec<_> = connected.map(|(link, n)| (n, channel(link))).collect();
        station.machine.connected(time, connected);
        self.tell_proof(node);
        self.settle(node);
    }

    // Shorthands.

    pub(super) fn time(&self, node: u16) -> Now {
        self.stations[usize::from(node)].time(self.queue.now)
    }

    pub(super) fn station(&mut self, node: u16) -> &mut Station {
        &mut self.stations[usize::from(node)]
    }

    pub(super) fn link(&self, end: End) -> &Link {
        &self.stations[usize::from(end.node)].links[usize::from(end.link)]
    }

    pub(super) fn link_mut(&mut self, end: End) -> &mut Link {
        &mut self.stations[usize::from(end.node)].links[usize::from(end.link)]
    }

    /// Most messages take a moment, a few much longer than others.
    pub(super) fn latency(&mut self) -> Ms {
        match self.dice.happens(self.plan.slow_ppm) {
            true => self.dice.within(150..LATENCY_MAX),
            false => self.dice.within(2..150),
        }
    }

    pub(super) fn is_lost(&mut self) -> bool {
        self.dice.happens(self.plan.loss_ppm)
    }

    /// Sends something to the other end of a link; false if it does not arrive.
    pub(super) fn send(&mut self, from: End, event: impl Fn(End) -> Event) -> bool {
        self.send_after(0, from, event)
    }

    /// Sends something after a while.
    pub(super) fn send_after(&mut self, wait: Ms, from: End, event: impl Fn(End) -> Event) -> bool {
        let link = self.link(from);
        let to = link.peer;
        if !link.is_open || self.is_lost() {
            return false;
        }
        let copies = if self.dice.happens(self.plan.repeat_ppm) { 2 } else { 1 };
        for _ in 0..copies {
            let latency = self.latency();
            self.queue.after(wait + latency, event(to));
        }
        true
    }
}
