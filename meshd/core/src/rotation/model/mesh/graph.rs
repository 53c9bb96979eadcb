//! Who is linked to whom.

use std::collections::BTreeSet;

use super::dice::Dice;
use super::plan::{LINKS_MAX, LINKS_MIN};

/// Links at random, so many of each node as the bounds allow; all nodes are connected.
pub(super) fn links(nodes: usize, dice: &mut Dice) -> Vec<[u16; 2]> {
    let mut links = BTreeSet::new();
    let mut counts = vec![0; nodes];
    let mut join = |counts: &mut Vec<usize>, a: usize, b: usize| {
        let link = [a.min(b) as u16, a.max(b) as u16];
        if a != b && counts[a] < LINKS_MAX && counts[b] < LINKS_MAX && links.insert(link) {
            counts[a] += 1;
            counts[b] += 1;
        }
    };
    for n in 0..nodes {
        join(&mut counts, n, (n + 1) % nodes);
    }
    let least = LINKS_MIN.min(nodes - 1);
    for n in 0..nodes {
        // In a small mesh the others may be full.
        for _ in 0..100 {
            if counts[n] >= least {
                break;
            }
            let other = dice.one_of(nodes);
            join(&mut counts, n, other);
        }
    }
    links.into_iter().collect()
}
