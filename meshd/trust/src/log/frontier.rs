//! The least that must be kept of a tree in order to append to it.

use super::hash::TreeHash;

/// Largest tree: sizes travel through programs whose integers are signed.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// A tree in two numbers: how many leaves it has, and the hash over all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of leaves.
    pub size: u64,
    /// Hash over all of them.
    pub root: TreeHash,
}

/// Roots of the full subtrees that a tree consists of, the largest first.
///
/// There is one for each bit of the size, so at most 63. [`Edge`](super::Edge) keeps one beside its tiles; an auditor
/// needs nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<TreeHash>,
}

impl Frontier {
    /// Frontier of the tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a leaf by its hash.
    pub fn append(&mut self, leaf: TreeHash) {
        let mut top = leaf;
        // As in counting: each one bit at the end of the size is a full subtree that the new one completes.
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().unwrap_or_else(|| unreachable!("one peak for each bit of the size"));
            top = TreeHash::node(&left, &top);
        }
        self.peaks.push(top);
        self.size += 1;
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hash over all leaves.
    pub fn root(&self) -> TreeHash {
        fold(&self.peaks).unwrap_or_else(TreeHash::empty)
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root() }
    }

    /// Takes the peaks of a tree of this size.
    pub(super) fn of_peaks(size: u64, peaks: Vec<TreeHash>) -> Self {
        debug_assert_eq!(peaks.len(), size.count_ones() as usize);
        Self { size, peaks }
    }

    pub(super) fn into_peaks(self) -> Vec<TreeHash> {
        self.peaks
    }
}

/// Root over full subtrees, the largest first; none over nothing.
pub(super) fn fold(peaks: &[TreeHash]) -> Option<TreeHash> {
    let (last, larger) = peaks.split_last()?;
    Some(larger.iter().rev().fold(*last, |right, left| TreeHash::node(left, &right)))
}
