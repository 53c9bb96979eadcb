//! Proofs: that a leaf is in a tree, and that a tree only grew. Made from tiles, checked without.

use std::collections::BTreeMap;

use super::edge;
use super::frontier::{SIZE_MAX, TreeHead, fold};
use super::hash::TreeHash;
use super::tile::{self, TILE_HEIGHT, TILE_WIDTH, TileAddress, TileError, TileSource};

/// Most hashes of a proof: one for each level of the largest tree.
pub const PROOF_LEN_MAX: usize = 63;

/// Shows that a leaf is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Which leaf, from 0.
    pub index: u64,
    /// Hashes beside the way from the leaf to the root.
    pub path: Vec<TreeHash>,
}

/// Shows that a tree is the beginning of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// Hashes from which both roots follow.
    pub path: Vec<TreeHash>,
}

/// Says why a proof shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofRefusal {
    /// The leaf lies behind the tree, or the trees are in the wrong order or too large.
    #[error("out of the tree")]
    Range,
    /// More or fewer hashes than such a proof has.
    #[error("wrong number of hashes")]
    Length,
    /// Another root follows from it.
    #[error("another root")]
    Root,
}

/// Makes the proof that leaf `index` is in the tree of `size` leaves.
pub fn prove_inclusion<S: TileSource>(
    source: &S,
    index: u64,
    size: u64,
) -> Result<InclusionProof, TileError<S::Error>> {
    let mut nodes = Nodes::new(source, size)?;
    if index >= size {
        return Err(TileError::Range { wanted: index, size });
    }
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(nodes.root(middle, end)?);
            end = middle;
        } else {
            path.push(nodes.root(start, middle)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(InclusionProof { index, path })
}

/// Makes the proof that the tree of `old` leaves is the beginning of that of `new`.
pub fn prove_consistency<S: TileSource>(
    source: &S,
    old: u64,
    new: u64,
) -> Result<ConsistencyProof, TileError<S::Error>> {
    let mut nodes = Nodes::new(source, new)?;
    if old > new {
        return Err(TileError::Range { wanted: old, size: new });
    }
    let mut path = Vec::new();
    let (mut start, mut end) = (0, new);
    // Down to the subtree where the old tree ends. The verifier has the old root itself, if that is all of it.
    while old > 0 && old < end {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(nodes.root(middle, end)?);
            end = middle;
        } else {
            path.push(nodes.root(start, middle)?);
            start = middle;
        }
    }
    if start > 0 {
        path.push(nodes.root(start, end)?);
    }
    path.reverse();
    Ok(ConsistencyProof { path })
}

/// Works out which tree the first `size` leaves are.
pub fn tree_head<S: TileSource>(source: &S, size: u64) -> Result<TreeHead, TileError<S::Error>> {
    let mut nodes = Nodes::new(source, size)?;
    let root = if size == 0 { TreeHash::empty() } else { nodes.root(0, size)? };
    Ok(TreeHead { size, root })
}

impl InclusionProof {
    /// Checks that the leaf of this hash is in the tree (RFC 9162, 2.1.3.2).
    pub fn verify(&self, leaf: &TreeHash, tree: &TreeHead) -> Result<(), ProofRefusal> {
        if self.index >= tree.size || tree.size > SIZE_MAX {
            return Err(ProofRefusal::Range);
        }
        let (mut node, mut last) = (self.index, tree.size - 1);
        let mut root = *leaf;
        for beside in &self.path {
            if last == 0 {
                return Err(ProofRefusal::Length);
            }
            if node % 2 == 1 || node == last {
                root = TreeHash::node(beside, &root);
                skip_levels_without_sibling(&mut node, &mut last);
            } else {
                root = TreeHash::node(&root, beside);
            }
            (node, last) = (node >> 1, last >> 1);
        }
        if last != 0 {
            return Err(ProofRefusal::Length);
        }
        if root == tree.root { Ok(()) } else { Err(ProofRefusal::Root) }
    }
}

impl ConsistencyProof {
    /// Checks that the old tree is the beginning of the new one (RFC 9162, 2.1.4.2).
    pub fn verify(&self, old: &TreeHead, new: &TreeHead) -> Result<(), ProofRefusal> {
        if old.size > new.size || new.size > SIZE_MAX {
            return Err(ProofRefusal::Range);
        }
        if old.size == 0 || old.size == new.size {
            return self.verify_trivial(old, new);
        }
        let (mut node, mut last) = (old.size - 1, new.size - 1);
        let whole = node.trailing_ones();
        (node, last) = (node >> whole, last >> whole);
        // A full old tree is itself the first hash, and left out.
        let (first, path) = if old.size.is_power_of_two() {
            (old.root, self.path.as_slice())
        } else {
            let (first, path) = self.path.split_first().ok_or(ProofRefusal::Length)?;
            (*first, path)
        };
        let (mut old_root, mut new_root) = (first, first);
        for beside in path {
            if last == 0 {
                return Err(ProofRefusal::Length);
            }
            if node % 2 == 1 || node == last {
                old_root = TreeHash::node(beside, &old_root);
                new_root = TreeHash::node(beside, &new_root);
                skip_levels_without_sibling(&mut node, &mut last);
            } else {
                new_root = TreeHash::node(&new_root, beside);
            }
            (node, last) = (node >> 1, last >> 1);
        }
        if last != 0 {
            return Err(ProofRefusal::Length);
        }
        if old_root == old.root && new_root == new.root { Ok(()) } else { Err(ProofRefusal::Root) }
    }

    /// Checks the two cases that need no hashes: from nothing, and from a tree to itself.
    fn verify_trivial(&self, old: &TreeHead, new: &TreeHead) -> Result<(), ProofRefusal> {
        if !self.path.is_empty() {
            return Err(ProofRefusal::Length);
        }
        let expected = if old.size == new.size { new.root } else { TreeHash::empty() };
        if old.root == expected { Ok(()) } else { Err(ProofRefusal::Root) }
    }
}

/// Goes up from a node that is the last of its level to the level where it is a right child.
fn skip_levels_without_sibling(node: &mut u64, last: &mut u64) {
    if node.is_multiple_of(2) {
        let levels = if *node == 0 { 0 } else { node.trailing_zeros() };
        (*node, *last) = (*node >> levels, *last >> levels);
    }
}

/// Leaves on the left side of a tree with more than one: the largest power of two below their number.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// Nodes of a tree, out of tiles that are read once for each proof.
struct Nodes<'s, S> {
    source: &'s S,
    size: u64,
    tiles: BTreeMap<TileAddress, Vec<TreeHash>>,
}

impl<'s, S: TileSource> Nodes<'s, S> {
    fn new(source: &'s S, size: u64) -> Result<Self, TileError<S::Error>> {
        if size > SIZE_MAX {
            return Err(TileError::Size { size });
        }
        Ok(Self { source, size, tiles: BTreeMap::new() })
    }

    /// Root over the leaves from `start` to before `end`, of which all full subtrees are nodes of the tree.
    fn root(&mut self, mut start: u64, end: u64) -> Result<TreeHash, TileError<S::Error>> {
        let mut peaks = Vec::new();
        while start < end {
            let height = (end - start).ilog2();
            peaks.push(self.node(height, start >> height)?);
            start += 1 << height;
        }
        Ok(fold(&peaks).unwrap_or_else(|| unreachable!("no range here is empty")))
    }

    /// Root of the full subtree of `2^height` leaves, counted from the left.
    fn node(&mut self, height: u32, number: u64) -> Result<TreeHash, TileError<S::Error>> {
        let (level, below) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
        let first = number << below;
        let address = u8::try_from(level)
            .ok()
            .and_then(|level| TileAddress::within(self.size, level, first / TILE_WIDTH))
            .unwrap_or_else(|| unreachable!("a full subtree of a tree has a tile"));
        if !self.tiles.contains_key(&address) {
            self.tiles.insert(address, tile::read(self.source, address)?);
        }
        // Below 256, because the tile's first hash is the multiple of 256 before it.
        let at = (first % TILE_WIDTH) as usize;
        Ok(edge::subtree(&self.tiles[&address][at..at + (1 << below)]))
    }
}
