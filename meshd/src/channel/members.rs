//! The other members, and who of them are neighbours: everybody in a small mesh, in a large one as many as reach all others in few steps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use meshd_wire::{NodeId, PublicKey};

/// Members up to which everybody has a channel with everybody.
const FULL_MESH_MAX: usize = 32;

/// A member of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key that it proves.
    pub key: PublicKey,
    /// Where it may be, the likeliest first.
    pub addresses: Vec<SocketAddr>,
}

/// The other members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    members: BTreeMap<NodeId, Member>,
}

impl Members {
    /// All members but this node.
    pub fn new(members: BTreeMap<NodeId, Member>) -> Self {
        Self { members }
    }

    pub(super) fn get(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// The member that holds a key.
    pub(super) fn holder(&self, key: &PublicKey) -> Option<NodeId> {
        self.members.iter().find(|(_, member)| member.key == *key).map(|(node, _)| *node)
    }

    /// Those whom `own` calls. Beyond a full mesh they are the members at distances 1, 2, 4, … on the ring of all ids, in
    /// both directions: whoever knows the same members makes the same choice, and news needs log₂ steps to reach all.
    pub(super) fn called_by(&self, own: &NodeId) -> BTreeSet<NodeId> {
        if self.members.len() < FULL_MESH_MAX {
            return self.members.keys().copied().collect();
        }
        let ring: Vec<NodeId> =
            self.members.range(*own..).chain(self.members.range(..*own)).map(|(node, _)| *node).collect();
        let steps = std::iter::successors(Some(1_usize), |step| Some(step * 2))
            .take_while(|step| *step <= ring.len() / 2 + 1);
        steps
            .flat_map(|step| [step - 1, ring.len() - step])
            .filter_map(|position| ring.get(position).copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> NodeId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    fn others(count: u16, own: u16) -> Members {
        let member =
            |number: u16| (id(number), Member { key: PublicKey(id(number).0), addresses: Vec::new() });
        Members::new((0..count).filter(|number| *number != own).map(member).collect())
    }

    #[test]
    fn a_small_mesh_is_a_full_one() {
        assert_eq!(others(32, 5).called_by(&id(5)).len(), 31);
        assert!(others(1, 0).called_by(&id(0)).is_empty());
    }

    #[test]
    fn a_large_mesh_is_crossed_in_few_steps_and_both_ends_choose_alike() {
        for count in [33, 34, 100, 1000] {
            let calls: BTreeMap<NodeId, BTreeSet<NodeId>> =
                (0..count).map(|own| (id(own), others(count, own).called_by(&id(own)))).collect();
            for (own, called) in &calls {
                assert!(called.len() <= 20, "{} of {count}", called.len());
                assert!(called.iter().all(|other| calls[other].contains(own)), "{count}");
            }
            let (mut reached, mut steps) = (BTreeSet::from([id(0)]), 0);
            while reached.len() < usize::from(count) {
                reached = reached.iter().flat_map(|own| calls[own].iter().copied().chain([*own])).collect();
                steps += 1;
                assert!(steps <= 10, "{} of {count} after {steps} steps", reached.len());
            }
        }
    }

    #[test]
    fn a_key_names_its_holder() {
        let others = others(5, 0);
        assert_eq!(others.holder(&PublicKey(id(3).0)), Some(id(3)));
        assert_eq!(others.holder(&PublicKey(id(0).0)), None);
    }
}
