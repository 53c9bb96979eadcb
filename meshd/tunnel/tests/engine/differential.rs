//! The engine against boringtun 0.7.1: both speak to each other across bad networks, in both roles.
//!
//! `MESHD_DIFFERENTIAL_RUNS=10000 cargo nextest run --release -p meshd-tunnel differential` runs more than the
//! default. A failure names its seed. Boringtun reads its own clock, so its retries are forced in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use meshd_tunnel::{Psk, TunnelId};

use crate::node::{Node, address};
use crate::world::{Dice, START};

const RUNS_DEFAULT: u64 = 200;
const RETRY: Duration = Duration::from_secs(5);
const MS: fn(u64) -> Duration = Duration::from_millis;
const SCRATCH_LEN: usize = 2048;

/// Boringtun and what an application does around it.
struct Oracle {
    tunn: Tunn,
    staged: VecDeque<Vec<u8>>,
    initiated: Option<Duration>,
    outbox: Vec<Vec<u8>>,
    received: Vec<Vec<u8>>,
}

impl Oracle {
    fn new(seed: u8, peer: [u8; 32], psk: Option<[u8; 32]>, loaded: bool) -> Self {
        let private = StaticSecret::from([seed; 32]);
        let limiter = RateLimiter::new(&PublicKey::from(&private), if loaded { 0 } else { u64::MAX });
        let tunn = Tunn::new(private, PublicKey::from(peer), psk, None, 7, Some(Arc::new(limiter)));
        Self { tunn, staged: VecDeque::new(), initiated: None, outbox: Vec::new(), received: Vec::new() }
    }

    fn initiate(&mut self, now: Duration) {
        if self.initiated.is_some_and(|at| now - at < RETRY) {
            return;
        }
        self.initiated = Some(now);
        let mut out = [0; SCRATCH_LEN];
        let TunnResult::WriteToNetwork(message) = self.tunn.format_handshake_initiation(&mut out, true)
        else {
            panic!("no initiation");
        };
        self.outbox.push(message.to_vec());
    }

    fn has_session(&self) -> bool {
        self.tunn.time_since_last_handshake().is_some()
    }

    fn send(&mut self, now: Duration, packet: Vec<u8>) {
        self.staged.push_back(packet);
        self.flush(now);
    }

    fn flush(&mut self, now: Duration) {
        if !self.staged.is_empty() && !self.has_session() {
            return self.initiate(now);
        }
        let mut out = [0; SCRATCH_LEN];
        for packet in self.staged.drain(..) {
            let TunnResult::WriteToNetwork(message) = self.tunn.encapsulate(&packet, &mut out) else {
                panic!("not sealed");
            };
            self.outbox.push(message.to_vec());
        }
    }

    fn receive(&mut self, now: Duration, source: SocketAddr, datagram: &[u8]) {
        let mut out = [0; SCRATCH_LEN];
        match self.tunn.decapsulate(Some(source.ip()), datagram, &mut out) {
            TunnResult::WriteToNetwork(message) => self.outbox.push(message.to_vec()),
            TunnResult::WriteToTunnelV4(packet, _) => self.received.push(packet.to_vec()),
            TunnResult::WriteToTunnelV6(..) => panic!("nobody sends IPv6 here"),
            TunnResult::Done | TunnResult::Err(_) => {}
        }
        if self.has_session() {
            self.flush(now);
        }
    }
}

/// The two ends and the network between them.
struct Run {
    seed: u64,
    now: Duration,
    dice: Dice,
    bad: bool,
    ours: Node,
    tunnel: TunnelId,
    oracle: Oracle,
    oracle_at: SocketAddr,
    in_flight: BTreeMap<(Duration, u64), (bool, Vec<u8>)>,
    flown: u64,
    sent: [Vec<Vec<u8>>; 2],
}

#[test]
fn differential_against_boringtun_on_bad_networks() {
    #[expect(clippy::disallowed_methods, reason = "the number of runs is the caller's choice")]
    let runs = std::env::var("MESHD_DIFFERENTIAL_RUNS").ok().and_then(|runs| runs.parse().ok());
    for seed in 0..runs.unwrap_or(RUNS_DEFAULT) {
        Run::new(seed).whole();
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let psk = dice.percent(50).then_some([9; 32]);
        let mut ours = Node::new(1, START - Duration::from_secs(100));
        ours.queue_depth = if dice.percent(20) { 1_000 } else { 0 };
        let oracle = Oracle::new(2, ours.public, psk, dice.percent(20));
        let oracle_at = address(2);
        let mut spec = Node::spec(PublicKey::from(&StaticSecret::from([2; 32])).to_bytes());
        spec.psk = psk.map(Psk::new);
        let tunnel = ours.add(START, spec, oracle_at);
        let (in_flight, sent) = (BTreeMap::new(), [Vec::new(), Vec::new()]);
        Self { seed, now: START, dice, bad: true, ours, tunnel, oracle, oracle_at, in_flight, flown: 0, sent }
    }

    fn whole(&mut self) {
        let starter = self.dice.percent(50);
        for round in 0..8 {
            // Now and then either end wants new keys though the old ones would do.
            if self.dice.percent(15) {
                self.oracle.initiate(self.now);
            }
            let starts = round == 0 || self.dice.percent(50);
            if round == 0 || self.dice.percent(70) {
                self.send(starter == starts);
            }
            let pause = if self.dice.percent(20) { 130_000 } else { self.dice.roll() % 7_000 };
            self.run_for(MS(pause));
        }
        self.bad = false;
        self.run_for(MS(15_000));
        // What either end still seals with may be dead at the other, whose clock runs differently.
        // Three times, since each end under load answers a first handshake message with a cookie.
        for _ in 0..3 {
            if starter {
                self.ours.engine.want_session(self.now, self.tunnel);
                self.ours.act(self.now);
            } else {
                self.oracle.initiate(self.now);
            }
            self.collect();
            self.run_for(MS(15_000));
        }
        for from_ours in [true, false, true, false] {
            let before = self.arrived(!from_ours).len();
            self.send(from_ours);
            self.run_for(MS(12_000));
            assert!(self.arrived(!from_ours).len() > before, "seed {}: from us {from_ours}", self.seed);
        }
        for at_ours in [true, false] {
            let mut arrived = self.arrived(at_ours);
            let count = arrived.len();
            arrived.sort();
            arrived.dedup();
            assert_eq!(arrived.len(), count, "seed {}: something came twice", self.seed);
            let sent = &self.sent[usize::from(at_ours)];
            assert!(arrived.iter().all(|packet| sent.contains(packet)), "seed {}: forged", self.seed);
        }
    }

    fn arrived(&self, at_ours: bool) -> Vec<Vec<u8>> {
        if at_ours {
            self.ours.received.iter().map(|(_, packet)| packet.clone()).collect()
        } else {
            self.oracle.received.clone()
        }
    }

    /// Sends an IPv4 packet of some length, padded by our side alone.
    fn send(&mut self, from_ours: bool) {
        let len = 24 + self.dice.roll() as usize % 1_300;
        let mut packet = vec![0; len];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        packet[20..24].copy_from_slice(&(self.flown as u32).to_be_bytes());
        self.flown += 1;
        self.sent[usize::from(!from_ours)].push(packet.clone());
        if from_ours {
            self.ours.send(self.now, self.tunnel, &packet);
        } else {
            self.oracle.send(self.now, packet);
        }
        self.collect();
    }

    fn collect(&mut self) {
        let ours = std::mem::take(&mut self.ours.outbox).into_iter().map(|(_, bytes)| (false, bytes));
        let theirs = std::mem::take(&mut self.oracle.outbox).into_iter().map(|bytes| (true, bytes));
        for (to_ours, bytes) in ours.chain(theirs).collect::<Vec<_>>() {
            let (loss, double, delay) = if self.bad { (30, 20, 600) } else { (0, 0, 1) };
            let copies = u64::from(!self.dice.percent(loss)) + u64::from(self.dice.percent(double));
            for _ in 0..copies {
                self.flown += 1;
                let at = self.now + MS(1 + self.dice.roll() % delay);
                self.in_flight.insert((at, self.flown), (to_ours, bytes.clone()));
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
            let waits = !self.oracle.staged.is_empty() || !self.oracle.has_session();
            let retry = self.oracle.initiated.filter(|_| waits).map(|at| at + RETRY);
            let next = arrival.into_iter().chain(self.ours.engine.next_timeout()).chain(retry).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            while let Some(entry) = self.in_flight.first_entry().filter(|entry| entry.key().0 <= self.now) {
                match entry.remove() {
                    (true, bytes) => self.ours.receive(self.now, self.oracle_at, &bytes),
                    (false, bytes) => self.oracle.receive(self.now, self.ours.address, &bytes),
                }
            }
            self.ours.on_timeout(self.now);
            if retry.is_some_and(|at| at <= self.now) {
                self.oracle.initiate(self.now);
            }
            self.collect();
        }
        self.now = end;
    }
}
