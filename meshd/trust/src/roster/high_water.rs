//! The newest version seen of everything that has versions.
//!
//! Marks outlive the records they were taken from, and only grow, until nothing they refuse is in time.

use std::collections::BTreeMap;

use meshd_wire::record::NodeCert;
use meshd_wire::{EndpointId, NodeId, OrgId, PublicKey, RecordId, Timestamp};
use minicbor::{Decode, Encode};

use super::refusal::Refusal;

/// Newest version of one record, and which content it had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct Mark {
    /// Root version; zero where records are counted without one.
    #[n(0)]
    pub(super) root_version: u32,
    #[n(1)]
    pub(super) count: u64,
    #[n(2)]
    pub(super) id: RecordId,
}

impl Mark {
    /// Refuses what lies below the mark, and other content at the mark.
    pub(super) fn admit(
        mark: Option<&Self>,
        root_version: u32,
        count: u64,
        id: RecordId,
    ) -> Result<(), Refusal> {
        let Some(mark) = mark else { return Ok(()) };
        match (root_version, count).cmp(&(mark.root_version, mark.count)) {
            std::cmp::Ordering::Less => Err(Refusal::Stale),
            std::cmp::Ordering::Equal if id != mark.id => Err(Refusal::Equivocation),
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Ok(()),
        }
    }
}

/// Newest tunnel key of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct EpochMark {
    #[n(0)]
    pub(super) epoch: u32,
    #[n(1)]
    pub(super) key: PublicKey,
}

/// Marks of an organisation. Its roots are all kept, so they are their own mark, and that of its
/// delegations: only those of the newest root are accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct OrgMarks {
    #[n(0)]
    pub(super) state: Option<Mark>,
    #[n(1)]
    pub(super) revocations: Option<Mark>,
}

/// Marks of a node.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct NodeMarks {
    /// The organisation that enrolled it first.
    #[n(0)]
    pub(super) org: OrgId,
    #[n(1)]
    pub(super) cert: Mark,
    #[n(2)]
    pub(super) keys: Option<Mark>,
    #[n(3)]
    pub(super) epoch: Option<EpochMark>,
    #[n(4)]
    pub(super) paths: Option<Mark>,
    /// When the last of its certificates is over; none in files of releases that did not note it.
    #[n(5)]
    pub(super) over_at: Option<Timestamp>,
    /// None in files of releases that knew no endpoints.
    #[cbor(n(6), default)]
    pub(super) endpoints: BTreeMap<EndpointId, EndpointMark>,
}

/// Newest record of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct EndpointMark {
    #[n(0)]
    pub(super) mark: Mark,
    /// When the last of its records is over.
    #[n(1)]
    pub(super) over_at: Timestamp,
}

/// Marks of everything in one mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub(super) struct HighWater {
    #[n(0)]
    pub(super) orgs: BTreeMap<OrgId, OrgMarks>,
    #[n(1)]
    pub(super) nodes: BTreeMap<NodeId, NodeMarks>,
}

impl HighWater {
    pub(super) fn raise_cert(&mut self, cert: &NodeCert, id: RecordId) {
        let mark = Mark { root_version: cert.root_version, count: cert.serial, id };
        let marks = self.nodes.entry(cert.node).or_insert(NodeMarks {
            org: cert.org,
            cert: mark,
            keys: None,
            epoch: None,
            paths: None,
            over_at: None,
            endpoints: BTreeMap::new(),
        });
        marks.cert = mark;
        // An older certificate may end later, and must not come back either.
        marks.over_at = marks.over_at.max(Some(cert.not_after));
    }
}
