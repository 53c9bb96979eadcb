//! One association with one peer.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use boringtun::noise::{Tunn, TunnResult};
use x25519_dalek::PublicKey;

use super::local_key::LocalKey;
use super::message::{MessageKind, Refused, TunnelIndex, classify, refusal};
use super::{BUFFER_LEN_MIN, OVERHEAD, PADDING};

/// Packets kept while a handshake runs: enough for the start of a connection, oldest dropped first.
const STAGED_MAX: usize = 64;
/// Bytes of them: 64 full packets of a common MTU, so that an absent peer costs little memory.
const STAGED_BYTES_MAX: usize = 96 * 1024;
/// Time between two initiations that nobody answers (WireGuard REKEY_TIMEOUT).
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Unanswered time after which a handshake has given up (WireGuard REKEY_ATTEMPT_TIME).
const GIVE_UP_AFTER: Duration = Duration::from_secs(90);
/// Time between initiations after giving up; staggered by index so that absent peers do not wake together.
const SLOW_RETRY_AFTER: Duration = Duration::from_secs(25);
/// A session is renewed at this age (WireGuard REKEY_AFTER_TIME), by the side with the lower key …
const RENEW_AFTER: Duration = Duration::from_secs(120);
/// … and this much later by the other side, so that both rarely start at once.
const RENEW_STAGGER: Duration = Duration::from_secs(15);
/// An empty message goes out after this silence of ours, so that NATs and the peer know we live.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(25);
/// Empty messages the engine may have queued while it had no session; more are cut off.
const ENGINE_QUEUE_MAX: usize = 256;

/// A WireGuard association between this host's key and a peer's key.
///
/// ```text
/// Idle ──initiate──> Trying ──response / first data──> Up ──no renewal for 180 s──> Idle
///                      └──90 s without an answer──> GivenUp ──slow retries──> Trying's answer ──> Up
/// ```
pub struct Tunnel {
    engine: Box<Tunn>,
    index: TunnelIndex,
    mtu: usize,
    renew_after: Duration,
    staged: VecDeque<Vec<u8>>,
    staged_bytes: usize,
    /// Start of the current run of unanswered initiations.
    trying_since: Option<Duration>,
    last_initiation: Option<Duration>,
    last_handshake: Option<Duration>,
    last_sent: Duration,
    keepalive_wanted: bool,
}

/// What became of a packet for the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Sealed<'a> {
    /// Send this to the endpoint.
    Datagram(&'a [u8]),
    /// Kept until the handshake ends; send this initiation to all candidates.
    Staged {
        /// The initiation.
        initiation: &'a [u8],
        /// Whether an older packet was dropped to make room.
        dropped: bool,
    },
    /// Kept; a handshake is on its way already.
    Waiting {
        /// Whether an older packet was dropped to make room.
        dropped: bool,
    },
}

/// What an authenticated datagram held.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened<'a> {
    /// An inner packet.
    Packet(&'a mut [u8]),
    /// An empty message: the peer lives.
    Keepalive,
    /// A valid initiation; send this response to its source. It does not yet prove the source: an old
    /// initiation can be replayed to a host that restarted.
    Response(&'a [u8]),
    /// A valid response: the session is up. Send this to its source, then [`Tunnel::flush`].
    Established(&'a [u8]),
    /// A cookie for the next initiation.
    Cookie,
}

/// What time asks of a tunnel.
#[derive(Debug, PartialEq, Eq)]
pub enum Ticked<'a> {
    /// Nothing.
    Idle,
    /// Send this initiation.
    Initiation(&'a [u8]),
    /// Send this empty message to the endpoint.
    Keepalive(&'a [u8]),
}

impl Tunnel {
    /// A tunnel without a session. `index` must be unique among the tunnels of one data plane; padding never
    /// makes a packet longer than `mtu`.
    pub fn new(local: &LocalKey, peer: &[u8; 32], index: TunnelIndex, mtu: u16) -> Self {
        let engine = Tunn::new(
            local.private(),
            PublicKey::from(*peer),
            None,
            None,
            index.value(),
            Some(local.open_gate()),
        );
        let lower = local.public() < *peer;
        Self {
            engine: Box::new(engine),
            index,
            mtu: usize::from(mtu),
            renew_after: if lower { RENEW_AFTER } else { RENEW_AFTER + RENEW_STAGGER },
            staged: VecDeque::new(),
            staged_bytes: 0,
            trying_since: None,
            last_initiation: None,
            last_handshake: None,
            last_sent: Duration::ZERO,
            keepalive_wanted: false,
        }
    }

    /// Seals one packet into `out`, which needs [`OVERHEAD`] bytes more than the packet and at least
    /// [`BUFFER_LEN_MIN`].
    pub fn seal<'a>(
        &mut self,
        packet: &[u8],
        out: &'a mut [u8],
        now: Duration,
    ) -> Result<Sealed<'a>, Refused> {
        if out.len() < BUFFER_LEN_MIN || out.len() < packet.len().saturating_add(OVERHEAD) {
            return Err(Refused::TooLong);
        }
        if self.has_session() {
            self.last_sent = now;
            return self.encapsulate(packet, out).map(Sealed::Datagram);
        }
        let dropped = self.stage(packet);
        if self.initiation_is_due(now) {
            let initiation = self.initiate(out, now)?;
            return Ok(Sealed::Staged { initiation, dropped });
        }
        Ok(Sealed::Waiting { dropped })
    }

    /// Authenticates a datagram that [`LocalKey::admit`] gave to this tunnel. `out` must hold the datagram
    /// and at least [`BUFFER_LEN_MIN`] bytes.
    pub fn open<'a>(
        &mut self,
        datagram: &[u8],
        source: IpAddr,
        out: &'a mut [u8],
        now: Duration,
    ) -> Result<Opened<'a>, Refused> {
        let (kind, _) = classify(datagram)?;
        if out.len() < BUFFER_LEN_MIN || out.len() < datagram.len() {
            return Err(Refused::TooLong);
        }
        match self.engine.decapsulate(Some(source), datagram, out) {
            TunnResult::Done if kind == MessageKind::Cookie => Ok(Opened::Cookie),
            TunnResult::Done => {
                self.answered();
                Ok(Opened::Keepalive)
            }
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                self.answered();
                Ok(Opened::Packet(packet))
            }
            TunnResult::WriteToNetwork(reply) => {
                self.last_handshake = Some(now);
                self.last_sent = now;
                match kind {
                    MessageKind::Initiation => Ok(Opened::Response(reply)),
                    MessageKind::Response => {
                        self.answered();
                        Ok(Opened::Established(reply))
                    }
                    MessageKind::Cookie | MessageKind::Data => Err(Refused::Engine),
                }
            }
            TunnResult::Err(error) => Err(refusal(error, kind)),
        }
    }

    /// Seals the next packet that waited for the session; call it until it returns `None`.
    pub fn flush<'a>(&mut self, out: &'a mut [u8], now: Duration) -> Option<&'a [u8]> {
        if !self.has_session() {
            return None;
        }
        self.discard_engine_queue(out);
        let packet = self.staged.pop_front()?;
        self.staged_bytes = self.staged_bytes.saturating_sub(packet.len());
        self.last_sent = now;
        if out.len() < packet.len().saturating_add(OVERHEAD) {
            return None;
        }
        self.encapsulate(&packet, out).ok()
    }

    /// Whether packets wait for a session that exists by now.
    pub fn wants_flush(&self) -> bool {
        !self.staged.is_empty() && self.has_session()
    }

    /// Lets time pass. Initiates on its own for retries and renewals; the first initiation is the caller's.
    pub fn tick<'a>(&mut self, out: &'a mut [u8], now: Duration) -> Result<Ticked<'a>, Refused> {
        if out.len() < BUFFER_LEN_MIN {
            return Err(Refused::TooLong);
        }
        // What the engine emits here is its own idea of the timers below, which replace it: an initiation
        // it makes is used when one is due, and is never answered otherwise, which the protocol allows.
        let dormant = !self.has_session() && self.has_given_up(now) && !self.initiation_is_due(now);
        if dormant || (!self.has_session() && self.last_initiation.is_none()) {
            return Ok(Ticked::Idle);
        }
        let emitted = match self.engine.update_timers(out) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            _ => None,
        };
        if let Some(len) = emitted {
            let message = out.get(..len).ok_or(Refused::Engine)?;
            self.last_sent = now;
            if matches!(classify(message)?, (MessageKind::Initiation, _)) {
                self.note_initiation(now);
                return Ok(Ticked::Initiation(message));
            }
            return Ok(Ticked::Keepalive(message));
        }
        let renewal = self.has_session() && self.age(now).is_some_and(|age| age >= self.renew_after);
        let retry = !self.has_session() || self.trying_since.is_some();
        if (renewal || retry) && self.initiation_is_due(now) {
            return self.initiate(out, now).map(Ticked::Initiation);
        }
        let silent = now.saturating_sub(self.last_sent) >= KEEPALIVE_AFTER;
        if self.has_session() && (silent || std::mem::take(&mut self.keepalive_wanted)) {
            self.last_sent = now;
            return self.encapsulate(&[], out).map(Ticked::Keepalive);
        }
        Ok(Ticked::Idle)
    }

    /// Starts a handshake now, whatever is in progress.
    pub fn initiate<'a>(&mut self, out: &'a mut [u8], now: Duration) -> Result<&'a [u8], Refused> {
        if out.len() < BUFFER_LEN_MIN {
            return Err(Refused::TooLong);
        }
        self.note_initiation(now);
        self.last_sent = now;
        // The engine dates a handshake by its last tick, which may be long ago for a tunnel that rested.
        if let TunnResult::WriteToNetwork(message) = self.engine.update_timers(out) {
            let len = message.len();
            if matches!(classify(message)?, (MessageKind::Initiation, _)) {
                return out.get(..len).ok_or(Refused::Engine);
            }
        }
        match self.engine.format_handshake_initiation(out, true) {
            TunnResult::WriteToNetwork(message) => Ok(message),
            _ => Err(Refused::Engine),
        }
    }

    /// Restarts the fast retries, for instance because new candidates are known.
    pub fn revive(&mut self) {
        self.trying_since = None;
        self.last_initiation = None;
    }

    /// Asks for an empty message at the next tick.
    pub fn greet(&mut self) {
        self.keepalive_wanted = true;
    }

    /// Drops all waiting packets and says how many they were.
    pub fn discard_staged(&mut self) -> usize {
        self.staged_bytes = 0;
        std::mem::take(&mut self.staged).len()
    }

    /// Index that inbound messages of this tunnel carry.
    pub fn index(&self) -> TunnelIndex {
        self.index
    }

    /// Whether packets can be sealed now.
    pub fn has_session(&self) -> bool {
        self.engine.time_since_last_handshake().is_some()
    }

    /// Whether initiations have gone unanswered for so long that the peer counts as absent.
    pub fn has_given_up(&self, now: Duration) -> bool {
        self.trying_since.is_some_and(|since| now.saturating_sub(since) >= GIVE_UP_AFTER)
    }

    /// Whether an initiation may be sent: none is waiting for its answer.
    pub fn initiation_is_due(&self, now: Duration) -> bool {
        let Some(last) = self.last_initiation else { return true };
        let wait = if self.has_given_up(now) {
            SLOW_RETRY_AFTER + Duration::from_millis(u64::from(self.index.spread(5000)))
        } else {
            RETRY_AFTER
        };
        now.saturating_sub(last) >= wait
    }

    /// Time since the last completed handshake.
    pub fn age(&self, now: Duration) -> Option<Duration> {
        self.last_handshake.map(|at| now.saturating_sub(at))
    }

    fn answered(&mut self) {
        self.trying_since = None;
    }

    fn note_initiation(&mut self, now: Duration) {
        self.last_initiation = Some(now);
        self.trying_since.get_or_insert(now);
    }

    /// Keeps a packet for later. Returns whether an older one had to go.
    fn stage(&mut self, packet: &[u8]) -> bool {
        let mut dropped = false;
        while !self.staged.is_empty()
            && (self.staged.len() >= STAGED_MAX
                || self.staged_bytes.saturating_add(packet.len()) > STAGED_BYTES_MAX)
        {
            let oldest = self.staged.pop_front().map_or(0, |oldest| oldest.len());
            self.staged_bytes = self.staged_bytes.saturating_sub(oldest);
            dropped = true;
        }
        self.staged_bytes = self.staged_bytes.saturating_add(packet.len());
        self.staged.push_back(packet.to_vec());
        dropped
    }

    fn discard_engine_queue(&mut self, out: &mut [u8]) {
        for _ in 0..ENGINE_QUEUE_MAX {
            match self.engine.decapsulate(None, &[], out) {
                TunnResult::WriteToNetwork(_) => {}
                _ => return,
            }
        }
    }

    /// Pads and seals. The caller has checked that `out` is large enough and that a session exists.
    fn encapsulate<'a>(&mut self, packet: &[u8], out: &'a mut [u8]) -> Result<&'a [u8], Refused> {
        let padding = (packet.len().wrapping_neg() % PADDING).min(self.mtu.saturating_sub(packet.len()));
        let result = if padding == 0 {
            self.engine.encapsulate(packet, out)
        } else {
            let mut padded = Vec::with_capacity(packet.len() + padding);
            padded.extend_from_slice(packet);
            padded.resize(packet.len() + padding, 0);
            self.engine.encapsulate(&padded, out)
        };
        match result {
            TunnResult::WriteToNetwork(datagram) => Ok(datagram),
            _ => Err(Refused::Engine),
        }
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel")
            .field("index", &self.index)
            .field("session", &self.has_session())
            .finish_non_exhaustive()
    }
}
