//! Another implementation of the same formats, `tlog_tiles`, must say the same.

use meshd_trust::log::{
    ConsistencyProof, InclusionProof, TreeHash, TreeHead, prove_consistency, prove_inclusion,
};
use tlog_tiles::{
    Error, Hash, HashReader, Tile, check_record, check_tree, prove_record, prove_tree,
    split_stored_hash_index, stored_hash_index, stored_hashes_for_record_hash, tree_hash,
};

use crate::tiles::{Log, leaf};

/// Sizes in one tile, in several, and on a third level.
const SIZES: [u64; 12] = [1, 2, 3, 7, 8, 255, 256, 257, 600, 1_030, 65_536, 66_100];

/// Its storage: all hashes in its own order.
#[derive(Default)]
struct Stored(Vec<Hash>);

impl HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

#[test]
fn roots_proofs_and_tiles_are_the_same() {
    let (mut log, mut stored) = (Log::new(), Stored::default());
    for size in SIZES {
        let before = log.size();
        log.append(size - before);
        for number in before..size {
            let hashes = stored_hashes_for_record_hash(number, theirs(leaf(number)), &stored).unwrap();
            stored.0.extend(hashes);
        }
        let head = log.edge.head();
        assert_eq!(ours(tree_hash(size, &stored).unwrap()), head.root);
        for index in samples(size) {
            let proof = prove_inclusion(&log.tiles, index, size).unwrap();
            let expected = prove_record(size, index, &stored).unwrap();
            assert_eq!(proof.path, all_ours(&expected), "leaf {index} of {size}");
            check_record(&expected, size, theirs(head.root), index, theirs(leaf(index))).unwrap();
        }
        for old in samples(size).filter(|old| *old > 0) {
            let proof = prove_consistency(&log.tiles, old, size).unwrap();
            let expected = prove_tree(size, old, &stored).unwrap();
            assert_eq!(proof.path, all_ours(&expected), "from {old} to {size}");
            let old_root = tree_hash(old, &stored).unwrap();
            check_tree(&expected, size, theirs(head.root), old, old_root).unwrap();
        }
        for tile in Tile::new_tiles(8, before, size) {
            let bytes = &log.tiles.files[&path(&tile)];
            assert_eq!(*bytes, tile.read_data(&stored).unwrap(), "{}", tile.path());
        }
    }
}

#[test]
fn verdicts_on_damaged_proofs_are_the_same() {
    for size in 1..40u64 {
        let log = Log::of(size);
        let head = log.edge.head();
        for at in 0..size {
            let path = prove_inclusion(&log.tiles, at, size).unwrap().path;
            for (index, claimed, path) in damaged(at, size, &path) {
                let proof = InclusionProof { index, path: path.clone() };
                let verdict = proof.verify(&leaf(at), &TreeHead { size: claimed, ..head }).is_ok();
                let all = path.iter().map(|hash| theirs(*hash)).collect();
                let expected =
                    check_record(&all, claimed, theirs(head.root), index, theirs(leaf(at))).is_ok();
                assert_eq!(verdict, expected, "leaf {index} of {claimed} with the path of {at} of {size}");
            }
            let (old, path) = (log.head_at(at), prove_consistency(&log.tiles, at, size).unwrap().path);
            for (index, claimed, path) in damaged(at, size, &path) {
                // Growth from nothing, and of a tree beyond the other, is not a question to the other.
                if index == 0 || claimed < index {
                    continue;
                }
                let (first, second) = (TreeHead { size: index, ..old }, TreeHead { size: claimed, ..head });
                let verdict = ConsistencyProof { path: path.clone() }.verify(&first, &second).is_ok();
                let all = path.iter().map(|hash| theirs(*hash)).collect();
                let expected = check_tree(&all, claimed, theirs(head.root), index, theirs(old.root)).is_ok();
                assert_eq!(verdict, expected, "{index} to {claimed} with the proof of {at} to {size}");
            }
        }
    }
}

/// The proof itself, and proofs beside it: other places, other sizes, fewer and more hashes.
fn damaged(at: u64, size: u64, path: &[TreeHash]) -> Vec<(u64, u64, Vec<TreeHash>)> {
    let mut all = vec![(at, size, path.to_vec()), (at, size, [path, &[leaf(at)]].concat())];
    for other in 0..size + 3 {
        all.push((other, size, path.to_vec()));
        all.push((at, other.max(1), path.to_vec()));
    }
    if let Some((_, shorter)) = path.split_last() {
        all.push((at, size, shorter.to_vec()));
        all.push((at, size, path[1..].to_vec()));
    }
    all
}

fn samples(size: u64) -> impl Iterator<Item = u64> {
    let step = (size / 23).max(1);
    (0..size).step_by(usize::try_from(step).unwrap()).chain([size / 2, size - 1])
}

/// Path of their tile in our storage: theirs names the height of tiles too.
fn path(tile: &Tile) -> String {
    tile.path().replacen("tile/8/", "tile/", 1)
}

fn theirs(hash: TreeHash) -> Hash {
    Hash(hash.0)
}

fn ours(hash: Hash) -> TreeHash {
    TreeHash(hash.0)
}

fn all_ours(hashes: &[Hash]) -> Vec<TreeHash> {
    hashes.iter().copied().map(ours).collect()
}

#[test]
fn their_numbers_mean_what_they_are_taken_for() {
    assert_eq!(split_stored_hash_index(stored_hash_index(1, 1)), (1, 1));
}
