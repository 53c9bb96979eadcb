//! The pings that wait for their answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use meshd_core::IpPacket;
use meshd_core::echo::{self, EchoId};
use tokio::sync::oneshot;

use crate::random;

/// Pings in flight; each waits some seconds at most.
const PENDING_MAX: usize = 1024;
/// First bytes of the payload, which tell our answers from those of the host's ping programs.
pub(super) const NONCE_LEN: usize = 8;

/// All of this host, told apart by their sequence numbers.
#[derive(Debug)]
pub(in super::super) struct Pings {
    id: u16,
    next: AtomicU16,
    pending: Mutex<HashMap<u16, Pending>>,
}

/// What an answer must have in common with its ping, and who waits for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) nonce: [u8; NONCE_LEN],
    pub(super) from: IpAddr,
    pub(super) answered: oneshot::Sender<Duration>,
}

/// A place among the pings; it is free again also when the caller stops waiting.
pub(super) struct Place<'a> {
    pings: &'a Pings,
    sequence: u16,
}

impl Default for Pings {
    fn default() -> Self {
        let random = random::number();
        Self {
            id: (random >> 16) as u16,
            next: AtomicU16::new(random as u16),
            pending: Mutex::new(HashMap::new()),
        }
    }
}

impl Pings {
    /// Takes the packet if it is the answer to a ping of ours.
    pub(in super::super) fn take_reply(&self, packet: &IpPacket<'_>, now: Duration) -> bool {
        let Some((EchoId { id, sequence }, payload)) = echo::reply(packet) else { return false };
        if id != self.id {
            return false;
        }
        let mut pending = self.lock();
        let ours = pending
            .get(&sequence)
            .is_some_and(|ping| ping.from == packet.source() && payload.starts_with(&ping.nonce));
        if ours && let Some(ping) = pending.remove(&sequence) {
            // The receiver may have stopped waiting just now.
            let _ = ping.answered.send(now);
        }
        ours
    }

    /// Ends every wait: no answer will come.
    pub(in super::super) fn give_up(&self) {
        self.lock().clear();
    }

    /// Gives a ping its place; none if there are too many.
    pub(super) fn register(&self, pending: Pending) -> Option<Place<'_>> {
        let mut all = self.lock();
        let sequence = self.next.fetch_add(1, Ordering::Relaxed);
        if all.len() >= PENDING_MAX || all.contains_key(&sequence) {
            return None;
        }
        all.insert(sequence, pending);
        Some(Place { pings: self, sequence })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// What the request is marked with.
    pub(super) fn echo(&self) -> EchoId {
        EchoId { id: self.pings.id, sequence: self.sequence }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pings.lock().remove(&self.sequence);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 91, 0, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 91, 0, 2));
    const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];

    fn pending() -> (Pending, oneshot::Receiver<Duration>) {
        let (answered, answer) = oneshot::channel();
        (Pending { nonce: NONCE, from: THERE, answered }, answer)
    }

    /// An echo reply from `from`.
    fn reply(from: IpAddr, echo: EchoId, payload: &[u8]) -> Vec<u8> {
        let mut reply = echo::request(from, HERE, echo, payload).expect("a packet");
        // The type; nobody looks at the sum of what came out of a tunnel.
        reply[20] = 0;
        reply
    }

    fn takes(pings: &Pings, reply: &[u8]) -> bool {
        pings.take_reply(&IpPacket::parse(reply).expect("a packet"), Duration::from_secs(1))
    }

    #[test]
    fn only_the_answer_of_who_was_asked_ends_the_wait() {
        let pings = Pings::default();
        let (waiting, mut answer) = pending();
        let place = pings.register(waiting).expect("a place");
        let echo = place.echo();
        let other = EchoId { sequence: echo.sequence.wrapping_add(1), ..echo };
        for wrong in [
            reply(HERE, echo, &NONCE),
            reply(THERE, echo, &[8; NONCE_LEN]),
            reply(THERE, echo, &NONCE[1..]),
            reply(THERE, other, &NONCE),
            reply(THERE, EchoId { id: !echo.id, ..echo }, &NONCE),
            echo::request(THERE, HERE, echo, &NONCE).expect("a packet"),
        ] {
            assert!(!takes(&pings, &wrong));
        }
        assert!(answer.try_recv().is_err());
        assert!(takes(&pings, &reply(THERE, echo, &NONCE)));
        assert_eq!(answer.try_recv(), Ok(Duration::from_secs(1)));
        assert!(!takes(&pings, &reply(THERE, echo, &NONCE)), "a copy goes to the host");
    }

    #[test]
    fn places_are_bounded_and_free_again() {
        let pings = Pings::default();
        let places: Vec<_> =
            (0..PENDING_MAX).map(|_| pings.register(pending().0).expect("a place")).collect();
        assert!(pings.register(pending().0).is_none());
        drop(places);
        assert!(pings.register(pending().0).is_some());
    }
}
