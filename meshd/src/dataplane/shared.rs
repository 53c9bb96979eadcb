//! What the threads and the control plane share.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use meshd_core::unreachable::{NoAnswer, Unreachable};
use meshd_core::{IpPacket, Path, RouteTable};
use meshd_tunnel::vertical_slice::{LocalKey, Tunnel, TunnelIndex};
use meshd_wire::NodeId;

use super::counters::{Counters, Reason};
use super::events::{Event, Events};
use super::peer::{Heard, Peer, PeerState};
use super::ping::Pings;
use super::snapshot::{PeerAddresses, Snapshot};
use super::{DataPlaneConfig, PeerConfig};
use crate::io::{Tun, Udp};

/// The data plane without its threads.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) udp: Udp,
    pub(super) local: LocalKey,
    pub(super) mtu: u16,
    pub(super) addr4: Ipv4Addr,
    pub(super) addr6: Option<Ipv6Addr>,
    pub(super) overlay: Vec<IpNet>,
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) counters: Counters,
    pub(super) events: Events,
    pub(super) pings: Pings,
    /// Bytes received from and sent to peers that are gone: totals never shrink.
    retired: [AtomicU64; 2],
    unreachable: Mutex<Unreachable>,
    /// Set before the threads are told to end.
    pub(super) stopping: AtomicBool,
    /// Held while a snapshot is replaced.
    publishing: Mutex<()>,
    started: Instant,
}

impl Shared {
    pub(super) fn new(config: DataPlaneConfig, mtu: u16, has_ipv6: bool, udp: Udp) -> Self {
        Self {
            udp,
            local: LocalKey::new(&config.private_key),
            mtu,
            addr4: config.addr4.0,
            addr6: has_ipv6.then_some(config.addr6.0),
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            counters: Counters::new(),
            events: Events::default(),
            pings: Pings::default(),
            retired: [AtomicU64::new(0), AtomicU64::new(0)],
            unreachable: Mutex::new(Unreachable::new(config.mesh_prefixes.clone(), Duration::ZERO)),
            overlay: config.mesh_prefixes,
            stopping: AtomicBool::new(false),
            publishing: Mutex::new(()),
            started: Instant::now(),
        }
    }

    /// Time since the start; the only clock of the packet path.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => v4 == self.addr4,
            IpAddr::V6(v6) => Some(v6) == self.addr6,
        }
    }

    /// Sends a datagram; a failure is counted.
    pub(super) fn send(&self, datagram: &[u8], to: SocketAddr) -> bool {
        let sent = self.udp.send(datagram, to);
        if let Err(error) = &sent {
            tracing::trace!(%error, "datagram not sent");
            self.counters.add(Reason::UdpSendFailed);
        }
        sent.is_ok()
    }

    /// Sends an initiation wherever the peer may be.
    pub(super) fn send_initiation(&self, state: &PeerState, initiation: &[u8], now: Duration) {
        for target in state.path.initiation_targets(state.answers(now)) {
            self.send(initiation, target);
        }
    }

    /// Sends what waited for the session.
    pub(super) fn flush(&self, tunnel: &mut Tunnel, to: SocketAddr, buffer: &mut [u8], now: Duration) {
        while let Some(datagram) = tunnel.flush(buffer, now) {
            self.send(datagram, to);
        }
    }

    pub(super) fn write_tun(&self, tun: &Tun, packet: &[u8]) {
        if let Err(error) = tun.write(packet) {
            tracing::trace!(%error, "packet not delivered");
            self.counters.add(Reason::TunWriteFailed);
        }
    }

    /// Tells the sender of `packet`, on this host, that its destination cannot be reached.
    pub(super) fn answer_unreachable(&self, tun: &Tun, packet: &IpPacket<'_>, now: Duration) {
        let answer = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner).answer(packet, now);
        match answer {
            Ok(answer) => self.write_tun(tun, &answer),
            Err(NoAnswer::Forbidden) => {}
            Err(NoAnswer::RateLimited) => self.counters.add(Reason::IcmpRateLimited),
        }
    }

    pub(super) fn report(&self, node: NodeId, heard: Heard, endpoint: SocketAddr) {
        match heard {
            Heard::Nothing => {}
            Heard::Up => {
                tracing::info!(%node, "peer is up");
                tracing::debug!(%node, %endpoint, "endpoint proven");
                self.events.send(Event::PeerUp { node, endpoint }, &self.counters);
            }
            Heard::Moved => {
                tracing::info!(%node, "peer moved");
                tracing::debug!(%node, %endpoint, "endpoint proven");
                self.events.send(Event::PathChanged { node, endpoint }, &self.counters);
            }
        }
    }

    pub(super) fn report_down(&self, node: NodeId) {
        tracing::info!(%node, "peer is down");
        self.events.send(Event::PeerDown { node }, &self.counters);
    }

    pub(super) fn set_peers(&self, configs: Vec<PeerConfig>) {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        let old = self.snapshot.load_full();
        let mut indices: HashSet<TunnelIndex> = old.by_index.keys().copied().collect();
        let mut new = Snapshot::default();
        for config in configs {
            if config.public_key == self.local.public() || new.by_key.contains_key(&config.public_key) {
                tracing::warn!(node = %config.node, name = config.name, "tunnel key is in use by another node");
                continue;
            }
            let kept = old.by_key.get(&config.public_key).filter(|peer| peer.node == config.node);
            let peer = match kept {
                Some(peer) => {
                    let mut state = peer.state();
                    let added = state.path.set_candidates(&config.candidates, &self.overlay);
                    if added && !state.tunnel.has_session() {
                        state.tunnel.revive();
                        state.called = false;
                    }
                    drop(state);
                    Arc::clone(peer)
                }
                None => {
                    tracing::debug!(node = %config.node, name = config.name, "peer added");
                    let index = fresh_index(&mut indices);
                    let path = Path::new(&config.candidates, &self.overlay);
                    let local = (&self.local, self.mtu);
                    Arc::new(Peer::new(config.node, config.public_key, index, local, path, now))
                }
            };
            self.claim(&mut new.routes, &mut new.addresses, &config, &peer);
            new.by_key.insert(peer.public_key, Arc::clone(&peer));
            new.by_index.insert(peer.index, Arc::clone(&peer));
            new.peers.push(peer);
        }
        let new = Arc::new(new);
        self.snapshot.store(Arc::clone(&new));
        for peer in &old.peers {
            let kept = new.by_index.get(&peer.index).is_some_and(|kept| Arc::ptr_eq(kept, peer));
            if kept {
                continue;
            }
            for (retired, bytes) in self.retired.iter().zip(peer.bytes()) {
                retired.fetch_add(bytes, Ordering::Relaxed);
            }
            if std::mem::replace(&mut peer.state().up, false) {
                self.report_down(peer.node);
            }
        }
    }

    /// Bytes of inner packets received and sent since the start, also with peers that are gone.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let _publishing = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let [mut received, mut sent] = [0, 1].map(|at: usize| self.retired[at].load(Ordering::Relaxed));
        for peer in &self.snapshot.load().peers {
            let [from, to] = peer.bytes();
            (received, sent) = (received + from, sent + to);
        }
        (received, sent)
    }

    fn claim(
        &self,
        routes: &mut RouteTable<Arc<Peer>>,
        addresses: &mut HashMap<NodeId, PeerAddresses>,
        config: &PeerConfig,
        peer: &Arc<Peer>,
    ) {
        let own = addresses.entry(config.node).or_default();
        for prefix in &config.addrs {
            let is_host = prefix.prefix_len() == prefix.max_prefix_len();
            if is_host && self.is_own(prefix.addr()) || !routes.claim(*prefix, Arc::clone(peer)) {
                tracing::warn!(node = %config.node, name = config.name, "address is in use by another node");
                continue;
            }
            match prefix.addr() {
                IpAddr::V4(v4) if is_host => own.v4 = own.v4.or(Some(v4)),
                IpAddr::V6(v6) if is_host => own.v6 = own.v6.or(Some(v6)),
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
        }
    }
}

/// An index that no tunnel has. 16 million fit, so the search is short for any mesh that fits in memory.
fn fresh_index(taken: &mut HashSet<TunnelIndex>) -> TunnelIndex {
    let mut random = random_u32();
    loop {
        let index = TunnelIndex::from_random(random);
        if taken.insert(index) {
            return index;
        }
        random = random.wrapping_add(1);
    }
}

/// A random number; it needs to be hard to guess from outside, not secret.
pub(super) fn random_u32() -> u32 {
    let mut bytes = [0u8; 4];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::error!("no randomness from the system");
    }
    u32::from_le_bytes(bytes)
}
