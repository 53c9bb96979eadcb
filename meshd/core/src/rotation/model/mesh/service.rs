//! Registries and stewards, as much as a rotation needs of them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::{Epoch, Leaf};
use super::super::ghost::KeyName;
use super::queue::Cosigners;

/// Where registries and stewards stand.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    /// Faults that keep it from answering.
    pub(super) outages: u8,
    /// On which side of each partition it is.
    pub(super) sides: u8,
}

/// The newest record of a node that a registry has, by its place among all that the node has signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) index: u32,
    pub(super) cosigners: Cosigners,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Registry {
    pub(super) place: Place,
    /// Of each node.
    pub(super) held: Vec<Option<Held>>,
    pub(super) puts: u64,
}

/// Leaves of a node in one call of its steward.
pub(super) const LEAVES_MAX: usize = 2;

/// What one node has asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) node: u16,
    pub(super) life: u8,
    pub(super) leaves: [Option<Stated>; LEAVES_MAX],
}

/// A leaf, and the key that it is about as the record beside it says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stated {
    pub(super) leaf: Leaf,
    pub(super) key: Option<KeyName>,
}

/// What became of a leaf.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    pub(super) leaf: Leaf,
    /// Who has cosigned the proof; none if the leaf was refused.
    pub(super) cosigners: Option<u8>,
}

/// A steward with its log.
#[derive(Debug, Clone, Default)]
pub(super) struct Steward {
    pub(super) place: Place,
    pub(super) waiting: Vec<Call>,
    pub(super) is_gathering: bool,
    /// Keys of which the log has said that they come next, or are in use.
    pub(super) logged: BTreeMap<(u16, Epoch), KeyName>,
    /// Keys that it will never log.
    pub(super) refused: BTreeSet<(u16, Epoch)>,
    /// Leaves.
    pub(super) leaves: u64,
}
