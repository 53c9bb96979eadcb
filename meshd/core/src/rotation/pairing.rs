//! The tunnels with one peer while its keys, or this node's, or both rotate.
//!
//! Nothing here has a memory: what should be follows from what this node does with its own keys, what the peer's
//! newest record says, and which tunnels are confirmed. Ask again when one of these changes and at
//! [`Pairing::changes_at`]; then drop the tunnels that [`Pairing::keeps`] no more, make those of
//! [`Pairing::pairs`] that are missing, start handshakes where [`Pairing::calls`], and send on
//! [`Pairing::sends_on`].

use super::epoch::{Epoch, Pair};

/// Most tunnels of one peer: two epochs of each end. A tunnel that replaces another only for its pre-shared key is one
/// more for as long as that takes.
pub const PAIRS_MAX: usize = OWN_MAX * PEER_MAX;
/// Keys of this node that are in use at the same time.
const OWN_MAX: usize = 2;
/// Keys of a peer that are in use at the same time. A record may name three; who keeps to the rules names two.
const PEER_MAX: usize = 2;
/// Difference of two clocks that takes nothing from a peer, in seconds.
pub const SKEW_S: u64 = 90;

/// What a node does with one of its own keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Use {
    /// Answers handshakes, never sends: the key is announced, and nobody has proven yet that it is logged.
    Answer,
    /// Calls peers.
    Call,
    /// Calls a peer only as long as no newer key is confirmed with it.
    Spare,
}

/// This node's keys in use, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnEpochs {
    /// The key that peers know best, and what it is used for.
    pub older: (Epoch, Use),
    /// The key that follows it.
    pub newer: Option<(Epoch, Use)>,
}

impl OwnEpochs {
    /// One key and no other: between two rotations.
    pub fn single(epoch: Epoch) -> Self {
        Self { older: (epoch, Use::Call), newer: None }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Epoch, Use)> + use<> {
        [Some(self.older), self.newer].into_iter().flatten()
    }

    fn usage(&self, epoch: Epoch) -> Option<Use> {
        self.all().find(|(own, _)| *own == epoch).map(|(_, usage)| usage)
    }
}

/// A key of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerEpoch {
    /// Its number.
    pub epoch: Epoch,
    /// Whether it may be used: it is proven that the key was logged.
    pub is_proven: bool,
}

/// What the newest record of a peer says about its keys. Dates are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerEpochs {
    /// The key in use.
    pub cur: PeerEpoch,
    /// When it is too old to be used.
    pub cur_ends: Option<u64>,
    /// The key announced next.
    pub next: Option<PeerEpoch>,
    /// The key used before, and until when it is accepted.
    pub prev: Option<(PeerEpoch, u64)>,
}

impl PeerEpochs {
    /// One key that never ends: a peer that does not rotate.
    pub fn single(epoch: Epoch) -> Self {
        Self { cur: PeerEpoch { epoch, is_proven: true }, cur_ends: None, next: None, prev: None }
    }
}

/// Which tunnels this node has with one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pairing {
    /// What this node does with its keys.
    pub own: OwnEpochs,
    /// What the peer says about its keys.
    pub peer: PeerEpochs,
}

impl Pairing {
    /// The tunnels to have, the newest last; at most [`PAIRS_MAX`].
    ///
    /// `now` is a date in seconds since 1970, or none while the clock is in doubt: then nothing ends by its date.
    pub fn pairs(&self, now: Option<u64>) -> impl Iterator<Item = Pair> + use<> {
        let mut pairs = [None; PAIRS_MAX];
        let peers = self.peers(now);
        let all = self
            .own
            .all()
            .flat_map(|(own, _)| peers.into_iter().flatten().map(move |(peer, _)| Pair { own, peer }));
        for (place, pair) in pairs.iter_mut().zip(all) {
            *place = Some(pair);
        }
        pairs.sort_unstable_by_key(|pair| pair.map(Pair::rank));
        pairs.into_iter().flatten()
    }

    /// Whether a tunnel goes on; one that does not is dropped at once, with its keys.
    pub fn keeps(&self, pair: Pair, now: Option<u64>) -> bool {
        self.pairs(now).any(|kept| kept == pair)
    }

    /// Whether this node starts handshakes on a tunnel that has no session, or a session that grows old. On all others
    /// it waits for the peer.
    pub fn calls(&self, pair: Pair, now: Option<u64>, confirmed: impl IntoIterator<Item = Pair>) -> bool {
        let Some(usage) = self.own.usage(pair.own) else { return false };
        let peer = self.peers(now).into_iter().flatten().find(|(peer, _)| *peer == pair.peer);
        let Some((_, readiness)) = peer else { return false };
        let mut confirmed = confirmed.into_iter().filter(|other| self.keeps(*other, now));
        match (usage, readiness) {
            (Use::Answer, _) | (_, Readiness::Fading) => false,
            (Use::Call, Readiness::Current) => true,
            (Use::Spare, Readiness::Current) => !confirmed.any(|other| other.own > pair.own),
            (Use::Call, Readiness::Announced) => {
                let mut confirmed = confirmed.peekable();
                confirmed.peek().is_none() || confirmed.any(|other| other.peer == pair.peer)
            }
            (Use::Spare, Readiness::Announced) => confirmed.next().is_none(),
        }
    }

    /// The tunnel to send on, of those that are confirmed: an authentic packet of the peer came on it, and its session
    /// can still be used.
    pub fn sends_on(&self, now: Option<u64>, confirmed: impl IntoIterator<Item = Pair>) -> Option<Pair> {
        let may_send = |pair: &Pair| match self.own.usage(pair.own) {
            Some(Use::Call | Use::Spare) => self.keeps(*pair, now),
            Some(Use::Answer) | None => false,
        };
        confirmed.into_iter().filter(may_send).max_by_key(|pair| pair.rank())
    }

    /// The next date at which a tunnel ends because of its date alone, if the clock is not in doubt.
    pub fn changes_at(&self, now: u64) -> Option<u64> {
        let ends = [self.peer.cur_ends, self.peer.prev.map(|(_, until)| until)];
        ends.into_iter().flatten().map(over_at).filter(|at| *at > now).min()
    }

    /// The keys of the peer that may be used.
    fn peers(&self, now: Option<u64>) -> [Option<(Epoch, Readiness)>; PEER_MAX] {
        let PeerEpochs { cur, cur_ends, next, prev } = self.peer;
        let is_over = |end: u64| now.is_some_and(|now| now >= over_at(end));
        let cur = (cur.is_proven && !cur_ends.is_some_and(is_over)).then_some(cur.epoch);
        let next = next.filter(|next| next.is_proven).map(|next| (next.epoch, Readiness::Announced));
        let prev = prev.filter(|(prev, until)| prev.is_proven && !is_over(*until));
        let prev_is = if cur.is_some() { Readiness::Fading } else { Readiness::Current };
        let prev = prev.map(|(prev, _)| (prev.epoch, prev_is));
        [cur.map(|cur| (cur, Readiness::Current)), next.or(prev)]
    }
}

/// What can be expected of a key of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// The peer answers at it.
    Current,
    /// The peer knows when it is ready for it, and calls with it then. From then on it is called at it: both may have gone
    /// over to their next keys while records do not arrive, and each would send to a key that the other is about to drop.
    /// Before, it is called at it only as long as nothing at all works: it may have gone over unheard.
    Announced,
    /// The peer prefers a newer one, at which it can be called as well.
    Fading,
}

/// When something is over that ends at `end` by the clock of somebody else.
fn over_at(end: u64) -> u64 {
    end.saturating_add(SKEW_S)
}

#[cfg(test)]
mod tests;
