//! What the engine's thread knows of one peer, and the deadlines that follow from it.

use std::sync::Arc;
use std::time::Duration;

use meshd_core::Path;

use super::super::keys::PeerKeys;
use super::super::peer::{Peer, Way};
use super::super::probe::PathMtu;
use super::peer_tunnels::PeerTunnels;

/// Silence after which a peer counts as down: two keepalives lost and the third overdue.
const DOWN_AFTER: Duration = Duration::from_secs(60);
/// The same for a plain WireGuard peer, which may send no keepalives: a session's whole life.
const EXTERNAL_DOWN_AFTER: Duration = Duration::from_secs(180);
/// Silence after which handshakes ask whether the peer still lives: one keepalive lost.
const SUSPECT_AFTER: Duration = Duration::from_secs(35);
/// Time between two such questions.
const SUSPECT_AGAIN: Duration = Duration::from_secs(5);
/// Moves of a peer are told and measured this far apart: whoever sends from places that are not its own must not make
/// this node probe them, nor fill the queue of events.
const MOVE_AGAIN: Duration = Duration::from_secs(5);

/// One peer.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) peer: Arc<Peer>,
    pub(super) path: Path,
    pub(super) tunnels: PeerTunnels,
    pub(super) keys: PeerKeys,
    pub(super) mtu: PathMtu,
    /// When to call, if there is no session by then.
    pub(super) call_at: Option<Duration>,
    /// When the peer was asked last whether it lives.
    pub(super) asked_at: Option<Duration>,
    /// When to tell that the peer has moved.
    pub(super) tell_at: Option<Duration>,
    /// Before this no other move is told.
    next_tell_at: Duration,
    /// Where it stands in the queue of deadlines.
    pub(super) due: Option<Duration>,
}

/// What to do about a silent peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing.
    Fine,
    /// Ask whether it lives.
    Suspect,
    /// Tell that it does not.
    Down,
}

impl Tracked {
    pub(super) fn new(
        peer: Arc<Peer>,
        path: Path,
        tunnels: PeerTunnels,
        keys: PeerKeys,
        mtu: PathMtu,
    ) -> Self {
        Self {
            peer,
            path,
            tunnels,
            keys,
            mtu,
            call_at: None,
            asked_at: None,
            tell_at: None,
            next_tell_at: Duration::ZERO,
            due: None,
        }
    }

    /// How to send now, as the data threads are to see it.
    pub(super) fn way(&self) -> Option<Way> {
        let session = self.tunnels.sending()?;
        let endpoint = self.path.endpoint()?;
        let (mtu, fragments) = (self.mtu.mtu(), self.mtu.fragments());
        Some(Way { session: Arc::clone(session), endpoint, mtu, fragments })
    }

    /// Whether there is any session, be it too old to send with.
    pub(super) fn has_session(&self) -> bool {
        self.tunnels.sending().is_some()
    }

    /// Plans to tell that the peer has moved, and to measure the new path: at once, unless it has just moved before.
    pub(super) fn note_move(&mut self, now: Duration) {
        let at = self.next_tell_at.max(now);
        self.tell_at = Some(at);
        if !self.peer.is_external {
            self.mtu.rest_until(at);
        }
    }

    /// Whether it is time to tell that the peer has moved; true once.
    pub(super) fn takes_move(&mut self, now: Duration) -> bool {
        let is_due = self.tell_at.take_if(|at| *at <= now).is_some();
        if is_due {
            self.next_tell_at = now + MOVE_AGAIN;
        }
        is_due && self.peer.is_up()
    }

    /// Whether the proven endpoint can be trusted to lead to the peer.
    pub(super) fn answers(&self, now: Duration) -> bool {
        let silence = self.peer.heard_at().map(|at| now.saturating_sub(at));
        self.has_session() && silence.is_some_and(|silence| silence < SUSPECT_AFTER)
    }

    /// What the time since it was heard means.
    pub(super) fn silence(&self, now: Duration) -> Silence {
        if !self.peer.is_up() {
            Silence::Fine
        } else if now >= self.down_at() {
            Silence::Down
        } else if self.suspect_at().is_some_and(|at| now >= at) {
            Silence::Suspect
        } else {
            Silence::Fine
        }
    }

    /// The next time something must be done about the peer.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let down = self.peer.is_up().then(|| self.down_at());
        let suspect = self.suspect_at().filter(|_| self.peer.is_up());
        let due =
            [self.call_at, down, suspect, self.tell_at, self.mtu.next_timeout(), self.tunnels.old_ends_at()];
        due.into_iter().flatten().min()
    }

    fn down_at(&self) -> Duration {
        let after = if self.peer.is_external { EXTERNAL_DOWN_AFTER } else { DOWN_AFTER };
        self.peer.heard_at().unwrap_or_default() + after
    }

    /// A plain WireGuard peer may sleep: nobody asks.
    fn suspect_at(&self) -> Option<Duration> {
        let at = self.peer.heard_at()? + SUSPECT_AFTER;
        let again = self.asked_at.map(|asked| asked + SUSPECT_AGAIN);
        (!self.peer.is_external).then(|| again.map_or(at, |again| again.max(at)))
    }
}
