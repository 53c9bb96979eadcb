//! The longest packet one path carries, found by sealed probes and never by ICMP, which anybody can forge.
//!
//! ```text
//! Full ──answered──> Known(full)
//!   └──silence──> Floor ──answered──> Between … ──> Known(what was answered)
//!                   └──silence──> Known(floor), outer packets fragmented
//! ```
//!
//! Every probe travels with a short one. Silence says something about the length only if the short one was
//! answered; otherwise the path is down, nothing is learnt, and the search starts again later.
//!
//! A probe is a message inside the tunnel whose first nibble is no IP version, padded to the length in question.
//! Its answer has [`MESSAGE_LEN`] bytes, so nobody can have us amplify.

use std::time::Duration;

use super::MTU_MIN;

/// Bytes of an answer, and of a probe without padding.
pub(super) const MESSAGE_LEN: usize = 16;
/// First wait for an answer; doubled while not even short probes are answered.
const WAIT_MIN: Duration = Duration::from_millis(500);
/// Longest wait: a round trip over two satellites and a busy link.
const WAIT_MAX: Duration = Duration::from_secs(4);
/// Probes of one length: two lost in a row are rare on any path worth using.
const TRIES_MAX: u8 = 2;
/// A search ends when it knows the length this well.
const STEP: u16 = 8;
/// Time to the next search after one that learnt nothing.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Time to the next search after one that found something; a new session or address starts one at once.
const AGAIN_AFTER: Duration = Duration::from_secs(600);

const KIND_PROBE: u8 = 1;
const KIND_ACK: u8 = 2;

/// A probe to be sent: `len` bytes of plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Probe {
    pub(super) search: u16,
    pub(super) len: u16,
}

/// What the other side says about a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) search: u16,
    pub(super) len: u16,
}

/// A message of a peer about the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PathMessage {
    Probe(Probe),
    Ack(Ack),
}

impl PathMessage {
    /// Reads the plaintext of a packet that is not IP.
    pub(super) fn parse(plaintext: &[u8]) -> Option<Self> {
        let header: &[u8; MESSAGE_LEN] = plaintext.first_chunk()?;
        let &[0, kind, s0, s1, l0, l1, ..] = header else { return None };
        let (search, len) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([l0, l1]));
        match kind {
            KIND_PROBE if usize::from(len) <= plaintext.len() => Some(Self::Probe(Probe { search, len })),
            KIND_ACK => Some(Self::Ack(Ack { search, len })),
            _ => None,
        }
    }
}

impl Probe {
    /// Writes the probe over the first `len` bytes of `out`, at least [`MESSAGE_LEN`]; `None` if it is too short.
    pub(super) fn write(self, out: &mut [u8]) -> Option<&[u8]> {
        let out = out.get_mut(..usize::from(self.len).max(MESSAGE_LEN))?;
        out.fill(0);
        out.get_mut(..MESSAGE_LEN)?.copy_from_slice(&message(KIND_PROBE, self.search, self.len));
        Some(out)
    }

    /// The answer to it.
    pub(super) fn answer(self) -> [u8; MESSAGE_LEN] {
        message(KIND_ACK, self.search, self.len)
    }
}

fn message(kind: u8, search: u16, len: u16) -> [u8; MESSAGE_LEN] {
    let ([s0, s1], [l0, l1]) = (search.to_be_bytes(), len.to_be_bytes());
    let mut message = [0; MESSAGE_LEN];
    message[..6].copy_from_slice(&[0, kind, s0, s1, l0, l1]);
    message
}

/// What is known of one path's width, and the search for more.
#[derive(Debug)]
pub(super) struct PathMtu {
    mtu: u16,
    fragments: bool,
    full: u16,
    search: u16,
    state: State,
    wait: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// No path yet, or nobody who answers probes.
    Off,
    /// Nothing to do until then.
    Resting { until: Duration },
    /// A probe is under way. `low` is carried or the floor, `high` is not carried.
    Asking { len: u16, low: u16, high: u16, tries: u8, short_answered: bool, until: Duration, unsent: bool },
}

impl PathMtu {
    /// A path taken to be as wide as the device, until a probe says otherwise.
    pub(super) fn new(full: u16) -> Self {
        let full = full.max(MTU_MIN);
        Self { mtu: full, fragments: false, full, search: 0, state: State::Off, wait: WAIT_MIN }
    }

    /// A path whose other end answers no probes: what every path must carry.
    pub(super) fn unprobed(full: u16) -> Self {
        Self { mtu: full.min(MTU_MIN), ..Self::new(full) }
    }

    /// Starts over: the path or the session is new. What was known stays in use until it is refuted.
    pub(super) fn start(&mut self, now: Duration) {
        self.search = self.search.wrapping_add(1);
        self.ask(self.full, MTU_MIN, self.full.saturating_add(1), now);
    }

    /// Longest inner packet.
    pub(super) fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Whether even the shortest MTU has to be fragmented outside.
    pub(super) fn fragments(&self) -> bool {
        self.fragments
    }

    /// When [`PathMtu::on_timeout`] is due.
    pub(super) fn next_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Off => None,
            State::Resting { until } | State::Asking { until, .. } => Some(until),
        }
    }

    /// The probe to send now, and with it a short one of [`MESSAGE_LEN`].
    pub(super) fn poll(&mut self) -> Option<Probe> {
        match &mut self.state {
            State::Asking { len, unsent, .. } => {
                let probe = Probe { search: self.search, len: *len };
                std::mem::take(unsent).then_some(probe)
            }
            State::Resting { .. } | State::Off => None,
        }
    }

    /// Takes an answer; returns whether the way to send has changed.
    pub(super) fn on_ack(&mut self, ack: Ack, now: Duration) -> bool {
        let State::Asking { len, low, high, short_answered, .. } = &mut self.state else { return false };
        if ack.search != self.search || ack.len > self.full {
            return false;
        }
        *short_answered = true;
        self.wait = WAIT_MIN;
        if ack.len < *len {
            return false;
        }
        let (low, high) = ((*low).max(ack.len), *high);
        let before = (self.mtu, self.fragments);
        (self.mtu, self.fragments) = (self.mtu.max(low), false);
        if self.mtu >= high {
            // What was in use before this search is no longer carried.
            self.mtu = low;
        }
        self.narrow(low, high, now);
        before != (self.mtu, self.fragments)
    }

    /// Handles silence; returns whether the way to send has changed.
    pub(super) fn on_timeout(&mut self, now: Duration) -> bool {
        match self.state {
            State::Off => false,
            State::Resting { until } => {
                if now >= until {
                    self.start(now);
                }
                false
            }
            State::Asking { until, .. } if now < until => false,
            State::Asking { len, low, high, tries, short_answered, .. } if tries < TRIES_MAX => {
                let until = now + self.wait;
                let tries = tries + 1;
                self.state = State::Asking { len, low, high, tries, short_answered, until, unsent: true };
                false
            }
            State::Asking { short_answered: false, .. } => {
                self.wait = (self.wait * 2).min(WAIT_MAX);
                self.state = State::Resting { until: now + RETRY_AFTER };
                false
            }
            State::Asking { len, low, .. } => self.refuse(len, low, now),
        }
    }

    /// `len` is not carried.
    fn refuse(&mut self, len: u16, low: u16, now: Duration) -> bool {
        let before = (self.mtu, self.fragments);
        if len <= MTU_MIN {
            (self.mtu, self.fragments) = (MTU_MIN, true);
            self.state = State::Resting { until: now + AGAIN_AFTER };
        } else {
            if self.mtu >= len {
                self.mtu = low;
            }
            if len == self.full {
                // The floor is an assumption so far.
                self.ask(MTU_MIN, MTU_MIN, len, now);
            } else {
                self.narrow(low, len, now);
            }
        }
        before != (self.mtu, self.fragments)
    }

    /// `low` is carried, `high` is not: asks for the middle, or ends.
    fn narrow(&mut self, low: u16, high: u16, now: Duration) {
        if high.saturating_sub(low) <= STEP {
            self.mtu = low;
            self.state = State::Resting { until: now + AGAIN_AFTER };
        } else {
            self.ask(low + (high - low) / 2, low, high, now);
        }
    }

    fn ask(&mut self, len: u16, low: u16, high: u16, now: Duration) {
        let until = now + self.wait;
        self.state = State::Asking { len, low, high, tries: 1, short_answered: false, until, unsent: true };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u16 = 1420;

    /// Runs a search on a path that carries `width`, or nothing; returns the time it took.
    fn search(path: &mut PathMtu, width: Option<u16>, mut now: Duration) -> Duration {
        let started = now;
        path.start(now);
        while matches!(path.state, State::Asking { .. }) {
            if let Some(probe) = path.poll() {
                for len in [MESSAGE_LEN as u16, probe.len] {
                    if width.is_some_and(|width| len <= width) {
                        path.on_ack(Ack { search: probe.search, len }, now);
                    }
                }
            } else {
                now = path.next_timeout().unwrap();
                path.on_timeout(now);
            }
        }
        now - started
    }

    #[test]
    fn a_path_of_full_width_takes_one_probe() {
        let mut path = PathMtu::new(FULL);
        assert_eq!(search(&mut path, Some(FULL), Duration::ZERO), Duration::ZERO);
        assert_eq!((path.mtu(), path.fragments()), (FULL, false));
    }

    #[test]
    fn every_width_is_found_to_within_a_step() {
        for full in [1280, FULL, 8920] {
            for width in (1280..=full).step_by(37) {
                let mut path = PathMtu::new(full);
                search(&mut path, Some(width), Duration::ZERO);
                assert!(path.mtu() <= width && path.mtu() + STEP >= width, "{} of {width}", path.mtu());
                assert!(!path.fragments());
            }
        }
    }

    #[test]
    fn a_path_below_the_floor_is_fragmented() {
        let mut path = PathMtu::new(FULL);
        search(&mut path, Some(1220), Duration::ZERO);
        assert_eq!((path.mtu(), path.fragments()), (MTU_MIN, true));
        search(&mut path, Some(FULL), Duration::from_secs(60));
        assert_eq!((path.mtu(), path.fragments()), (FULL, false));
    }

    #[test]
    fn a_path_that_is_down_says_nothing_about_its_width() {
        let mut path = PathMtu::new(FULL);
        search(&mut path, None, Duration::ZERO);
        assert_eq!((path.mtu(), path.fragments()), (FULL, false));
        assert!(path.next_timeout().is_some(), "it is asked again");
    }

    #[test]
    fn a_path_that_became_narrow_is_noticed_and_one_that_became_wide_too() {
        let mut path = PathMtu::new(FULL);
        search(&mut path, Some(1380), Duration::ZERO);
        search(&mut path, Some(1300), Duration::from_secs(60));
        assert!((1292..=1300).contains(&path.mtu()), "{}", path.mtu());
        search(&mut path, Some(1380), Duration::from_secs(120));
        assert!((1372..=1380).contains(&path.mtu()), "{}", path.mtu());
    }

    #[test]
    fn answers_to_older_searches_and_longer_ones_than_any_probe_change_nothing() {
        let mut path = PathMtu::new(FULL);
        path.start(Duration::ZERO);
        let probe = path.poll().unwrap();
        assert!(!path.on_ack(Ack { search: probe.search.wrapping_sub(1), len: FULL }, Duration::ZERO));
        assert!(!path.on_ack(Ack { search: probe.search, len: FULL + 1 }, Duration::ZERO));
        assert!(matches!(path.state, State::Asking { .. }));
    }

    #[test]
    fn messages_are_read_as_written_and_never_longer_than_they_are() {
        let mut buffer = [0xff; 2000];
        let probe = Probe { search: 7, len: 1400 };
        let written = probe.write(&mut buffer).unwrap();
        assert_eq!(written.len(), 1400);
        assert_eq!(PathMessage::parse(written), Some(PathMessage::Probe(probe)));
        assert_eq!(PathMessage::parse(&written[..1399]), None);
        let ack = PathMessage::parse(&probe.answer());
        assert_eq!(ack, Some(PathMessage::Ack(Ack { search: 7, len: 1400 })));
        assert_eq!(PathMessage::parse(&[0; 15]), None);
        assert_eq!(PathMessage::parse(&[0x45; 40]), None);
    }
}
