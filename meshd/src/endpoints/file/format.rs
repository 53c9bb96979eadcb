//! Format 1 of the file. Another one is another file and a conversion.

use std::net::IpAddr;

use ipnet::IpNet;
use meshd_api::{Allocation, Attachment, Egress, Namespace, Network, Policing, Reach};
use meshd_wire::limits::ARRAY_LEN_MAX;
use meshd_wire::record::{Label, Prefix};
use meshd_wire::{DecodeError, EndpointId, ImageDigest, NodeId, Timestamp};
use minicbor::{Decode, Encode};

use super::{Content, Reserved};
use crate::endpoints::entry::{BootId, Entry, Stage};
use crate::os::{Mac, gateway_of_all};
use crate::stored::Stored;

/// What the file holds.
#[derive(Encode, Decode)]
#[cbor(array)]
pub struct StoredContent {
    #[n(0)]
    format: u8,
    #[n(1)]
    node: NodeId,
    #[n(2)]
    networks: Vec<StoredNetwork>,
    #[n(3)]
    entries: Vec<StoredEntry>,
    #[n(4)]
    reserved: Vec<StoredReserved>,
    #[n(5)]
    blocks: Vec<Prefix>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredNetwork {
    #[n(0)]
    runtime: String,
    #[n(1)]
    network: String,
    #[n(2)]
    pool4: Option<String>,
    #[n(3)]
    pool6: Option<String>,
    #[n(4)]
    allocation: StoredAllocation,
    #[n(5)]
    egress: StoredEgress,
    #[n(6)]
    mtu: Option<u16>,
    #[n(7)]
    ranges: Vec<String>,
    /// Files of before there was a choice have none of these.
    #[n(8)]
    reach: Option<StoredReach>,
    #[n(9)]
    policy: Option<StoredPolicing>,
}

#[derive(Encode, Decode)]
#[cbor(index_only)]
enum StoredReach {
    #[n(0)]
    Mesh,
    #[n(1)]
    Network,
}

#[derive(Encode, Decode)]
#[cbor(index_only)]
enum StoredPolicing {
    #[n(0)]
    Optional,
    #[n(1)]
    Required,
}

#[derive(Encode, Decode)]
#[cbor(index_only)]
enum StoredAllocation {
    #[n(0)]
    Blocks,
    #[n(1)]
    Sequential,
}

#[derive(Encode, Decode)]
#[cbor(index_only)]
enum StoredEgress {
    #[n(0)]
    Runtime,
    #[n(1)]
    Mesh,
    #[n(2)]
    None,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredEntry {
    #[n(0)]
    id: EndpointId,
    #[n(1)]
    attachment: StoredAttachment,
    #[n(2)]
    namespace: Option<StoredNamespace>,
    #[n(3)]
    addresses: Vec<Prefix>,
    #[cbor(n(4), with = "minicbor::bytes")]
    mac: [u8; 6],
    #[n(5)]
    mtu: u16,
    #[n(6)]
    name: Option<String>,
    #[n(7)]
    labels: Vec<Label>,
    #[n(8)]
    image: Option<ImageDigest>,
    #[n(9)]
    routes: Vec<Prefix>,
    #[n(10)]
    has_egress: bool,
    #[n(11)]
    stage: Stage,
    #[n(12)]
    since: Timestamp,
    #[n(13)]
    boot: BootId,
    /// None in files of before: the gateways that all endpoints have.
    #[n(14)]
    gateways: Option<Vec<Prefix>>,
    #[n(15)]
    sandbox: Option<String>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredAttachment {
    #[n(0)]
    runtime: String,
    #[n(1)]
    network: String,
    #[n(2)]
    container: String,
    #[n(3)]
    ifname: String,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredNamespace {
    #[n(0)]
    path: String,
    #[n(1)]
    dev: u64,
    #[n(2)]
    ino: u64,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct StoredReserved {
    #[n(0)]
    address: Prefix,
    #[n(1)]
    since: Timestamp,
}

impl Stored for StoredContent {
    const NAME: &'static str = "endpoints";
    const FORMAT: u8 = 1;

    fn format(&self) -> u8 {
        self.format
    }
}

impl StoredContent {
    /// What a node stores.
    pub fn new(node: NodeId, content: &Content) -> Self {
        let Content { networks, entries, reserved, blocks } = content;
        Self {
            format: Self::FORMAT,
            node,
            networks: networks.iter().map(StoredNetwork::from).collect(),
            entries: entries.iter().map(StoredEntry::from).collect(),
            reserved: reserved.iter().map(StoredReserved::from).collect(),
            blocks: prefixes(blocks),
        }
    }

    /// The node that stored it.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Length of a list that is too long to be read again, if there is one.
    pub fn list_len_over(&self) -> Option<usize> {
        let of_entries =
            self.entries.iter().flat_map(|one| [one.addresses.len(), one.labels.len(), one.routes.len()]);
        let of_networks = self.networks.iter().map(|one| one.ranges.len());
        [self.networks.len(), self.entries.len(), self.reserved.len(), self.blocks.len()]
            .into_iter()
            .chain(of_entries)
            .chain(of_networks)
            .find(|len| *len > ARRAY_LEN_MAX)
    }
}

impl TryFrom<StoredContent> for Content {
    type Error = DecodeError;

    fn try_from(stored: StoredContent) -> Result<Self, DecodeError> {
        let StoredContent { format: _, node: _, networks, entries, reserved, blocks } = stored;
        Ok(Self {
            networks: networks.into_iter().map(Network::from).collect(),
            entries: entries.into_iter().map(Entry::try_from).collect::<Result<_, _>>()?,
            reserved: reserved.into_iter().map(Reserved::try_from).collect::<Result<_, _>>()?,
            blocks: nets(&blocks)?,
        })
    }
}

impl From<&Network> for StoredNetwork {
    fn from(network: &Network) -> Self {
        let Network { runtime, network, pool4, pool6, allocation, egress, mtu, ranges, reach, policy } =
            network.clone();
        let allocation = match allocation {
            Allocation::Blocks => StoredAllocation::Blocks,
            Allocation::Sequential => StoredAllocation::Sequential,
        };
        let egress = match egress {
            Egress::Runtime => StoredEgress::Runtime,
            Egress::Mesh => StoredEgress::Mesh,
            Egress::None => StoredEgress::None,
        };
        let reach = Some(match reach {
            Reach::Mesh => StoredReach::Mesh,
            Reach::Network => StoredReach::Network,
        });
        let policy = Some(match policy {
            Policing::Optional => StoredPolicing::Optional,
            Policing::Required => StoredPolicing::Required,
        });
        Self { runtime, network, pool4, pool6, allocation, egress, mtu, ranges, reach, policy }
    }
}

impl From<StoredNetwork> for Network {
    fn from(stored: StoredNetwork) -> Self {
        let StoredNetwork { runtime, network, pool4, pool6, allocation, egress, mtu, ranges, reach, policy } =
            stored;
        let allocation = match allocation {
            StoredAllocation::Blocks => Allocation::Blocks,
            StoredAllocation::Sequential => Allocation::Sequential,
        };
        let egress = match egress {
            StoredEgress::Runtime => Egress::Runtime,
            StoredEgress::Mesh => Egress::Mesh,
            StoredEgress::None => Egress::None,
        };
        let reach = match reach {
            None | Some(StoredReach::Mesh) => Reach::Mesh,
            Some(StoredReach::Network) => Reach::Network,
        };
        let policy = match policy {
            None | Some(StoredPolicing::Optional) => Policing::Optional,
            Some(StoredPolicing::Required) => Policing::Required,
        };
        Self { runtime, network, pool4, pool6, allocation, egress, mtu, ranges, reach, policy }
    }
}

impl From<&Entry> for StoredEntry {
    fn from(entry: &Entry) -> Self {
        let Entry {
            id,
            attachment: Attachment { runtime, network, container, ifname },
            namespace,
            addresses,
            mac,
            mtu,
            name,
            labels,
            image,
            gateways,
            routes,
            has_egress,
            sandbox,
            stage,
            since,
            boot,
        } = entry.clone();
        let label = |(key, value)| Label { key, value };
        Self {
            id,
            attachment: StoredAttachment { runtime, network, container, ifname },
            namespace: namespace.map(|Namespace { path, dev, ino }| StoredNamespace { path, dev, ino }),
            addresses: addresses.into_iter().map(Prefix::host).collect(),
            mac: mac.octets(),
            mtu,
            name,
            labels: labels.into_iter().map(label).collect(),
            image,
            routes: prefixes(&routes),
            has_egress,
            stage,
            since,
            boot,
            gateways: Some(gateways.into_iter().map(Prefix::host).collect()),
            sandbox,
        }
    }
}

impl TryFrom<StoredEntry> for Entry {
    type Error = DecodeError;

    fn try_from(stored: StoredEntry) -> Result<Self, DecodeError> {
        let StoredEntry {
            id,
            attachment: StoredAttachment { runtime, network, container, ifname },
            namespace,
            addresses,
            mac,
            mtu,
            name,
            labels,
            image,
            routes,
            has_egress,
            stage,
            since,
            boot,
            gateways,
            sandbox,
        } = stored;
        let addresses = addresses.iter().map(address).collect::<Result<Vec<_>, _>>()?;
        let gateways = match gateways {
            Some(gateways) => gateways.iter().map(address).collect::<Result<_, _>>()?,
            None => addresses.iter().map(gateway_of_all).collect(),
        };
        Ok(Self {
            id,
            attachment: Attachment { runtime, network, container, ifname },
            namespace: namespace.map(|StoredNamespace { path, dev, ino }| Namespace { path, dev, ino }),
            addresses,
            mac: Mac::from(mac),
            mtu,
            name,
            labels: labels.into_iter().map(|Label { key, value }| (key, value)).collect(),
            image,
            gateways,
            routes: nets(&routes)?,
            has_egress,
            sandbox,
            stage,
            since,
            boot,
        })
    }
}

impl From<&Reserved> for StoredReserved {
    fn from(reserved: &Reserved) -> Self {
        let Reserved { address, since } = *reserved;
        Self { address: Prefix::host(address), since }
    }
}

impl TryFrom<StoredReserved> for Reserved {
    type Error = DecodeError;

    fn try_from(stored: StoredReserved) -> Result<Self, DecodeError> {
        let StoredReserved { address: of, since } = stored;
        Ok(Self { address: address(&of)?, since })
    }
}

fn prefixes(nets: &[IpNet]) -> Vec<Prefix> {
    let prefix = |net: &IpNet| Prefix { len: net.prefix_len(), ..Prefix::host(net.network()) };
    nets.iter().map(prefix).collect()
}

fn nets(prefixes: &[Prefix]) -> Result<Vec<IpNet>, DecodeError> {
    let net = |prefix: &Prefix| prefix.parts().and_then(|(addr, len)| IpNet::new(addr, len).ok());
    prefixes.iter().map(|prefix| net(prefix).ok_or_else(|| malformed("a prefix"))).collect()
}

fn address(prefix: &Prefix) -> Result<IpAddr, DecodeError> {
    let parts = prefix.parts().filter(|(addr, len)| Prefix::host(*addr).len == *len);
    parts.map(|(addr, _)| addr).ok_or_else(|| malformed("an address"))
}

fn malformed(what: &str) -> DecodeError {
    DecodeError::Malformed(what.to_owned())
}
