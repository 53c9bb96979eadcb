//! One peer: its tunnel, its path, and whether it lives.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshd_core::Path;
use meshd_tunnel::vertical_slice::{LocalKey, Tunnel, TunnelIndex};
use meshd_wire::NodeId;

use super::PeerStats;

/// Silence after which a peer counts as down: two keepalives lost and the third overdue.
pub(super) const DOWN_AFTER: Duration = Duration::from_secs(60);
/// Silence after which handshakes ask whether the peer still lives: one keepalive lost.
pub(super) const SUSPECT_AFTER: Duration = Duration::from_secs(35);
/// The side with the greater key calls this much later, so that both rarely call at once.
const SECOND_CALLER_DELAY: Duration = Duration::from_millis(500);
/// Calls are spread over this many milliseconds by tunnel index.
const CALL_SPREAD_MS: u32 = 100;

/// A peer; shared by the threads, replaced when its key changes.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) node: NodeId,
    pub(super) public_key: [u8; 32],
    pub(super) index: TunnelIndex,
    state: Mutex<PeerState>,
    rx_bytes: AtomicU64,
    tx_bytes: AtomicU64,
    rx_packets: AtomicU64,
    tx_packets: AtomicU64,
}

/// What both threads change; each holds it for one packet.
#[derive(Debug)]
pub(super) struct PeerState {
    pub(super) tunnel: Tunnel,
    pub(super) path: Path,
    pub(super) up: bool,
    pub(super) heard_at: Option<Duration>,
    /// When the first initiation may go out.
    pub(super) call_at: Duration,
    /// Whether it went out.
    pub(super) called: bool,
}

/// What an authentic datagram changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    Up,
    Moved,
}

impl Peer {
    pub(super) fn new(
        node: NodeId,
        public_key: [u8; 32],
        index: TunnelIndex,
        (local, mtu): (&LocalKey, u16),
        path: Path,
        now: Duration,
    ) -> Self {
        let wait = if local.public() < public_key { Duration::ZERO } else { SECOND_CALLER_DELAY };
        let spread = Duration::from_millis(u64::from(index.spread(CALL_SPREAD_MS)));
        let state = PeerState {
            tunnel: Tunnel::new(local, &public_key, index, mtu),
            path,
            up: false,
            heard_at: None,
            call_at: now + wait + spread,
            called: false,
        };
        Self {
            node,
            public_key,
            index,
            state: Mutex::new(state),
            rx_bytes: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
            rx_packets: AtomicU64::new(0),
            tx_packets: AtomicU64::new(0),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PeerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count_received(&self, len: usize) {
        self.rx_packets.fetch_add(1, Ordering::Relaxed);
        self.rx_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self, len: usize) {
        self.tx_packets.fetch_add(1, Ordering::Relaxed);
        self.tx_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Bytes received and sent.
    pub(super) fn bytes(&self) -> [u64; 2] {
        [&self.rx_bytes, &self.tx_bytes].map(|bytes| bytes.load(Ordering::Relaxed))
    }

    pub(super) fn stats(&self, now: Duration) -> PeerStats {
        let state = self.state();
        PeerStats {
            node: self.node,
            endpoint: state.path.endpoint(),
            up: state.up,
            last_handshake: state.tunnel.has_session().then(|| state.tunnel.age(now)).flatten(),
            last_received: state.silence(now),
            rx_bytes: self.rx_bytes.load(Ordering::Relaxed),
            tx_bytes: self.tx_bytes.load(Ordering::Relaxed),
            rx_packets: self.rx_packets.load(Ordering::Relaxed),
            tx_packets: self.tx_packets.load(Ordering::Relaxed),
        }
    }
}

impl PeerState {
    /// Notes an authentic datagram that cannot be a replay.
    pub(super) fn heard(&mut self, source: SocketAddr, now: Duration) -> Heard {
        self.heard_at = Some(now);
        let moved = self.path.confirm(source);
        if !std::mem::replace(&mut self.up, true) {
            Heard::Up
        } else if moved {
            Heard::Moved
        } else {
            Heard::Nothing
        }
    }

    /// Time since the last authentic datagram.
    pub(super) fn silence(&self, now: Duration) -> Option<Duration> {
        self.heard_at.map(|at| now.saturating_sub(at))
    }

    /// Whether the proven endpoint can be trusted to lead to the peer.
    pub(super) fn answers(&self, now: Duration) -> bool {
        self.tunnel.has_session() && self.silence(now).is_some_and(|silence| silence < SUSPECT_AFTER)
    }
}
