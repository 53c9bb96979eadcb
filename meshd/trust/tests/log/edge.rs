//! The edge: which tiles it asks to write, and that it goes on from them.

use std::collections::BTreeSet;

use meshd_trust::log::{Edge, Frontier, SIZE_MAX, TileAddress, TileError, TreeHash};
use proptest::prelude::*;

use crate::naive;
use crate::tiles::{Log, Missing, Tiles, leaf};

/// Sizes around which tiles become full, and rows begin.
const SIZES: [u64; 11] = [0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 66_000];

#[test]
fn the_tiles_of_a_tree_are_those_of_the_example() {
    // The example of C2SP tlog-tiles.
    let log = Log::of(70_000);
    let paths: BTreeSet<String> = log.tiles.files.keys().cloned().collect();
    let mut expected: BTreeSet<String> = (0..273).map(|index| format!("tile/0/{index:03}")).collect();
    expected
        .extend(["tile/0/273.p/112", "tile/1/000", "tile/1/001.p/17", "tile/2/000.p/1"].map(String::from));
    assert_eq!(paths, expected);
}

#[test]
fn a_tree_that_fills_its_tile_begins_the_level_above() {
    let paths = |size| Log::of(size).tiles.files.into_keys().collect::<Vec<_>>();
    assert_eq!(paths(0), [""; 0]);
    assert_eq!(paths(255), ["tile/0/000.p/255"]);
    assert_eq!(paths(256), ["tile/0/000", "tile/1/000.p/1"]);
    assert_eq!(paths(257), ["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1"]);
}

#[test]
fn long_indices_are_cut_into_groups_of_three_digits() {
    let size = 1_234_068 * 256;
    assert_eq!(TileAddress::within(size, 0, 1_234_067).unwrap().path(), "tile/0/x001/x234/067");
    assert_eq!(TileAddress::within(size, 0, 999).unwrap().path(), "tile/0/999");
    assert_eq!(TileAddress::within(size, 0, 1000).unwrap().path(), "tile/0/x001/000");
    assert_eq!(TileAddress::within(size, 1, 4820).unwrap().path(), "tile/1/x004/820.p/148");
    assert_eq!(TileAddress::within(70_000, 0, 273).unwrap().entries_path(), "tile/entries/273.p/112");
}

#[test]
fn a_tree_has_no_tile_behind_its_edge() {
    assert_eq!(TileAddress::within(0, 0, 0), None);
    assert_eq!(TileAddress::within(256, 0, 1), None);
    assert_eq!(TileAddress::within(257, 0, 1).unwrap().width(), 1);
    assert_eq!(TileAddress::within(255, 1, 0), None);
    assert_eq!(TileAddress::within(SIZE_MAX, 8, 0), None);
    assert_eq!(TileAddress::within(SIZE_MAX, u8::MAX, 0), None);
    assert_eq!(TileAddress::within(SIZE_MAX, 0, u64::MAX), None);
}

#[test]
fn one_more_leaf_writes_only_what_it_changes() {
    let mut log = Log::of(65_536 + 10);
    let tiles = log.edge.append([leaf(65_546)]);
    let paths: Vec<String> = tiles.iter().map(|tile| tile.address.path()).collect();
    assert_eq!(paths, ["tile/0/256.p/11"]);
    assert!(log.edge.append([]).is_empty());
}

#[test]
fn an_edge_goes_on_where_its_tiles_end() {
    for size in SIZES {
        let log = Log::of(size);
        let mut again = Edge::resume(&log.tiles, size).unwrap();
        assert_eq!(again, log.edge, "size {size}");
        assert_eq!(again.head(), log.head_at(size));
        let (mut one, more) = (log.edge.clone(), (0..300).map(leaf));
        assert_eq!(again.append(more.clone()), one.append(more));
    }
}

#[test]
fn an_edge_of_damaged_tiles_has_another_root() {
    let log = Log::of(66_000);
    for tile in ["tile/0/257.p/208", "tile/1/001.p/1", "tile/2/000.p/1"] {
        let mut tiles = log.tiles.clone();
        tiles.files.get_mut(tile).unwrap()[7] ^= 0x10;
        assert_ne!(Edge::resume(&tiles, 66_000).unwrap().head(), log.edge.head(), "{tile}");
    }
}

#[test]
fn a_wider_tile_serves_where_a_partial_one_is_gone() {
    let mut log = Log::of(300);
    let before = log.edge.clone();
    log.append(100);
    let mut tiles = log.tiles.clone();
    let wide = tiles.files["tile/0/001.p/144"].clone();
    tiles.files.insert("tile/0/001.p/44".into(), wide);
    assert_eq!(Edge::resume(&tiles, 300).unwrap(), before);
}

#[test]
fn tiles_of_the_wrong_length_are_refused() {
    let log = Log::of(300);
    for len in [0, 1, 43 * 32, 44 * 32 - 1, 44 * 32 + 1, 256 * 32 + 1, 257 * 32] {
        let mut tiles = log.tiles.clone();
        tiles.files.insert("tile/0/001.p/44".into(), vec![0; len]);
        let refused = Edge::resume(&tiles, 300).unwrap_err();
        assert!(matches!(refused, TileError::Length { len: given, .. } if given == len), "{refused:?}");
    }
    let refused = Edge::resume(&Tiles::default(), 300).unwrap_err();
    assert!(matches!(refused, TileError::Read { source: Missing, .. }), "{refused:?}");
    assert_eq!(refused.to_string(), "read tile/0/001.p/44");
    assert!(matches!(Edge::resume(&log.tiles, SIZE_MAX + 1), Err(TileError::Size { .. })));
}

#[test]
fn hashes_as_text_are_strict_base64() {
    let hash = leaf(1);
    let text = hash.to_string();
    assert_eq!(text.parse(), Ok(hash));
    assert_eq!(text.len(), 44);
    for wrong in [&text[..43], &format!("{text}="), &format!(" {text}"), "", "AAAA"] {
        assert!(wrong.parse::<TreeHash>().is_err(), "{wrong:?}");
    }
    // The last character before the padding has two bits that must be zero.
    assert!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=".parse::<TreeHash>().is_err());
    // Each of these pieces is one byte, so all are as many as a hash has.
    assert!("AA==".repeat(32).parse::<TreeHash>().is_err());
}

proptest! {
    #[test]
    fn batches_of_any_length_make_the_tree_of_the_definition(batches in proptest::collection::vec(0u64..400, 0..6)) {
        let mut log = Log::new();
        let mut frontier = Frontier::new();
        for batch in batches {
            log.append(batch);
            while frontier.size() < log.size() {
                frontier.append(leaf(frontier.size()));
            }
            let root = naive::root(&log.leaves);
            prop_assert_eq!(log.edge.head().root, root);
            prop_assert_eq!(frontier.head(), log.edge.head());
            prop_assert_eq!(&Edge::resume(&log.tiles, log.size()).unwrap(), &log.edge);
        }
    }
}
