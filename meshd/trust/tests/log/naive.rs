//! The tree as RFC 6962 defines it: by recursion over all leaves, as slow as it is clear.

use meshd_trust::log::TreeHash;

/// MTH of 2.1.
pub fn root(leaves: &[TreeHash]) -> TreeHash {
    match leaves {
        [] => TreeHash::empty(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            TreeHash::node(&root(left), &root(right))
        }
    }
}

/// PATH of 2.1.1.
pub fn inclusion(index: usize, leaves: &[TreeHash]) -> Vec<TreeHash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, beside) = if index < left.len() {
        (inclusion(index, left), right)
    } else {
        (inclusion(index - left.len(), right), left)
    };
    path.push(root(beside));
    path
}

/// PROOF of 2.1.2.
pub fn consistency(old: usize, leaves: &[TreeHash]) -> Vec<TreeHash> {
    if old == 0 { Vec::new() } else { subproof(old, leaves, true) }
}

fn subproof(old: usize, leaves: &[TreeHash], known: bool) -> Vec<TreeHash> {
    if old == leaves.len() {
        return if known { Vec::new() } else { vec![root(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, beside) = if old <= left.len() {
        (subproof(old, left, known), right)
    } else {
        (subproof(old - left.len(), right, false), left)
    };
    path.push(root(beside));
    path
}

fn split(leaves: usize) -> usize {
    1 << (leaves - 1).ilog2()
}
