//! Numbers of tunnel keys, and pairs of them.

use std::fmt;

/// Number of a node's tunnel key. It only grows, and one number is one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The number after this one, unless there is none: at one rotation a second after 136 years.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What one tunnel with a peer belongs to: a key of this node and a key of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// This node's key.
    pub own: Epoch,
    /// The peer's key.
    pub peer: Epoch,
}

impl Pair {
    /// The same tunnel as the peer names it.
    #[must_use]
    pub fn turned(self) -> Self {
        Self { own: self.peer, peer: self.own }
    }

    /// Orders the tunnels with a peer by how new they are: by the sum of both numbers, then by the own one.
    ///
    /// Both ends may disagree about a tie. That is no harm, since each of them receives on all tunnels.
    pub(super) fn rank(self) -> (u64, Epoch) {
        (u64::from(self.own.0) + u64::from(self.peer.0), self.own)
    }
}
