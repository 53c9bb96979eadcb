//! Peers and routes as one immutable value.

use std::collections::HashMap;
use std::sync::Arc;

use meshd_core::RouteTable;
use meshd_tunnel::vertical_slice::TunnelIndex;
use meshd_wire::NodeId;

use super::peer::Peer;

/// Everything the packet path looks up.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) peers: Vec<Arc<Peer>>,
    pub(super) routes: RouteTable<Arc<Peer>>,
    pub(super) by_key: HashMap<[u8; 32], Arc<Peer>>,
    pub(super) by_index: HashMap<TunnelIndex, Arc<Peer>>,
    /// Addresses by which a peer itself is pinged.
    pub(super) addresses: HashMap<NodeId, PeerAddresses>,
}

/// The host addresses of one peer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PeerAddresses {
    pub(super) v4: Option<std::net::Ipv4Addr>,
    pub(super) v6: Option<std::net::Ipv6Addr>,
}

impl Snapshot {
    pub(super) fn peer(&self, node: &NodeId) -> Option<&Arc<Peer>> {
        self.peers.iter().find(|peer| peer.node == *node)
    }
}
