//! A leaf and the record beside it, taken apart: all that can be said of them without the leaves before.

use std::collections::BTreeMap;

use meshd_trust::VerifyingKey;
use meshd_trust::log::TreeHash;
use meshd_wire::record::{NodeCert, NodeKeys};
use meshd_wire::{Envelope, KeyId, Kind, Leaf, MeshId, PublicKey, RecordId};

/// Keys that may have signed something, unpacked once.
pub(crate) type Keyring = BTreeMap<KeyId, VerifyingKey>;

/// A leaf and its record.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) hash: TreeHash,
    /// None for a leaf of a newer version, or none at all.
    pub(crate) leaf: Option<Leaf>,
    pub(crate) beside: Beside,
}

/// What stands beside a leaf.
#[derive(Debug)]
pub(crate) enum Beside {
    /// The whole file of records is gone or damaged.
    Unknown,
    /// Nothing.
    Nothing,
    /// No envelope.
    Unreadable,
    /// An envelope.
    Opened(Box<Opened>),
}

/// An envelope and what it says.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) envelope: Envelope,
    /// None for a kind that this release does not know.
    pub(crate) id: Option<RecordId>,
    pub(crate) content: Content,
    /// Known keys whose signatures verify.
    signers: Vec<KeyId>,
}

/// What a record says, of the kinds that most leaves name.
#[derive(Debug)]
pub(crate) enum Content {
    Cert(NodeCert),
    Keys(NodeKeys),
    Other,
}

impl Entry {
    /// Takes a leaf apart, and its record unless the file of records is gone or damaged.
    pub(crate) fn read(leaf: &[u8], record: Option<&[u8]>, mesh: &MeshId) -> Self {
        let beside = match record {
            None => Beside::Unknown,
            Some([]) => Beside::Nothing,
            Some(bytes) => Envelope::from_bytes(bytes)
                .map_or(Beside::Unreadable, |envelope| Beside::Opened(Box::new(Opened::new(envelope, mesh)))),
        };
        Self { hash: TreeHash::leaf(leaf), leaf: Leaf::from_bytes(leaf).ok(), beside }
    }

    /// Identity that a certificate names, whoever signed it.
    pub(crate) fn identity(&self) -> Option<&PublicKey> {
        match &self.beside {
            Beside::Opened(opened) => match &opened.content {
                Content::Cert(cert) => Some(&cert.identity),
                Content::Keys(_) | Content::Other => None,
            },
            Beside::Unknown | Beside::Nothing | Beside::Unreadable => None,
        }
    }

    /// Verifies the signatures of all keys that are known, if the leaf names this record.
    pub(crate) fn verify(&mut self, keys: &Keyring, mesh: &MeshId) {
        let named = self.leaf.as_ref().and_then(|leaf| leaf.record);
        if let Beside::Opened(opened) = &mut self.beside
            && opened.id == named
        {
            let Opened { envelope, signers, .. } = &mut **opened;
            let known = envelope.signatures().iter().filter_map(|one| keys.get_key_value(&one.key));
            let valid = known.filter(|(_, key)| key.has_signed(envelope, mesh));
            *signers = valid.map(|(id, _)| *id).collect();
        }
    }
}

impl Opened {
    fn new(envelope: Envelope, mesh: &MeshId) -> Self {
        let content = match envelope.kind() {
            Some(Kind::NodeCert) => envelope.record().map(Content::Cert),
            Some(Kind::NodeKeys) => envelope.record().map(Content::Keys),
            Some(_) | None => Ok(Content::Other),
        };
        Self {
            id: envelope.record_id(mesh),
            content: content.unwrap_or(Content::Other),
            envelope,
            signers: Vec::new(),
        }
    }

    /// Whether a key that was known has signed it.
    pub(crate) fn is_signed_by(&self, key: &KeyId) -> bool {
        self.signers.contains(key)
    }
}
