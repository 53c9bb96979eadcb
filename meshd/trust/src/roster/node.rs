//! What is held of one node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use meshd_wire::record::{Endpoint, NodeCert, NodeKeys, NodePaths};
use meshd_wire::{EndpointId, NodeId, OrgId, Timestamp};

use super::endpoint::{self, EndpointView};
use super::held::Held;

/// Everything held of one node. Exists from its first certificate on.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) cert: Held<NodeCert>,
    pub(super) keys: Option<Held<NodeKeys>>,
    pub(super) paths: Option<Held<NodePaths>>,
    /// What it claims, what is over, and what it gave back a short while ago.
    pub(super) endpoints: BTreeMap<EndpointId, Held<Endpoint>>,
}

/// What a roster knows of one node. Look at its standing before use.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    pub(super) node: &'a Node,
}

impl<'a> NodeView<'a> {
    /// The node.
    pub fn id(&self) -> NodeId {
        self.node.cert.record.node
    }

    /// Its organisation.
    pub fn org(&self) -> OrgId {
        self.node.cert.record.org
    }

    /// Its certificate.
    pub fn cert(&self) -> &'a NodeCert {
        &self.node.cert.record
    }

    /// Its tunnel keys.
    pub fn keys(&self) -> Option<&'a NodeKeys> {
        self.node.keys.as_ref().map(|held| &held.record)
    }

    /// Where it can be reached; a hint once older than ten minutes.
    pub fn paths(&self) -> Option<&'a NodePaths> {
        self.node.paths.as_ref().map(|held| &held.record)
    }

    /// Its endpoints and blocks, those that are over or were given back included.
    pub fn endpoints(&self) -> impl Iterator<Item = EndpointView<'a>> + use<'a> {
        let node = self.node;
        node.endpoints.values().map(move |held| EndpointView { node, held })
    }

    /// Prefixes it claims at a time beside those of its certificate: the addresses of its endpoints, and its
    /// blocks.
    pub fn claimed(&self, now: Timestamp) -> impl Iterator<Item = (IpAddr, u8)> + use<'a> {
        let records = self.node.endpoints.values().map(|held| &held.record);
        records.filter(move |record| endpoint::is_claimed(record, now)).flat_map(Endpoint::prefixes)
    }

    /// Envelope of its certificate.
    pub fn cert_envelope(&self) -> &'a [u8] {
        &self.node.cert.bytes
    }

    /// Envelope of its tunnel keys.
    pub fn keys_envelope(&self) -> Option<&'a [u8]> {
        self.node.keys.as_ref().map(|held| held.bytes.as_slice())
    }

    /// Envelope of its paths.
    pub fn paths_envelope(&self) -> Option<&'a [u8]> {
        self.node.paths.as_ref().map(|held| held.bytes.as_slice())
    }

    /// When its tunnel keys expire under an agreement's key age.
    pub(super) fn keys_end(&self, key_age_max_s: u32) -> Option<Timestamp> {
        self.keys().map(|keys| keys.issued_at.plus(u64::from(key_age_max_s)))
    }
}
