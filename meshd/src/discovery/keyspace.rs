//! Where each record stands in the registry: `/meshd/1/<mesh>/…`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use meshd_trust::log::{Checkpoint, Evidence, Note};
use meshd_wire::record::{Endpoint, NodeCert, NodePaths, OrgState, Revocations, StewardDelegation};
use meshd_wire::{Envelope, Kind, MeshId, NodeId, OrgId, PeerBundle, Record};

/// Root of all meshes, with the version of the layout.
const ROOT: &str = "/meshd/1";

/// Place of one value, written as its key without the prefix of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot {
    /// `meta`: the genesis.
    Genesis,
    /// `o/<org>/root/<version>`: a version of an organisation's root.
    Root(OrgId, u32),
    /// `o/<org>/d/<root version>.<serial>`: a delegation.
    Delegation(OrgId, u32, u32),
    /// `o/<org>/x`: the revocations in force.
    Revocations(OrgId),
    /// `o/<org>/state`: freshness.
    State(OrgId),
    /// `o/<org>/log`: newest checkpoint of the audit log.
    Checkpoint(OrgId),
    /// `o/<org>/fork`: evidence that the log has two faces. Before the nodes that it keeps out.
    Evidence(OrgId),
    /// `p/<node>`: certificate and keys.
    Peer(NodeId),
    /// `e/<node>`: paths.
    Paths(NodeId),
    /// `a4/<address>` or `a6/<address>`: claim on an address.
    Address(IpAddr),
    /// `s/<prefix>`: claim on a block. After the addresses, which count if they were claimed before it.
    Block(IpNet),
}

impl Slot {
    /// Slot of a claim on an address, with a full length, or on a block.
    pub fn of_claim(net: IpNet) -> Self {
        if net.prefix_len() == net.max_prefix_len() { Self::Address(net.addr()) } else { Self::Block(net) }
    }

    /// Address or block that is claimed here; none for other records.
    pub fn claimed(&self) -> Option<IpNet> {
        match *self {
            Self::Address(addr) => Some(addr.into()),
            Self::Block(block) => Some(block),
            Self::Genesis
            | Self::Root(..)
            | Self::Delegation(..)
            | Self::Revocations(_)
            | Self::State(_)
            | Self::Checkpoint(_)
            | Self::Evidence(_)
            | Self::Peer(_)
            | Self::Paths(_) => None,
        }
    }

    /// Kind of the record that stands here; none where no envelope stands.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Genesis => Some(Kind::MeshGenesis),
            Self::Root(..) => Some(Kind::OrgRoot),
            Self::Delegation(..) => Some(Kind::StewardDelegation),
            Self::Revocations(_) => Some(Kind::Revocations),
            Self::State(_) => Some(Kind::OrgState),
            Self::Checkpoint(_) | Self::Evidence(_) | Self::Peer(_) => None,
            Self::Paths(_) => Some(Kind::NodePaths),
            Self::Address(_) | Self::Block(_) => Some(Kind::Endpoint),
        }
    }

    /// Whether a value is about the node or organisation of this slot. Bytes that can't be read suit every
    /// slot: to refuse them, and to say why, is for those who verify.
    pub fn suits(&self, value: &[u8]) -> bool {
        let envelope = |bytes: &[u8]| Envelope::from_bytes(bytes).ok();
        if let Some(kind) = self.kind()
            && envelope(value).and_then(|envelope| envelope.kind()).is_some_and(|found| found != kind)
        {
            return false;
        }
        match *self {
            Self::Genesis | Self::Root(..) => true,
            Self::Delegation(org, ..) => about(envelope(value), |one: StewardDelegation| one.org == org),
            Self::Revocations(org) => about(envelope(value), |one: Revocations| one.org == org),
            Self::State(org) => about(envelope(value), |one: OrgState| one.org == org),
            Self::Checkpoint(org) => Note::from_bytes(value).map_or(true, |note| is_of_log(&note, &org)),
            Self::Evidence(org) => {
                let evidence = Evidence::from_bytes(value);
                evidence.map_or(true, |evidence| evidence.notes.iter().all(|note| is_of_log(note, &org)))
            }
            Self::Paths(node) => about(envelope(value), |one: NodePaths| one.node == node),
            Self::Address(addr) => about(envelope(value), |one| claims(&one, addr.into())),
            Self::Block(block) => about(envelope(value), |one| claims(&one, block)),
            Self::Peer(node) => {
                let cert = PeerBundle::from_bytes(value).ok().and_then(|bundle| envelope(&bundle.cert));
                about(cert, |one: NodeCert| one.node == node)
            }
        }
    }
}

/// Reports a text that is no place, or one of a later release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the place of a record")]
pub struct ParseSlotError;

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Genesis => f.write_str("meta"),
            Self::Root(org, version) => write!(f, "o/{org}/root/{version}"),
            Self::Delegation(org, root, serial) => write!(f, "o/{org}/d/{root}.{serial}"),
            Self::Revocations(org) => write!(f, "o/{org}/x"),
            Self::State(org) => write!(f, "o/{org}/state"),
            Self::Checkpoint(org) => write!(f, "o/{org}/log"),
            Self::Evidence(org) => write!(f, "o/{org}/fork"),
            Self::Peer(node) => write!(f, "p/{node}"),
            Self::Paths(node) => write!(f, "e/{node}"),
            Self::Address(IpAddr::V4(addr)) => write!(f, "a4/{addr}"),
            Self::Address(IpAddr::V6(addr)) => write!(f, "a6/{addr}"),
            Self::Block(block) => write!(f, "s/{block}"),
        }
    }
}

impl FromStr for Slot {
    type Err = ParseSlotError;

    fn from_str(text: &str) -> Result<Self, ParseSlotError> {
        let slot = parse(text).ok_or(ParseSlotError)?;
        // One slot has one text: other spellings (upper case, leading zeros) are nobody's.
        if slot.to_string() == text { Ok(slot) } else { Err(ParseSlotError) }
    }
}

fn parse(text: &str) -> Option<Slot> {
    let parts: Vec<&str> = text.splitn(5, '/').collect();
    let slot = match parts[..] {
        ["meta"] => Slot::Genesis,
        ["o", org, "root", version] => Slot::Root(org.parse().ok()?, version.parse().ok()?),
        ["o", org, "d", count] => {
            let (root, serial) = count.split_once('.')?;
            Slot::Delegation(org.parse().ok()?, root.parse().ok()?, serial.parse().ok()?)
        }
        ["o", org, "x"] => Slot::Revocations(org.parse().ok()?),
        ["o", org, "state"] => Slot::State(org.parse().ok()?),
        ["o", org, "log"] => Slot::Checkpoint(org.parse().ok()?),
        ["o", org, "fork"] => Slot::Evidence(org.parse().ok()?),
        ["p", node] => Slot::Peer(node.parse().ok()?),
        ["e", node] => Slot::Paths(node.parse().ok()?),
        ["a4" | "a6", addr] => Slot::Address(addr.parse().ok()?),
        ["s", addr, len] => {
            let block = IpNet::new(addr.parse().ok()?, len.parse().ok()?).ok()?;
            let is_block = block == block.trunc() && block.prefix_len() < block.max_prefix_len();
            Slot::Block(Some(block).filter(|_| is_block)?)
        }
        _ => return None,
    };
    Some(slot)
}

/// Whether a note is of an organisation's log, or of none at all.
fn is_of_log(note: &Note, org: &OrgId) -> bool {
    note.text().parse().map_or(true, |checkpoint: Checkpoint| checkpoint.origin.org == *org)
}

/// Whether a claim is one on an address or a block.
fn claims(claim: &Endpoint, net: IpNet) -> bool {
    claim.prefixes().any(|prefix| prefix == (net.addr(), net.prefix_len()))
}

fn about<R: Record>(envelope: Option<Envelope>, is_right: impl FnOnce(R) -> bool) -> bool {
    envelope.and_then(|envelope| envelope.record().ok()).is_none_or(is_right)
}

/// The keys of one mesh.
#[derive(Debug, Clone)]
pub struct Keyspace {
    prefix: String,
}

impl Keyspace {
    /// Keys of a mesh.
    pub fn new(mesh: &MeshId) -> Self {
        Self { prefix: format!("{ROOT}/{mesh}/") }
    }

    /// Prefix of all keys.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Key of a slot.
    pub fn key(&self, slot: Slot) -> String {
        format!("{}{slot}", self.prefix)
    }

    /// Slot of a key; none for a key of another mesh or of a later release.
    pub fn slot(&self, key: &[u8]) -> Option<Slot> {
        std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_slot_has_one_key_and_each_key_one_slot() {
        let keyspace = Keyspace::new(&MeshId([7; 32]));
        let (org, node) = (OrgId([1; 32]), NodeId([2; 32]));
        for slot in [
            Slot::Genesis,
            Slot::Root(org, 1),
            Slot::Delegation(org, 1, 2),
            Slot::Revocations(org),
            Slot::State(org),
            Slot::Checkpoint(org),
            Slot::Evidence(org),
            Slot::Peer(node),
            Slot::Paths(node),
            Slot::Address([10, 91, 128, 5].into()),
            Slot::Address("fd00::a5".parse().expect("an address")),
            Slot::Block("10.91.128.0/26".parse().expect("a block")),
            Slot::Block("fd00::a:0/112".parse().expect("a block")),
        ] {
            let key = keyspace.key(slot);
            assert_eq!(keyspace.slot(key.as_bytes()), Some(slot));
            assert_eq!(keyspace.slot(key.to_uppercase().as_bytes()), None);
            assert_eq!(keyspace.slot(format!("{key}/").as_bytes()), None);
            assert_eq!(Keyspace::new(&MeshId([8; 32])).slot(key.as_bytes()), None);
            assert_eq!(slot.claimed().map_or(slot, Slot::of_claim), slot);
        }
        for odd in [
            &format!("o/{org}/root/01") as &str,
            "a4/10.91.128.05",
            "a4/fd00::5",
            "a6/fd00:0::5",
            "a6/10.91.128.5",
            "s/10.91.128.5/26",
            "s/10.91.128.5/32",
            "s/10.91.128.0/026",
            "s/10.91.128.0",
        ] {
            assert_eq!(keyspace.slot(format!("{}{odd}", keyspace.prefix()).as_bytes()), None, "{odd}");
        }
    }

    #[test]
    fn a_record_of_another_kind_suits_no_slot() {
        let paths = NodePaths {
            version: 1,
            node: NodeId([2; 32]),
            seq: 1,
            issued_at: meshd_wire::Timestamp(0),
            candidates: Vec::new(),
            relays: Vec::new(),
            nat: 0,
            control_port: None,
        };
        let value = Envelope::new(&paths).to_bytes();
        assert!(Slot::Paths(paths.node).suits(&value));
        assert!(!Slot::Paths(NodeId([3; 32])).suits(&value));
        let org = OrgId([1; 32]);
        for slot in
            [Slot::Genesis, Slot::Root(org, 1), Slot::State(org), Slot::Address([10, 91, 0, 1].into())]
        {
            assert!(!slot.suits(&value), "{slot}");
            assert!(slot.suits(b"unreadable"), "{slot}");
        }
    }

    proptest! {
        #[test]
        fn fuzz_any_bytes_are_a_slot_or_none(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let keyspace = Keyspace::new(&MeshId([7; 32]));
            let mut key = keyspace.prefix().as_bytes().to_vec();
            key.extend(&tail);
            if let Some(slot) = keyspace.slot(&key) {
                prop_assert_eq!(keyspace.key(slot).into_bytes(), key);
            }
        }
    }
}
