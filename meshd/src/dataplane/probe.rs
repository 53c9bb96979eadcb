//! The longest packet one path carries, found by sealed probes and never by ICMP, which anybody can forge.
//!
//! ```text
//! Full ──answered──> Known(full)
//!   └──silence──> Floor ──answered──> Between … ──> Known(what was answered)
//!                   └──silence──> Fragments ──answered──> Known(floor), outer packets fragmented
//!                                    └──silence──> Below … ──> Known(what was answered), too narrow for IPv6
//! ```
//!
//! The link of this host needs no silence: it says at once that a datagram is too long for it, and nobody can forge that.
//!
//! Every probe travels with a short one. Silence says something about the length only if the short one was
//! answered; otherwise the path is down, nothing is learnt, and the search starts again later.
//!
//! A probe is a message inside the tunnel whose first nibble is no IP version, padded to the length in question.
//! Its answer has [`MESSAGE_LEN`] bytes, so nobody can have us amplify.

use std::time::Duration;

use super::MTU_MIN;

/// The shortest packet any path carries: what every IPv4 host takes, less the headers outside.
const BELOW_MIN: u16 = 576 - super::OVERHEAD;
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
    Asking { asked: Asked, tries: u8, short_answered: bool, until: Duration, unsent: bool },
}

/// What a probe asks.
#[derive(Debug, Clone, Copy)]
struct Asked {
    len: u16,
    low: u16,
    high: u16,
    /// Whether the datagram may be fragmented on its way.
    in_fragments: bool,
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
        let high = self.full.saturating_add(1);
        self.ask_anew(Asked { len: self.full, low: MTU_MIN, high, in_fragments: false }, now);
    }

    /// Ends the search, if any, and starts over at this time.
    pub(super) fn rest_until(&mut self, until: Duration) {
        self.state = State::Resting { until };
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
            State::Asking { asked, unsent, .. } => {
                let probe = Probe { search: self.search, len: asked.len };
                std::mem::take(unsent).then_some(probe)
            }
            State::Resting { .. } | State::Off => None,
        }
    }

    /// Whether the probe to send now may be fragmented.
    pub(super) fn asks_in_fragments(&self) -> bool {
        matches!(self.state, State::Asking { asked: Asked { in_fragments: true, .. }, .. })
    }

    /// Takes an answer; returns whether the way to send has changed.
    pub(super) fn on_ack(&mut self, ack: Ack, now: Duration) -> bool {
        let State::Asking { asked, short_answered, .. } = &mut self.state else { return false };
        if ack.search != self.search || ack.len > self.full {
            return false;
        }
        *short_answered = true;
        self.wait = WAIT_MIN;
        if ack.len < asked.len {
            return false;
        }
        let Asked { low, high, in_fragments, .. } = *asked;
        let before = (self.mtu, self.fragments);
        if in_fragments {
            (self.mtu, self.fragments) = (MTU_MIN, true);
            self.state = State::Resting { until: now + AGAIN_AFTER };
            return before != (self.mtu, self.fragments);
        }
        let low = low.max(ack.len);
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
            State::Asking { asked, tries, short_answered, .. } if tries < TRIES_MAX => {
                let until = now + self.wait;
                self.state = State::Asking { asked, tries: tries + 1, short_answered, until, unsent: true };
                false
            }
            State::Asking { short_answered: false, .. } => {
                self.wait = (self.wait * 2).min(WAIT_MAX);
                self.state = State::Resting { until: now + RETRY_AFTER };
                false
            }
            State::Asking { asked, .. } => self.refuse(asked, now),
        }
    }

    /// The link of this host did not take the probe that was sent last; returns whether the way to send has changed.
    pub(super) fn on_probe_refused(&mut self, now: Duration) -> bool {
        match self.state {
            State::Asking { asked, unsent: false, .. } => self.refuse(asked, now),
            State::Asking { .. } | State::Resting { .. } | State::Off => false,
        }
    }

    /// The link of this host did not take a packet of `len` bytes; returns whether the way to send has changed. Every
    /// path carries the floor, at worst in fragments; a search finds out what more.
    pub(super) fn on_data_refused(&mut self, len: u16, now: Duration) -> bool {
        // The packet left before the path was known as it is known now.
        if self.fragments || len > self.mtu {
            return false;
        }
        if matches!(self.state, State::Off) {
            // No search will find the width: either none ever runs, or one starts with the first session.
            self.fragments = self.mtu <= MTU_MIN;
            return self.fragments;
        }
        (self.mtu, self.fragments) = (MTU_MIN, len <= MTU_MIN);
        self.start(now);
        true
    }

    /// What was asked for is not carried.
    fn refuse(&mut self, asked: Asked, now: Duration) -> bool {
        let before = (self.mtu, self.fragments);
        let Asked { len, low, in_fragments, .. } = asked;
        if in_fragments {
            if self.fragments {
                (self.mtu, self.fragments) = (BELOW_MIN, false);
            }
            let len = BELOW_MIN + (MTU_MIN - BELOW_MIN) / 2;
            self.ask_anew(Asked { len, low: BELOW_MIN, high: MTU_MIN, in_fragments: false }, now);
        } else if len == MTU_MIN {
            if self.mtu >= MTU_MIN {
                (self.mtu, self.fragments) = (MTU_MIN, true);
            }
            self.ask_anew(Asked { len: MTU_MIN, low: MTU_MIN, high: MTU_MIN, in_fragments: true }, now);
        } else {
            if self.mtu >= len {
                self.mtu = low;
            }
            if len == self.full {
                // The floor is an assumption so far.
                self.ask(Asked { len: MTU_MIN, low: MTU_MIN, high: len, in_fragments: false }, now);
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
            self.ask(Asked { len: low + (high - low) / 2, low, high, in_fragments: false }, now);
        }
    }

    /// Asks so that a late answer to anything before is none.
    fn ask_anew(&mut self, asked: Asked, now: Duration) {
        self.search = self.search.wrapping_add(1);
        self.ask(asked, now);
    }

    fn ask(&mut self, asked: Asked, now: Duration) {
        let until = now + self.wait;
        self.state = State::Asking { asked, tries: 1, short_answered: false, until, unsent: true };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: u16 = 1420;

    /// What carries the probes.
    #[derive(Clone, Copy)]
    struct Underlay {
        width: u16,
        /// Whether longer packets pass in fragments.
        fragments: bool,
        /// What the first link takes, which says so.
        link: u16,
    }

    impl Underlay {
        const fn of(width: u16) -> Self {
            Self { width, fragments: width > 0, link: u16::MAX }
        }
    }

    /// Runs a search on a path that carries `width`, or nothing; returns the time it took.
    fn search(path: &mut PathMtu, width: Option<u16>, now: Duration) -> Duration {
        path.start(now);
        finish(path, Underlay::of(width.unwrap_or(0)), now)
    }

    /// Runs a search to its end; returns the time it took.
    fn finish(path: &mut PathMtu, underlay: Underlay, mut now: Duration) -> Duration {
        let started = now;
        while matches!(path.state, State::Asking { .. }) {
            if let Some(probe) = path.poll() {
                let in_fragments = path.asks_in_fragments();
                if !in_fragments && probe.len > underlay.link {
                    path.on_probe_refused(now);
                    continue;
                }
                let passes = |len| len <= underlay.width || (in_fragments && underlay.fragments);
                for len in [MESSAGE_LEN as u16, probe.len].into_iter().filter(|len| passes(*len)) {
                    path.on_ack(Ack { search: probe.search, len }, now);
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
    fn a_path_below_the_floor_that_carries_no_fragments_is_measured_too() {
        for width in (BELOW_MIN..MTU_MIN).step_by(31) {
            let underlay = Underlay { fragments: false, ..Underlay::of(width) };
            let mut path = PathMtu::new(FULL);
            path.start(Duration::ZERO);
            finish(&mut path, underlay, Duration::ZERO);
            assert!(path.mtu() <= width && path.mtu() + STEP >= width, "{} of {width}", path.mtu());
            assert!(!path.fragments());
            // What works stays in use while it is measured again.
            let known = path.mtu();
            path.start(Duration::from_secs(600));
            for _ in 0..3 * u32::from(TRIES_MAX) {
                assert_eq!((path.mtu(), path.fragments()), (known, false));
                let (probe, now) = (path.poll().unwrap(), path.next_timeout().unwrap());
                path.on_ack(Ack { search: probe.search, len: MESSAGE_LEN as u16 }, now);
                path.on_timeout(now);
            }
            finish(&mut path, underlay, Duration::from_secs(600));
            assert!(path.mtu().abs_diff(known) <= STEP, "{} after {known}", path.mtu());
        }
    }

    #[test]
    fn a_link_that_refuses_takes_no_time_to_measure() {
        for link in [1281, 1300, 1419] {
            let mut path = PathMtu::new(FULL);
            path.start(Duration::ZERO);
            let underlay = Underlay { link, ..Underlay::of(link) };
            assert_eq!(finish(&mut path, underlay, Duration::ZERO), Duration::ZERO);
            assert!(path.mtu() <= link && path.mtu() + STEP >= link, "{} of {link}", path.mtu());
        }
        let mut path = PathMtu::new(FULL);
        path.start(Duration::ZERO);
        let underlay = Underlay { link: 1240, ..Underlay::of(1240) };
        assert_eq!(finish(&mut path, underlay, Duration::ZERO), Duration::ZERO);
        assert_eq!((path.mtu(), path.fragments()), (MTU_MIN, true));
    }

    #[test]
    fn packets_that_the_link_refuses_go_by_the_floor_at_once_and_start_a_search() {
        let now = Duration::from_secs(60);
        let mut path = PathMtu::new(FULL);
        assert!(!path.on_data_refused(FULL, now), "no way to send yet");
        search(&mut path, Some(FULL), Duration::ZERO);
        assert!(path.on_data_refused(FULL, now));
        assert_eq!((path.mtu(), path.fragments()), (MTU_MIN, false));
        finish(&mut path, Underlay { link: 1400, ..Underlay::of(1400) }, now);
        assert!((1392..=1400).contains(&path.mtu()), "{}", path.mtu());

        assert!(path.on_data_refused(path.mtu(), now));
        assert!(path.on_data_refused(MTU_MIN, now), "the floor is refused as well");
        assert_eq!((path.mtu(), path.fragments()), (MTU_MIN, true));
    }

    #[test]
    fn packets_that_left_before_the_width_was_known_change_nothing_when_they_are_refused() {
        let now = Duration::from_secs(60);
        let mut path = PathMtu::new(FULL);
        search(&mut path, Some(FULL), Duration::ZERO);
        assert!(path.on_data_refused(FULL, now));
        let probe = path.poll().unwrap();
        assert!(!path.on_data_refused(FULL, now));
        assert_eq!((path.mtu(), path.fragments()), (MTU_MIN, false));
        assert!(path.poll().is_none(), "the search goes on");
        assert!(path.on_ack(Ack { search: probe.search, len: FULL }, now));

        search(&mut path, Some(1220), now);
        assert_eq!((path.mtu(), path.fragments()), (MTU_MIN, true));
        let rests_until = path.next_timeout();
        assert!(!path.on_data_refused(MTU_MIN, now), "it was not sent in fragments");
        assert_eq!(path.next_timeout(), rests_until);
    }

    #[test]
    fn a_link_below_the_floor_is_believed_also_where_nobody_answers_probes() {
        let mut path = PathMtu::unprobed(FULL);
        assert!(path.on_data_refused(MTU_MIN, Duration::ZERO));
        assert_eq!((path.mtu(), path.fragments()), (MTU_MIN, true));
        assert!(!path.on_data_refused(MTU_MIN, Duration::ZERO), "once");
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
