//! Peers and routes as one immutable value.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use meshd_core::RouteTable;
use meshd_wire::NodeId;

use super::peer::Peer;

/// Everything the packet path looks up.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Differs from snapshot to snapshot; what a thread remembers is good for one of them.
    pub(super) generation: u64,
    pub(super) routes: RouteTable<Owner>,
    pub(super) by_node: HashMap<NodeId, Known>,
}

/// Who has an address.
#[derive(Debug, Clone)]
pub(super) enum Owner {
    /// This node, for itself or for an endpoint.
    This,
    /// A peer.
    Peer(Arc<Peer>),
}

impl Owner {
    /// The peer; none for this node.
    #[inline]
    pub(super) fn peer(&self) -> Option<&Arc<Peer>> {
        match self {
            Self::This => None,
            Self::Peer(peer) => Some(peer),
        }
    }
}

/// A peer and the addresses it is pinged at.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) peer: Arc<Peer>,
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Snapshot {
    pub(super) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_node.values().map(|known| &known.peer)
    }
}
