//! The handshakes and timers of all tunnels of a node.

mod action;
mod config;
mod gate;
mod inbound;
mod outbound;
mod timeout;
mod tunnel;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

pub use action::{Action, Precedence, To, TunnelEvent, TunnelStatus};
pub use config::{EngineConfig, Psk, TunnelSpec, Via};

use crate::engine::gate::Gate;
use crate::engine::tunnel::{JITTER_MAX, REKEY_TIMEOUT, Session, Tunnel};
use crate::index::Indices;
use crate::key::LocalKey;
use crate::mac::{Mac1, cookie_key};
use crate::rng::Rng;
use crate::tai64n::StampClock;
use crate::timer::{Pacer, Timers};
use crate::{KeyId, Refused, Suite, Tai64n, TunnelId};

/// Tunnels of one engine: ten times the peers of a large mesh, in all epochs of a rotation.
const TUNNELS_MAX: usize = 1 << 17;
/// Static keys of one engine. Every initiation is tried against each of them, in each suite.
const KEYS_MAX: usize = 32;
/// Tunnels looked at in one call of [`Engine::on_timeout`], so that a message never waits for ten thousand of them.
const TIMEOUTS_MAX: usize = 256;
/// After a start, first initiations are spread over this time …
const START_SPREAD_MAX: Duration = Duration::from_secs(2);
/// … or less: by this for each tunnel, since a few peers make no storm.
const START_SPREAD_PER_TUNNEL: Duration = Duration::from_millis(1);

/// Runs the WireGuard handshake for many tunnels over any number of static keys.
///
/// It does no input or output, reads no clock and draws no randomness but from its seed. Feed it with the methods
/// that take `now`, then take what it wants done from [`Self::poll`] until there is nothing, and come back at
/// [`Self::next_timeout`]. Packets do not pass through it: sessions, once installed, are used by data threads on
/// their own, which call [`Self::want_session`], [`Self::stir`] and [`Self::confirmed`] when a session or the stamps
/// in [`crate::Activity`] tell them to.
pub struct Engine {
    config: EngineConfig,
    rng: Rng,
    /// The latest time anybody told.
    now: Duration,
    clock: StampClock,
    keys: BTreeMap<KeyId, Key>,
    tunnels: BTreeMap<TunnelId, Box<Tunnel>>,
    peers: BTreeMap<(KeyId, [u8; 32]), Peer>,
    next_tunnel: u64,
    indices: Indices,
    timers: Timers,
    pacer: Pacer,
    gate: Gate,
    actions: VecDeque<Action>,
}

/// Says why a key was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddKeyError {
    /// [`KeyId`]s name one key for good.
    #[error("key id is taken")]
    Taken,
    /// Too many static keys.
    #[error("more than {KEYS_MAX} static keys")]
    TooMany,
}

/// Says why a tunnel was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddTunnelError {
    /// No static key has this id.
    #[error("unknown static key")]
    UnknownKey,
    /// The peer's key is this node's own.
    #[error("peer has the static key of this node")]
    OwnKey,
    /// Too many tunnels.
    #[error("more than {TUNNELS_MAX} tunnels")]
    TooMany,
}

/// A static key and what is derived from its public half.
struct Key {
    local: LocalKey,
    mac1: [(Suite, Mac1); Suite::ALL.len()],
    cookie_key: [u8; 32],
}

/// The holder of a static key, over all tunnels with it.
#[derive(Default)]
struct Peer {
    last_stamp: Option<Tai64n>,
    accepted_at: Option<Duration>,
    /// The newest last.
    tunnels: Vec<TunnelId>,
}

impl Engine {
    /// An engine without keys and tunnels.
    pub fn new(config: EngineConfig, seed: [u8; 32]) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            now: config.started,
            clock: StampClock::new(config.started, config.clock_floor),
            keys: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            peers: BTreeMap::new(),
            next_tunnel: 0,
            indices: Indices::new(config.shards),
            timers: Timers::default(),
            pacer: Pacer::new(config.initiations_per_s_max),
            gate: Gate::new(config.started, config.queue_depth_loaded, &mut rng),
            actions: VecDeque::new(),
            rng,
            config,
        }
    }

    /// Takes a static key; initiations to it are answered from now on.
    pub fn add_key(&mut self, id: KeyId, local: LocalKey) -> Result<(), AddKeyError> {
        if self.keys.contains_key(&id) {
            return Err(AddKeyError::Taken);
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(AddKeyError::TooMany);
        }
        let public = local.public();
        let mac1 = Suite::ALL.map(|suite| (suite, Mac1::new(suite, &public)));
        self.keys.insert(id, Key { local, mac1, cookie_key: cookie_key(&public) });
        Ok(())
    }

    /// Forgets a static key and retires its tunnels.
    pub fn remove_key(&mut self, id: KeyId) {
        let peers = self.peers.range((id, [0; 32])..=(id, [u8::MAX; 32]));
        let tunnels: Vec<TunnelId> = peers.flat_map(|(_, peer)| peer.tunnels.iter().copied()).collect();
        for tunnel in tunnels {
            self.retire(tunnel);
        }
        self.keys.remove(&id);
    }

    /// Takes a tunnel. It rests until packets or the peer want it.
    pub fn add(&mut self, now: Duration, spec: TunnelSpec) -> Result<TunnelId, AddTunnelError> {
        self.tell(now);
        let key = self.keys.get(&spec.key).ok_or(AddTunnelError::UnknownKey)?;
        if key.local.public() == spec.peer_key {
            return Err(AddTunnelError::OwnKey);
        }
        if self.tunnels.len() >= TUNNELS_MAX {
            return Err(AddTunnelError::TooMany);
        }
        let id = TunnelId(self.next_tunnel);
        self.next_tunnel += 1;
        self.peers.entry((spec.key, spec.peer_key)).or_default().tunnels.push(id);
        let jitter = self.rng.up_to(JITTER_MAX);
        self.tunnels.insert(id, Box::new(Tunnel::new(spec, jitter)));
        self.set_timer(id);
        Ok(id)
    }

    /// Drops a tunnel with all its sessions.
    pub fn retire(&mut self, id: TunnelId) {
        let Some(mut tunnel) = self.tunnels.remove(&id) else { return };
        self.timers.move_to(id, tunnel.timer, None);
        self.wipe(id, &mut tunnel);
        if let Some(handshake) = tunnel.handshake.take() {
            self.indices.release(handshake.index);
        }
        let peer = (tunnel.spec.key, tunnel.spec.peer_key);
        if let Some(known) = self.peers.get_mut(&peer) {
            known.tunnels.retain(|other| *other != id);
            if known.tunnels.is_empty() {
                self.peers.remove(&peer);
            }
        }
    }

    /// Starts a handshake, unless one runs or has just ended. Asked for by whoever has a packet and no session for
    /// it, or a session that wants renewal.
    pub fn want_session(&mut self, now: Duration, id: TunnelId) {
        self.tell(now);
        let Some(tunnel) = self.tunnels.get(&id) else { return };
        // Several threads ask at once; the last of them may ask when it has been done already.
        let fresh =
            tunnel.usable(now).is_some_and(|session| now.saturating_sub(session.born) < REKEY_TIMEOUT);
        if !fresh {
            self.begin(now, id);
            self.look(now, id);
        }
    }

    /// Says whether this end calls: starts handshakes of this tunnel and keeps it alive, as it does at first. If not, it
    /// answers the peer's handshakes, and what sessions there are go on until they are too old.
    pub fn set_calling(&mut self, now: Duration, id: TunnelId, is_calling: bool) {
        self.tell(now);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        tunnel.is_calling = is_calling;
        if !is_calling {
            self.end_attempt(id);
        }
        self.look(now, id);
    }

    /// Notes that the peer may be at a place that no initiation has gone to: the last one goes there now, or a new one
    /// if none can be answered any more. An attempt that runs would else let seconds pass before it looks there.
    ///
    /// Places may come and go as fast as somebody makes them up: they bring few initiations, and each can be answered.
    pub fn path_found(&mut self, now: Duration, id: TunnelId) {
        self.tell(now);
        self.begin(now, id);
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        if let Some(attempt) = &mut tunnel.attempt {
            attempt.try_place(now, tunnel.handshake.is_some(), tunnel.handshake_sent);
        }
        self.look(now, id);
    }

    /// Looks at the stamps of a tunnel, because [`crate::Activity`] said so.
    pub fn stir(&mut self, now: Duration, id: TunnelId) {
        self.tell(now);
        self.look(now, id);
    }

    /// Notes that the first authentic message on a session has come. The peer holds its keys: it may be used to send.
    pub fn confirmed(&mut self, now: Duration, index: u32) {
        self.tell(now);
        let Some(id) = self.indices.owner(index) else { return };
        let Some(tunnel) = self.tunnels.get_mut(&id) else { return };
        let Some(gone) = tunnel.confirm(index) else { return };
        if let Some(current) = &tunnel.current {
            let (tx, via) = (current.tx.clone(), current.via);
            self.actions.push_back(Action::InstallTx { tunnel: id, tx });
            self.actions.push_back(Action::Event(TunnelEvent::Established { tunnel: id, via }));
        }
        self.end_attempt(id);
        self.forget(gone);
        self.look(now, id);
    }

    /// Sends an empty message now, or starts a handshake if there is no session to send it on.
    pub fn keepalive(&mut self, now: Duration, id: TunnelId) {
        self.tell(now);
        if !self.send_empty(now, id) {
            self.begin(now, id);
        }
        self.look(now, id);
    }

    /// The next thing to do; until there is none.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How a tunnel is doing, at the latest time the engine was told.
    pub fn status(&self, id: TunnelId) -> Option<TunnelStatus> {
        self.tunnels.get(&id).map(|tunnel| tunnel.status(self.now))
    }

    /// What a tunnel was added with.
    pub fn spec(&self, id: TunnelId) -> Option<&TunnelSpec> {
        self.tunnels.get(&id).map(|tunnel| &tunnel.spec)
    }

    /// The last timestamp an initiation carried. A later run of this node must start above it.
    pub fn clock(&self) -> Tai64n {
        self.clock.last()
    }

    /// Receiver indices in use.
    pub fn indices_len(&self) -> usize {
        self.indices.len()
    }

    fn tell(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn refuse(&mut self, refused: Refused) {
        self.actions.push_back(Action::Refused(refused));
    }

    /// Releases the indices of sessions that are gone for good.
    fn forget(&mut self, gone: impl IntoIterator<Item = Session>) {
        for session in gone {
            self.indices.release(session.index);
            self.actions.push_back(Action::RetireIndex { index: session.index });
        }
    }

    /// Drops all sessions of a tunnel. True if there was one that sealed.
    fn wipe(&mut self, id: TunnelId, tunnel: &mut Tunnel) -> bool {
        let sealed = tunnel.current.is_some();
        if sealed {
            self.actions.push_back(Action::DropTx { tunnel: id });
        }
        let current = tunnel.current.take();
        self.forget(current.into_iter().chain(tunnel.next.drain()).chain(tunnel.previous.drain()));
        sealed
    }
}

impl Key {
    fn mac1(&self, suite: Suite) -> &Mac1 {
        let [(_, wg), (_, aes)] = &self.mac1;
        match suite {
            Suite::Wg => wg,
            Suite::Aes => aes,
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("config", &self.config)
            .field("keys", &self.keys.len())
            .field("tunnels", &self.tunnels.len())
            .field("indices", &self.indices.len())
            .finish_non_exhaustive()
    }
}
