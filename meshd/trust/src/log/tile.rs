//! Tiles: the hashes of a tree cut into files of 256, as C2SP `tlog-tiles` has it.

use std::fmt;

use super::hash::TreeHash;

/// Hashes of a full tile.
pub const TILE_WIDTH: u64 = 1 << TILE_HEIGHT;
/// Levels of the tree from one level of tiles to the next.
pub(super) const TILE_HEIGHT: u32 = 8;

/// Names a tile: `width` hashes of a level, of which tile `index` begins at hash `index * 256`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TileAddress {
    level: u8,
    index: u64,
    width: u16,
}

/// A tile as it is written once and never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Its name.
    pub address: TileAddress,
    /// Its hashes, one behind the other.
    pub bytes: Vec<u8>,
}

/// Reads tiles: from the steward's files, a mirror or a bundle.
pub trait TileSource {
    /// Says why a tile could not be read.
    type Error: std::error::Error + 'static;

    /// Reads a tile. Where a partial tile is no more, a wider one of the same level and index is as good.
    fn read(&self, address: TileAddress) -> Result<Vec<u8>, Self::Error>;
}

/// Reports a tile that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TileError<E: std::error::Error + 'static> {
    /// The source did not give it.
    #[error("read {address}")]
    Read {
        /// The tile.
        address: TileAddress,
        /// What the source said.
        #[source]
        source: E,
    },
    /// The source gave less than the tile, more than a full one, or no whole number of hashes.
    #[error("{address} has {len} bytes")]
    Length {
        /// The tile.
        address: TileAddress,
        /// Bytes given.
        len: usize,
    },
    /// A tree larger than any log.
    #[error("no tree has {size} leaves")]
    Size {
        /// The size asked for.
        size: u64,
    },
    /// A leaf, or an older tree, that the tree does not have.
    #[error("{wanted} is not within a tree of {size} leaves")]
    Range {
        /// Index or size asked for.
        wanted: u64,
        /// Size of the tree.
        size: u64,
    },
}

impl TileAddress {
    /// The tile of that level and index in a tree of `size` leaves; none if the tree has no hash there.
    pub fn within(size: u64, level: u8, index: u64) -> Option<Self> {
        let hashes = size.checked_shr(u32::from(level) * TILE_HEIGHT)?;
        let rest = hashes.checked_sub(index.checked_mul(TILE_WIDTH)?)?;
        let width = u16::try_from(rest.min(TILE_WIDTH)).ok()?;
        (width > 0).then_some(Self { level, index, width })
    }

    /// Level: 0 has hashes of leaves, each further one roots of full tiles of the level below.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Place among the tiles of its level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Number of hashes, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Path below the log's directory.
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, self.numbered())
    }

    /// Path of the leaves that this tile of level 0 has the hashes of.
    pub fn entries_path(&self) -> String {
        format!("tile/entries/{}", self.numbered())
    }

    /// Path of the records of these leaves.
    pub fn record_path(&self) -> String {
        format!("record/{}", self.numbered())
    }

    /// Index in groups of three digits, all but the last after an `x`, and the width of what is not full.
    fn numbered(&self) -> String {
        let mut path = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            path = format!("x{:03}/{path}", rest % 1000);
            rest /= 1000;
        }
        if u64::from(self.width) < TILE_WIDTH { format!("{path}.p/{}", self.width) } else { path }
    }
}

impl fmt::Display for TileAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// Reads the hashes of a tile.
pub(super) fn read<S: TileSource>(
    source: &S,
    address: TileAddress,
) -> Result<Vec<TreeHash>, TileError<S::Error>> {
    let bytes = source.read(address).map_err(|source| TileError::Read { address, source })?;
    let (hashes, rest) = bytes.as_chunks::<{ TreeHash::LEN }>();
    let width = usize::from(address.width);
    if !rest.is_empty() || hashes.len() < width || hashes.len() as u64 > TILE_WIDTH {
        return Err(TileError::Length { address, len: bytes.len() });
    }
    Ok(hashes.iter().take(width).map(|hash| TreeHash(*hash)).collect())
}

/// Writes hashes as a tile.
pub(super) fn written(address: TileAddress, hashes: &[TreeHash]) -> Tile {
    Tile { address, bytes: hashes.iter().flat_map(|hash| hash.0).collect() }
}
