//! Handshake messages with valid first MACs, which anybody can make: no session comes of one that a peer did not
//! write, nothing grows, and no answer is longer than what it answers.
#![no_main]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use libfuzzer_sys::fuzz_target;
use meshd_fuzz::edit::Script;
use meshd_fuzz::seed;
use meshd_tunnel::{
    Action, Engine, EngineConfig, KeyId, LocalKey, PeerId, Suite, Tai64n, TunnelEvent, TunnelId, TunnelSpec,
    Via,
};
use zeroize::Zeroizing;

const KEY: KeyId = KeyId(0);
const START: Duration = Duration::from_secs(1_000);
/// Past every rate limit and retry.
const STEP: Duration = Duration::from_secs(6);
const LOADED: usize = 10;
const COOKIE_REPLY: u8 = 3;
const INITIATION_LEN: usize = 148;
const RESPONSE_LEN: usize = 92;
/// Where the Noise messages lie: only they are authenticated by more than a MAC that anybody can make.
const INITIATION_NOISE: std::ops::Range<usize> = 8..116;
const RESPONSE_NOISE: std::ops::Range<usize> = 12..60;
/// A tunnel has one handshake, a session that seals, two that the peer has not used yet, and three it may still use.
const INDICES_MAX: usize = 7;

const RAW: usize = 0;
const WITH_MAC: usize = 1;
const EDITED_INITIATION: usize = 2;
const EDITED_RESPONSE: usize = 3;
const EDITED_COOKIE: usize = 4;
const CHOICES: usize = 5;
/// Doubles the choices: the same under load.
const UNDER_LOAD: usize = CHOICES;

thread_local! {
    static PAIR: RefCell<Pair> = RefCell::new(Pair::new());
}

/// The engine under test and an honest peer of it.
struct Pair {
    now: Duration,
    ours: End,
    peer: End,
}

struct End {
    engine: Engine,
    tunnel: TunnelId,
    public: [u8; 32],
}

/// What one message led to.
#[derive(Default)]
struct Outcome {
    sent: Vec<Vec<u8>>,
    installed: bool,
    established: bool,
}

impl End {
    fn new(local: u8, peer: u8) -> Self {
        let key = |seed| LocalKey::from_bytes(&Zeroizing::new([seed; 32])).expect("a private key");
        let config = EngineConfig {
            shards: 4,
            initiations_per_s_max: 1_000_000,
            queue_depth_loaded: LOADED,
            started: Duration::ZERO,
            clock_floor: Tai64n::from_unix(Duration::from_secs(1_700_000_000)),
        };
        let mut engine = Engine::new(config, [local; 32]);
        engine.add_key(KEY, key(local)).expect("a first key");
        let spec = TunnelSpec {
            key: KEY,
            peer: PeerId(0),
            peer_key: key(peer).public(),
            my_epoch: 0,
            peer_epoch: 0,
            suite: Suite::Wg,
            psk: None,
            keepalive: None,
        };
        let tunnel = engine.add(Duration::ZERO, spec).expect("a tunnel");
        Self { engine, tunnel, public: key(local).public() }
    }

    fn initiate(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.engine.want_session(now, self.tunnel);
        let sent = self.outcome().sent;
        sent.into_iter().find(|message| message.first() == Some(&1))
    }

    fn receive(&mut self, now: Duration, message: &[u8], queue_depth: usize) -> Outcome {
        let via = Via { path: 0, source: SocketAddr::from(([192, 0, 2, 1], 1)) };
        self.engine.on_control(now, via, message, queue_depth);
        self.outcome()
    }

    fn outcome(&mut self) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(action) = self.engine.poll() {
            match action {
                Action::Send { message, .. } => outcome.sent.push(message.as_ref().to_vec()),
                Action::InstallRx { .. } | Action::InstallTx { .. } => outcome.installed = true,
                Action::Event(TunnelEvent::Established { .. }) => outcome.established = true,
                Action::Event(TunnelEvent::GaveUp { .. } | TunnelEvent::Expired { .. })
                | Action::RetireIndex { .. }
                | Action::DropTx { .. }
                | Action::Refused(_) => {}
            }
        }
        outcome
    }
}

impl Pair {
    fn new() -> Self {
        Self { now: START, ours: End::new(1, 2), peer: End::new(2, 1) }
    }

    fn check(&mut self, choice: usize, rest: &[u8]) {
        self.now += STEP;
        self.ours.engine.on_timeout(self.now);
        self.peer.engine.on_timeout(self.now);
        let (_, _) = (self.ours.outcome(), self.peer.outcome());
        let depth = if choice >= UNDER_LOAD { LOADED } else { 0 };
        match choice % CHOICES {
            RAW => self.stranger(rest.to_vec(), depth),
            WITH_MAC => self.stranger(with_mac(self.ours.public, rest), depth),
            EDITED_INITIATION => {
                let Some(honest) = self.peer.initiate(self.now) else { return };
                self.edited(&honest, rest, INITIATION_NOISE, depth);
            }
            EDITED_RESPONSE => {
                let Some(initiation) = self.ours.initiate(self.now) else { return };
                let Some(honest) = self.peer.receive(self.now, &initiation, 0).sent.pop() else { return };
                self.edited(&honest, rest, RESPONSE_NOISE, depth);
            }
            _ => {
                let Some(initiation) = self.ours.initiate(self.now) else { return };
                let Some(mut cookie) = self.peer.receive(self.now, &initiation, LOADED).sent.pop() else {
                    return;
                };
                if cookie[0] != COOKIE_REPLY {
                    // The last cookie is still good.
                    return;
                }
                Script::new(rest).edit(&mut cookie);
                self.stranger(cookie, depth);
            }
        }
    }

    fn edited(&mut self, honest: &[u8], script: &[u8], noise: std::ops::Range<usize>, depth: usize) {
        let mut edited = honest.to_vec();
        Script::new(script).edit(&mut edited);
        let edited = with_mac(self.ours.public, &edited);
        if edited.len() == honest.len() && edited[noise.clone()] == honest[noise] {
            // Still the peer's handshake: the indices are no part of what it has sealed.
            let _honest = self.ours.receive(self.now, &edited, depth);
            return;
        }
        self.stranger(edited, depth);
    }

    /// A message that no peer has written.
    fn stranger(&mut self, message: Vec<u8>, depth: usize) {
        let outcome = self.ours.receive(self.now, &message, depth);
        assert!(!outcome.installed && !outcome.established, "a session with nobody");
        let answered: usize = outcome.sent.iter().map(Vec::len).sum();
        assert!(answered <= message.len(), "{answered} bytes in answer to {}", message.len());
        assert!(self.ours.engine.indices_len() <= INDICES_MAX);
    }
}

/// Gives bytes the length of a handshake message and its valid first MAC.
fn with_mac(public: [u8; 32], bytes: &[u8]) -> Vec<u8> {
    let len = if bytes.first().is_some_and(|kind| *kind == 2) { RESPONSE_LEN } else { INITIATION_LEN };
    let mut message = bytes.to_vec();
    message.resize(len, 0);
    let key = Blake2s256::new().chain_update(b"mac1----").chain_update(public).finalize();
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key).expect("a key of 32 bytes");
    mac.update(&message[..len - 32]);
    message[len - 32..len - 16].copy_from_slice(&mac.finalize().into_bytes());
    message
}

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    PAIR.with_borrow_mut(|pair| pair.check(usize::from(*choice) % (2 * CHOICES), rest));
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for load in [0, UNDER_LOAD] {
        for (kind, len) in [(1, 148), (2, 92), (3, 64), (4, 32)] {
            let mut message = vec![0; len];
            message[0] = kind;
            seeds.push(seed::chosen(load + RAW, &message));
            seeds.push(seed::chosen(load + WITH_MAC, &message));
        }
        for at in [0, 4, 9, 20, 60, 100, 130] {
            for choice in [EDITED_INITIATION, EDITED_RESPONSE, EDITED_COOKIE] {
                seeds.push(seed::chosen(load + choice, &[0, 0, at, 1]));
            }
        }
    }
    seeds
}
