//! Proofs for the leaves of one append: what several of them need is read once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use meshd_trust::log::{LogProof, TILE_WIDTH, TileAddress, TileSource, prove_inclusion};
use meshd_wire::enrol::LoggedLeaf;

use super::files::{LogFiles, Row};
use super::{Log, LogError};

/// Tiles of hashes that are kept, half a megabyte: those above the leaves of an append are few.
const TILES_MAX: usize = 64;

/// Proves leaves of the newest tree.
pub(in crate::role::steward) struct Prover<'l> {
    log: &'l Log,
    hashes: ReadOnce<'l>,
    /// The full tile of leaves that was read last: those of an append lie side by side.
    rows: Option<(TileAddress, Vec<Row>)>,
}

/// Tiles of hashes that were read already.
struct ReadOnce<'l> {
    files: &'l LogFiles,
    tiles: RefCell<BTreeMap<TileAddress, Vec<u8>>>,
}

impl TileSource for ReadOnce<'_> {
    type Error = io::Error;

    fn read(&self, address: TileAddress) -> io::Result<Vec<u8>> {
        if let Some(tile) = self.tiles.borrow().get(&address) {
            return Ok(tile.clone());
        }
        let tile = self.files.read(address)?;
        let mut tiles = self.tiles.borrow_mut();
        if tiles.len() >= TILES_MAX {
            tiles.clear();
        }
        tiles.insert(address, tile.clone());
        Ok(tile)
    }
}

impl<'l> Prover<'l> {
    pub(super) fn new(log: &'l Log) -> Self {
        let hashes = ReadOnce { files: &log.files, tiles: RefCell::default() };
        Self { log, hashes, rows: None }
    }

    /// A leaf with its record, and the proof that the newest tree has it.
    pub(in crate::role::steward) fn prove(&mut self, index: u64) -> Result<Option<LoggedLeaf>, LogError> {
        let size = self.log.edge.size();
        let tile = TileAddress::within(size, 0, index / TILE_WIDTH).filter(|_| index < size);
        let Some(tile) = tile else { return Ok(None) };
        let rows = if u64::from(tile.width()) < TILE_WIDTH {
            self.log.rows.as_slice()
        } else {
            if self.rows.as_ref().is_none_or(|(read, _)| *read != tile) {
                self.rows = Some((tile, self.log.files.rows(tile)?));
            }
            self.rows.as_ref().map_or(&[] as &[Row], |(_, rows)| rows)
        };
        let at = usize::try_from(index % TILE_WIDTH).ok();
        let Some(row) = at.and_then(|at| rows.get(at)) else { return Ok(None) };
        let inclusion = prove_inclusion(&self.hashes, index, size)?;
        let proof = LogProof { inclusion, note: self.log.note.clone() }.to_string().into_bytes();
        Ok(Some(LoggedLeaf { leaf: row.leaf.clone(), record: row.record.clone(), proof }))
    }
}
