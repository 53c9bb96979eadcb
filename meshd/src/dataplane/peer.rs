//! One peer as all threads see it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use meshd_tunnel::{PeerId, TxSession};

use super::clock::millis;
use super::notes::Wants;
use super::probe::Ack;
use super::staged::Staged;
use super::{PeerIdentity, PeerStats};

/// How to send to a peer right now; replaced as a whole, so that its parts always fit together.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) session: Arc<TxSession>,
    pub(super) endpoint: SocketAddr,
    /// Longest inner packet.
    pub(super) mtu: u16,
    /// Whether the path is narrower than any overlay packet may be: then the outer packets are fragmented.
    pub(super) fragments: bool,
}

/// What can be hoped for while there is no [`Way`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A handshake may succeed.
    Hoped = 0,
    /// No address is known.
    NoPath = 1,
    /// It has not answered for long.
    Absent = 2,
}

/// A peer; it lives as long as its identity and key do.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) identity: PeerIdentity,
    pub(super) id: PeerId,
    pub(super) is_external: bool,
    pub(super) wants: Wants,
    way: ArcSwapOption<Way>,
    reach: AtomicU8,
    staged: Mutex<Staged>,
    /// Proven address, as the engine's thread knows it.
    proven: ArcSwapOption<SocketAddr>,
    /// Where it was heard from last, if that is not the proven address.
    heard_from: Mutex<Option<SocketAddr>>,
    /// Newest answer to a probe of the path.
    probed: Mutex<Option<Ack>>,
    is_up: AtomicBool,
    /// When the session was established and when something authentic came; 0 for never.
    established_ms: AtomicU64,
    heard_ms: AtomicU64,
    rx_bytes: AtomicU64,
    tx_bytes: AtomicU64,
    rx_packets: AtomicU64,
    tx_packets: AtomicU64,
}

impl Peer {
    pub(super) fn new(identity: PeerIdentity, id: PeerId, is_external: bool) -> Self {
        Self {
            identity,
            id,
            is_external,
            wants: Wants::default(),
            way: ArcSwapOption::empty(),
            reach: AtomicU8::new(Reach::Hoped as u8),
            staged: Mutex::default(),
            proven: ArcSwapOption::empty(),
            heard_from: Mutex::default(),
            probed: Mutex::default(),
            is_up: AtomicBool::new(false),
            established_ms: AtomicU64::new(0),
            heard_ms: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
            rx_packets: AtomicU64::new(0),
            tx_packets: AtomicU64::new(0),
        }
    }

    /// Replaces the way. Packets staged before are the caller's to send.
    pub(super) fn set_way(&self, way: Option<Way>) {
        self.way.store(way.map(Arc::new));
    }

    pub(super) fn set_reach(&self, reach: Reach) {
        self.reach.store(reach as u8, Ordering::Relaxed);
    }

    /// Takes over the proven address for [`Peer::note_heard`].
    pub(super) fn set_proven(&self, endpoint: SocketAddr) {
        self.proven.store(Some(Arc::new(endpoint)));
    }

    pub(super) fn set_established(&self, at: Option<Duration>) {
        self.established_ms.store(at.map_or(0, millis), Ordering::Relaxed);
    }

    /// Sets whether it lives; returns what was.
    pub(super) fn set_up(&self, up: bool) -> bool {
        self.is_up.swap(up, Ordering::AcqRel)
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    pub(super) fn way(&self) -> Guard<Option<Arc<Way>>> {
        self.way.load()
    }

    pub(super) fn reach(&self) -> Reach {
        match self.reach.load(Ordering::Relaxed) {
            1 => Reach::NoPath,
            2 => Reach::Absent,
            _ => Reach::Hoped,
        }
    }

    pub(super) fn proven(&self) -> Option<SocketAddr> {
        self.proven.load().as_deref().copied()
    }

    pub(super) fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes authentic, fresh data; true if the engine's thread must look at where it came from.
    pub(super) fn note_heard(&self, source: SocketAddr, now: Duration) -> bool {
        let now = millis(now);
        if self.heard_ms.load(Ordering::Relaxed) != now {
            self.heard_ms.store(now, Ordering::Relaxed);
        }
        if self.is_up() && self.proven() == Some(source) {
            return false;
        }
        *self.heard_from.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
        true
    }

    /// Where it was heard from, if the engine's thread has not looked yet.
    pub(super) fn take_heard_from(&self) -> Option<SocketAddr> {
        self.heard_from.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Keeps the answer to a probe for the engine's thread; a wider one is not hidden by a narrower one.
    pub(super) fn note_probed(&self, ack: Ack) {
        let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        if probed.is_none_or(|kept| kept.search != ack.search || kept.len < ack.len) {
            *probed = Some(ack);
        }
    }

    pub(super) fn take_probed(&self) -> Option<Ack> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// When something authentic came last.
    pub(super) fn heard_at(&self) -> Option<Duration> {
        stamp(&self.heard_ms)
    }

    pub(super) fn count_received(&self, packets: u64, bytes: u64) {
        self.rx_packets.fetch_add(packets, Ordering::Relaxed);
        self.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self, packets: u64, bytes: u64) {
        self.tx_packets.fetch_add(packets, Ordering::Relaxed);
        self.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes received and sent.
    pub(super) fn bytes(&self) -> [u64; 2] {
        [&self.rx_bytes, &self.tx_bytes].map(|bytes| bytes.load(Ordering::Relaxed))
    }

    pub(super) fn stats(&self, now: Duration) -> PeerStats {
        let since = |at: Duration| now.saturating_sub(at);
        let way = self.way();
        PeerStats {
            node: self.identity.node,
            endpoint: self.proven(),
            up: self.is_up(),
            last_handshake: stamp(&self.established_ms).map(since),
            last_received: self.heard_at().map(since),
            mtu: way.as_ref().map(|way| way.mtu),
            rx_bytes: self.rx_bytes.load(Ordering::Relaxed),
            tx_bytes: self.tx_bytes.load(Ordering::Relaxed),
            rx_packets: self.rx_packets.load(Ordering::Relaxed),
            tx_packets: self.tx_packets.load(Ordering::Relaxed),
        }
    }
}

fn stamp(at: &AtomicU64) -> Option<Duration> {
    match at.load(Ordering::Relaxed) {
        0 => None,
        ms => Some(Duration::from_millis(ms)),
    }
}
