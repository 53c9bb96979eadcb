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
    pub(super) routes: RouteTable<Arc<Peer>>,
    pub(super) by_node: HashMap<NodeId, Known>,
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
