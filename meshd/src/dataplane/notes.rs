//! What the data threads tell the engine's thread.
//!
//! Nothing here grows with traffic: a peer is in the queue at most once, a session tells of its first packet
//! once, and stray datagrams have a ring of their own.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use meshd_tunnel::PeerId;

use super::peer::Peer;
use super::train::Refused;
use crate::io::Waker;

/// Control messages that came to a data socket: in order only while the steering program is missing.
const STRAYS_MAX: usize = 64;
/// Longest control message: an initiation.
pub(super) const CONTROL_LEN_MAX: usize = 148;

/// Set in the number that stands for refused packets, as peers and lengths may be zero.
const REFUSED: u64 = 1 << 48;

/// One thing to look at.
#[derive(Debug)]
pub(super) enum Note {
    /// The peer's [`Wants`] say what.
    Peer(Arc<Peer>),
    /// The first packet of a session that this host answered.
    Confirmed { index: u32 },
    /// A control message that came to a data socket.
    Stray(Stray),
}

/// A copied control message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stray {
    bytes: [u8; CONTROL_LEN_MAX],
    len: u8,
    pub(super) source: SocketAddr,
}

impl Stray {
    /// `None` for what is longer than any control message.
    pub(super) fn new(message: &[u8], source: SocketAddr) -> Option<Self> {
        let mut bytes = [0; CONTROL_LEN_MAX];
        bytes.get_mut(..message.len())?.copy_from_slice(message);
        Some(Self { bytes, len: u8::try_from(message.len()).ok()?, source })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// What a peer is in the queue for; a wish that is noted already is not noted twice.
#[derive(Debug, Default)]
pub(super) struct Wants(AtomicU8);

impl Wants {
    /// A successor of the session.
    pub(super) const RENEWAL: u8 = 1;
    /// The sleeping timers of the tunnel.
    pub(super) const STIR: u8 = 1 << 1;
    /// A look at where it was heard from last.
    pub(super) const HEARD: u8 = 1 << 2;
    /// A look at an answer to a probe of the path.
    pub(super) const PROBED: u8 = 1 << 3;
    /// Packets were staged: send them, or get a session for them.
    pub(super) const STAGED: u8 = 1 << 4;

    /// Takes all wishes; what is noted later queues the peer again.
    pub(super) fn take(&self) -> u8 {
        self.0.swap(0, Ordering::AcqRel)
    }

    /// Whether the wish is noted.
    pub(super) fn has(&self, want: u8) -> bool {
        self.0.load(Ordering::Relaxed) & want != 0
    }

    /// Adds a wish; true if the peer must be queued.
    fn add(&self, want: u8) -> bool {
        self.0.fetch_or(want, Ordering::AcqRel) == 0
    }
}

/// The queue and what wakes its reader.
#[derive(Debug)]
pub(super) struct Notes {
    queue: Mutex<Queue>,
    /// What this host's own link has refused: [`REFUSED`], the length and the peer; zero for nothing. Another peer waits
    /// for its next train.
    refused: AtomicU64,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Queue {
    notes: VecDeque<Note>,
    strays: usize,
}

impl Notes {
    pub(super) fn new(waker: Waker) -> Self {
        Self { queue: Mutex::default(), refused: AtomicU64::new(0), waker }
    }

    /// Notes a wish of a peer.
    pub(super) fn want(&self, peer: &Arc<Peer>, want: u8) {
        if !peer.wants.has(want) && peer.wants.add(want) {
            self.push(Note::Peer(Arc::clone(peer)));
        }
    }

    /// Notes the first packet of a session.
    pub(super) fn confirm(&self, index: u32) {
        self.push(Note::Confirmed { index });
    }

    /// Notes that this host's link takes no train as long as the path to a peer was believed to carry.
    pub(super) fn refused(&self, refused: Refused) {
        let Refused { peer, len } = refused;
        if self.refused.swap(REFUSED | u64::from(len) << 32 | u64::from(peer.0), Ordering::Relaxed) == 0 {
            self.waker.wake();
        }
    }

    /// What was noted so, once.
    pub(super) fn take_refused(&self) -> Option<Refused> {
        let number = self.refused.swap(0, Ordering::Relaxed);
        let refused = Refused { peer: PeerId(number as u32), len: (number >> 32) as u16 };
        (number != 0).then_some(refused)
    }

    /// Hands a control message on; false if too many wait.
    pub(super) fn stray(&self, stray: Stray) -> bool {
        self.push(Note::Stray(stray))
    }

    /// The oldest note.
    pub(super) fn pop(&self) -> Option<Note> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let note = queue.notes.pop_front()?;
        if matches!(note, Note::Stray(_)) {
            queue.strays -= 1;
        }
        Some(note)
    }

    /// Wakes the reader without a note.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }

    fn push(&self, note: Note) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(note, Note::Stray(_)) {
            if queue.strays >= STRAYS_MAX {
                return false;
            }
            queue.strays += 1;
        }
        let was_empty = queue.notes.is_empty();
        queue.notes.push_back(note);
        drop(queue);
        if was_empty {
            self.waker.wake();
        }
        true
    }
}
