//! The receiving half of a session.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::session::{DATA, HEADER_LEN, OVERHEAD, REKEY_AFTER_RECEIVING, TAG_LEN, prefix_of};
use crate::window::Window;
use crate::{Refused, RxSession};

/// What only the receiving half has.
#[derive(Debug, Default)]
pub struct Opening {
    window: Mutex<Window>,
    /// What lies below this was refused without the cipher; a copy of the window's tail.
    tail: AtomicU64,
    confirmed: AtomicBool,
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
        if counter < self.direction.tail.load(Ordering::Relaxed) {
            return Err(Refused::Replay);
        }
        self.aead.open(counter, sealed).map_err(|_| Refused::BadTag)?;
        Ok(Opened { counter, plaintext: HEADER_LEN..len - TAG_LEN })
    }

    /// Says of each opened message whether it came for the first time. One lock for a whole train.
    pub fn accept(&self, counters: &[u64], fresh: &mut [bool]) {
        let mut window = self.direction.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.accept(counters, fresh);
        self.direction.tail.store(window.tail(), Ordering::Relaxed);
    }

    /// True once: on the first call, which follows the first authenticated, fresh message.
    pub fn confirm_first_use(&self) -> bool {
        !self.direction.confirmed.load(Ordering::Relaxed)
            && !self.direction.confirmed.swap(true, Ordering::Relaxed)
    }

    /// True once: when this end began the session, only listens on it, and must ask for the next one in time.
    pub fn wants_renewal(&self, now: Duration) -> bool {
        let old = self.spec.is_initiator && self.spec.age(now) >= REKEY_AFTER_RECEIVING;
        old && !self.renewal_wanted.swap(true, Ordering::Relaxed)
    }
}
