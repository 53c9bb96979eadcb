//! The right edge of a log, where its steward appends.

use super::frontier::{Frontier, SIZE_MAX, TreeHead};
use super::hash::TreeHash;
use super::tile::{self, TILE_HEIGHT, TILE_WIDTH, Tile, TileAddress, TileError, TileSource};

/// Tiles of a tree that are not full yet, one a level, and its frontier.
///
/// At most 8 levels of 255 hashes, so 64 KiB for the largest tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    frontier: Frontier,
    /// Hashes of the unfinished tile of each level.
    rows: Vec<Vec<TreeHash>>,
}

impl Edge {
    /// Edge of a log without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the edge of a tree of that size. Its root is what the tiles say; compare it with what was signed.
    pub fn resume<S: TileSource>(source: &S, size: u64) -> Result<Self, TileError<S::Error>> {
        if size > SIZE_MAX {
            return Err(TileError::Size { size });
        }
        let mut rows = Vec::new();
        let mut hashes = size;
        while hashes > 0 {
            let level = u8::try_from(rows.len()).unwrap_or_else(|_| unreachable!("8 bits a level"));
            let address = TileAddress::within(size, level, hashes / TILE_WIDTH);
            rows.push(address.map_or(Ok(Vec::new()), |address| tile::read(source, address))?);
            hashes >>= TILE_HEIGHT;
        }
        let peaks = rows.iter().rev().flat_map(|row| peaks(row)).collect();
        Ok(Self { frontier: Frontier::of_peaks(size, peaks), rows })
    }

    /// Appends leaves by their hashes, and gives the tiles to write before the new tree may be signed. Where they
    /// can't be written, a clone from before goes on.
    pub fn append(&mut self, leaves: impl IntoIterator<Item = TreeHash>) -> Vec<Tile> {
        let mut tiles = Vec::new();
        let mut levels_changed = 0;
        for leaf in leaves {
            self.frontier.append(leaf);
            levels_changed = levels_changed.max(self.push(leaf, &mut tiles));
        }
        for level in 0..levels_changed {
            tiles.extend(self.unfinished(level));
        }
        tiles
    }

    /// Puts a leaf into its row, and roots of tiles that become full into the rows above; says how many rows changed.
    fn push(&mut self, leaf: TreeHash, tiles: &mut Vec<Tile>) -> usize {
        let mut top = leaf;
        let mut level = 0;
        loop {
            if level == self.rows.len() {
                self.rows.push(Vec::new());
            }
            self.rows[level].push(top);
            if (self.rows[level].len() as u64) < TILE_WIDTH {
                return level + 1;
            }
            tiles.extend(self.unfinished(level));
            top = subtree(&self.rows[level]);
            self.rows[level].clear();
            level += 1;
        }
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        self.frontier.head()
    }

    /// The last tile of a level, as long as its row stands.
    fn unfinished(&self, level: usize) -> Option<Tile> {
        let row = &self.rows[level];
        let number = u8::try_from(level).ok()?;
        let hashes = self.size() >> (u32::from(number) * TILE_HEIGHT);
        let index = hashes.checked_sub(row.len() as u64)? / TILE_WIDTH;
        Some(tile::written(TileAddress::within(self.size(), number, index)?, row))
    }
}

/// Roots of the full subtrees over some hashes of one level, the largest first.
pub(super) fn peaks(hashes: &[TreeHash]) -> Vec<TreeHash> {
    let mut frontier = Frontier::new();
    hashes.iter().for_each(|hash| frontier.append(*hash));
    frontier.into_peaks()
}

/// Root of the full subtree over some hashes of one level.
pub(super) fn subtree(hashes: &[TreeHash]) -> TreeHash {
    debug_assert!(hashes.len().is_power_of_two());
    let mut frontier = Frontier::new();
    hashes.iter().for_each(|hash| frontier.append(*hash));
    frontier.root()
}
