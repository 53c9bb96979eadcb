//! Bundles of leaves: what is written is read, and everything else is refused.

use meshd_trust::log::{
    ENTRIES_BYTES_MAX, EntriesError, TILE_WIDTH, TileAddress, read_entries, write_entries,
};
use meshd_wire::limits::LEAF_BYTES_MAX;
use proptest::prelude::*;

#[test]
fn a_bundle_has_its_bytes() {
    let leaves: [&[u8]; 3] = [b"", b"a", b"leaf"];
    let bytes = write_entries(leaves).unwrap();
    assert_eq!(bytes, b"\0\0\0\x01a\0\x04leaf");
    assert_eq!(read_entries(&bytes, tile(3)), Ok(leaves.to_vec()));
    assert_eq!(read_entries(&bytes, tile(2)), Ok(leaves[..2].to_vec()), "a wider bundle serves");
}

#[test]
fn malformed_bundles_are_refused() {
    let bytes = write_entries([&b"one"[..], b"two"]).unwrap();
    for len in (0..bytes.len()).filter(|len| *len != 5) {
        let expected =
            if len == 0 { EntriesError::Count { found: 0, expected: 1 } } else { EntriesError::End };
        assert_eq!(read_entries(&bytes[..len], tile(1)), Err(expected), "cut at {len}");
    }
    assert_eq!(read_entries(&bytes, tile(3)), Err(EntriesError::Count { found: 2, expected: 3 }));
    let full = TILE_WIDTH as usize;
    assert!(read_entries(&vec![0; 2 * full], tile(256)).is_ok());
    let over = EntriesError::Count { found: full + 1, expected: 256 };
    assert_eq!(read_entries(&vec![0; 2 * full + 2], tile(256)), Err(over));
}

#[test]
fn bundles_are_bounded() {
    let largest = vec![7; LEAF_BYTES_MAX];
    let full = write_entries((0..TILE_WIDTH).map(|_| largest.as_slice())).unwrap();
    assert_eq!(full.len(), ENTRIES_BYTES_MAX);
    assert!(read_entries(&full, tile(256)).is_ok());
    let mut more = full;
    more.push(0);
    assert_eq!(read_entries(&more, tile(256)), Err(EntriesError::TooLarge(ENTRIES_BYTES_MAX + 1)));
    let too_long = vec![7; LEAF_BYTES_MAX + 1];
    let refused = EntriesError::Leaf(LEAF_BYTES_MAX + 1);
    assert_eq!(write_entries([too_long.as_slice()]), Err(refused));
    let mut bytes = u16::try_from(LEAF_BYTES_MAX + 1).unwrap().to_be_bytes().to_vec();
    bytes.extend(too_long);
    assert_eq!(read_entries(&bytes, tile(1)), Err(refused));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_written_as_they_were(bytes in proptest::collection::vec(0u8..5, 0..300)) {
        for width in 1..40 {
            if let Ok(leaves) = read_entries(&bytes, tile(width)) {
                prop_assert!(bytes.starts_with(&write_entries(leaves).unwrap()));
            }
        }
    }
}

/// Tile of that many hashes.
fn tile(width: u64) -> TileAddress {
    TileAddress::within(width, 0, 0).unwrap()
}
