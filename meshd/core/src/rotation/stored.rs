//! What of a rotation is on disk.

use super::epoch::Epoch;

/// A key and since when it is what it is; a date in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeySince {
    /// Its number.
    pub epoch: Epoch,
    /// Since when.
    pub since: u64,
}

/// What a node must remember of its rotation, beside the keys themselves.
///
/// It is stored together with the private keys that it names and no others, in one write: what is no longer named is
/// destroyed thereby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The highest sequence that a published record may have.
    pub seq: u64,
    /// The highest number that a key may have been announced under.
    pub epoch_max: Epoch,
    /// The key in use.
    pub cur: KeySince,
    /// How far the rotation is.
    pub step: Step,
}

/// The steps of a rotation that a restart can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// One key and no other.
    Steady {
        /// The key before, whose end may not be in the log yet.
        destroyed: Option<Epoch>,
    },
    /// The next key is made; it may be announced already.
    Prepared {
        /// The next key.
        next: KeySince,
    },
    /// The next key is in use beside the one before.
    Proving {
        /// The next key.
        next: KeySince,
    },
    /// The next key has become the key in use; the one before is still accepted.
    Committed {
        /// The key before.
        prev: KeySince,
        /// Until when it is accepted.
        accept_until: u64,
    },
    /// The key in use has replaced one that must not, or cannot, be used any more.
    Replaced {
        /// The one before, which is gone.
        old: Epoch,
        /// One that was beside it, and is gone as well.
        other: Option<Epoch>,
        /// Why.
        why: Why,
    },
}

/// Why a key was replaced at once instead of rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// It was stolen, or may have been.
    Compromised,
    /// Its private half is lost.
    Lost,
    /// A restored backup took the node back to a key that its peers have already forgotten.
    RolledBack,
}

impl Stored {
    /// What a node has that joins its mesh, or has never rotated: one key.
    pub fn first(epoch: Epoch, since: u64, seq: u64) -> Self {
        let cur = KeySince { epoch, since };
        Self { seq, epoch_max: epoch, cur, step: Step::Steady { destroyed: None } }
    }

    /// The keys that are stored with it, the key in use first.
    pub fn keys(&self) -> impl Iterator<Item = Epoch> + use<> {
        let other = match self.step {
            Step::Steady { destroyed: _ } | Step::Replaced { .. } => None,
            Step::Prepared { next } | Step::Proving { next } => Some(next.epoch),
            Step::Committed { prev, accept_until: _ } => Some(prev.epoch),
        };
        [Some(self.cur.epoch), other].into_iter().flatten()
    }
}
