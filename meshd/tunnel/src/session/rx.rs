//! The receiving half of a session.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::aead::Aead;
use crate::session::{
    DATA, HEADER_LEN, OVERHEAD, REJECT_AFTER, REKEY_AFTER_RECEIVING, SessionSpec, TAG_LEN, prefix_of,
};
use crate::window::Window;
use crate::{Activity, PeerId, Refused, Suite, TunnelId};

/// Opens the messages of one peer; shared by all threads that receive from it.
#[derive(Debug)]
pub struct RxSession {
    aead: Aead,
    window: Mutex<Window>,
    /// What lies below this was refused without the cipher; a copy of the window's tail.
    tail: AtomicU64,
    confirmed: AtomicBool,
    renewal_wanted: AtomicBool,
    spec: Arc<SessionSpec>,
}

/// An authenticated message that may still be a copy: [`RxSession::accept`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its number in the session.
    pub counter: u64,
    /// Where in the datagram the packet and its padding lie; empty for a keepalive.
    pub plaintext: Range<usize>,
}

impl RxSession {
    pub(super) fn new(key: &[u8; 32], spec: Arc<SessionSpec>) -> Self {
        Self {
            aead: Aead::new(spec.suite, key),
            window: Mutex::default(),
            tail: AtomicU64::new(0),
            confirmed: AtomicBool::new(false),
            renewal_wanted: AtomicBool::new(false),
            spec,
        }
    }

    /// Authenticates and opens a data message in place. It leaves the window alone; a refused one is noise.
    pub fn open(&self, datagram: &mut [u8]) -> Result<Opened, Refused> {
        let len = datagram.len();
        if len < OVERHEAD {
            return Err(Refused::TooShort);
        }
        let (header, sealed) = datagram.split_first_chunk_mut::<HEADER_LEN>().ok_or(Refused::TooShort)?;
        let header = u128::from_le_bytes(*header);
        let (prefix, counter) = (header as u64, (header >> 64) as u64);
        if prefix != prefix_of(self.spec.index) {
            return Err(if prefix as u32 == DATA { Refused::UnknownIndex } else { Refused::NotTunnel });
        }
        if counter >= self.spec.suite.reject_after_messages() {
            return Err(Refused::CounterTooHigh);
        }
        if counter < self.tail.load(Ordering::Relaxed) {
            return Err(Refused::Replay);
        }
        self.aead.open(counter, sealed).map_err(|_| Refused::BadTag)?;
        Ok(Opened { counter, plaintext: HEADER_LEN..len - TAG_LEN })
    }

    /// Says of each opened message whether it came for the first time. One lock for a whole train.
    pub fn accept(&self, counters: &[u64], fresh: &mut [bool]) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.accept(counters, fresh);
        self.tail.store(window.tail(), Ordering::Relaxed);
    }

    /// True once: on the first call, which follows the first authenticated, fresh message.
    pub fn confirm_first_use(&self) -> bool {
        !self.confirmed.load(Ordering::Relaxed) && !self.confirmed.swap(true, Ordering::Relaxed)
    }

    /// Whether the session is young enough to open.
    #[inline]
    pub fn is_usable(&self, now: Duration) -> bool {
        self.spec.age(now) < REJECT_AFTER
    }

    /// True once: when this end began the session, only listens on it, and must ask for the next one in time.
    pub fn wants_renewal(&self, now: Duration) -> bool {
        let old = self.spec.is_initiator && self.spec.age(now) >= REKEY_AFTER_RECEIVING;
        old && !self.renewal_wanted.swap(true, Ordering::Relaxed)
    }

    /// The receiver index of this session.
    pub fn index(&self) -> u32 {
        self.spec.index
    }

    /// The tunnel of this session.
    pub fn tunnel(&self) -> TunnelId {
        self.spec.tunnel
    }

    /// The peer this session receives from.
    pub fn peer(&self) -> PeerId {
        self.spec.peer
    }

    /// The cipher of this session.
    pub fn suite(&self) -> Suite {
        self.spec.suite
    }

    /// The stamps of the tunnel.
    pub fn activity(&self) -> &Activity {
        &self.spec.activity
    }
}
