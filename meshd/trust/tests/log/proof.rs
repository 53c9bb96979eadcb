//! Proofs: what is true verifies, and not one bit beside it.

use meshd_trust::log::{
    ConsistencyProof, InclusionProof, PROOF_LEN_MAX, ProofRefusal, SIZE_MAX, TileError, TreeHash, TreeHead,
    prove_consistency, prove_inclusion, tree_head,
};
use proptest::prelude::*;

use crate::naive;
use crate::tiles::{Log, leaf};

/// Every leaf of every small tree, and every pair of small trees.
const SMALL: u64 = 70;

#[test]
fn every_leaf_of_every_small_tree_is_proven() {
    for size in 1..=SMALL {
        let log = Log::of(size);
        for index in 0..size {
            let proof = prove_inclusion(&log.tiles, index, size).unwrap();
            assert_eq!(proof.path, naive::inclusion(usize::try_from(index).unwrap(), &log.leaves));
            assert_eq!(proof.verify(&leaf(index), &log.edge.head()), Ok(()), "leaf {index} of {size}");
            for other in (0..size + 2).filter(|other| *other != index) {
                let moved = InclusionProof { index: other, ..proof.clone() };
                assert!(
                    moved.verify(&leaf(index), &log.edge.head()).is_err(),
                    "{index} as {other} of {size}"
                );
            }
        }
    }
}

#[test]
fn every_growth_of_every_small_tree_is_proven() {
    for new in 0..=SMALL {
        let log = Log::of(new);
        assert_eq!(tree_head(&log.tiles, new).unwrap(), log.edge.head());
        for old in 0..=new {
            let proof = prove_consistency(&log.tiles, old, new).unwrap();
            let (old_head, new_head) = (log.head_at(old), log.edge.head());
            assert_eq!(proof.path, naive::consistency(usize::try_from(old).unwrap(), &log.leaves));
            assert_eq!(proof.verify(&old_head, &new_head), Ok(()), "from {old} to {new}");
            if old < new {
                assert_eq!(proof.verify(&new_head, &old_head), Err(ProofRefusal::Range));
            }
        }
    }
}

#[test]
fn proofs_in_a_large_tree_read_each_tile_once() {
    let mut log = Log::of(65_536 + 5_000);
    let old = log.edge.head();
    log.append(1_000);
    let head = log.edge.head();
    let inclusion = prove_inclusion(&log.tiles, 66_666, head.size).unwrap();
    assert_eq!(inclusion.verify(&leaf(66_666), &head), Ok(()));
    assert!(log.tiles.reads.take() <= 4, "one tile of each level, and the edge's");
    let consistency = prove_consistency(&log.tiles, old.size, head.size).unwrap();
    assert_eq!(consistency.verify(&old, &head), Ok(()));
    assert!(log.tiles.reads.take() <= 5, "one tile of each level, and the edges'");
}

#[test]
fn no_flipped_bit_of_a_proof_of_a_leaf_is_missed() {
    let log = Log::of(1_000);
    let head = log.edge.head();
    for index in [0, 511, 998, 999] {
        let proof = prove_inclusion(&log.tiles, index, head.size).unwrap();
        assert!(proof.path.len() > 5);
        for bit in 0..proof.path.len() * 256 {
            let flipped = InclusionProof { path: flip(&proof.path, bit), ..proof.clone() };
            assert_eq!(flipped.verify(&leaf(index), &head), Err(ProofRefusal::Root), "bit {bit}");
        }
        for bit in 0..64 {
            let flipped = InclusionProof { index: index ^ 1 << bit, ..proof.clone() };
            assert!(flipped.verify(&leaf(index), &head).is_err(), "bit {bit} of the index");
        }
        for bit in 0..256 {
            let (other_leaf, other_root) = (flip(&[leaf(index)], bit)[0], flip(&[head.root], bit)[0]);
            assert!(proof.verify(&other_leaf, &head).is_err());
            assert!(proof.verify(&leaf(index), &TreeHead { root: other_root, ..head }).is_err());
        }
        for path in wrong_lengths(&proof.path) {
            assert!(InclusionProof { index, path }.verify(&leaf(index), &head).is_err());
        }
    }
}

#[test]
fn no_flipped_bit_of_a_proof_of_growth_is_missed() {
    let log = Log::of(1_000);
    let head = log.edge.head();
    for size in [1, 255, 512, 777, 999] {
        let (old, proof) = (log.head_at(size), prove_consistency(&log.tiles, size, head.size).unwrap());
        for bit in 0..proof.path.len() * 256 {
            let flipped = ConsistencyProof { path: flip(&proof.path, bit) };
            assert_eq!(flipped.verify(&old, &head), Err(ProofRefusal::Root), "bit {bit} from {size}");
        }
        for bit in 0..256 {
            let (other_old, other_new) = (flip(&[old.root], bit)[0], flip(&[head.root], bit)[0]);
            assert!(proof.verify(&TreeHead { root: other_old, ..old }, &head).is_err());
            assert!(proof.verify(&old, &TreeHead { root: other_new, ..head }).is_err());
        }
        for path in wrong_lengths(&proof.path) {
            assert!(ConsistencyProof { path }.verify(&old, &head).is_err());
        }
    }
}

#[test]
fn growth_from_nothing_and_from_itself_needs_no_hashes_and_takes_none() {
    let log = Log::of(5);
    let (empty, head) = (log.head_at(0), log.edge.head());
    let (nothing, something) = (ConsistencyProof { path: vec![] }, ConsistencyProof { path: vec![leaf(1)] });
    assert_eq!(nothing.verify(&empty, &head), Ok(()));
    assert_eq!(nothing.verify(&head, &head), Ok(()));
    assert_eq!(something.verify(&empty, &head), Err(ProofRefusal::Length));
    assert_eq!(something.verify(&head, &head), Err(ProofRefusal::Length));
    assert_eq!(nothing.verify(&TreeHead { root: leaf(1), size: 0 }, &head), Err(ProofRefusal::Root));
    assert_eq!(nothing.verify(&TreeHead { root: leaf(1), size: 5 }, &head), Err(ProofRefusal::Root));
    assert_eq!(nothing.verify(&log.head_at(3), &head), Err(ProofRefusal::Length));
}

#[test]
fn a_leaf_does_not_pass_for_a_node() {
    let log = Log::of(2);
    let bytes = [leaf(0).0, leaf(1).0].concat();
    let forged = InclusionProof { index: 0, path: vec![] };
    let head = TreeHead { size: 1, ..log.edge.head() };
    assert_eq!(forged.verify(&TreeHash::leaf(&bytes), &head), Err(ProofRefusal::Root));
    assert_eq!(forged.verify(&TreeHash::node(&leaf(0), &leaf(1)), &head), Ok(()));
}

#[test]
fn what_is_not_in_the_tree_is_not_proven() {
    let log = Log::of(5);
    assert!(matches!(prove_inclusion(&log.tiles, 5, 5), Err(TileError::Range { wanted: 5, size: 5 })));
    assert!(matches!(prove_inclusion(&log.tiles, 0, 0), Err(TileError::Range { .. })));
    assert!(matches!(prove_consistency(&log.tiles, 6, 5), Err(TileError::Range { wanted: 6, size: 5 })));
    assert!(matches!(prove_inclusion(&log.tiles, 0, u64::MAX), Err(TileError::Size { .. })));
    assert!(matches!(prove_consistency(&log.tiles, 0, u64::MAX), Err(TileError::Size { .. })));
    assert!(matches!(prove_inclusion(&log.tiles, 0, 6), Err(TileError::Read { .. })));
}

#[test]
fn the_largest_tree_has_the_longest_proof() {
    let head = |root| TreeHead { size: SIZE_MAX, root };
    let path = vec![leaf(1); PROOF_LEN_MAX];
    let root = path.iter().fold(leaf(0), |root, beside| TreeHash::node(&root, beside));
    let proof = InclusionProof { index: 0, path };
    assert_eq!(proof.verify(&leaf(0), &head(root)), Ok(()));
    assert_eq!(
        proof.verify(&leaf(0), &TreeHead { size: SIZE_MAX + 1, root }),
        Err(ProofRefusal::Range),
        "a larger one has none"
    );
    let growth = ConsistencyProof { path: vec![leaf(1); PROOF_LEN_MAX] };
    let beyond = TreeHead { size: SIZE_MAX + 1, root };
    assert_eq!(growth.verify(&head(root), &beyond), Err(ProofRefusal::Range));
}

proptest! {
    #[test]
    fn any_leaf_and_any_growth_of_any_tree_are_proven(
        sizes in (0u64..1_500, 0u64..1_500),
        at in any::<prop::sample::Index>(),
    ) {
        let (old, new) = (sizes.0.min(sizes.1), sizes.0.max(sizes.1).max(1));
        let mut log = Log::of(old);
        let old_head = log.edge.head();
        log.append(new - old);
        let index = at.index(log.leaves.len());
        let proof = prove_inclusion(&log.tiles, index as u64, new).unwrap();
        prop_assert_eq!(&proof.path, &naive::inclusion(index, &log.leaves));
        prop_assert_eq!(proof.verify(&log.leaves[index], &log.edge.head()), Ok(()));
        let growth = prove_consistency(&log.tiles, old, new).unwrap();
        prop_assert_eq!(&growth.path, &naive::consistency(usize::try_from(old).unwrap(), &log.leaves));
        prop_assert_eq!(growth.verify(&old_head, &log.edge.head()), Ok(()));
    }

    #[test]
    fn any_numbers_are_refused_without_a_panic(
        index in any::<u64>(),
        sizes in (any::<u64>(), any::<u64>()),
        path in proptest::collection::vec(any::<[u8; 32]>().prop_map(TreeHash), 0..70),
    ) {
        let (one, other) = (
            TreeHead { size: sizes.0, root: leaf(1) },
            TreeHead { size: sizes.1, root: leaf(2) },
        );
        let (growth, inclusion) = (ConsistencyProof { path: path.clone() }, InclusionProof { index, path });
        prop_assert!(growth.verify(&one, &other).is_err());
        prop_assert!(inclusion.verify(&leaf(3), &one).is_err());
    }
}

fn flip(hashes: &[TreeHash], bit: usize) -> Vec<TreeHash> {
    let mut flipped = hashes.to_vec();
    flipped[bit / 256].0[bit % 256 / 8] ^= 1 << (bit % 8);
    flipped
}

/// A path without one of its hashes, with one twice, with two changed places, and with one more.
fn wrong_lengths(path: &[TreeHash]) -> Vec<Vec<TreeHash>> {
    let mut wrong = Vec::new();
    for at in 0..path.len() {
        let (mut less, mut more) = (path.to_vec(), path.to_vec());
        less.remove(at);
        more.insert(at, path[at]);
        wrong.extend([less, more]);
        if at > 0 {
            let mut swapped = path.to_vec();
            swapped.swap(at - 1, at);
            wrong.push(swapped);
        }
    }
    wrong.push([path, &[leaf(0)]].concat());
    wrong
}
