//! What handshakes cost: `cargo bench -p meshd-tunnel --bench engine`.
//!
//! One core, one engine that is measured, and another that only gives it work.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a measurement reads clocks and its own memory"
)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshd_tunnel::{
    Action, Engine, EngineConfig, KeyId, LocalKey, PeerId, RxSession, Suite, Tai64n, TunnelId, TunnelSpec,
    TxSession, Via,
};
use zeroize::Zeroizing;

const KEY: KeyId = KeyId(0);
const HANDSHAKES: u32 = 5_000;
const PEERS: u32 = 10_000;
const REJECTS: u32 = 1_000_000;
/// Between two handshakes of one tunnel, so that no rate limit is in the way.
const STEP: Duration = Duration::from_secs(6);
const START: Duration = Duration::from_secs(1_000);

struct Measured {
    engine: Engine,
    sent: VecDeque<Vec<u8>>,
    rx: Vec<Arc<RxSession>>,
    tx: Vec<Arc<TxSession>>,
    spent: Duration,
}

fn main() {
    for suite in Suite::ALL {
        handshakes(suite);
    }
    rejects();
    cookies();
    memory();
}

impl Measured {
    fn new(key: &LocalKey, queue_depth_loaded: usize) -> Self {
        let config = EngineConfig {
            shards: 1,
            initiations_per_s_max: 1_000_000,
            queue_depth_loaded,
            started: Duration::ZERO,
            clock_floor: Tai64n::from_unix(Duration::from_secs(1_700_000_000)),
        };
        let mut engine = Engine::new(config, [7; 32]);
        engine.add_key(KEY, key.clone()).expect("a first key");
        let (sent, rx, tx) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { engine, sent, rx, tx, spent: Duration::ZERO }
    }

    fn add(&mut self, peer: &LocalKey, suite: Suite) -> TunnelId {
        self.add_public(peer.public(), suite)
    }

    fn add_public(&mut self, peer_key: [u8; 32], suite: Suite) -> TunnelId {
        let (my_epoch, peer_epoch, psk, keepalive) = (0, 0, None, None);
        let spec =
            TunnelSpec { key: KEY, peer: PeerId(0), peer_key, my_epoch, peer_epoch, suite, psk, keepalive };
        self.engine.add(START, spec).expect("a tunnel")
    }

    /// Does something with the engine and counts its time.
    fn time(&mut self, work: impl FnOnce(&mut Engine)) {
        let start = Instant::now();
        work(&mut self.engine);
        while let Some(action) = self.engine.poll() {
            match action {
                Action::Send { message, .. } => self.sent.push_back(message.as_ref().to_vec()),
                Action::InstallRx { rx, .. } => self.rx.push(rx),
                Action::InstallTx { tx, .. } => self.tx.push(tx),
                Action::RetireIndex { .. }
                | Action::DropTx { .. }
                | Action::Event(_)
                | Action::Refused(_) => {}
            }
        }
        self.spent += start.elapsed();
    }

    fn control(&mut self, now: Duration, message: &[u8], queue_depth: usize) {
        self.time(|engine| engine.on_control(now, via(), message, queue_depth));
    }

    /// Takes a data message as a data thread does.
    fn open(&mut self, now: Duration, message: &mut [u8]) {
        let rx = self.rx.last().expect("a session").clone();
        let opened = rx.open(message).expect("it verifies");
        rx.accept(&[opened.counter], &mut [false]);
        if rx.confirm_first_use() {
            self.time(|engine| engine.confirmed(now, rx.index()));
        }
    }
}

fn via() -> Via {
    Via { path: 0, source: SocketAddr::from(([192, 0, 2, 1], 51_820)) }
}

fn key(number: u32) -> LocalKey {
    let mut private = Zeroizing::new([0x40; 32]);
    private[4..8].copy_from_slice(&number.to_le_bytes());
    LocalKey::from_bytes(&private).expect("a private key")
}

fn report(what: &str, count: u32, spent: Duration) {
    let each = spent / count;
    println!("{what}: {:.0}/s, {each:?} each", f64::from(count) / spent.as_secs_f64());
}

fn handshakes(suite: Suite) {
    let (left, right) = (key(1), key(2));
    let (mut initiator, mut responder) = (Measured::new(&left, 100), Measured::new(&right, 100));
    let tunnel = initiator.add(&right, suite);
    responder.add(&left, suite);
    let mut now = START;
    for _ in 0..HANDSHAKES {
        now += STEP;
        initiator.time(|engine| engine.want_session(now, tunnel));
        let initiation = initiator.sent.pop_front().expect("an initiation");
        responder.control(now, &initiation, 0);
        let response = responder.sent.pop_front().expect("a response");
        initiator.control(now, &response, 0);
        let mut first = initiator.sent.pop_front().expect("a keepalive");
        responder.open(now, &mut first);
        for end in [&mut initiator, &mut responder] {
            end.rx.clear();
            end.tx.clear();
        }
    }
    report(&format!("{suite:?}: initiate and finish"), HANDSHAKES, initiator.spent);
    report(&format!("{suite:?}: respond"), HANDSHAKES, responder.spent);
}

fn rejects() {
    let mut victim = Measured::new(&key(1), 100);
    let mut garbage = [0x5a; 148];
    garbage[..4].copy_from_slice(&[1, 0, 0, 0]);
    victim.time(|engine| {
        for _ in 0..REJECTS {
            engine.on_control(START, via(), &garbage, 0);
            while engine.poll().is_some() {}
        }
    });
    report("reject by the first MAC", REJECTS, victim.spent);
}

fn cookies() {
    let (left, right) = (key(1), key(2));
    let mut stranger = Measured::new(&left, 100);
    let tunnel = stranger.add(&right, Suite::Wg);
    stranger.time(|engine| engine.want_session(START, tunnel));
    let initiation = stranger.sent.pop_front().expect("an initiation");
    let mut victim = Measured::new(&right, 1);
    victim.time(|engine| {
        for _ in 0..REJECTS / 4 {
            engine.on_control(START, via(), &initiation, 1);
            while engine.poll().is_some() {}
        }
    });
    report("answer with a cookie under load", REJECTS / 4, victim.spent);
}

fn memory() {
    let local = key(0);
    let before = resident_bytes();
    let mut engine = Measured::new(&local, usize::MAX);
    for peer in 1..=PEERS {
        engine.add(&key(peer), Suite::Wg);
    }
    let idle = resident_bytes();
    for peer in 1..=PEERS {
        let mut remote = Measured::new(&key(peer), 100);
        let tunnel = remote.add(&local, Suite::Wg);
        remote.time(|engine| engine.want_session(START, tunnel));
        engine.control(START, &remote.sent.pop_front().expect("an initiation"), 0);
        remote.control(START, &engine.sent.pop_front().expect("a response"), 0);
        engine.open(START, &mut remote.sent.pop_front().expect("a keepalive"));
    }
    let active = resident_bytes();
    let per_peer = |from: usize, to: usize| to.saturating_sub(from) / PEERS as usize;
    println!(
        "idle peer: {} B; active peer, one session: {} B",
        per_peer(before, idle),
        per_peer(before, active)
    );
    println!("{} sessions seal, {} open", engine.tx.len(), engine.rx.len());
}

/// Pages this process has in memory, in bytes.
fn resident_bytes() -> usize {
    const PAGE: usize = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number of pages") * PAGE
}
