//! The state of one tunnel.
//!
//! ```text
//!             want_session               slot free, not before 5 s after the last
//!   resting ────────────────▶ attempting ───────────────▶ initiation out ──┐
//!      ▲                        ▲  │ 90 s: give up            │            │ 5 s + jitter, or a cookie;
//!      │                        │  └──────────▶ resting       │ response   │ copies of it before that
//!      │                        └─────────────────────────────┼────────────┘
//!      │                                                      ▼
//!      └───────────────────────────────────────────── current session
//!
//!   initiation from the peer ─▶ next sessions ── first packet on one ─▶ current session
//!   a session that becomes current moves the one before to the previous ones, which only receive
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cookie::Cookie;
use crate::engine::config::{TunnelSpec, Via};
use crate::message::{MAC_LEN, Message};
use crate::noise::Initiator;
use crate::session::REJECT_AFTER;
use crate::{Activity, TunnelStatus, TxSession};

/// An initiation without an answer is followed by another after this, and jitter.
pub(super) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// Without any session, an initiation that is not answered is sent again as it is after this, and jitter.
///
/// WireGuard waits for [`REKEY_TIMEOUT`]. On the wire a copy is what a network that doubles datagrams makes: the other
/// end answers one of both, and an answer to either is good however late it comes, which a new initiation would not
/// allow. So a lost initiation costs a first contact a second instead of five. A lost response does so too where the other
/// end is a meshd, which sends it again: [`ANSWER_AGAIN_AFTER`].
const COPY_AFTER: Duration = Duration::from_secs(1);
/// A copy that comes this long after its initiation was answered is answered as that was: the answer may be lost. Copies
/// that took several ways come together.
const ANSWER_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Copies in one attempt: an absent peer gets two datagrams more than the eighteen of an attempt. As many are answered.
const COPIES_MAX: u8 = 2;
/// Cookies in one attempt that bring an initiation forward. One is enough unless it is lost; whoever sees initiations
/// can forge cookies, and must not make this node send more than that.
const HURRIES_MAX: u8 = 3;
/// Keeps peers that lost their sessions together from trying again together.
pub(super) const JITTER_MAX: Duration = Duration::from_millis(333);
/// Initiations without an answer end after this …
const REKEY_ATTEMPT_TIME: Duration = Duration::from_secs(90);
/// … or later, this long after another place was found where the peer may be: time for two initiations.
const PLACE_ATTEMPT_TIME: Duration = Duration::from_secs(10);
/// Whoever received a packet and sent nothing since, shows after this that it is alive.
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever sent a packet and heard nothing since, starts a handshake after this.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Keys are wiped at three times the age at which they stop working.
pub(super) const WIPE_AFTER: Duration = Duration::from_secs(540);

/// While a pre-shared key changes, an initiation is answered by both tunnels of a peer and meant for one: it must
/// not take away the session that another initiation has just made.
const NEXT_MAX: usize = 2;
/// When both ends begin at once, each sends on its own session. The next time they do, three sessions are in use or
/// about to be: the peer's old one, the peer's new one, and the one before, if it was neither's own.
const PREVIOUS_MAX: usize = 3;

/// One tunnel with its handshake and sessions: one current, and the few that only open.
pub(super) struct Tunnel {
    pub(super) spec: TunnelSpec,
    pub(super) activity: Arc<Activity>,
    /// Whether this end starts handshakes and sends keepalives that nobody asked for.
    pub(super) is_calling: bool,
    pub(super) attempt: Option<Attempt>,
    pub(super) handshake: Option<Handshake>,
    pub(super) answer: Option<Answer>,
    /// Seals and opens.
    pub(super) current: Option<Session>,
    /// Made by the peer's initiations; open, and one seals once the peer has used it.
    pub(super) next: Opening<NEXT_MAX>,
    /// Open what the peer sends until it, too, uses `current`.
    pub(super) previous: Opening<PREVIOUS_MAX>,
    pub(super) given_up: bool,
    /// When the last initiation or response was sent.
    pub(super) handshake_sent: Option<Duration>,
    /// The first MAC of that message: a cookie for it is sealed with it.
    pub(super) mac1_sent: [u8; MAC_LEN],
    pub(super) cookie: Option<Cookie>,
    /// Looks at the stamps of the data threads are due by then.
    pub(super) look_at: Option<Duration>,
    /// Where this tunnel stands in the timers.
    pub(super) timer: Option<Duration>,
    /// Moves all of this tunnel's timeouts apart from those of others.
    pub(super) jitter: Duration,
}

/// A run of initiations, until one is answered or 90 seconds are over.
pub(super) struct Attempt {
    pub(super) since: Duration,
    /// When to send: an initiation, or a copy of the last.
    pub(super) next_at: Duration,
    /// When to send another initiation.
    renew_at: Duration,
    /// Whether `next_at` is a slot of the pacer.
    pub(super) has_slot: bool,
    /// When to give up.
    pub(super) until: Duration,
    copies: u8,
    copied_at: Option<Duration>,
    hurries: u8,
}

/// An initiation that was sent.
pub(super) struct Handshake {
    pub(super) noise: Initiator,
    pub(super) index: u32,
    /// As it was sent.
    pub(super) message: Message,
    /// Whether a response to it has come that does not verify.
    pub(super) was_answered_badly: bool,
}

/// The response that was sent last; it counts as long as nobody has used its session.
pub(super) struct Answer {
    /// Index of the session that it offers.
    pub(super) index: u32,
    /// As it was sent.
    pub(super) message: Message,
    pub(super) sent_at: Duration,
    again: u8,
}

impl Answer {
    pub(super) fn new(index: u32, message: Message, now: Duration) -> Self {
        Self { index, message, sent_at: now, again: 0 }
    }

    /// Whether it may be sent once more; counts it.
    fn repeat(&mut self, now: Duration) -> bool {
        let is_due = now.saturating_sub(self.sent_at) >= ANSWER_AGAIN_AFTER;
        let may = is_due && self.again < COPIES_MAX;
        if may {
            (self.again, self.sent_at) = (self.again + 1, now);
        }
        may
    }
}

/// Sessions that only open, the oldest first. The peer decides which of them it uses; their age ends all of them.
#[derive(Default)]
pub(super) struct Opening<const MAX: usize>(VecDeque<Session>);

/// What the engine keeps of a session; the receiving half is the data threads'.
pub(super) struct Session {
    pub(super) tx: Arc<TxSession>,
    pub(super) index: u32,
    pub(super) born: Duration,
    /// The way the peer's handshake message came.
    pub(super) via: Via,
}

impl Tunnel {
    pub(super) fn new(spec: TunnelSpec, jitter: Duration) -> Self {
        Self {
            spec,
            activity: Arc::new(Activity::new()),
            is_calling: true,
            attempt: None,
            handshake: None,
            answer: None,
            current: None,
            next: Opening::default(),
            previous: Opening::default(),
            given_up: false,
            handshake_sent: None,
            mac1_sent: [0; MAC_LEN],
            cookie: None,
            look_at: None,
            timer: None,
            jitter,
        }
    }

    /// Makes a session this end initiated the current one. Gives the sessions it replaces for good.
    pub(super) fn adopt(&mut self, session: Session) -> Vec<Session> {
        let superseded = self.current.replace(session);
        // A session of the peer's making may be in use there already.
        let opening = superseded.into_iter().chain(self.next.drain());
        opening.filter_map(|session| self.previous.push(session)).collect()
    }

    /// Keeps a session the peer initiated until it is used. Gives the session it replaces for good.
    ///
    /// No other session goes: the peer sends on an older one until the answer is there, and if the initiation is an
    /// old one that somebody replays after this node was restarted, it never sends on the new one.
    pub(super) fn expect(&mut self, session: Session) -> Option<Session> {
        self.next.push(session)
    }

    /// The response that offered a session, if it may be sent once more: nobody has used that session yet.
    pub(super) fn answer_again(&mut self, now: Duration, index: u32) -> Option<Message> {
        let is_open = self.next.iter().any(|session| session.index == index);
        let answer = self.answer.as_mut().filter(|answer| is_open && answer.index == index)?;
        answer.repeat(now).then_some(answer.message)
    }

    /// Makes a next session the current one, if one has this index. Gives the session it replaces for good.
    pub(super) fn confirm(&mut self, index: u32) -> Option<Option<Session>> {
        let next = self.next.take(index)?;
        let superseded = self.current.replace(next);
        Some(superseded.and_then(|session| self.previous.push(session)))
    }

    /// Takes out the sessions that open nothing any more; the current one stays until its keys are wiped.
    pub(super) fn take_expired(&mut self, now: Duration) -> Vec<Session> {
        let expired = |session: &Session| now.saturating_sub(session.born) >= REJECT_AFTER;
        self.previous.take_all(expired).chain(self.next.take_all(expired)).collect()
    }

    /// The session that seals, if it is young enough.
    pub(super) fn usable(&self, now: Duration) -> Option<&Session> {
        self.current.as_ref().filter(|session| session.tx.is_usable(now))
    }

    /// When the keys must be wiped: a session that waits for its first packet puts it off.
    pub(super) fn wipe_at(&self) -> Option<Duration> {
        let born = self.current.as_ref()?.born;
        Some(self.next.iter().map(|next| next.born).fold(born, Duration::max).saturating_add(WIPE_AFTER))
    }

    /// When the next keepalive of the persistent kind is due.
    pub(super) fn persistent_at(&self) -> Option<Duration> {
        let interval = self.spec.keepalive?;
        // An attempt that runs does what a keepalive would do, and its end restarts the interval.
        if self.attempt.is_some() || !self.is_calling {
            return None;
        }
        let used = self.activity.last_sent().max(self.activity.last_received())?;
        Some(used.saturating_add(interval))
    }

    /// When anything of this tunnel needs a look.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let attempt = self.attempt.as_ref();
        let ages_out = |session: &Session| session.born.saturating_add(REJECT_AFTER);
        [
            attempt.map(|attempt| attempt.next_at.min(attempt.until)),
            self.look_at,
            self.wipe_at(),
            self.persistent_at(),
            self.previous.iter().map(ages_out).min(),
            self.next.iter().map(ages_out).min(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn status(&self, now: Duration) -> TunnelStatus {
        TunnelStatus {
            established_at: self.current.as_ref().map(|current| current.born),
            has_session: self.usable(now).is_some(),
            given_up: self.given_up,
            attempts_since: self.attempt.as_ref().map(|attempt| attempt.since),
            received_at: self.activity.last_received(),
        }
    }
}

impl<const MAX: usize> Opening<MAX> {
    /// Gives the oldest back if there are too many.
    fn push(&mut self, session: Session) -> Option<Session> {
        self.0.push_back(session);
        if self.0.len() > MAX { self.0.pop_front() } else { None }
    }

    fn take(&mut self, index: u32) -> Option<Session> {
        let at = self.0.iter().position(|session| session.index == index)?;
        self.0.remove(at)
    }

    fn take_all(&mut self, wanted: impl Fn(&Session) -> bool) -> impl Iterator<Item = Session> {
        let (taken, left) = self.drain().partition(wanted);
        self.0 = left;
        <VecDeque<Session>>::into_iter(taken)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Session> + use<MAX> {
        std::mem::take(&mut self.0).into_iter()
    }

    fn iter(&self) -> impl Iterator<Item = &Session> {
        self.0.iter()
    }
}

impl Attempt {
    /// An attempt that is made from now on, and whose first initiation is due at some time.
    pub(super) fn new(now: Duration, at: Duration) -> Self {
        Self {
            since: now,
            next_at: at,
            renew_at: at,
            has_slot: false,
            until: now.saturating_add(REKEY_ATTEMPT_TIME),
            copies: 0,
            copied_at: None,
            hurries: 0,
        }
    }

    /// Tries also a place just found: with a copy of the initiation if it `is_out`, because an answer to it may be on
    /// its way, or else with a new one. `sent_at` tells of the last handshake message.
    pub(super) fn try_place(&mut self, now: Duration, is_out: bool, sent_at: Option<Duration>) {
        self.until = self.until.max(now.saturating_add(PLACE_ATTEMPT_TIME));
        let after = |at: Option<Duration>| at.map_or(now, |at| at.saturating_add(COPY_AFTER).max(now));
        if is_out && self.wants_copy(now) {
            let at = if self.copies < COPIES_MAX { now } else { after(self.copied_at) };
            self.next_at = self.next_at.min(at);
        } else if !self.has_slot {
            self.initiate_at(self.next_at.min(after(sent_at)));
        }
    }

    /// Plans an initiation.
    pub(super) fn initiate_at(&mut self, at: Duration) {
        (self.next_at, self.renew_at, self.has_slot) = (at, at, false);
    }

    /// Brings the next initiation forward, because a cookie has come for the last one.
    pub(super) fn hurry(&mut self, now: Duration, jitter: Duration) {
        let at = now.saturating_add(jitter);
        // Several cookies may come for one initiation, which went several ways.
        let is_near = self.renew_at <= now.saturating_add(JITTER_MAX);
        if self.hurries < HURRIES_MAX && !is_near {
            self.hurries += 1;
            self.initiate_at(at);
        }
    }

    /// Whether what is due is a copy.
    pub(super) fn wants_copy(&self, now: Duration) -> bool {
        now < self.renew_at
    }

    pub(super) fn note_initiation(&mut self, now: Duration, jitter: Duration, has_session: bool) {
        self.initiate_at(now.saturating_add(REKEY_TIMEOUT).saturating_add(jitter));
        if !has_session {
            self.plan_copy(now, jitter);
        }
    }

    pub(super) fn note_copy(&mut self, now: Duration, jitter: Duration) {
        self.copies = self.copies.saturating_add(1);
        self.copied_at = Some(now);
        self.next_at = self.renew_at;
        self.plan_copy(now, jitter);
    }

    fn plan_copy(&mut self, now: Duration, jitter: Duration) {
        if self.copies < COPIES_MAX {
            self.next_at = now.saturating_add(COPY_AFTER).saturating_add(jitter).min(self.renew_at);
        }
    }
}
