//! All tunnels of this node, and the thread `meshd-engine` that owns them.
//!
//! The engine decides about handshakes and sessions and knows no addresses; this side knows where peers are,
//! carries out what the engine asks for, and publishes the result to the data threads as a [`Way`] for each
//! peer. Every deadline stands in a queue; nothing looks at all peers.

mod backlog;
mod epochs;
mod paths;
mod peer_tunnels;
mod roster;
mod track;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use ipnet::IpNet;
use meshd_tunnel::{Action, Engine, KEEPALIVE_LEN, Message, PeerId, To, TunnelEvent, TunnelId, Via};

use self::backlog::Backlog;
use self::track::Tracked;
use super::clock;
use super::counters::Reason;
use super::events::Event;
use super::keys::{OwnKeys, TunnelUse};
use super::notes::{Note, Stray, Wants};
use super::peer::Peer;
use super::shared::Shared;
use super::train::TrainSender;
use super::{MTU_MIN, PeerConfig};
use crate::io::{DatagramSocket, ReceiveMeta};

/// Backlog from which on initiators must prove their address: a tenth of a second of handshakes.
pub(super) const BACKLOG_LOADED: usize = 512;
/// Time spent on control messages before the socket and deadlines are looked at again. Five handshakes, or hundreds of
/// messages that are refused: then looking costs next to nothing.
const STEP_TIME_MAX: Duration = Duration::from_millis(1);
/// Calls that receive before anything is handled. Reading is so much cheaper than handling that whatever the link
/// brings is sorted here rather than lost in the kernel, which knows no precedence.
const READS_PER_STEP: usize = 32;
/// Notes handled before deadlines are looked at again.
const NOTES_PER_STEP: usize = 256;
/// Datagrams received with one call, and the room for each: what an Ethernet carries, which is longer than any control
/// message and than what QUIC sends before it knows the path.
const PARTS: usize = 64;
const PART_LEN: usize = 1536;

/// What the control plane asks of the thread.
#[derive(Debug)]
pub(super) enum Command {
    /// Replaces the peers; answered when it is done.
    SetPeers(Vec<PeerConfig>, SyncSender<()>),
    /// Replaces what this node has for its endpoints; answered when it is done.
    SetOwn(Vec<IpNet>, SyncSender<()>),
    /// Replaces this node's keys; answered when it is done.
    SetKeys(OwnKeys, SyncSender<()>),
    /// Tells of all tunnels.
    Uses(SyncSender<Vec<TunnelUse>>),
    /// Sends every connected peer an empty message.
    Greet,
}

/// Everything the thread owns.
pub(super) struct Tunnels<'a> {
    shared: &'a Shared,
    engine: Engine,
    keys: OwnKeys,
    tracked: HashMap<PeerId, Tracked>,
    by_tunnel: HashMap<TunnelId, PeerId>,
    /// The next deadline of each peer.
    deadlines: BTreeSet<(Duration, PeerId)>,
    peers_made: u32,
    /// How much later than usual the side with the greater key calls: nothing before the first peers are known.
    second_delay: Duration,
    /// Addresses and prefixes that this node has for its endpoints.
    own: Vec<IpNet>,
    /// What the peers claim, in the order in which they were given.
    claims: Vec<(IpNet, Arc<Peer>)>,
    commands: Receiver<Command>,
    backlog: Backlog,
    train: TrainSender<'a, dyn DatagramSocket>,
    slab: Box<[u8]>,
    probe_buffer: Box<[u8]>,
    sealed_probe: Box<[u8]>,
}

impl<'a> Tunnels<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        engine: Engine,
        keys: OwnKeys,
        commands: Receiver<Command>,
    ) -> Self {
        Self {
            shared,
            engine,
            keys,
            tracked: HashMap::new(),
            by_tunnel: HashMap::new(),
            deadlines: BTreeSet::new(),
            peers_made: 0,
            second_delay: Duration::ZERO,
            own: Vec::new(),
            claims: Vec::new(),
            commands,
            backlog: Backlog::new(),
            train: TrainSender::new(shared, &*shared.data, None),
            slab: vec![0; PARTS * PART_LEN].into(),
            probe_buffer: vec![0; usize::from(u16::MAX)].into(),
            sealed_probe: vec![0; usize::from(u16::MAX)].into(),
        }
    }

    /// Does what there is to do. Returns how long to wait at most, and nothing if only an event can bring more.
    pub(super) fn step(&mut self) -> Option<Duration> {
        let now = clock::now();
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command, now);
        }
        let mut is_busy = self.read_notes(now);
        if let Some(refused) = self.shared.notes.take_refused() {
            self.refused(refused, now);
        }
        self.fill_backlog(now);
        while let Some(message) = self.backlog.pop() {
            self.engine.on_control(now, via(&message), message.bytes(), self.backlog.len());
            self.pump(now);
            if clock::now().saturating_sub(now) >= STEP_TIME_MAX {
                break;
            }
        }
        is_busy |= !self.backlog.is_empty();
        self.meet_deadlines(now);
        if self.engine.next_timeout().is_some_and(|at| at <= now) {
            self.engine.on_timeout(now);
        }
        self.pump(now);
        if is_busy {
            return Some(Duration::ZERO);
        }
        let own = self.deadlines.first().map(|(at, _)| *at);
        let next = own.into_iter().chain(self.engine.next_timeout()).min()?;
        Some(next.saturating_sub(clock::now()))
    }

    fn obey(&mut self, command: Command, now: Duration) {
        match command {
            Command::SetPeers(configs, done) => {
                self.set_peers(configs, now);
                self.pump(now);
                // Whoever asked may have stopped waiting.
                let _ = done.try_send(());
            }
            Command::SetOwn(own, done) => {
                self.set_own(own);
                let _ = done.try_send(());
            }
            Command::SetKeys(keys, done) => {
                self.set_keys(keys, now);
                self.pump(now);
                let _ = done.try_send(());
            }
            Command::Uses(answer) => {
                let _ = answer.try_send(self.uses(now));
            }
            Command::Greet => {
                for tracked in self.tracked.values().filter(|tracked| tracked.has_session()) {
                    for tunnel in tracked.tunnels.called() {
                        self.engine.keepalive(now, tunnel);
                    }
                }
            }
        }
    }

    /// Handles notes of the data threads; true if there may be more.
    fn read_notes(&mut self, now: Duration) -> bool {
        for _ in 0..NOTES_PER_STEP {
            match self.shared.notes.pop() {
                Some(Note::Peer(peer)) => self.heed(&peer, now),
                Some(Note::Confirmed { index }) => self.engine.confirmed(now, index),
                Some(Note::Stray(stray)) => self.keep(stray, now),
                None => return false,
            }
            self.pump(now);
        }
        true
    }

    /// Does what a peer was noted for.
    fn heed(&mut self, peer: &Peer, now: Duration) {
        let (id, wants) = (peer.id, peer.wants.take());
        let Some(tracked) = self.tracked.get_mut(&id) else {
            // It is gone. A data thread that did not know has kept packets for it, and room that others need.
            let discarded = peer.staged().discard(&self.shared.staged_total);
            return self.shared.counters.add_many(Reason::NoPeer, discarded);
        };
        if wants & Wants::STIR != 0 {
            for tunnel in tracked.tunnels.all() {
                self.engine.stir(now, tunnel);
            }
        }
        if wants & Wants::HEARD != 0
            && let Some(source) = tracked.peer.take_heard_from()
        {
            self.heard(id, source, now);
        }
        if wants & Wants::PROBED != 0 {
            self.probed(id, now);
        }
        if wants & Wants::STAGED != 0 {
            self.flush_staged(id, now);
        }
        if wants & Wants::RENEWAL != 0 {
            self.call(id, now);
        }
    }

    /// Reads control messages ahead of their handling.
    fn fill_backlog(&mut self, now: Duration) {
        let mut metas = [ReceiveMeta::default(); PARTS];
        for _ in 0..READS_PER_STEP {
            let received = match self.shared.control.receive(&mut self.slab, &mut metas) {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "control messages not received");
                    self.shared.counters.add(Reason::UdpReceiveFailed);
                    return;
                }
            };
            let slab = std::mem::take(&mut self.slab);
            for (part, meta) in slab.chunks(PART_LEN).zip(metas.iter().take(received)) {
                self.admit(part.get(..meta.len).unwrap_or_default(), meta, now);
            }
            self.slab = slab;
            if received < PARTS {
                return;
            }
        }
    }

    /// Takes a datagram of the control socket into the backlog, if it may be a control message.
    fn admit(&mut self, datagram: &[u8], meta: &ReceiveMeta, now: Duration) {
        let reason = match datagram {
            _ if meta.truncated => Reason::TooLong,
            _ if meshd_core::path::is_overlay(meta.source.ip(), &self.shared.overlay) => Reason::OverlayLoop,
            [1..=3, 0, 0, 0, ..] => match Stray::new(datagram, meta.source) {
                Some(message) => return self.keep(message, now),
                None => Reason::BadHandshake,
            },
            // Data comes here only if it is too short to name its session, or before the sockets are told apart.
            [4, 0, 0, 0, ..] if datagram.len() >= KEEPALIVE_LEN => Reason::UnknownIndex,
            [4, 0, 0, 0, ..] | [] | [_] | [_, _] | [_, _, _] => Reason::TooShort,
            _ => match self.shared.quic.hand_on(datagram, meta.source) {
                Ok(()) => return,
                Err(reason) => reason,
            },
        };
        self.shared.counters.add(reason);
    }

    fn keep(&mut self, message: Stray, now: Duration) {
        let precedence = self.engine.precedence(now, via(&message), message.bytes());
        if !self.backlog.push(precedence, message) {
            self.shared.counters.add(Reason::ControlQueueFull);
        }
    }

    /// Carries out what the engine wants.
    fn pump(&mut self, now: Duration) {
        while let Some(action) = self.engine.poll() {
            match action {
                Action::Send { to: To::Reply(via), message, .. } => {
                    self.shared.send_control(message.as_ref(), via.source);
                }
                Action::Send { tunnel, to: To::Chosen, message } => self.send(tunnel, &message, now),
                Action::InstallRx { tunnel, rx } => {
                    if let Some(tracked) = self.by_tunnel.get(&tunnel).and_then(|id| self.tracked.get(id)) {
                        self.shared.sessions.insert(rx, Arc::clone(&tracked.peer));
                    }
                }
                Action::InstallTx { tunnel, tx } => self.install(tunnel, tx, now),
                Action::RetireIndex { index } => self.shared.sessions.remove(index),
                Action::DropTx { tunnel } => self.uninstall(tunnel, now),
                Action::Event(event) => self.on_event(event, now),
                Action::Refused(refused) => self.shared.counters.add(refused.into()),
            }
        }
    }

    fn on_event(&mut self, event: TunnelEvent, now: Duration) {
        match event {
            TunnelEvent::Established { tunnel, via } => self.established(tunnel, via.source, now),
            TunnelEvent::GaveUp { tunnel } => self.gave_up(tunnel, now),
            TunnelEvent::Expired { tunnel } => self.expired(tunnel),
        }
    }

    /// Sends a message to where the peer is, or, an initiation, to wherever it may be.
    fn send(&mut self, tunnel: Option<TunnelId>, message: &Message, now: Duration) {
        let bytes: &[u8] = message.as_ref();
        let tracked =
            tunnel.and_then(|tunnel| self.by_tunnel.get(&tunnel)).and_then(|id| self.tracked.get(id));
        let Some(tracked) = tracked else { return };
        if bytes.first() == Some(&INITIATION) {
            for target in tracked.path.initiation_targets(tracked.answers(now)) {
                self.shared.send_control(bytes, target);
            }
        } else if let Some(endpoint) = tracked.path.endpoint() {
            self.shared.send_control(bytes, endpoint);
        }
    }
}

fn via(message: &Stray) -> Via {
    Via { path: 0, source: message.source }
}

/// Type of an initiation, the only message that goes to unproven addresses.
const INITIATION: u8 = 1;

/// A share of `over` that differs from peer to peer.
fn spread(id: PeerId, over: Duration) -> Duration {
    over * (id.0 % SPREAD_STEPS) / SPREAD_STEPS
}

/// Parts that times are spread over.
const SPREAD_STEPS: u32 = 97;

#[cfg(test)]
mod tests;
