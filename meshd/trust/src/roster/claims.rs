//! Who holds which address and which key: nothing has two holders.

mod endpoints;

pub(super) use endpoints::{EndpointClaims, Holder};

use std::collections::BTreeMap;
use std::net::IpAddr;

use meshd_wire::record::{NodeCert, NodeKeys};
use meshd_wire::{NodeId, PublicKey};

use super::overlay;

/// Index of everything that only one node may hold at a time.
#[derive(Debug, Default)]
pub(super) struct Claims {
    prefixes: BTreeMap<(IpAddr, u8), NodeId>,
    transports: BTreeMap<PublicKey, NodeId>,
    tunnels: BTreeMap<PublicKey, NodeId>,
    pub(super) endpoints: EndpointClaims,
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

    /// What certificates say of the addresses of a prefix: prefixes around it, the same, and inside.
    pub(super) fn certified_on(&self, addr: IpAddr, len: u8) -> impl Iterator<Item = (IpAddr, u8, NodeId)> {
        let around = (0..len).filter_map(move |wider| {
            let network = overlay::network_of(addr, wider);
            self.prefixes.get(&(network, wider)).map(|holder| (network, wider, *holder))
        });
        let inside = self.prefixes.range((addr, len)..=(overlay::last_of(addr, len), u8::MAX));
        around.chain(inside.map(|((network, len), holder)| (*network, *len, *holder)))
    }

    /// Nodes whose certificates keep endpoints of a node from a prefix: whoever has an address, or a wider
    /// prefix as another node. Single addresses inside a block do not matter, they are narrower.
    pub(super) fn certified_rivals(
        &self,
        addr: IpAddr,
        len: u8,
        node: &NodeId,
    ) -> impl Iterator<Item = NodeId> {
        let is_block = !overlay::is_host(addr, len);
        let rivals = self.certified_on(addr, len).filter(move |(network, len, holder)| {
            if overlay::is_host(*network, *len) { !is_block } else { holder != node }
        });
        rivals.map(|(_, _, holder)| holder)
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

pub(super) fn prefixes_of(cert: &NodeCert) -> impl Iterator<Item = (IpAddr, u8)> {
    [(cert.ipv4().into(), 32), (cert.ipv6().into(), 128)]
        .into_iter()
        .chain(cert.prefixes.iter().filter_map(|prefix| prefix.parts()))
}

fn tunnels_of(keys: &NodeKeys) -> impl Iterator<Item = PublicKey> {
    [Some(keys.cur), keys.next, keys.prev].into_iter().flatten().map(|epoch| epoch.key)
}
