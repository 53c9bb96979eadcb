//! The files of a log, as `docs/audit.md` has them below one directory.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use meshd_trust::log::{
    ENTRIES_BYTES_MAX, Edge, NOTE_BYTES_MAX, Note, NoteError, TILE_WIDTH, Tile, TileAddress, TileSource,
    TreeHash, write_entries,
};
use meshd_wire::limits::RECORD_BYTES_MAX;

use super::LogError;
use crate::whole_file::{FileError, make_dirs, read, replace, sync_dir, write};

const CHECKPOINT: &str = "checkpoint";
const FURTHER: &str = "checkpoints";
const CHAIN: &str = "chain";
/// Bytes of the length before each record.
const LENGTH_LEN: usize = 4;
/// Largest file of records: as many as a tile has hashes.
const RECORDS_BYTES_MAX: usize = TILE_WIDTH as usize * (LENGTH_LEN + RECORD_BYTES_MAX);

/// A leaf and the record it names, both as bytes; no bytes if it names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::role::steward) struct Row {
    pub(in crate::role::steward) leaf: Vec<u8>,
    pub(in crate::role::steward) record: Vec<u8>,
}

/// A directory with one log.
#[derive(Debug)]
pub(in crate::role::steward) struct LogFiles {
    dir: PathBuf,
}

impl LogFiles {
    /// Opens the directory, or makes it; nobody else may read it, for it names who talks to whom.
    pub(in crate::role::steward) fn open(dir: &Path) -> Result<Self, LogError> {
        if !dir.exists() {
            let made = DirBuilder::new().mode(0o700).create(dir);
            made.map_err(|source| FileError::new("make", dir, source))?;
            dir.parent().map_or(Ok(()), sync_dir)?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    pub(in crate::role::steward) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The newest checkpoint, if one was ever written.
    pub(in crate::role::steward) fn note(&self) -> Result<Option<Note>, LogError> {
        let path = self.dir.join(CHECKPOINT);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read(&path, NOTE_BYTES_MAX).map_err(|source| FileError::new("read", &path, source))?;
        Note::from_bytes(&bytes).map(Some).map_err(|error| LogError::Note { path, source: error })
    }

    /// Replaces the newest checkpoint: from here on all that it counts is logged.
    pub(in crate::role::steward) fn put_note(&self, note: &Note) -> Result<(), LogError> {
        Ok(replace(&self.dir.join(CHECKPOINT), note.to_string().as_bytes())?)
    }

    /// Sizes of the cosigned checkpoints that are kept.
    pub(super) fn further_sizes(&self) -> Result<BTreeSet<u64>, LogError> {
        let dir = self.dir.join(FURTHER);
        if !dir.exists() {
            return Ok(BTreeSet::new());
        }
        let entries = fs::read_dir(&dir).map_err(|source| FileError::new("list", &dir, source))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
    }

    /// A cosigned checkpoint. One that can't be read is left to the auditor.
    pub(super) fn read_further(&self, size: u64) -> Option<Note> {
        let bytes = read(&self.further_path(size), NOTE_BYTES_MAX).ok()?;
        Note::from_bytes(&bytes).ok()
    }

    /// Writes a cosigned checkpoint beside the newest one.
    pub(super) fn put_further(&self, size: u64, note: &Note) -> Result<(), LogError> {
        Ok(replace(&self.further_path(size), note.to_string().as_bytes())?)
    }

    /// Removes a cosigned checkpoint that says no more than others. What can't be removed is in nobody's way.
    pub(super) fn remove_further(&self, size: u64) {
        let _is_gone = fs::remove_file(self.further_path(size));
    }

    fn further_path(&self, size: u64) -> PathBuf {
        self.dir.join(FURTHER).join(size.to_string())
    }

    /// The newest checkpoint has no room.
    pub(super) fn bad_note(&self, source: NoteError) -> LogError {
        LogError::Note { path: self.dir.join(CHECKPOINT), source }
    }

    /// A further note of this size has no room.
    pub(in crate::role::steward) fn bad_further(&self, size: u64, source: NoteError) -> LogError {
        LogError::Note { path: self.further_path(size), source }
    }

    /// Replaces the records that prove the mesh and the log's keys.
    pub(in crate::role::steward) fn put_chain(&self, chain: &[Vec<u8>]) -> Result<(), LogError> {
        let bytes = framed(chain.iter().map(Vec::as_slice));
        match fs::read(self.dir.join(CHAIN)) {
            Ok(there) if there == bytes => Ok(()),
            Ok(_) | Err(_) => Ok(replace(&self.dir.join(CHAIN), &bytes)?),
        }
    }

    /// Writes rows behind those of a tree, whose last tile has the `last` rows, and the tiles that follow from them.
    /// Gives the edge and the rows of the last tile as they are now.
    pub(in crate::role::steward) fn append(
        &self,
        edge: &Edge,
        last: &[Row],
        rows: Vec<Row>,
    ) -> Result<(Edge, Vec<Row>), LogError> {
        let (mut index, mut edge, mut last) = (edge.size() / TILE_WIDTH, edge.clone(), last.to_vec());
        let tiles = edge.append(rows.iter().map(|row| TreeHash::leaf(&row.leaf)));
        let put = |index, rows: &[Row]| match TileAddress::within(edge.size(), 0, index) {
            Some(tile) if !rows.is_empty() => self.put_rows(tile, rows),
            Some(_) | None => Ok(()),
        };
        for row in rows {
            last.push(row);
            if last.len() as u64 == TILE_WIDTH {
                put(index, &last)?;
                last.clear();
                index += 1;
            }
        }
        put(index, &last)?;
        tiles.iter().try_for_each(|tile| self.put_tile(tile))?;
        Ok((edge, last))
    }

    /// Writes a tile.
    pub(super) fn put_tile(&self, tile: &Tile) -> Result<(), LogError> {
        self.put(&tile.address.path(), &tile.bytes)
    }

    /// Writes the leaves and records of a tile of level 0.
    fn put_rows(&self, tile: TileAddress, rows: &[Row]) -> Result<(), LogError> {
        let path = tile.entries_path();
        let leaves = write_entries(rows.iter().map(|row| row.leaf.as_slice()))
            .map_err(|source| LogError::Entries { path: self.dir.join(&path), source })?;
        self.put(&path, &leaves)?;
        self.put(&tile.record_path(), &framed(rows.iter().map(|row| row.record.as_slice())))
    }

    /// Reads the leaves and records of a tile of level 0.
    pub(in crate::role::steward) fn rows(&self, tile: TileAddress) -> Result<Vec<Row>, LogError> {
        let path = self.dir.join(tile.entries_path());
        let bytes = read(&path, ENTRIES_BYTES_MAX).map_err(|source| FileError::new("read", &path, source))?;
        let leaves = meshd_trust::log::read_entries(&bytes, tile)
            .map_err(|source| LogError::Entries { path: path.clone(), source })?;
        let path = self.dir.join(tile.record_path());
        let bytes = read(&path, RECORDS_BYTES_MAX).map_err(|source| FileError::new("read", &path, source))?;
        let mut rest = bytes.as_slice();
        let mut rows = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let record = next_record(&mut rest).ok_or_else(|| LogError::Records { path: path.clone() })?;
            rows.push(Row { leaf: leaf.to_vec(), record: record.to_vec() });
        }
        Ok(rows)
    }

    /// Removes partial files that wider ones have replaced. What can't be removed is in nobody's way.
    pub(in crate::role::steward) fn remove_narrower(&self, before: u64, after: u64) {
        for level in 0u8.. {
            let shift = u32::from(level) * 8;
            let (Some(old), Some(new)) = (before.checked_shr(shift), after.checked_shr(shift)) else {
                return;
            };
            if old == 0 && new == 0 {
                return;
            }
            let last = |hashes: u64, size| TileAddress::within(size, level, hashes / TILE_WIDTH);
            let Some(tile) = last(old, before).filter(|_| old != new) else { continue };
            let mut paths = vec![tile.path()];
            if level == 0 {
                paths.extend([tile.entries_path(), tile.record_path()]);
            }
            for path in paths.iter().map(|path| self.dir.join(path)) {
                let _is_gone = fs::remove_file(&path);
                // The directory of a tile that is full by now is empty.
                let _is_gone = path.parent().map(fs::remove_dir);
            }
        }
    }

    /// Removes what a write left that was broken off before anybody heard of it: files wider than a tree of this size
    /// has. A reader would take the beginning of a wider one for what was signed.
    pub(in crate::role::steward) fn remove_behind(&self, size: u64) -> Result<bool, LogError> {
        let mut is_any = false;
        for level in 0..8u8 {
            let hashes = size >> (u32::from(level) * 8);
            let Some(full) = TileAddress::within(u64::MAX >> 1, level, hashes / TILE_WIDTH) else { continue };
            let mut paths = vec![full.path()];
            if level == 0 {
                paths.extend([full.entries_path(), full.record_path()]);
            }
            for full in paths.iter().map(|path| self.dir.join(path)) {
                is_any |= remove_wider(&full, hashes % TILE_WIDTH)?;
            }
        }
        Ok(is_any)
    }

    /// Whether any leaf was ever written.
    pub(super) fn has_any(&self) -> bool {
        self.dir.join("tile").exists()
    }

    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), LogError> {
        let path = self.dir.join(path);
        let Some(dir) = path.parent() else { return Ok(()) };
        make_dirs(&self.dir, dir)?;
        // A tile that is written again was never signed.
        write(&path, bytes)?;
        Ok(sync_dir(dir)?)
    }
}

impl TileSource for LogFiles {
    type Error = io::Error;

    fn read(&self, address: TileAddress) -> io::Result<Vec<u8>> {
        read(&self.dir.join(address.path()), TILE_WIDTH as usize * 32)
    }
}

/// Removes a file and its partial forms beyond a width; says whether there were any.
fn remove_wider(full: &Path, width: u64) -> Result<bool, LogError> {
    let partial = PathBuf::from(format!("{}.p", full.display()));
    let is_wider = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse().ok()).is_some_and(|found: u64| found > width)
    };
    let widths = fs::read_dir(&partial).into_iter().flatten().flatten().map(|file| file.path());
    let wider: Vec<PathBuf> =
        widths.filter(is_wider).chain(full.is_file().then(|| full.to_owned())).collect();
    for path in &wider {
        fs::remove_file(path).map_err(|source| FileError::new("remove", path, source))?;
    }
    Ok(!wider.is_empty())
}

/// Records, each behind its length.
fn framed<'r>(records: impl Iterator<Item = &'r [u8]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let length = u32::try_from(record.len()).unwrap_or_else(|_| unreachable!("a record has a limit"));
        bytes.extend(length.to_be_bytes());
        bytes.extend(record);
    }
    bytes
}

fn next_record<'r>(rest: &mut &'r [u8]) -> Option<&'r [u8]> {
    let (length, after) = rest.split_first_chunk::<LENGTH_LEN>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (record, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(record)
}
