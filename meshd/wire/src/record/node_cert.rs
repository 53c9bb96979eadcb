//! A steward's word that a node belongs to its organisation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use minicbor::{Decode, Encode};

use super::Record;
use crate::id::{NodeId, OrgId, PublicKey};
use crate::kind::Kind;
use crate::time::Timestamp;

/// An address prefix: 4 or 16 bytes of address, and a length.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Prefix {
    /// Address in network byte order, host bits zero.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub addr: Vec<u8>,
    /// Number of leading bits.
    #[n(1)]
    pub len: u8,
}

impl Prefix {
    /// Makes a prefix of an IPv4 address.
    pub fn v4(addr: Ipv4Addr, len: u8) -> Self {
        Self { addr: addr.octets().to_vec(), len }
    }

    /// Makes the prefix of one address.
    pub fn host(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(v4) => Self { addr: v4.octets().to_vec(), len: 32 },
            IpAddr::V6(v6) => Self { addr: v6.octets().to_vec(), len: 128 },
        }
    }

    /// Address and length, if the address has a valid size, the length fits and host bits are zero.
    pub fn parts(&self) -> Option<(IpAddr, u8)> {
        if let Ok(v4) = <[u8; 4]>::try_from(self.addr.as_slice()) {
            let bits = u32::from_be_bytes(v4);
            let host = 32u32.checked_sub(u32::from(self.len))?;
            let clean = host == 32 && bits == 0 || host < 32 && bits.trailing_zeros().min(32) >= host;
            return clean.then_some((Ipv4Addr::from(v4).into(), self.len));
        }
        let v6 = <[u8; 16]>::try_from(self.addr.as_slice()).ok()?;
        let bits = u128::from_be_bytes(v6);
        let host = 128u32.checked_sub(u32::from(self.len))?;
        let clean = host == 128 && bits == 0 || host < 128 && bits.trailing_zeros().min(128) >= host;
        clean.then_some((Ipv6Addr::from(v6).into(), self.len))
    }
}

/// A label: key and value of `[a-z0-9.-]{1,63}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub struct Label {
    /// Key.
    #[n(0)]
    pub key: String,
    /// Value.
    #[n(1)]
    pub value: String,
}

/// Certificate of a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct NodeCert {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// The node; stays when its identity key is renewed.
    #[n(1)]
    pub node: NodeId,
    /// Its organisation.
    #[n(2)]
    pub org: OrgId,
    /// Root version under which the steward signed.
    #[n(3)]
    pub root_version: u32,
    /// Counts the certificates of this organisation and root version.
    #[n(4)]
    pub serial: u64,
    /// Host name, `[a-z0-9-]{1,63}`, unique in the organisation.
    #[n(5)]
    pub name: String,
    /// Signs the node's records.
    #[n(6)]
    pub identity: PublicKey,
    /// Raw public key of its TLS.
    #[n(7)]
    pub transport: PublicKey,
    /// Overlay IPv4 address.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub addr4: [u8; 4],
    /// Overlay IPv6 address.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub addr6: [u8; 16],
    /// Further prefixes the node may claim for its endpoints.
    #[n(10)]
    pub prefixes: Vec<Prefix>,
    /// Labels, sorted by key, distinct keys.
    #[n(11)]
    pub labels: Vec<Label>,
    /// Label keys the node may attest for its endpoints.
    #[n(12)]
    pub may_attest: Vec<String>,
    /// First moment of validity.
    #[n(13)]
    pub not_before: Timestamp,
    /// Last moment of validity.
    #[n(14)]
    pub not_after: Timestamp,
}

impl NodeCert {
    /// Overlay IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.addr4.into()
    }

    /// Overlay IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.addr6.into()
    }
}

impl Record for NodeCert {
    const KIND: Kind = Kind::NodeCert;

    fn version(&self) -> u8 {
        self.version
    }
}
