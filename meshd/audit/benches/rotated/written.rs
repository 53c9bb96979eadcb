//! The directory of a log, written tile by tile.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use meshd_audit::write_frames;
use meshd_trust::log::{Edge, TILE_WIDTH, Tile, TileAddress, TreeHash, write_entries};

use crate::mesh::{Mesh, Row};

pub struct Written {
    dir: PathBuf,
    edge: Edge,
    /// Of the tile that is not full yet.
    rows: Vec<Row>,
    /// Tiles that are not full yet, by level and index.
    open: BTreeMap<(u8, u64), Tile>,
}

impl Written {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), edge: Edge::new(), rows: Vec::new(), open: BTreeMap::new() }
    }

    pub fn append(&mut self, row: Row) {
        self.rows.push(row);
        if self.rows.len() as u64 == TILE_WIDTH {
            self.close();
        }
    }

    /// Writes what is left, the signed tree, and the chain.
    pub fn finish(mut self, mesh: &Mesh) {
        if !self.rows.is_empty() {
            self.close();
        }
        for tile in std::mem::take(&mut self.open).into_values() {
            self.put(&tile.address.path(), &tile.bytes);
        }
        self.put("checkpoint", mesh.note(self.edge.head()).as_bytes());
        self.put("chain", &mesh.chain());
    }

    fn close(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        for tile in self.edge.append(rows.iter().map(|row| TreeHash::leaf(&row.leaf))) {
            let place = (tile.address.level(), tile.address.index());
            if u64::from(tile.address.width()) == TILE_WIDTH {
                self.open.remove(&place);
                self.put(&tile.address.path(), &tile.bytes);
            } else {
                self.open.insert(place, tile);
            }
        }
        let size = self.edge.size();
        let tile = TileAddress::within(size, 0, (size - 1) / TILE_WIDTH).expect("a tile");
        let leaves = write_entries(rows.iter().map(|row| row.leaf.as_slice())).expect("they fit");
        self.put(&tile.entries_path(), &leaves);
        let records = write_frames(rows.iter().map(|row| row.record.as_slice())).expect("they fit");
        self.put(&tile.record_path(), &records);
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().expect("within the log")).expect("make a directory");
        fs::write(&path, bytes).expect("write a file of the log");
    }
}
