//! Who holds which address and which key: nothing has two holders.

use std::collections::BTreeMap;
use std::net::IpAddr;

use meshd_wire::record::{NodeCert, NodeKeys};
use meshd_wire::{NodeId, PublicKey};

/// Index of everything that only one node may hold at a time.
#[derive(Debug, Default)]
pub(super) struct Claims {
    prefixes: BTreeMap<(IpAddr, u8), NodeId>,
    transports: BTreeMap<PublicKey, NodeId>,
    tunnels: BTreeMap<PublicKey, NodeId>,
}

impl Claims {
    /// Other nodes that hold an address or prefix of a certificate.
    pub(super) fn address_rivals(&self, cert: &NodeCert) -> Vec<NodeId> {
        prefixes_of(cert)
            .filter_map(|prefix| self.prefixes.get(&prefix))
            .filter(|holder| **holder != cert.node)
            .copied()
            .collect()
    }

    /// Another node that holds the transport key of a certificate.
    pub(super) fn transport_rival(&self, cert: &NodeCert) -> Option<NodeId> {
        self.transports.get(&cert.transport).filter(|holder| **holder != cert.node).copied()
    }

    /// Other nodes that hold one of some tunnel keys.
    pub(super) fn tunnel_rivals(&self, keys: &NodeKeys) -> Vec<NodeId> {
        tunnels_of(keys)
            .filter_map(|key| self.tunnels.get(&key))
            .filter(|holder| **holder != keys.node)
            .copied()
            .collect()
    }

    pub(super) fn holder_of_transport(&self, key: &PublicKey) -> Option<NodeId> {
        self.transports.get(key).copied()
    }

    pub(super) fn add_cert(&mut self, cert: &NodeCert) {
        self.prefixes.extend(prefixes_of(cert).map(|prefix| (prefix, cert.node)));
        self.transports.insert(cert.transport, cert.node);
    }

    pub(super) fn remove_cert(&mut self, cert: &NodeCert) {
        for prefix in prefixes_of(cert) {
            self.prefixes.remove(&prefix);
        }
        self.transports.remove(&cert.transport);
    }

    pub(super) fn add_keys(&mut self, keys: &NodeKeys) {
        self.tunnels.extend(tunnels_of(keys).map(|key| (key, keys.node)));
    }

    pub(super) fn remove_keys(&mut self, keys: &NodeKeys) {
        for key in tunnels_of(keys) {
            self.tunnels.remove(&key);
        }
    }
}

fn prefixes_of(cert: &NodeCert) -> impl Iterator<Item = (IpAddr, u8)> {
    [(cert.ipv4().into(), 32), (cert.ipv6().into(), 128)]
        .into_iter()
        .chain(cert.prefixes.iter().filter_map(|prefix| prefix.parts()))
}

fn tunnels_of(keys: &NodeKeys) -> impl Iterator<Item = PublicKey> {
    [Some(keys.cur), keys.next, keys.prev].into_iter().flatten().map(|epoch| epoch.key)
}
