//! What this node tells its neighbours over control channels, and what they tell it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshd_core::Path;
use meshd_wire::NodeId;

use super::Mesh;
use super::absorb::{Found, Source};
use super::applied::candidates;
use crate::channel::{Member, Members, Received};
use crate::discovery::keyspace::Slot;
use crate::metrics::Counters;

impl Mesh {
    /// Takes in what neighbours have sent; all that has come by now is stored at once.
    pub fn on_neighbours(&mut self, received: Vec<Received>, counters: &mut Counters) {
        let found = received.into_iter().flat_map(|Received { from, values }| {
            let source = Source::Neighbour(from);
            values.into_iter().map(move |(slot, value)| Found { slot, value, source })
        });
        self.absorb(found.collect(), counters);
    }

    /// Lets the channels follow the roster: who is a member, where it is, and what they pass on.
    pub(super) fn apply_channels(&self) {
        self.channels.set_members(self.other_members());
        // What is not on disk yet could be forgotten here and known elsewhere. Of paths that does no harm.
        if !self.unsaved {
            self.channels.holdings.replace(self.holdings());
        }
    }

    /// All nodes that may speak, each first where its tunnel is, then where it says it is. Also those that are cut because
    /// nothing was heard of them or of their organisation for long: it is the channel that may bring it.
    fn other_members(&self) -> Members {
        let proven: BTreeMap<NodeId, SocketAddr> =
            self.plane.peers().iter().filter_map(|peer| Some((peer.node, peer.endpoint?))).collect();
        let overlay = self.overlay();
        let others = self
            .roster
            .nodes()
            .filter(|view| view.id() != self.node && self.holders.of(&view.cert().transport).is_some());
        let members = others.map(|view| {
            // A path leaves out what leads nowhere, or back into this host or the overlay.
            let mut addresses = Path::new(&candidates(&view), &overlay).initiation_targets(false);
            if let Some(proven) = proven.get(&view.id()) {
                addresses.retain(|at| at != proven);
                addresses.insert(0, *proven);
            }
            (view.id(), Member { key: view.cert().transport, addresses })
        });
        Members::new(members.collect())
    }

    /// Records that prove the mesh and its nodes, and what was heard of their logs, by their places. Claims of endpoints stay with the registries, where
    /// alone they can be made.
    fn holdings(&self) -> BTreeMap<Slot, Vec<u8>> {
        let now = self.clock.now();
        let chain = self.roster.chain().into_iter();
        let mut holdings: BTreeMap<Slot, Vec<u8>> =
            chain.filter_map(|envelope| Some((self.authority_slot(&envelope)?, envelope))).collect();
        for view in self.roster.nodes().filter(|view| self.roster.standing(&view.id(), now).may_speak()) {
            if let Some(bundle) = self.roster.bundle(&view.id()) {
                holdings.insert(Slot::Peer(view.id()), bundle.to_bytes());
            }
            if let Some(paths) = view.paths_envelope() {
                holdings.insert(Slot::Paths(view.id()), paths.to_vec());
            }
        }
        holdings.extend(self.checkpoints.holdings(&self.roster));
        holdings
    }
}
