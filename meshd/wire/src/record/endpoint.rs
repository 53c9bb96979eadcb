//! What a node claims for a container, pod or process that it attaches, or for a block of addresses.

use std::net::IpAddr;

use minicbor::{Decode, Encode};

use super::{Label, Prefix, Record};
use crate::id::{EndpointId, ImageDigest, NodeId};
use crate::kind::Kind;
use crate::time::Timestamp;

/// One claim of a node: the addresses of an endpoint, or a block to take addresses from.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Endpoint {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// The node that attaches it.
    #[n(1)]
    pub node: NodeId,
    /// Names it at that node.
    #[n(2)]
    pub endpoint: EndpointId,
    /// Orders the records of this endpoint.
    #[n(3)]
    pub seq: u64,
    /// When it was signed; the claim is over 24 hours later.
    #[n(4)]
    pub issued_at: Timestamp,
    /// Gives the addresses back.
    #[n(5)]
    pub withdrawn: bool,
    /// One host address of IPv4, of IPv6 or of both, in this order; or one shorter prefix, a block.
    #[n(6)]
    pub addresses: Vec<Prefix>,
    /// Labels, sorted by key, distinct keys; they count as far as the node may attest them.
    #[n(7)]
    pub labels: Vec<Label>,
    /// Its name in the organisation.
    #[n(8)]
    pub name: Option<String>,
    /// Its image.
    #[n(9)]
    pub image: Option<ImageDigest>,
}

impl Endpoint {
    /// Prefixes it claims, each with its length.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        self.addresses.iter().filter_map(Prefix::parts)
    }

    /// Whether it claims a block and not the addresses of one endpoint.
    pub fn is_block(&self) -> bool {
        self.prefixes().any(|(addr, len)| Prefix::host(addr).len != len)
    }
}

impl Record for Endpoint {
    const KIND: Kind = Kind::Endpoint;

    fn version(&self) -> u8 {
        self.version
    }
}
