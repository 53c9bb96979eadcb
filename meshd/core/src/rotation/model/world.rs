//! Both nodes, the network between them, and the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::{Channel, Cosigned, Effect, Epoch, Leaf, OwnEpochs, Pair, State, Stored, Use};
use super::ghost::{Ghost, Invariant};
use super::node::{Disk, Node, Record, Session, periods, time};

/// Something on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Message {
    Record(Record),
    Installed(Epoch),
    /// As the sender names the tunnel, from its life.
    Initiation {
        pair: Pair,
        life: u8,
    },
    Response {
        pair: Pair,
        to_life: u8,
        life: u8,
    },
    Data {
        pair: Pair,
        to_life: u8,
        life: u8,
    },
    /// From the node to the log.
    Leaf(Epoch),
    /// From the log to the node.
    Proof(Epoch),
}

/// What can happen next. Nodes are 0 and 1; messages are named by their place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    Written(usize),
    WriteFails(usize),
    /// With or without what was being written.
    Crash {
        node: usize,
        is_written: bool,
    },
    Rotate(usize),
    Compromise(usize),
    RollBack(usize),
    RefuseProof(usize),
    Tick,
}

/// How often what may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Budget {
    pub(super) rotations: [u8; 2],
    pub(super) losses: u8,
    pub(super) repeats: u8,
    pub(super) crashes: u8,
    pub(super) write_failures: u8,
    pub(super) compromises: u8,
    pub(super) rollbacks: u8,
    pub(super) refusals: u8,
    /// No fault and no rotation begins from this tick on …
    pub(super) calm_at: u64,
    /// … and the world ends at this one.
    pub(super) end: u64,
}

impl Budget {
    fn is_without_faults(&self) -> bool {
        let Self { losses, repeats, crashes, write_failures, compromises, rollbacks, refusals, .. } = *self;
        [losses, repeats, crashes, write_failures, compromises, rollbacks, refusals] == [0; 7]
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) tick: u64,
    pub(super) nodes: [Node; 2],
    /// The sender and what it sent.
    net: Vec<(usize, Message)>,
    log: BTreeSet<(usize, Epoch)>,
    ghosts: [Ghost; 2],
    pub(super) budget: Budget,
    is_faultless: bool,
    /// A stolen or lost key, or an old state, costs packets.
    may_lose: bool,
    backup: [Disk; 2],
    pub(super) broken: BTreeSet<Invariant>,
}

impl World {
    /// Two nodes that know each other and have a tunnel.
    pub(super) fn new(budget: Budget) -> Self {
        let node = |name: u16| {
            let stored = Stored::first(Epoch(1), 0, 0);
            let keys = BTreeMap::from([(Epoch(1), name)]);
            let disk = Disk { stored, keys: keys.clone() };
            Node {
                machine: Node::machine_of(&disk, 0),
                life: 0,
                memory: keys,
                disk,
                writing: VecDeque::new(),
                own: OwnEpochs::single(Epoch(1)),
                newest: None,
                known: None,
                own_proofs: BTreeSet::from([Epoch(1)]),
                unlogged: BTreeSet::new(),
                sessions: BTreeMap::new(),
                called: BTreeSet::new(),
            }
        };
        let nodes = [node(1), node(1_001)];
        let backup = nodes.clone().map(|node| node.disk);
        let ghosts = [0, 1_000].map(|first| Ghost::new(first + 1));
        let mut world = Self {
            tick: 0,
            nodes,
            net: Vec::new(),
            log: BTreeSet::from([(0, Epoch(1)), (1, Epoch(1))]),
            ghosts,
            is_faultless: budget.is_without_faults(),
            budget: Budget { end: u64::MAX, ..Budget::default() },
            may_lose: false,
            backup,
            broken: BTreeSet::new(),
        };
        for n in [0, 1] {
            let now = world.now();
            world.nodes[n].machine.looked(now);
            world.settle(n);
        }
        let is_quiet = |world: &Self| world.tick >= 3 && world.net.is_empty();
        while !is_quiet(&world) {
            let first = world.actions()[0];
            world.act(first);
        }
        world.backup = world.nodes.clone().map(|node| node.disk);
        let begin = world.tick;
        world.budget = Budget { calm_at: budget.calm_at + begin, end: budget.end + begin, ..budget };
        world
    }

    /// Everything that can happen now.
    pub(super) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.tick >= self.budget.end {
            return actions;
        }
        let budget = &self.budget;
        let is_calm = self.tick >= budget.calm_at;
        let may = |left: u8| left > 0 && !is_calm;
        for place in 0..self.net.len() {
            actions.push(Action::Deliver(place));
            if may(budget.losses) {
                actions.push(Action::Lose(place));
            }
            if may(budget.repeats) {
                actions.push(Action::Repeat(place));
            }
        }
        for n in [0, 1] {
            let writes = !self.nodes[n].writing.is_empty();
            if writes {
                actions.push(Action::Written(n));
            }
            if writes && may(budget.write_failures) {
                actions.push(Action::WriteFails(n));
            }
            if may(budget.crashes) {
                actions.push(Action::Crash { node: n, is_written: false });
                if writes {
                    actions.push(Action::Crash { node: n, is_written: true });
                }
            }
            if may(budget.rotations[n]) && self.nodes[n].machine.state() == State::Steady {
                actions.push(Action::Rotate(n));
            }
            if may(budget.compromises) {
                actions.push(Action::Compromise(n));
            }
            if may(budget.rollbacks) {
                actions.push(Action::RollBack(n));
            }
            if may(budget.refusals) && self.announced_in_vain(n).is_some() {
                actions.push(Action::RefuseProof(n));
            }
        }
        if self.net.is_empty() && self.nodes.iter().all(|node| node.writing.is_empty()) {
            actions.push(Action::Tick);
        }
        actions
    }

    pub(super) fn act(&mut self, action: Action) {
        let now = self.now();
        match action {
            Action::Deliver(place) => {
                let (from, message) = self.net.remove(place);
                self.deliver(from, message);
            }
            Action::Lose(place) => {
                self.budget.losses -= 1;
                self.net.remove(place);
            }
            Action::Repeat(place) => {
                self.budget.repeats -= 1;
                let (from, message) = self.net[place].clone();
                self.deliver(from, message);
            }
            Action::Written(n) => {
                if let Some((ticket, disk)) = self.nodes[n].writing.pop_front() {
                    self.nodes[n].disk = disk;
                    self.nodes[n].machine.stored(now, ticket);
                    self.settle(n);
                }
            }
            Action::WriteFails(n) => {
                self.budget.write_failures -= 1;
                if let Some((ticket, _)) = self.nodes[n].writing.pop_front() {
                    self.nodes[n].machine.not_stored(now, ticket);
                    self.settle(n);
                }
            }
            Action::Crash { node, is_written } => {
                self.budget.crashes -= 1;
                if let Some((_, disk)) = self.nodes[node].writing.pop_front().filter(|_| is_written) {
                    self.nodes[node].disk = disk;
                }
                self.start(node);
            }
            Action::Rotate(n) => {
                self.budget.rotations[n] -= 1;
                self.nodes[n].machine.rotate(now);
                self.settle(n);
            }
            Action::Compromise(n) => {
                self.budget.compromises -= 1;
                self.may_lose = true;
                self.nodes[n].machine.compromised(now);
                self.settle(n);
            }
            Action::RollBack(n) => {
                self.budget.rollbacks -= 1;
                self.may_lose = true;
                self.nodes[n].disk = self.backup[n].clone();
                // What a backup holds is outside of what can be claimed.
                self.ghosts[n].destroyed.clear();
                // What was announced and given up is in no record any more: nobody can tell.
                self.ghosts[n].forget_given_up();
                self.start(n);
            }
            Action::RefuseProof(n) => {
                self.budget.refusals -= 1;
                if let Some(next) = self.announced_in_vain(n) {
                    self.log.remove(&(n, next));
                    self.nodes[n].unlogged.remove(&next);
                    self.nodes[n].machine.proof_refused(now, next);
                    self.settle(n);
                }
            }
            Action::Tick => self.pass(),
        }
        self.inspect();
    }

    /// The key that a node has announced and holds no proof for.
    fn announced_in_vain(&self, n: usize) -> Option<Epoch> {
        let node = &self.nodes[n];
        let next = node.own.newer.filter(|_| node.machine.state() == State::Announced)?.0;
        (!node.own_proofs.contains(&next)).then_some(next)
    }

    /// One tick passes; what has not arrived is said again.
    fn pass(&mut self) {
        self.tick += 1;
        let now = self.now();
        for n in [0, 1] {
            let life = self.nodes[1 - n].life;
            // A registry has it.
            let held = self.ghosts[n].newest();
            let node = &mut self.nodes[n];
            node.called.clear();
            // No answer came on these.
            node.sessions.retain(|_, session| session.life == life);
            if let Some(held) = held {
                node.machine.own_record_seen(now, held.seq, held.cur.epoch, Node::highest(&held));
            }
            node.machine.tick(now);
            for epoch in node.unlogged.clone() {
                self.send(n, Message::Leaf(epoch));
            }
            self.settle(n);
            self.say_record(n);
            self.send_data(n);
        }
    }

    /// Gives the peer the record unless it has it.
    fn say_record(&mut self, n: usize) {
        let Some(record) = self.nodes[n].newest.clone() else { return };
        let record = Record { proven: self.nodes[n].own_proofs.clone(), ..record };
        let known = &self.nodes[1 - n].known;
        let has_it = known.as_ref().is_some_and(|known| {
            known.content.seq >= record.content.seq && record.proven.is_subset(&known.proven)
        });
        if !has_it {
            self.send(n, Message::Record(record));
        }
    }

    fn start(&mut self, n: usize) {
        let tick = self.tick;
        let node = &mut self.nodes[n];
        node.life += 1;
        node.writing.clear();
        node.memory = node.disk.keys.clone();
        node.sessions.clear();
        node.called.clear();
        node.newest = None;
        node.machine = Node::machine_of(&node.disk, tick);
        self.settle(n);
    }

    /// Does what the machine wants, and what follows from it for tunnels.
    fn settle(&mut self, n: usize) {
        let now = self.now();
        if self.nodes[n].known.is_some() {
            let peer = u8::from(n == 0);
            self.nodes[n].machine.connected(now, [(peer, Channel::Direct)]);
        }
        // A proof is on disk: a machine that has started again is told.
        if let Some(newest) = self.nodes[n].own_proofs.last().copied() {
            self.nodes[n].machine.proven(now, newest, Cosigned::All);
        }
        while let Some(effect) = self.nodes[n].machine.poll() {
            self.carry_out(n, effect);
        }
        if let Some(pairing) = self.nodes[n].pairing() {
            let date = now.date;
            self.nodes[n].sessions.retain(|pair, _| pairing.keeps(*pair, date));
            for pair in pairing.pairs(date).collect::<Vec<_>>() {
                let node = &mut self.nodes[n];
                let is_confirmed = node.sessions.get(&pair).is_some_and(|session| session.is_confirmed);
                if !is_confirmed && pairing.calls(pair, date, node.confirmed()) && node.called.insert(pair) {
                    let life = node.life;
                    self.send(n, Message::Initiation { pair, life });
                }
            }
        }
        let rotates = self.nodes[n].machine.state() != State::Steady;
        let since = *self.ghosts[n].rotates_since.get_or_insert(self.tick);
        if !rotates {
            self.ghosts[n].rotates_since = None;
        } else if self.is_faultless && self.tick - since > longest() {
            self.broken.insert(Invariant::Ends);
        }
    }

    fn carry_out(&mut self, n: usize, effect: Effect) {
        let node = &mut self.nodes[n];
        match effect {
            Effect::MakeKey { epoch } => {
                self.ghosts[n].keys_made += 1;
                node.memory.insert(epoch, self.ghosts[n].keys_made);
            }
            Effect::Store { ticket, stored } => {
                let keys =
                    stored.keys().filter_map(|epoch| Some((epoch, *node.memory.get(&epoch)?))).collect();
                node.writing.push_back((ticket, Disk { stored, keys }));
            }
            Effect::Use(own) => {
                // A peer that keeps to the rules would refuse; the machine must not rely on it.
                let sends = own.all().filter(|(_, usage)| *usage != Use::Answer);
                if sends.into_iter().any(|(epoch, _)| !node.own_proofs.contains(&epoch)) {
                    self.broken.insert(Invariant::LogBeforeUse);
                }
                node.own = own;
            }
            Effect::Drop { epoch } => {
                node.memory.remove(&epoch);
                node.sessions.retain(|pair, _| pair.own != epoch);
            }
            Effect::Publish(content) => {
                let memory = node.memory.clone();
                if !self.ghosts[n].publish(content, |epoch| memory.get(&epoch).copied()) {
                    self.broken.insert(Invariant::NumbersGrow);
                }
                let key = memory.get(&content.cur.epoch).copied().unwrap_or_default();
                node.newest = Some(Record { content, key, proven: BTreeSet::new() });
                self.say_record(n);
            }
            Effect::Append(Leaf::Announce(epoch) | Leaf::Activate(epoch)) => {
                if !node.own_proofs.contains(&epoch) {
                    node.unlogged.insert(epoch);
                    self.send(n, Message::Leaf(epoch));
                }
            }
            Effect::Append(Leaf::Destroy(epoch)) => {
                self.ghosts[n].destroyed.insert(epoch);
            }
            Effect::ShowProof { .. } => self.say_record(n),
            Effect::Append(Leaf::Compromised(_) | Leaf::Rollback(_)) | Effect::Alarm(_) => {}
        }
    }

    fn deliver(&mut self, from: usize, message: Message) {
        let now = self.now();
        let to = 1 - from;
        match message {
            Message::Leaf(epoch) => {
                if self.nodes[from].unlogged.contains(&epoch) {
                    self.log.insert((from, epoch));
                    self.send(from, Message::Proof(epoch));
                }
                return;
            }
            // Comes back to the node itself.
            Message::Proof(epoch) => {
                if self.log.contains(&(from, epoch)) {
                    self.nodes[from].unlogged.remove(&epoch);
                    self.nodes[from].own_proofs.insert(epoch);
                    self.nodes[from].machine.proven(now, epoch, Cosigned::All);
                    self.settle(from);
                }
                return;
            }
            Message::Record(record) => self.receive(to, record),
            Message::Installed(epoch) => {
                self.nodes[to].machine.installed(now, u8::from(to == 0), epoch);
            }
            Message::Initiation { pair, life } => self.respond(to, pair.turned(), life),
            Message::Response { pair, to_life, life } => {
                let pair = pair.turned();
                let node = &mut self.nodes[to];
                let keeps = node.pairing().is_some_and(|pairing| pairing.keeps(pair, now.date));
                if to_life == node.life && keeps && !is_outdated(node, pair, life) {
                    node.sessions.insert(pair, Session { life, is_confirmed: true });
                    self.send_on(to, pair);
                }
            }
            Message::Data { pair, to_life, life } => self.open(to, pair.turned(), to_life, life),
        }
        self.settle(to);
    }

    /// As the roster does: newer records that keep to the rules.
    fn receive(&mut self, to: usize, record: Record) {
        let node = &mut self.nodes[to];
        let mut proven = record.proven.clone();
        if let Some(known) = &mut node.known {
            proven.extend(known.proven.iter().copied());
            if record.content.seq <= known.content.seq {
                known.proven = proven;
                return;
            }
            let (new, old) = (record.content.cur.epoch, known.content.cur.epoch);
            if new < old || (new == old && record.key != known.key) {
                self.broken.insert(Invariant::Recovers);
                return;
            }
        }
        // Proofs of keys that are in no record any more are forgotten.
        let installs = record.content.next.map(|next| next.epoch);
        node.known = Some(Record { proven, ..record });
        if let Some(epoch) = installs {
            self.send(to, Message::Installed(epoch));
        }
    }

    fn respond(&mut self, n: usize, pair: Pair, life: u8) {
        let date = self.now().date;
        let node = &mut self.nodes[n];
        let keeps = node.pairing().is_some_and(|pairing| pairing.keeps(pair, date));
        if !keeps || is_outdated(node, pair, life) {
            return;
        }
        let held = node.sessions.get(&pair).is_some_and(|held| held.life == life && held.is_confirmed);
        node.sessions.insert(pair, Session { life, is_confirmed: held });
        let own = node.life;
        self.send(n, Message::Response { pair, to_life: life, life: own });
    }

    fn open(&mut self, n: usize, pair: Pair, to_life: u8, life: u8) {
        let now = self.now();
        if to_life != self.nodes[n].life || life != self.nodes[1 - n].life {
            return;
        }
        let node = &mut self.nodes[n];
        let Some(session) = node.sessions.get_mut(&pair).filter(|session| session.life == life) else {
            if !self.may_lose {
                self.broken.insert(Invariant::NoBlackHole);
            }
            return;
        };
        let was_confirmed = std::mem::replace(&mut session.is_confirmed, true);
        node.machine.heard(now, pair.own);
        node.machine.switched(now, u8::from(n == 0), pair.own);
        if !was_confirmed {
            self.settle(n);
            self.send_data(n);
        }
    }

    /// Sends a packet as the data plane would.
    fn send_data(&mut self, n: usize) {
        let date = self.now().date;
        let node = &self.nodes[n];
        let on = node.pairing().and_then(|pairing| pairing.sends_on(date, node.confirmed()));
        if let Some(pair) = on {
            self.send_on(n, pair);
        }
    }

    fn send_on(&mut self, n: usize, pair: Pair) {
        let node = &self.nodes[n];
        let Some(session) = node.sessions.get(&pair) else { return };
        let knows = node.known.as_ref().is_some_and(|known| known.proven.contains(&pair.peer));
        if !knows || !node.own_proofs.contains(&pair.own) {
            self.broken.insert(Invariant::LogBeforeUse);
        }
        let message = Message::Data { pair, to_life: session.life, life: node.life };
        self.send(n, message);
    }

    /// Equal messages under way are one: there is no order to tell them apart by.
    fn send(&mut self, from: usize, message: Message) {
        let sent = (from, message);
        if !self.net.contains(&sent) {
            self.net.push(sent);
        }
    }

    /// Looks at what must hold in every state.
    fn inspect(&mut self) {
        for n in [0, 1] {
            let node = &self.nodes[n];
            let held = [&node.memory, &node.disk.keys];
            if held.iter().any(|keys| keys.keys().any(|epoch| self.ghosts[n].destroyed.contains(epoch))) {
                self.broken.insert(Invariant::Destroyed);
            }
            if node.memory.len() > 2 || node.sessions.len() > super::super::pairing::PAIRS_MAX {
                self.broken.insert(Invariant::Bounded);
            }
        }
        let [a, b] = &self.nodes;
        let date = self.now().date;
        if let (Some(at_a), Some(at_b)) = (a.pairing(), b.pairing())
            && !self.may_lose
            && !at_a.pairs(date).any(|pair| at_b.keeps(pair.turned(), date))
        {
            self.broken.insert(Invariant::NoBlackHole);
        }
        if self.tick >= self.budget.end && !self.is_well() {
            self.broken.insert(Invariant::Recovers);
        }
    }

    /// Whether both nodes know the newest of each other, rest, and have a tunnel that works in both ways.
    fn is_well(&self) -> bool {
        let date = self.now().date;
        [0, 1].into_iter().all(|n| {
            let (node, peer) = (&self.nodes[n], &self.nodes[1 - n]);
            let sends_on = node.pairing().and_then(|pairing| pairing.sends_on(date, node.confirmed()));
            let newest = node.newest.as_ref().map(|newest| newest.content);
            let known = peer.known.as_ref().map(|known| known.content);
            node.machine.state() == State::Steady
                && newest == known
                && sends_on.is_some_and(|pair| peer.sessions.contains_key(&pair.turned()))
        })
    }

    fn now(&self) -> super::super::Now {
        time(self.tick)
    }
}

/// Whether a handshake message is from before the peer's last start: its timestamp tells.
fn is_outdated(node: &Node, pair: Pair, life: u8) -> bool {
    node.sessions.get(&pair).is_some_and(|held| held.life > life)
}

/// Ticks that a rotation takes at most.
fn longest() -> u64 {
    let periods = periods();
    let lengths = periods.lengths();
    (lengths.lead + lengths.overlap + lengths.silence).as_secs()
}
