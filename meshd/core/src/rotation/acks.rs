//! Who has said that it has the next key, and who uses it.

use std::collections::{BTreeMap, BTreeSet};

/// Whether a peer can say that it has installed a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// There is a control channel, on which receipts come.
    Direct,
    /// There is none: records reach the peer through a registry, and only its packets tell.
    Registry,
}

/// Acknowledgements of the connected peers for one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Acks<P> {
    connected: BTreeMap<P, Channel>,
    installed: BTreeSet<P>,
    switched: BTreeSet<P>,
}

impl<P: Copy + Ord> Acks<P> {
    pub(super) fn new() -> Self {
        Self { connected: BTreeMap::new(), installed: BTreeSet::new(), switched: BTreeSet::new() }
    }

    /// Forgets who has acknowledged: another key begins.
    pub(super) fn begin(&mut self) {
        self.installed.clear();
        self.switched.clear();
    }

    pub(super) fn set_connected(&mut self, peers: impl IntoIterator<Item = (P, Channel)>) {
        self.connected = peers.into_iter().collect();
    }

    pub(super) fn is_alone(&self) -> bool {
        self.connected.is_empty()
    }

    /// What a peer that is not connected says is not kept: it would be no bound for memory.
    pub(super) fn installed(&mut self, peer: P) {
        if self.connected.contains_key(&peer) {
            self.installed.insert(peer);
        }
    }

    /// Whether this was not known.
    pub(super) fn switched(&mut self, peer: P) -> bool {
        let is_connected = self.connected.contains_key(&peer);
        if is_connected {
            self.installed.insert(peer);
        }
        is_connected && self.switched.insert(peer)
    }

    pub(super) fn all_installed(&self) -> bool {
        self.connected.keys().all(|peer| self.installed.contains(peer))
    }

    /// Whether only those have not said that it is installed who have no way to.
    pub(super) fn all_who_can_installed(&self) -> bool {
        let able = self.connected.iter().filter(|(_, channel)| **channel == Channel::Direct);
        able.map(|(peer, _)| peer).all(|peer| self.installed.contains(peer))
    }

    pub(super) fn all_switched(&self) -> bool {
        self.connected.keys().all(|peer| self.switched.contains(peer))
    }
}
