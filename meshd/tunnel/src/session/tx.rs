//! The sending half of a session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::TxSession;
use crate::aead::PADDING_MAX;
use crate::session::{HEADER_LEN, OVERHEAD, REKEY_AFTER, prefix_of};

/// What only the sending half has.
#[derive(Debug)]
pub struct Sealing {
    /// Type and receiver index as they stand at the start of every message.
    prefix: [u8; 8],
    /// The next counter that nobody reserved.
    counter: AtomicU64,
}

/// Says why a session takes no more packets; each of the two asks for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The session is 180 seconds old.
    #[error("session expired")]
    Expired,
    /// Its key has sealed as many packets as it may.
    #[error("session used up its counters")]
    Exhausted,
}

/// Says why a packet was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Every counter of the reservation is used.
    #[error("reservation is used up")]
    ReservationUsedUp,
    /// The output cannot hold the message.
    #[error("output is too short")]
    OutputTooShort,
    /// More padding than the longest pad class.
    #[error("padding is too long")]
    PaddingTooLong,
    /// The cipher refused, which no length of a packet explains.
    #[error("cipher failed")]
    Cipher,
}

/// Counters of one session that belong to the holder alone.
///
/// It cannot be copied, knows its session, and every counter leaves it once: no two messages share a nonce,
/// whatever threads, retries and errors do. Counters that are left when it is dropped are never used.
#[derive(Debug)]
#[must_use]
pub struct Reservation<'s> {
    session: &'s TxSession,
    next: u64,
    end: u64,
}

impl Sealing {
    /// Seals for whoever knows the session by this receiver index.
    pub(super) fn to(peer_index: u32) -> Self {
        Self { prefix: prefix_of(peer_index).to_le_bytes(), counter: AtomicU64::new(0) }
    }
}

impl TxSession {
    /// Takes `n` counters, all of them or none.
    pub fn reserve(&self, now: Duration, n: u32) -> Result<Reservation<'_>, Unusable> {
        if !self.is_usable(now) {
            return Err(Unusable::Expired);
        }
        let limit = self.spec.suite.reject_after_messages();
        // Not `fetch_add`: refused reservations would move the counter past the limit, and in the end around.
        let end = |next: u64| next.checked_add(n.into()).filter(|end| *end <= limit);
        match self.direction.counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end) {
            Ok(next) => Ok(Reservation { session: self, next, end: next.saturating_add(n.into()) }),
            Err(_) => Err(Unusable::Exhausted),
        }
    }

    /// True once: when the caller must ask the engine for the session that follows this one.
    pub fn wants_renewal(&self, now: Duration) -> bool {
        if self.renewal_wanted.load(Ordering::Relaxed) {
            return false;
        }
        let old = self.spec.is_initiator && self.spec.age(now) >= REKEY_AFTER;
        let used = self.direction.counter.load(Ordering::Relaxed) >= self.spec.suite.rekey_after_messages();
        (old || used) && !self.renewal_wanted.swap(true, Ordering::Relaxed)
    }

    /// Puts the counter where no test could send it.
    #[cfg(test)]
    pub(crate) fn preset_counter(&self, counter: u64) {
        self.direction.counter.store(counter, Ordering::Relaxed);
    }
}

impl Reservation<'_> {
    /// Counters that are left.
    pub fn remaining(&self) -> u64 {
        self.end - self.next
    }

    /// Writes the message of the next counter: header, `packet` and `padding` zeros sealed, tag. Gives its length.
    pub fn seal(&mut self, packet: &[u8], padding: usize, out: &mut [u8]) -> Result<usize, SealError> {
        if padding > PADDING_MAX {
            return Err(SealError::PaddingTooLong);
        }
        let len = OVERHEAD + packet.len() + padding;
        let out = out.get_mut(..len).ok_or(SealError::OutputTooShort)?;
        let (header, sealed) = out.split_first_chunk_mut::<HEADER_LEN>().ok_or(SealError::OutputTooShort)?;
        // The counter is gone before anything uses it: an error below never brings it back.
        let counter = self.take().ok_or(SealError::ReservationUsedUp)?;
        header[..8].copy_from_slice(&self.session.direction.prefix);
        header[8..].copy_from_slice(&counter.to_le_bytes());
        self.session.aead.seal(counter, packet, padding, sealed).map_err(|_| SealError::Cipher)?;
        Ok(len)
    }

    fn take(&mut self) -> Option<u64> {
        let counter = self.next;
        (counter < self.end).then(|| {
            self.next += 1;
            counter
        })
    }
}

#[cfg(test)]
mod tests;
