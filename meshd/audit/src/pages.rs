//! Files that belong to tiles: hashes, leaves and records, 256 at most in each.

use std::borrow::Cow;

use meshd_trust::log::{EntriesError, TILE_WIDTH, TileAddress, TreeHash, read_entries, write_entries};

use crate::files::{Files, FilesError};
use crate::frames::{read_frames, write_frames};

/// A file of a tile: as wide as the tile, or wider.
#[derive(Debug)]
pub(crate) struct Page<'f> {
    pub(crate) bytes: Cow<'f, [u8]>,
    /// The tile that it was written for.
    wide: TileAddress,
    /// How much of it counts.
    width: usize,
}

/// Reads the file of a tile, or a wider one of its index if that is gone.
pub(crate) fn read<'f>(
    files: &'f dyn Files,
    tile: TileAddress,
    path_of: fn(&TileAddress) -> String,
) -> Result<Option<Page<'f>>, FilesError> {
    let width = usize::from(tile.width());
    let page = |wide: TileAddress| -> Result<Option<Page<'f>>, FilesError> {
        Ok(files.read(&path_of(&wide))?.map(|bytes| Page { bytes, wide, width }))
    };
    if let Some(found) = page(tile)? {
        return Ok(Some(found));
    }
    let Some(full) = widened(tile, TILE_WIDTH) else { return Ok(None) };
    let wider = partial(files, full, path_of)?.into_iter().filter(|wide| wide.width() > tile.width());
    for wide in wider.chain([full]) {
        if let Some(found) = page(wide)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Reads the widest file of a place.
pub(crate) fn widest<'f>(
    files: &'f dyn Files,
    full: TileAddress,
    path_of: fn(&TileAddress) -> String,
) -> Result<Option<Page<'f>>, FilesError> {
    let widest = partial(files, full, path_of)?.into_iter().next_back();
    for wide in [Some(full), widest].into_iter().flatten() {
        if let Some(bytes) = files.read(&path_of(&wide))? {
            return Ok(Some(Page { bytes, wide, width: usize::from(wide.width()) }));
        }
    }
    Ok(None)
}

/// Partial files of a place, the narrowest first.
fn partial(
    files: &dyn Files,
    full: TileAddress,
    path_of: fn(&TileAddress) -> String,
) -> Result<Vec<TileAddress>, FilesError> {
    let names = files.list(&format!("{}.p", path_of(&full)))?;
    let number = |name: &String| name.parse().ok().filter(|number: &u64| number.to_string() == *name);
    let mut widths: Vec<u64> = names.iter().filter_map(number).filter(|width| *width < TILE_WIDTH).collect();
    widths.sort_unstable();
    Ok(widths.into_iter().filter_map(|width| widened(full, width)).collect())
}

impl Page<'_> {
    /// Hashes of the tile, if the file has as many as its name says.
    pub(crate) fn hashes(&self) -> Option<&[u8]> {
        let is_whole = self.bytes.len() == usize::from(self.wide.width()) * TreeHash::LEN;
        self.bytes.get(..self.width * TreeHash::LEN).filter(|_| is_whole)
    }

    /// Leaves of the tile, likewise.
    pub(crate) fn leaves(&self) -> Option<Vec<&[u8]>> {
        let mut leaves = read_entries(&self.bytes, self.wide).ok()?;
        let written: Result<Vec<u8>, EntriesError> = write_entries(leaves.iter().copied());
        if written.is_ok_and(|written| written.len() == self.bytes.len()) {
            leaves.truncate(self.width);
            Some(leaves)
        } else {
            None
        }
    }

    /// Envelopes beside the leaves of the tile, likewise; empty where there is none.
    pub(crate) fn records(&self) -> Option<Vec<&[u8]>> {
        let mut records = read_frames(&self.bytes).ok()?;
        if records.len() != usize::from(self.wide.width()) {
            return None;
        }
        records.truncate(self.width);
        Some(records)
    }

    /// The bytes of a file of just this tile; those of a damaged one as they are.
    pub(crate) fn cut(&self, what: Content) -> Vec<u8> {
        let cut = match what {
            Content::Hashes => self.hashes().map(<[u8]>::to_vec),
            Content::Leaves => self.leaves().and_then(|leaves| write_entries(leaves).ok()),
            Content::Records => self.records().and_then(|records| write_frames(records).ok()),
        };
        cut.unwrap_or_else(|| self.bytes.to_vec())
    }
}

/// What a file of a tile holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Hashes,
    Leaves,
    Records,
}

impl Content {
    /// Path of the file.
    pub(crate) fn path(self) -> fn(&TileAddress) -> String {
        match self {
            Self::Hashes => TileAddress::path,
            Self::Leaves => TileAddress::entries_path,
            Self::Records => TileAddress::record_path,
        }
    }
}

/// All tiles of a tree, and all files that belong to them.
pub(crate) fn all(size: u64) -> impl Iterator<Item = (TileAddress, Content)> {
    let levels =
        (0..8).map(move |level| (0..).map_while(move |index| TileAddress::within(size, level, index)));
    levels.flatten().flat_map(|tile| {
        let others = (tile.level() == 0).then_some([Content::Leaves, Content::Records]);
        std::iter::once(Content::Hashes).chain(others.into_iter().flatten()).map(move |what| (tile, what))
    })
}

/// The tile of the same place with another number of hashes.
fn widened(tile: TileAddress, width: u64) -> Option<TileAddress> {
    let hashes = tile.index().checked_mul(TILE_WIDTH)?.checked_add(width)?;
    TileAddress::within(hashes.checked_shl(8 * u32::from(tile.level()))?, tile.level(), tile.index())
}
