//! What the book keeps, one type a table. A released layout is frozen.

use meshd_wire::record::{Label, NodeCert, Prefix};
use meshd_wire::{MeshId, NodeId, OrgId, PublicKey, RecordId, Timestamp};
use minicbor::{Decode, Encode};

/// What the root has made of this steward.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct Station {
    #[n(0)]
    pub(super) mesh: MeshId,
    #[n(1)]
    pub(super) org: OrgId,
    #[n(2)]
    pub(super) root_version: u32,
    #[n(3)]
    pub(super) agreement_version: u32,
    #[n(4)]
    pub(super) prefix4: Prefix,
    #[n(5)]
    pub(super) subnet6: u16,
    #[n(6)]
    pub(super) label_namespace: String,
    #[n(7)]
    pub(super) not_before: Timestamp,
    #[n(8)]
    pub(super) not_after: Timestamp,
}

/// A join token: the key derived from its secret, never the secret.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct Token {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub(super) key: [u8; 32],
    #[n(1)]
    pub(super) not_after: Timestamp,
    #[n(2)]
    pub(super) name: Option<String>,
    #[n(3)]
    pub(super) labels: Vec<Label>,
    #[n(4)]
    pub(super) used_by: Option<TokenUse>,
}

/// Who used a token; only the same host may ask again, when its reply was lost.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct TokenUse {
    #[n(0)]
    pub(super) identity: PublicKey,
    #[n(1)]
    pub(super) transport: PublicKey,
    #[n(2)]
    pub(super) node: NodeId,
}

/// An admitted node and its newest certificate.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct Admitted {
    #[n(0)]
    pub(super) cert: NodeCert,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(super) envelope: Vec<u8>,
    #[n(2)]
    pub(super) revoked_at: Option<Timestamp>,
}

/// The plain WireGuard peers of a node, as it named them last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct Externals {
    #[n(0)]
    pub(super) seq: u64,
    #[n(1)]
    pub(super) held: Vec<External>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct External {
    #[n(0)]
    pub(super) name: String,
    #[cbor(n(1), with = "minicbor::bytes")]
    pub(super) addr4: [u8; 4],
}

/// Who holds a name or an address, and until when nobody else may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct Hold {
    #[n(0)]
    pub(super) node: NodeId,
    #[n(1)]
    pub(super) until: Timestamp,
}

impl Hold {
    /// Whether this keeps a node from taking what is held.
    pub(super) fn excludes(&self, node: &NodeId, now: Timestamp) -> bool {
        self.node != *node && self.until >= now
    }
}

/// A record that the steward has signed itself, with its count.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct Signed {
    #[n(0)]
    pub(super) count: u64,
    #[n(1)]
    pub(super) id: RecordId,
    #[n(2)]
    pub(super) at: Timestamp,
    #[cbor(n(3), with = "minicbor::bytes")]
    pub(super) envelope: Vec<u8>,
}
