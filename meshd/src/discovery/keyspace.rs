//! Where each record stands in the registry: `/meshd/1/<mesh>/…`.

use meshd_wire::record::{NodeCert, NodePaths, OrgState, Revocations, StewardDelegation};
use meshd_wire::{Envelope, MeshId, NodeId, OrgId, PeerBundle, Record};

/// Root of all meshes, with the version of the layout.
const ROOT: &str = "/meshd/1";

/// Place of one value.
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
    /// `p/<node>`: certificate and keys.
    Peer(NodeId),
    /// `e/<node>`: paths.
    Paths(NodeId),
}

impl Slot {
    /// Whether a value is about the node or organisation of this slot. Bytes that can't be read suit every
    /// slot: to refuse them, and to say why, is for those who verify.
    pub fn suits(&self, value: &[u8]) -> bool {
        let envelope = |bytes: &[u8]| Envelope::from_bytes(bytes).ok();
        match *self {
            Self::Genesis | Self::Root(..) => true,
            Self::Delegation(org, ..) => about(envelope(value), |one: StewardDelegation| one.org == org),
            Self::Revocations(org) => about(envelope(value), |one: Revocations| one.org == org),
            Self::State(org) => about(envelope(value), |one: OrgState| one.org == org),
            Self::Paths(node) => about(envelope(value), |one: NodePaths| one.node == node),
            Self::Peer(node) => {
                let cert = PeerBundle::from_bytes(value).ok().and_then(|bundle| envelope(&bundle.cert));
                about(cert, |one: NodeCert| one.node == node)
            }
        }
    }
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
        let prefix = &self.prefix;
        match slot {
            Slot::Genesis => format!("{prefix}meta"),
            Slot::Root(org, version) => format!("{prefix}o/{org}/root/{version}"),
            Slot::Delegation(org, root, serial) => format!("{prefix}o/{org}/d/{root}.{serial}"),
            Slot::Revocations(org) => format!("{prefix}o/{org}/x"),
            Slot::State(org) => format!("{prefix}o/{org}/state"),
            Slot::Peer(node) => format!("{prefix}p/{node}"),
            Slot::Paths(node) => format!("{prefix}e/{node}"),
        }
    }

    /// Slot of a key; none for a key of another mesh or of a later release.
    pub fn slot(&self, key: &[u8]) -> Option<Slot> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(&self.prefix)?;
        let parts: Vec<&str> = rest.splitn(5, '/').collect();
        let slot = match parts[..] {
            ["meta"] => Slot::Genesis,
            ["o", org, "root", version] => Slot::Root(org.parse().ok()?, version.parse().ok()?),
            ["o", org, "d", count] => {
                let (root, serial) = count.split_once('.')?;
                Slot::Delegation(org.parse().ok()?, root.parse().ok()?, serial.parse().ok()?)
            }
            ["o", org, "x"] => Slot::Revocations(org.parse().ok()?),
            ["o", org, "state"] => Slot::State(org.parse().ok()?),
            ["p", node] => Slot::Peer(node.parse().ok()?),
            ["e", node] => Slot::Paths(node.parse().ok()?),
            _ => return None,
        };
        // One slot has one key: other spellings (upper case, leading zeros) are nobody's.
        (self.key(slot).as_bytes() == key).then_some(slot)
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
            Slot::Peer(node),
            Slot::Paths(node),
        ] {
            let key = keyspace.key(slot);
            assert_eq!(keyspace.slot(key.as_bytes()), Some(slot));
            assert_eq!(keyspace.slot(key.to_uppercase().as_bytes()), None);
            assert_eq!(keyspace.slot(format!("{key}/").as_bytes()), None);
            assert_eq!(Keyspace::new(&MeshId([8; 32])).slot(key.as_bytes()), None);
        }
        assert_eq!(keyspace.slot(format!("{}o/{org}/root/01", keyspace.prefix()).as_bytes()), None);
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
