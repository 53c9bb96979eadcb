//! Everything one node has verified of its mesh.
//!
//! ```text
//! mesh id (pinned) ─▶ genesis ─▶ roots of its founders ─▶ delegations ─▶ certificates ─▶ keys, paths, endpoints
//!                                                              └───────▶ revocations, states
//! ```
//!
//! A record is verified against `&self` and stored only when everything fits, so a refused record
//! changes nothing. What has versions only moves forward: marks outlive the records they came from.

mod accept;
mod claims;
mod curve;
mod endpoint;
mod forget;
mod held;
mod high_water;
mod history;
mod limits;
mod node;
mod org;
mod overlay;
mod refusal;
mod shares;
mod signers;
mod standing;
mod store;
mod timing;

pub use accept::{Accepted, Change};
pub use curve::is_tunnel_key;
pub use endpoint::{Claim, ClaimState, EndpointView};
pub use limits::{ENDPOINT_LIFE_S, ENDPOINT_REST_S, EXTERNALS_MAX, NODE_ENDPOINTS_MAX};
pub use node::NodeView;
pub use org::{Freshness, OrgView};
pub use refusal::Refusal;
pub use standing::Standing;
pub use store::RosterFileError;

use std::collections::{BTreeMap, BTreeSet};

use meshd_wire::record::{AgreementBody, MeshGenesis, NodeCert};
use meshd_wire::{JoinToken, MeshId, NodeId, OrgId, PeerBundle, PublicKey, RecordId, Timestamp};
use minicbor::{Decode, Encode};

use claims::Claims;
use held::Held;
use high_water::HighWater;
use node::Node;
use org::Org;

/// The oldest state of the own organisation that a newcomer may believe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Floor {
    /// The own organisation.
    #[n(0)]
    pub org: Option<OrgId>,
    /// Oldest root version whose stewards count.
    #[n(1)]
    pub root_version_min: u32,
    /// Oldest version of agreement 0.
    #[n(2)]
    pub agreement_version_min: u32,
}

impl Floor {
    /// No floor: the mesh is founded here, or pinned by its ids alone.
    pub const fn none() -> Self {
        Self { org: None, root_version_min: 0, agreement_version_min: 0 }
    }

    /// The own organisation is known, its age is not.
    pub const fn of_org(org: OrgId) -> Self {
        Self { org: Some(org), root_version_min: 0, agreement_version_min: 0 }
    }
}

impl From<&JoinToken> for Floor {
    fn from(token: &JoinToken) -> Self {
        Self {
            org: Some(token.org),
            root_version_min: token.root_version_min,
            agreement_version_min: token.agreement_version_min,
        }
    }
}

/// Everything one node has verified of its mesh.
#[derive(Debug)]
pub struct Roster {
    mesh: MeshId,
    floor: Floor,
    /// Content of the genesis: authentic by its hash, but not yet proven to be every founder's will.
    pinned: Option<MeshGenesis>,
    genesis: Option<Held<MeshGenesis>>,
    orgs: BTreeMap<OrgId, Org>,
    nodes: BTreeMap<NodeId, Node>,
    claims: Claims,
    marks: HighWater,
    /// Records this release cannot read, by the hash of their bytes.
    opaque: BTreeMap<[u8; 32], Vec<u8>>,
    /// Organisations that bring in nobody new. Not stored: who knows why says it again.
    shut: BTreeSet<OrgId>,
}

impl Roster {
    /// Makes an empty roster that believes what leads to one mesh id, and nothing below a floor.
    pub fn new(mesh: MeshId, floor: Floor) -> Self {
        Self {
            mesh,
            floor,
            pinned: None,
            genesis: None,
            orgs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            claims: Claims::default(),
            marks: HighWater::default(),
            opaque: BTreeMap::new(),
            shut: BTreeSet::new(),
        }
    }

    /// Sets which organisations bring in no node that is not held by now. What is held of them goes on: certificates are
    /// renewed, keys replaced, nodes revoked.
    pub fn shut(&mut self, orgs: BTreeSet<OrgId>) {
        self.shut = orgs;
    }

    /// The mesh.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The floor it was made with.
    pub fn floor(&self) -> Floor {
        self.floor
    }

    /// The genesis, once every founder's signature was verified.
    pub fn genesis(&self) -> Option<&MeshGenesis> {
        self.genesis.as_ref().map(|held| &held.record)
    }

    /// The agreement that forms the mesh.
    pub fn agreement(&self) -> Option<&AgreementBody> {
        self.genesis().map(|genesis| &genesis.agreement)
    }

    /// One organisation.
    pub fn org(&self, id: &OrgId) -> Option<OrgView<'_>> {
        let agreement = self.agreement()?;
        let (id, org) = self.orgs.get_key_value(id)?;
        let member = agreement.members.iter().find(|member| member.org == *id)?;
        let (soft_s, hard_s) = (agreement.freshness_soft_s, agreement.freshness_hard_s);
        Some(OrgView { id, org, member, soft_s, hard_s })
    }

    /// All organisations, by id.
    pub fn orgs(&self) -> impl Iterator<Item = OrgView<'_>> {
        self.orgs.keys().filter_map(|id| self.org(id))
    }

    /// The organisation that a version of a root belongs to.
    pub fn holder_of_root(&self, root: &RecordId) -> Option<OrgId> {
        let holds = |org: &Org| org.roots.iter().any(|held| held.id == *root);
        self.orgs.iter().find(|(_, org)| holds(org)).map(|(id, _)| *id)
    }

    /// One node, whatever its standing.
    pub fn node(&self, id: &NodeId) -> Option<NodeView<'_>> {
        self.nodes.get(id).map(|node| NodeView { node })
    }

    /// All nodes, by id, whatever their standing.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.nodes.values().map(|node| NodeView { node })
    }

    /// The node whose certificate names a transport key, unless the certificate is over or taken back.
    pub fn holder_of_transport(&self, key: &PublicKey, now: Timestamp) -> Option<NodeId> {
        self.claims.holder_of_transport(key).filter(|node| self.standing(node, now).may_speak())
    }

    /// Whether a steward in force of one organisation serves TLS with a key. Another organisation may name
    /// the same key, since keys are public; that says nothing about this one.
    pub fn is_steward_tls(&self, org: &OrgId, key: &PublicKey, now: Timestamp) -> bool {
        let skewed = now.plus(limits::CLOCK_SKEW_S);
        self.org(org).is_some_and(|org| {
            org.in_office().any(|steward| {
                steward.tls_key == *key && steward.not_before <= skewed && now <= steward.not_after
            })
        })
    }

    /// The organisation whose steward serves TLS with a key, or did once. Keys are public, so two may name the same one: then
    /// it is the own one, or nobody.
    pub fn org_that_serves(&self, key: &PublicKey, own: &OrgId) -> Option<OrgId> {
        let names = |org: &Org| org.delegations.iter().any(|held| held.record.tls_key == *key);
        let orgs: Vec<OrgId> = self.orgs.iter().filter(|(_, org)| names(org)).map(|(id, _)| *id).collect();
        match orgs.as_slice() {
            [only] => Some(*only),
            several => several.iter().find(|org| *org == own).copied(),
        }
    }

    /// Envelopes that lead from the mesh id to the stewards, with revocations and states, as received
    /// and in an order that can be accepted: what a newcomer needs before any node.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        let mut chain: Vec<Vec<u8>> = self.authority().map(<[u8]>::to_vec).collect();
        let revocations = self.orgs.values().filter_map(|org| org.revocations.as_ref());
        chain.extend(revocations.map(|held| held.bytes.clone()));
        chain.extend(self.orgs.values().filter_map(|org| org.state.as_ref()).map(|held| held.bytes.clone()));
        chain
    }

    /// Certificate and keys of a node as they stand in the registry.
    pub fn bundle(&self, id: &NodeId) -> Option<PeerBundle> {
        let node = self.node(id)?;
        Some(PeerBundle::new(node.cert_envelope().to_vec(), node.keys_envelope()?.to_vec()))
    }

    /// Envelope of a node's paths.
    pub fn paths_envelope(&self, id: &NodeId) -> Option<&[u8]> {
        self.node(id)?.paths_envelope()
    }

    /// Records this release cannot read, to be passed on as they came.
    pub fn opaque(&self) -> impl Iterator<Item = &[u8]> {
        self.opaque.values().map(Vec::as_slice)
    }

    /// Roots, genesis and delegations, each after what it builds on; nothing until the genesis is proven,
    /// because roots alone do not tell whose they are.
    fn authority(&self) -> impl Iterator<Item = &[u8]> {
        let genesis = self.genesis.iter().map(|held| held.bytes.as_slice());
        let proven = self.orgs.values().filter(|_| self.genesis.is_some());
        let roots = proven.flat_map(|org| &org.roots).map(|held| held.bytes.as_slice());
        let delegations = self.orgs.values().flat_map(|org| &org.delegations);
        roots.chain(genesis).chain(delegations.map(|held| held.bytes.as_slice()))
    }

    /// Certificates held.
    fn certs(&self) -> impl Iterator<Item = &Held<NodeCert>> {
        self.nodes.values().map(|node| &node.cert)
    }
}
