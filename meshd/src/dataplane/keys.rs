//! Tunnel keys: of this node and of each peer there are two while one takes the place of the other.

use meshd_core::rotation::{Epoch, OwnEpochs, PeerEpoch, PeerEpochs, Use};
use meshd_tunnel::{KeyId, LocalKey};
use meshd_wire::NodeId;

use super::Duration;

/// The key that plain WireGuard peers know of this node: they can't be told of another, so it does not rotate. Epochs
/// begin at 1.
pub(super) const EXTERNAL: Epoch = Epoch(0);

/// The tunnel keys of this node.
#[derive(Debug, Clone)]
pub struct OwnKeys {
    /// The key that peers know best.
    pub older: OwnKey,
    /// The key that follows it.
    pub newer: Option<OwnKey>,
    /// The key that plain WireGuard peers know.
    pub external: LocalKey,
}

/// A tunnel key of this node.
#[derive(Debug, Clone)]
pub struct OwnKey {
    /// Its number, which is never used for another key.
    pub epoch: Epoch,
    /// The key.
    pub key: LocalKey,
    /// What it is used for.
    pub usage: Use,
}

/// The tunnel keys of a peer that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerKeys {
    /// The one in use.
    pub cur: PeerKey,
    /// The one announced next.
    pub next: Option<PeerKey>,
    /// The one used before.
    pub prev: Option<PeerKey>,
}

/// A tunnel key of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerKey {
    /// Its number.
    pub epoch: Epoch,
    /// The X25519 public key.
    pub public: [u8; 32],
}

/// A tunnel to a peer, between one key of this node and one of the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelUse {
    /// The peer.
    pub node: NodeId,
    /// The epoch of this node's key.
    pub own: Epoch,
    /// The epoch of the peer's key.
    pub peer: Epoch,
    /// Whether both ends have shown that they hold the keys of a session: it can be sent on.
    pub is_confirmed: bool,
    /// Time since something authentic came on it.
    pub last_received: Option<Duration>,
}

impl OwnKeys {
    /// One key and no other: between two rotations.
    pub fn single(epoch: Epoch, key: LocalKey, external: LocalKey) -> Self {
        Self { older: OwnKey { epoch, key, usage: Use::Call }, newer: None, external }
    }

    pub(super) fn epochs(&self) -> OwnEpochs {
        let of = |own: &OwnKey| (own.epoch, own.usage);
        OwnEpochs { older: of(&self.older), newer: self.newer.as_ref().map(of) }
    }

    /// All keys with their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = (Epoch, &LocalKey)> {
        let rotating = [&self.older].into_iter().chain(&self.newer).map(|own| (own.epoch, &own.key));
        rotating.chain([(EXTERNAL, &self.external)])
    }

    pub(super) fn has(&self, epoch: Epoch) -> bool {
        self.all().any(|(own, _)| own == epoch)
    }
}

impl PeerKeys {
    /// One key and no other: a peer that does not rotate now.
    pub fn single(epoch: Epoch, public: [u8; 32]) -> Self {
        Self { cur: PeerKey { epoch, public }, next: None, prev: None }
    }

    /// The key of a plain WireGuard peer.
    pub fn external(public: [u8; 32]) -> Self {
        Self::single(EXTERNAL, public)
    }

    /// All keys.
    pub fn all(&self) -> impl Iterator<Item = PeerKey> + use<> {
        [Some(self.cur), self.next, self.prev].into_iter().flatten()
    }

    /// Who made this said only what may be used now, and says it again when that changes: nothing has a date here.
    pub(super) fn epochs(&self) -> PeerEpochs {
        let of = |key: PeerKey| PeerEpoch { epoch: key.epoch, is_proven: true };
        PeerEpochs {
            cur: of(self.cur),
            cur_ends: None,
            next: self.next.map(of),
            prev: self.prev.map(|prev| (of(prev), u64::MAX)),
        }
    }
}

/// What the engine calls this node's key of an epoch.
pub(super) fn key_id(epoch: Epoch) -> KeyId {
    KeyId(epoch.0)
}
