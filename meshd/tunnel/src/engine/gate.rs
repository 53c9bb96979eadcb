//! What stands before the curve operations of an initiation: load, proof of address, and past failures.

use std::time::Duration;

use crate::bucket::Buckets;
use crate::cookie::CookieJar;
use crate::message::{Initiation, MAC_LEN, Macs, Message, Response};
use crate::rng::Rng;
use crate::{Refused, Via};

/// Load is assumed to last this long after it was last seen.
const LOAD_LINGERS: Duration = Duration::from_secs(1);

/// Initiations that are known again: those of the last second of a busy node, 32 KiB.
const RECENT: usize = 1024;

/// Tunnels that answer one initiation: while a pre-shared key changes, two tunnels differ in nothing else, and the
/// initiator does not say which of them it means.
pub(crate) const ANSWERS_MAX: usize = 2;

/// An initiation that was worth a look.
#[derive(Clone, Copy, Default)]
struct Seen {
    mac1: [u8; MAC_LEN],
    /// Indices of the sessions that its answers offered.
    answers: [Option<u32>; ANSWERS_MAX],
}

/// Decides which initiations are worth four curve operations.
///
/// A sender whose initiations do not verify is asked for proof of its address long before load grows, so that one
/// attacker costs the others nothing. Under load a proven sender that goes on failing is not heard at all. Good handshakes
/// cost their sender nothing: a site of a thousand peers behind one address may start at once.
pub(crate) struct Gate {
    queue_depth_loaded: usize,
    loaded_at: Option<Duration>,
    cookies: CookieJar,
    /// Failures by the address that a datagram claims.
    claimed: Buckets,
    /// Failures of senders that have proven their address.
    proven: Buckets,
    /// Initiations that were worth a look, each at the place that the first bytes of its MAC name.
    recent: Box<[Seen; RECENT]>,
}

/// Whether an initiation may pass.
pub(crate) enum Passage {
    /// It may; say with this to [`Gate::failed`] if it does not verify.
    Open { proven: bool },
    /// First send this cookie back.
    Challenge(Message),
    /// Not now.
    Closed(Refused),
}

impl Gate {
    pub(crate) fn new(now: Duration, queue_depth_loaded: usize, rng: &mut Rng) -> Self {
        Self {
            queue_depth_loaded,
            loaded_at: None,
            cookies: CookieJar::new(now, rng),
            claimed: Buckets::new(rng),
            proven: Buckets::new(rng),
            recent: Box::new([Seen::default(); RECENT]),
        }
    }

    /// Takes in how many handshake messages wait.
    pub(crate) fn note_load(&mut self, now: Duration, queue_depth: usize) {
        if queue_depth >= self.queue_depth_loaded {
            self.loaded_at = Some(now);
        }
    }

    pub(crate) fn admit(
        &mut self,
        now: Duration,
        rng: &mut Rng,
        (via, cookie_key): (Via, &[u8; 32]),
        initiation: &Initiation<'_>,
    ) -> Passage {
        let ip = via.source.ip();
        if !self.is_loaded(now) && !self.claimed.is_empty(now, ip) {
            return Passage::Open { proven: false };
        }
        if let Some(cookie) =
            self.challenge(now, rng, (via, cookie_key), (initiation.sender, &initiation.macs))
        {
            return Passage::Challenge(cookie);
        }
        // Without load there is time for everybody; under it, an attacker behind the same translator as a peer
        // costs that peer its turn.
        if self.is_loaded(now) && self.proven.is_empty(now, ip) {
            return Passage::Closed(Refused::TooManyHandshakes);
        }
        Passage::Open { proven: true }
    }

    /// Gives a cookie for a response that may not pass: under load, one that follows another that did not verify.
    /// The first is paid for by the initiation of ours that it answers, whose index nobody can guess.
    pub(crate) fn challenge_response(
        &mut self,
        now: Duration,
        rng: &mut Rng,
        (via, cookie_key): (Via, &[u8; 32]),
        response: &Response<'_>,
    ) -> Option<Message> {
        let about = (response.sender, &response.macs);
        self.is_loaded(now).then(|| self.challenge(now, rng, (via, cookie_key), about)).flatten()
    }

    /// Whether a message shows that its sender got a cookie.
    pub(crate) fn is_proven(&mut self, now: Duration, rng: &mut Rng, via: Via, macs: &Macs<'_>) -> bool {
        self.cookies.is_proven(now, rng, via.source, macs)
    }

    /// Whether this very initiation was looked at before: an honest sender tries several ways to us at once, and
    /// whoever replays what it saw shall not pay with our curve operations.
    pub(crate) fn is_copy(&mut self, mac1: &[u8; MAC_LEN]) -> bool {
        let seen = &mut self.recent[place(mac1)];
        if seen.mac1 != *mac1 {
            *seen = Seen { mac1: *mac1, ..Seen::default() };
            return false;
        }
        true
    }

    /// Remembers a session that an initiation was answered with.
    pub(crate) fn note_answer(&mut self, mac1: &[u8; MAC_LEN], index: u32) {
        let seen = &mut self.recent[place(mac1)];
        let free = seen.answers.iter_mut().find(|answer| answer.is_none());
        if let Some(free) = free.filter(|_| seen.mac1 == *mac1) {
            *free = Some(index);
        }
    }

    /// The sessions that an initiation was answered with.
    pub(crate) fn answers_to(&self, mac1: &[u8; MAC_LEN]) -> [Option<u32>; ANSWERS_MAX] {
        let seen = &self.recent[place(mac1)];
        if seen.mac1 == *mac1 { seen.answers } else { Default::default() }
    }

    /// Lets an initiation be looked at again: it was good, and what stood against it may pass.
    pub(crate) fn forget(&mut self, mac1: &[u8; MAC_LEN]) {
        let seen = &mut self.recent[place(mac1)];
        if seen.mac1 == *mac1 {
            *seen = Seen::default();
        }
    }

    /// Notes that an initiation which passed did not verify.
    pub(crate) fn failed(&mut self, now: Duration, via: Via, proven: bool) {
        let buckets = if proven { &mut self.proven } else { &mut self.claimed };
        buckets.take(now, via.source.ip());
    }

    /// Gives a cookie for a message whose sender has not shown one.
    fn challenge(
        &mut self,
        now: Duration,
        rng: &mut Rng,
        (via, cookie_key): (Via, &[u8; 32]),
        (sender, macs): (u32, &Macs<'_>),
    ) -> Option<Message> {
        let proven = self.cookies.is_proven(now, rng, via.source, macs);
        (!proven).then(|| self.cookies.reply(now, rng, cookie_key, (via.source, sender, macs.mac1)))
    }

    fn is_loaded(&self, now: Duration) -> bool {
        self.loaded_at.is_some_and(|at| now.saturating_sub(at) < LOAD_LINGERS)
    }
}

fn place(mac1: &[u8; MAC_LEN]) -> usize {
    usize::from(u16::from_le_bytes([mac1[0], mac1[1]])) % RECENT
}
