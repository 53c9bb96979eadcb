//! Where a node can be reached.

use std::net::{IpAddr, SocketAddr};

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::NodeId;
use crate::kind::Kind;
use crate::time::Timestamp;

/// How a candidate was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum CandidateKind {
    /// Address of an interface.
    #[n(1)]
    Host,
    /// From the configuration.
    #[n(2)]
    Static,
    /// A mapping asked of the router.
    #[n(3)]
    Mapped,
    /// As others see it.
    #[n(4)]
    Observed,
}

/// One underlay address and port of the node's tunnel socket.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Candidate {
    /// How it was found.
    #[n(0)]
    pub kind: CandidateKind,
    /// 4 or 16 bytes.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub addr: Vec<u8>,
    /// UDP port.
    #[n(2)]
    pub port: u16,
}

impl Candidate {
    /// Makes a candidate of a socket address.
    pub fn new(kind: CandidateKind, at: SocketAddr) -> Self {
        let addr = match at.ip() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        Self { kind, addr, port: at.port() }
    }

    /// Socket address, if the address has a valid size.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        let ip: IpAddr = match self.addr.len() {
            4 => <[u8; 4]>::try_from(self.addr.as_slice()).ok()?.into(),
            16 => <[u8; 16]>::try_from(self.addr.as_slice()).ok()?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, self.port))
    }
}

/// Candidates and relays of a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct NodePaths {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// The node.
    #[n(1)]
    pub node: NodeId,
    /// Orders the node's NodePaths.
    #[n(2)]
    pub seq: u64,
    /// When it was signed; a hint after ten minutes.
    #[n(3)]
    pub issued_at: Timestamp,
    /// Underlay addresses of the tunnel socket, best first.
    #[n(4)]
    pub candidates: Vec<Candidate>,
    /// Home relays, best first.
    #[n(5)]
    pub relays: Vec<NodeId>,
    /// Kind of NAT: 0 unknown; others belong to the path agent.
    #[n(6)]
    pub nat: u8,
    /// TCP port of the node's control listener on the same addresses.
    #[n(7)]
    pub control_port: Option<u16>,
}

impl Record for NodePaths {
    const KIND: Kind = Kind::NodePaths;

    fn version(&self) -> u8 {
        self.version
    }
}
