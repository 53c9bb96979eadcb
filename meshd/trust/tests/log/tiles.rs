//! A log in memory: its leaves, and the tiles that its edge asked to write.

use std::cell::Cell;
use std::collections::BTreeMap;

use meshd_trust::log::{Edge, Tile, TileAddress, TileSource, TreeHash, TreeHead};

use crate::naive;

/// The leaf of a number.
pub fn leaf(number: u64) -> TreeHash {
    TreeHash::leaf(&number.to_be_bytes())
}

/// Tiles by their path, as files are.
#[derive(Debug, Default, Clone)]
pub struct Tiles {
    pub files: BTreeMap<String, Vec<u8>>,
    pub reads: Cell<usize>,
}

/// A path that nothing was written to.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no file")]
pub struct Missing;

impl Tiles {
    /// Writes a tile, which must not be there with another content.
    pub fn write(&mut self, tile: Tile) {
        assert_eq!(tile.bytes.len(), usize::from(tile.address.width()) * TreeHash::LEN);
        let before = self.files.insert(tile.address.path(), tile.bytes.clone());
        assert!(before.is_none_or(|bytes| bytes == tile.bytes), "{} changed", tile.address);
    }
}

impl TileSource for Tiles {
    type Error = Missing;

    fn read(&self, address: TileAddress) -> Result<Vec<u8>, Missing> {
        self.reads.set(self.reads.get() + 1);
        self.files.get(&address.path()).cloned().ok_or(Missing)
    }
}

/// A log and everything that can be known of it.
#[derive(Debug, Clone)]
pub struct Log {
    pub leaves: Vec<TreeHash>,
    pub edge: Edge,
    pub tiles: Tiles,
}

impl Log {
    pub fn new() -> Self {
        Self { leaves: Vec::new(), edge: Edge::new(), tiles: Tiles::default() }
    }

    /// A log of that many leaves, appended in one batch.
    pub fn of(size: u64) -> Self {
        let mut log = Self::new();
        log.append(size);
        log
    }

    /// Appends one batch.
    pub fn append(&mut self, count: u64) {
        let from = self.leaves.len() as u64;
        let batch: Vec<TreeHash> = (from..from + count).map(leaf).collect();
        for tile in self.edge.append(batch.iter().copied()) {
            self.tiles.write(tile);
        }
        self.leaves.extend(batch);
    }

    pub fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// Head that the log had at a size, by the definition.
    pub fn head_at(&self, size: u64) -> TreeHead {
        TreeHead { size, root: naive::root(&self.leaves[..usize::try_from(size).unwrap()]) }
    }
}
