//! Entry bundles: the leaves that a tile of level 0 has the hashes of.

use meshd_wire::limits::LEAF_BYTES_MAX;

use super::tile::{TILE_WIDTH, TileAddress};

/// Bytes of the length before each leaf.
const LENGTH_LEN: usize = 2;
/// Largest bundle: as many leaves as a tile has hashes.
pub const ENTRIES_BYTES_MAX: usize = TILE_WIDTH as usize * (LENGTH_LEN + LEAF_BYTES_MAX);

/// Says why bytes are no bundle of leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntriesError {
    /// More bytes than a bundle may have.
    #[error("bundle of {0} bytes, at most {ENTRIES_BYTES_MAX}")]
    TooLarge(usize),
    /// A leaf larger than one may be.
    #[error("leaf of {0} bytes, at most {LEAF_BYTES_MAX}")]
    Leaf(usize),
    /// The last leaf is cut off.
    #[error("bundle ends within a leaf")]
    End,
    /// Fewer leaves than its tile has hashes, or more than any tile has.
    #[error("{found} leaves for {expected} hashes")]
    Count {
        /// Leaves found.
        found: usize,
        /// Hashes of the tile.
        expected: u16,
    },
}

/// Writes leaves as a bundle.
pub fn write_entries<'l>(leaves: impl IntoIterator<Item = &'l [u8]>) -> Result<Vec<u8>, EntriesError> {
    let mut bytes = Vec::new();
    for leaf in leaves {
        let fits = u16::try_from(leaf.len()).ok().filter(|_| leaf.len() <= LEAF_BYTES_MAX);
        bytes.extend(fits.ok_or(EntriesError::Leaf(leaf.len()))?.to_be_bytes());
        bytes.extend(leaf);
    }
    Ok(bytes)
}

/// Reads the leaves of a tile of level 0. As with tiles, a wider bundle serves where a partial one is gone.
pub fn read_entries(bytes: &[u8], tile: TileAddress) -> Result<Vec<&[u8]>, EntriesError> {
    if bytes.len() > ENTRIES_BYTES_MAX {
        return Err(EntriesError::TooLarge(bytes.len()));
    }
    let mut leaves = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<LENGTH_LEN>().ok_or(EntriesError::End)?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length > LEAF_BYTES_MAX {
            return Err(EntriesError::Leaf(length));
        }
        let (leaf, after) = after.split_at_checked(length).ok_or(EntriesError::End)?;
        leaves.push(leaf);
        rest = after;
    }
    if leaves.len() < usize::from(tile.width()) || leaves.len() as u64 > TILE_WIDTH {
        return Err(EntriesError::Count { found: leaves.len(), expected: tile.width() });
    }
    leaves.truncate(usize::from(tile.width()));
    Ok(leaves)
}
