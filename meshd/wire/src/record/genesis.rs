//! The birth of a mesh and the agreement it is born with.

use minicbor::{Decode, Encode};

use super::{Prefix, Record};
use crate::id::OrgId;
use crate::kind::Kind;
use crate::time::Timestamp;

/// One organisation's part in an agreement.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Member {
    /// The organisation.
    #[n(0)]
    pub org: OrgId,
    /// Its IPv4 overlay prefix; prefixes of different members never overlap.
    #[n(1)]
    pub prefix4: Prefix,
    /// Number of its /64 below the mesh's /48; differs between members.
    #[n(2)]
    pub subnet6: u16,
}

/// Which organisations form the mesh, with which addresses and limits.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct AgreementBody {
    /// Number of the agreement; 0 is the one that forms the mesh.
    #[n(0)]
    pub number: u32,
    /// Counts the versions of this agreement from 1.
    #[n(1)]
    pub agreement_version: u32,
    /// Members, sorted by organisation, distinct.
    #[n(2)]
    pub members: Vec<Member>,
    /// First moment of validity.
    #[n(3)]
    pub not_before: Timestamp,
    /// Last moment of validity.
    #[n(4)]
    pub not_after: Timestamp,
    /// Age of an OrgState at which nodes raise an alarm, seconds.
    #[n(5)]
    pub freshness_soft_s: u32,
    /// Age of an OrgState at which nodes cut its organisation, seconds.
    #[n(6)]
    pub freshness_hard_s: u32,
    /// Age at which NodeKeys expire, seconds.
    #[n(7)]
    pub key_age_max_s: u32,
    /// Longest grace for running flows, seconds.
    #[n(8)]
    pub grace_max_s: u32,
    /// Post-quantum rule: 0 preferred, 1 required.
    #[n(9)]
    pub post_quantum: u8,
}

/// Founding record of a mesh; its record id is the mesh id.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct MeshGenesis {
    /// Version of this format.
    #[n(0)]
    pub version: u8,
    /// Name for people.
    #[n(1)]
    pub name: String,
    /// Makes two meshes of one name differ; 16 random bytes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub nonce: [u8; 16],
    /// Allows second-scale rotation; for laboratories only.
    #[n(3)]
    pub lab: bool,
    /// Agreement 0, version 1.
    #[n(4)]
    pub agreement: AgreementBody,
    /// How many of the other organisations must cosign a log head: 0 means all.
    #[n(5)]
    pub witness_quorum: u8,
}

impl Record for MeshGenesis {
    const KIND: Kind = Kind::MeshGenesis;

    fn version(&self) -> u8 {
        self.version
    }
}
