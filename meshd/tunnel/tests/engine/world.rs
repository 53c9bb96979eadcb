//! A network of test nodes under virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use meshd_tunnel::{Psk, Suite, TunnelEvent, TunnelId, TunnelSpec};

use crate::node::Node;

/// Where virtual time starts: far from zero, which would hide an underflow.
pub(crate) const START: Duration = Duration::from_secs(10_000);

/// What the network does to datagrams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Impairment {
    pub(crate) loss_percent: u64,
    pub(crate) double_percent: u64,
    pub(crate) delay_min: Duration,
    pub(crate) delay_max: Duration,
}

impl Impairment {
    pub(crate) const NONE: Self = Self::delay(Duration::from_millis(10));

    pub(crate) const fn delay(delay: Duration) -> Self {
        Self { loss_percent: 0, double_percent: 0, delay_min: delay, delay_max: delay }
    }
}

/// A datagram that was sent, whether it arrives or not.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Sent {
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[0]
    }
}

pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) nodes: Vec<Node>,
    pub(crate) impairment: Impairment,
    /// Everything that was sent, in order.
    pub(crate) log: Vec<Sent>,
    pub(crate) in_flight: BTreeMap<(Duration, u64), Sent>,
    flown: u64,
    dice: Dice,
}

/// A small generator for the network's decisions.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }
}

impl World {
    pub(crate) fn new(nodes: Vec<Node>) -> Self {
        Self {
            now: START,
            nodes,
            impairment: Impairment::NONE,
            log: Vec::new(),
            in_flight: BTreeMap::new(),
            flown: 0,
            dice: Dice::new(1),
        }
    }

    pub(crate) fn impaired(mut self, seed: u64, impairment: Impairment) -> Self {
        self.dice = Dice::new(seed);
        self.impairment = impairment;
        self
    }

    /// Two nodes with one tunnel each, and these tunnels.
    pub(crate) fn pair() -> (Self, TunnelId, TunnelId) {
        Self::pair_with(|spec| spec)
    }

    /// Two nodes, their tunnel changed alike on both ends.
    pub(crate) fn pair_with(change: impl Fn(TunnelSpec) -> TunnelSpec) -> (Self, TunnelId, TunnelId) {
        // Started long ago: the spread after a start is no matter of most tests.
        let long_ago = START - Duration::from_secs(100);
        let mut world = Self::new(vec![Node::new(1, long_ago), Node::new(2, long_ago)]);
        let (a, b) = world.join(0, 1, change);
        (world, a, b)
    }

    pub(crate) fn join(
        &mut self,
        left: usize,
        right: usize,
        change: impl Fn(TunnelSpec) -> TunnelSpec,
    ) -> (TunnelId, TunnelId) {
        let ends = [left, right].map(|node| (self.nodes[node].public, self.nodes[node].address));
        let now = self.now;
        let a = self.nodes[left].add(now, change(Node::spec(ends[1].0)), ends[1].1);
        let b = self.nodes[right].add(now, change(Node::spec(ends[0].0)), ends[0].1);
        self.collect();
        (a, b)
    }

    pub(crate) fn send(&mut self, node: usize, tunnel: TunnelId, packet: &[u8]) {
        self.nodes[node].send(self.now, tunnel, packet);
        self.collect();
    }

    /// Hands a datagram to a node as if it had come from `source`.
    pub(crate) fn inject(&mut self, node: usize, source: SocketAddr, bytes: &[u8]) {
        self.nodes[node].receive(self.now, source, bytes);
        self.collect();
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
            let timeout = self.nodes.iter().filter_map(|node| node.engine.next_timeout()).min();
            let Some(next) = arrival.into_iter().chain(timeout).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    /// Runs until something holds; fails the test if it does not within `limit`.
    pub(crate) fn run_until(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Self) -> bool,
    ) -> Duration {
        let start = self.now;
        while !holds(self) {
            assert!(self.now - start <= limit, "not within {limit:?}: {what}");
            self.run_for(Duration::from_millis(10));
        }
        self.now - start
    }

    fn step(&mut self) {
        while let Some(((at, order), _)) = self.in_flight.first_key_value() {
            let (at, order) = (*at, *order);
            if at > self.now {
                break;
            }
            let Some(sent) = self.in_flight.remove(&(at, order)) else { break };
            if let Some(node) = self.nodes.iter_mut().find(|node| node.address == sent.to) {
                node.receive(self.now, sent.from, &sent.bytes);
            }
            self.collect();
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].on_timeout(self.now);
        }
        self.collect();
    }

    /// Puts what the nodes have sent into the network.
    pub(crate) fn collect(&mut self) {
        for node in 0..self.nodes.len() {
            let from = self.nodes[node].address;
            for (to, bytes) in std::mem::take(&mut self.nodes[node].outbox) {
                let sent = Sent { at: self.now, from, to, bytes };
                self.log.push(sent.clone());
                self.fly(sent);
            }
        }
    }

    fn fly(&mut self, sent: Sent) {
        let copies = match (
            self.dice.percent(self.impairment.loss_percent),
            self.dice.percent(self.impairment.double_percent),
        ) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        for _ in 0..copies {
            let span = (self.impairment.delay_max - self.impairment.delay_min).as_micros() as u64;
            let delay = self.impairment.delay_min + Duration::from_micros(self.dice.roll() % (span + 1));
            self.flown += 1;
            self.in_flight.insert((self.now + delay, self.flown), sent.clone());
        }
    }

    /// How many messages of a type a node has sent.
    pub(crate) fn sent(&self, node: usize, kind: u8) -> usize {
        self.sent_at(node, kind).len()
    }

    /// When a node has sent messages of a type.
    pub(crate) fn sent_at(&self, node: usize, kind: u8) -> Vec<Duration> {
        let from = self.nodes[node].address;
        self.log.iter().filter(|sent| sent.from == from && sent.kind() == kind).map(|sent| sent.at).collect()
    }

    /// When a node has sent initiations, without the copies of them.
    pub(crate) fn begun_at(&self, node: usize) -> Vec<Duration> {
        let from = self.nodes[node].address;
        let initiations = self.log.iter().filter(|sent| sent.from == from && sent.kind() == 1);
        let mut last = &Vec::new();
        initiations
            .filter(|sent| std::mem::replace(&mut last, &sent.bytes) != &sent.bytes)
            .map(|sent| sent.at)
            .collect()
    }

    /// The last message of a type a node has sent.
    pub(crate) fn last_sent(&self, node: usize, kind: u8) -> Vec<u8> {
        let from = self.nodes[node].address;
        let last = self.log.iter().rev().find(|sent| sent.from == from && sent.kind() == kind);
        last.map(|sent| sent.bytes.clone()).expect("a message of this type")
    }

    pub(crate) fn established(&self, node: usize) -> usize {
        let events = self.nodes[node].events.iter();
        events.filter(|(_, event)| matches!(event, TunnelEvent::Established { .. })).count()
    }

    /// Sends one packet each way and expects both to arrive.
    pub(crate) fn exchange(&mut self, a: TunnelId, b: TunnelId) {
        let before = [0, 1].map(|node| self.nodes[node].received.len());
        self.send(0, a, b"there");
        self.run_until("the packet there", Duration::from_secs(1), |world| {
            world.nodes[1].received.len() > before[1]
        });
        self.send(1, b, b"back");
        self.run_until("the packet back", Duration::from_secs(1), |world| {
            world.nodes[0].received.len() > before[0]
        });
    }
}

/// All kinds of tunnels that must behave alike.
pub(crate) fn kinds() -> [(Suite, Option<Psk>); 4] {
    [Suite::Wg, Suite::Aes]
        .map(|suite| [(suite, None), (suite, Some(Psk::new([9; 32])))])
        .concat()
        .try_into()
        .expect("four")
}
