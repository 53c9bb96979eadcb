//! What a rotation asks of its caller.

use super::epoch::Epoch;
use super::pairing::OwnEpochs;
use super::stored::{KeySince, Stored};

/// One thing to do; [`super::Rotation::poll`] gives them in the order they must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Make a random key for this epoch. Nobody knows of it yet; one that was made before under this number goes.
    MakeKey {
        /// Its number.
        epoch: Epoch,
    },
    /// Store this with the keys it names, and no other keys, then call [`super::Rotation::stored`] or
    /// [`super::Rotation::not_stored`] with the ticket. Stores are done in order.
    Store {
        /// Tells this store from others.
        ticket: u64,
        /// What to store.
        stored: Stored,
    },
    /// Accept and use these keys of this node, and no others.
    Use(OwnEpochs),
    /// Drop all tunnels of this key, and wipe it from memory.
    Drop {
        /// Its number.
        epoch: Epoch,
    },
    /// Sign a record with this content and give it to registries and connected peers.
    Publish(Content),
    /// Append a leaf about the newest record to the log, and try until the log has answered.
    Append(Leaf),
    /// Give connected peers the proof that this key is logged.
    ShowProof {
        /// Its number.
        epoch: Epoch,
    },
    /// Tell the operator.
    Alarm(Alarm),
}

/// What a record of this node's keys says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Content {
    /// Its sequence, under which no other record is ever signed.
    pub seq: u64,
    /// The key in use.
    pub cur: KeySince,
    /// The key announced next.
    pub next: Option<KeySince>,
    /// The key used before, and until when it is accepted.
    pub prev: Option<(KeySince, u64)>,
    /// Says that the key before was stolen.
    pub compromised: bool,
}

/// A leaf of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// `rotate-announce`: this key comes next.
    Announce(Epoch),
    /// `rotate-activate`: this key is in use. Receipts held by then are counted by the caller.
    Activate(Epoch),
    /// `key-destroy`: this key is gone.
    Destroy(Epoch),
    /// `key-compromised`: this key was stolen.
    Compromised(Epoch),
    /// `state-rollback`: the node came back with an old state and goes on with this key.
    Rollback(Epoch),
}

/// What an operator must hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alarm {
    /// `rotation-late`: the next key waits for the log, or for a witness.
    RotationLate,
    /// `state-rollback`: this node has published more than it remembers.
    StateRollback,
    /// `clone-suspected`: somebody else publishes under this node's identity.
    CloneSuspected,
}
