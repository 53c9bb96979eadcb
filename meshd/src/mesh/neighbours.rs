//! What this node tells its neighbours over control channels, and what they tell it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshd_core::Path;
use meshd_wire::NodeId;

use super::{Mesh, Source};
use crate::channel::{Neighbour, Neighbours, Received};
use crate::discovery::keyspace::Slot;
use crate::metrics::Counters;

impl Mesh {
    /// Takes in what a neighbour has sent.
    pub fn on_neighbour(&mut self, received: Received, counters: &mut Counters) {
        let Received { from, values } = received;
        self.absorb(values, Source::Neighbour(from), counters);
    }

    /// Lets the channels follow the roster: who is a member, where it is, and what they pass on.
    pub(super) fn apply_channels(&self) {
        self.channels.set_neighbours(self.neighbours());
        // What is not on disk yet could be forgotten here and known elsewhere.
        if !self.unsaved {
            self.channels.holdings.replace(self.holdings());
        }
    }

    /// Members in force, each first where its tunnel is, then where it says it is.
    fn neighbours(&self) -> Neighbours {
        let proven: BTreeMap<NodeId, SocketAddr> =
            self.plane.peers().iter().filter_map(|peer| Some((peer.node, peer.endpoint?))).collect();
        let overlay = self.overlay();
        let members = self.members.keys().filter_map(|node| {
            let view = self.roster.node(node)?;
            let said: Vec<SocketAddr> = view.paths().map_or_else(Vec::new, |paths| {
                paths.candidates.iter().filter_map(|candidate| candidate.socket_addr()).collect()
            });
            // A path leaves out what leads nowhere, or back into this host or the overlay.
            let mut addresses = Path::new(&said, &overlay).initiation_targets(false);
            if let Some(proven) = proven.get(node) {
                addresses.retain(|at| at != proven);
                addresses.insert(0, *proven);
            }
            Some((*node, Neighbour { key: view.cert().transport, addresses }))
        });
        Neighbours::new(members.collect())
    }

    /// Records that prove the mesh and its nodes, by their places. Claims of endpoints stay with the registries, where
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
        holdings
    }
}
