//! One node of a test world: an engine, and what data threads would do around it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use blake2::digest::{KeyInit, Mac, consts::U16};
use blake2::{Blake2s256, Blake2sMac, Digest};
use meshd_tunnel::{
    Action, Engine, EngineConfig, KeyId, LocalKey, OVERHEAD, PeerId, Psk, Refused, RxSession, Suite, Tai64n,
    To, TunnelEvent, TunnelId, TunnelSpec, TxSession, Via,
};
use zeroize::Zeroizing;

/// Packets kept while there is no session.
const STAGED_MAX: usize = 64;
pub(crate) const KEY: KeyId = KeyId(1);

pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) public: [u8; 32],
    pub(crate) rx: BTreeMap<u32, Arc<RxSession>>,
    pub(crate) tx: BTreeMap<TunnelId, Arc<TxSession>>,
    pub(crate) endpoints: BTreeMap<TunnelId, SocketAddr>,
    pub(crate) staged: BTreeMap<TunnelId, VecDeque<Vec<u8>>>,
    pub(crate) received: Vec<(TunnelId, Vec<u8>)>,
    pub(crate) events: Vec<(Duration, TunnelEvent)>,
    pub(crate) refused: Vec<Refused>,
    /// Handshake messages that claim to wait behind the one that is handled.
    pub(crate) queue_depth: usize,
    /// What leaves, with its destination.
    pub(crate) outbox: Vec<(SocketAddr, Vec<u8>)>,
}

pub(crate) fn address(host: u32) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + host)), 51_820)
}

pub(crate) fn key(seed: u8) -> LocalKey {
    LocalKey::from_bytes(&Zeroizing::new([seed; 32])).expect("a private key")
}

pub(crate) fn config(now: Duration) -> EngineConfig {
    EngineConfig {
        shards: 1,
        initiations_per_s_max: 1000,
        queue_depth_loaded: 100,
        started: now,
        clock_floor: Tai64n::from_unix(Duration::from_secs(1_700_000_000) + now),
    }
}

/// Puts a valid first MAC on a message, as anybody can who knows the receiver's public key.
pub(crate) fn with_mac1(receiver: [u8; 32], message: &mut [u8]) {
    let key = Blake2s256::new().chain_update(b"mac1----").chain_update(receiver).finalize();
    let mut mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key).expect("a key");
    let at = message.len() - 32;
    mac.update(&message[..at]);
    message[at..at + 16].copy_from_slice(&mac.finalize().into_bytes());
}

impl Node {
    pub(crate) fn new(host: u8, now: Duration) -> Self {
        Self::with_config(host, config(now))
    }

    pub(crate) fn with_config(host: u8, config: EngineConfig) -> Self {
        let local = key(host);
        let public = local.public();
        let mut seed = [host; 32];
        seed[0] = config.started.as_secs() as u8;
        let mut engine = Engine::new(config, seed);
        engine.add_key(KEY, local).expect("a first key");
        Self {
            engine,
            address: address(host.into()),
            public,
            rx: BTreeMap::new(),
            tx: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            staged: BTreeMap::new(),
            received: Vec::new(),
            events: Vec::new(),
            refused: Vec::new(),
            queue_depth: 0,
            outbox: Vec::new(),
        }
    }

    pub(crate) fn spec(peer_key: [u8; 32]) -> TunnelSpec {
        TunnelSpec {
            key: KEY,
            peer: PeerId(1),
            peer_key,
            my_epoch: 0,
            peer_epoch: 0,
            suite: Suite::Wg,
            psk: None::<Psk>,
            keepalive: None,
        }
    }

    pub(crate) fn add(&mut self, now: Duration, spec: TunnelSpec, endpoint: SocketAddr) -> TunnelId {
        let id = self.engine.add(now, spec).expect("a tunnel");
        self.endpoints.insert(id, endpoint);
        id
    }

    pub(crate) fn retire(&mut self, now: Duration, id: TunnelId) {
        self.engine.retire(id);
        self.act(now);
    }

    /// What a sending thread does with one packet.
    pub(crate) fn send(&mut self, now: Duration, id: TunnelId, packet: &[u8]) {
        if !self.seal(now, id, packet) {
            let staged = self.staged.entry(id).or_default();
            if staged.len() == STAGED_MAX {
                staged.pop_front();
            }
            staged.push_back(packet.to_vec());
            self.engine.want_session(now, id);
        }
        self.act(now);
    }

    fn seal(&mut self, now: Duration, id: TunnelId, packet: &[u8]) -> bool {
        let Some(tx) = self.tx.get(&id).cloned() else { return false };
        let Ok(mut counters) = tx.reserve(now, 1) else { return false };
        let mut message = vec![0; packet.len() + OVERHEAD];
        counters.seal(packet, 0, &mut message).expect("sealed");
        self.outbox.push((self.endpoints[&id], message));
        if tx.activity().note_sent(now, !packet.is_empty()) {
            self.engine.stir(now, id);
        }
        if tx.wants_renewal(now) {
            self.engine.want_session(now, id);
        }
        true
    }

    /// What a receiving thread does with one datagram, and the control thread with the others.
    pub(crate) fn receive(&mut self, now: Duration, source: SocketAddr, datagram: &[u8]) {
        if datagram.first() == Some(&4) {
            if let Err(refused) = self.open(now, datagram) {
                self.refused.push(refused);
            }
        } else {
            self.engine.on_control(now, Via { path: 0, source }, datagram, self.queue_depth);
        }
        self.act(now);
    }

    fn open(&mut self, now: Duration, datagram: &[u8]) -> Result<(), Refused> {
        let index = datagram.get(4..8).and_then(|index| index.try_into().ok()).ok_or(Refused::TooShort)?;
        let rx = self.rx.get(&u32::from_le_bytes(index)).cloned().ok_or(Refused::UnknownIndex)?;
        if !rx.is_usable(now) {
            return Err(Refused::UnknownIndex);
        }
        let mut datagram = datagram.to_vec();
        let opened = rx.open(&mut datagram)?;
        let mut fresh = [false];
        rx.accept(&[opened.counter], &mut fresh);
        if !fresh[0] {
            return Err(Refused::Replay);
        }
        if rx.confirm_first_use() {
            self.engine.confirmed(now, rx.index());
        }
        let packet = datagram[opened.plaintext].to_vec();
        if rx.activity().note_received(now, !packet.is_empty()) {
            self.engine.stir(now, rx.tunnel());
        }
        if rx.wants_renewal(now) {
            self.engine.want_session(now, rx.tunnel());
        }
        if !packet.is_empty() {
            self.received.push((rx.tunnel(), packet));
        }
        Ok(())
    }

    pub(crate) fn on_timeout(&mut self, now: Duration) {
        self.engine.on_timeout(now);
        self.act(now);
    }

    /// Does what the engine wants.
    pub(crate) fn act(&mut self, now: Duration) {
        while let Some(action) = self.engine.poll() {
            match action {
                Action::Send { tunnel, to, message } => {
                    let to = match (to, tunnel) {
                        (To::Reply(via), _) => via.source,
                        (To::Chosen, Some(id)) => self.endpoints[&id],
                        (To::Chosen, None) => panic!("a message to nobody"),
                    };
                    self.outbox.push((to, message.as_ref().to_vec()));
                }
                Action::InstallRx { tunnel: _, rx } => {
                    assert!(self.rx.insert(rx.index(), rx).is_none(), "an index in use");
                }
                Action::InstallTx { tunnel, tx } => {
                    self.tx.insert(tunnel, tx);
                    for packet in self.staged.remove(&tunnel).unwrap_or_default() {
                        self.seal(now, tunnel, &packet);
                    }
                }
                Action::RetireIndex { index } => {
                    assert!(self.rx.remove(&index).is_some(), "an index of no session");
                }
                Action::DropTx { tunnel } => {
                    assert!(self.tx.remove(&tunnel).is_some(), "no session to drop");
                }
                Action::Event(event) => self.events.push((now, event)),
                Action::Refused(refused) => self.refused.push(refused),
            }
        }
    }
}
