//! A mesh of two honest organisations and three nodes, the same in every run.

use std::net::IpAddr;
use std::sync::LazyLock;

use meshd_trust::founding::{self, DelegationTerms, Founder, FoundingTerms, StewardPublicKeys};
use meshd_trust::{Floor, Roster, SigningKey, address, sign};
use meshd_wire::record::{
    Candidate, CandidateKind, Endpoint, EpochKey, JoinRequest, NodeCert, NodeKeys, NodeLeave, NodePaths, OrgState,
    Prefix, Revocations, Roles, VERSION,
};
use meshd_wire::{EndpointId, Envelope, MeshId, NodeId, OrgId, PublicKey, Record, Timestamp};

/// When everything happens.
pub const NOW: Timestamp = Timestamp(1_800_000_000);
const DAY_S: u64 = 86_400;
const ORGS: [&str; 2] = ["red", "blue"];
/// Each node by its number, with the position of its organisation.
const NODES: [(u8, usize); 3] = [(1, 0), (2, 1), (3, 0)];

/// The mesh.
pub static MESH: LazyLock<Mesh> = LazyLock::new(Mesh::new);

/// Everything the honest say.
#[derive(Debug)]
pub struct Mesh {
    /// Its id.
    pub id: MeshId,
    /// Its organisations.
    pub orgs: Vec<OrgId>,
    /// Roots, genesis, delegations, revocations and states.
    pub chain: Vec<Envelope>,
    /// Certificates, keys, paths and endpoints.
    pub nodes: Vec<Envelope>,
}

/// A signing key that depends on a purpose and a number only.
pub fn key(purpose: &str, number: u8) -> SigningKey {
    let mut seed = [number; 32];
    for (to, from) in seed.iter_mut().zip(purpose.bytes()) {
        *to = from;
    }
    SigningKey::from_seed(seed)
}

/// A node by its number.
pub fn node_id(number: u8) -> NodeId {
    NodeId::from(key("identity", number).public().key_id())
}

fn org_number(index: usize) -> u8 {
    u8::try_from(index).expect("few organisations")
}

impl Mesh {
    fn new() -> Self {
        let mut orgs = Vec::new();
        let mut chain = Vec::new();
        let mut founders = Vec::new();
        for (index, name) in ORGS.iter().enumerate() {
            let number = org_number(index);
            let (org, root) =
                founding::org_root(name, &[&key("root", number)], 1, NOW).expect("a root can be made");
            chain.push(root);
            let prefix4 = Prefix::v4([10, 90 + number, 0, 0].into(), 16);
            founders.push(Founder { org, prefix4, subnet6: u16::from(number) });
            orgs.push(org);
        }
        let terms = FoundingTerms { name: "mesh".into(), nonce: [5; 16], lab: false, founders, now: NOW };
        let genesis = founding::genesis(&terms).expect("the terms fit");
        let id = founding::mesh_id(&genesis);
        let mut envelope = Envelope::new(&genesis);
        for index in 0..ORGS.len() {
            founding::sign_genesis(&mut envelope, &key("root", org_number(index))).expect("the genesis fits");
        }
        chain.push(envelope);
        let mut mesh = Self { id, orgs, chain, nodes: Vec::new() };
        for index in 0..ORGS.len() {
            mesh.found(index);
        }
        for (number, org) in NODES {
            mesh.admit(number, org);
        }
        mesh
    }

    fn found(&mut self, index: usize) {
        let (org, number) = (self.orgs[index], org_number(index));
        let keys = StewardPublicKeys {
            record: key("steward", number).public(),
            log: key("log", number).public(),
            witness: key("witness", number).public(),
            tls: key("tls", number).public(),
        };
        let terms = DelegationTerms { org, root_version: 1, serial: 1, keys, roles: Roles::ALL, now: NOW };
        let delegation = founding::delegate(&terms, &self.id, &[&key("root", number)]);
        self.chain.push(delegation.expect("the terms fit"));
        let revocations = Revocations {
            version: VERSION,
            org,
            root_version: 1,
            n: 1,
            issued_at: NOW,
            nodes: vec![node_id(9)],
            certs: vec![99],
            severed: Vec::new(),
        };
        let state = OrgState {
            version: VERSION,
            org,
            root_version: 1,
            seq: 1,
            issued_at: NOW,
            agreement_version: 1,
            policy: None,
            revocations: None,
            checkpoint: None,
        };
        let steward = key("steward", number);
        self.chain.push(self.signed(&revocations, &[&steward]));
        self.chain.push(self.signed(&state, &[&steward]));
    }

    fn admit(&mut self, number: u8, org: usize) {
        let identity = key("identity", number);
        let node = node_id(number);
        let cert = NodeCert {
            version: VERSION,
            node,
            org: self.orgs[org],
            root_version: 1,
            serial: u64::from(number),
            name: format!("host-{number}"),
            identity: identity.public(),
            transport: key("transport", number).public(),
            addr4: [10, 90 + org_number(org), 0, number],
            addr6: address::node_addr6(&self.id, u16::from(org_number(org)), &node).octets(),
            prefixes: Vec::new(),
            labels: Vec::new(),
            may_attest: Vec::new(),
            not_before: NOW,
            not_after: NOW.plus(7 * DAY_S),
        };
        let paths = NodePaths {
            version: VERSION,
            node,
            seq: 1,
            issued_at: NOW,
            candidates: vec![
                Candidate::new(CandidateKind::Host, ([192, 0, 2, number], 51_820).into()),
                Candidate::new(CandidateKind::Static, ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 51_820).into()),
            ],
            relays: Vec::new(),
            nat: 0,
            control_port: Some(7946),
        };
        self.nodes.push(self.signed(&cert, &[&key("steward", org_number(org))]));
        self.nodes.push(self.signed(&node_keys(number), &[&identity]));
        self.nodes.push(self.signed(&paths, &[&identity]));
        let org_octet = 90 + org_number(org);
        let addresses =
            vec![Prefix::v4([10, org_octet, 128 + number, 9].into(), 32), Prefix::host(external6(&cert))];
        let claim = Endpoint {
            version: VERSION,
            node,
            endpoint: EndpointId::of("fuzz", "net", "web", "eth0"),
            seq: 1,
            issued_at: NOW,
            withdrawn: false,
            addresses,
            labels: Vec::new(),
            name: Some(format!("web-{number}")),
            image: None,
        };
        let block = Endpoint {
            endpoint: EndpointId::of("fuzz", "net", "block", ""),
            addresses: vec![Prefix::v4([10, org_octet, 192 + number, 0].into(), 26)],
            name: None,
            ..claim.clone()
        };
        self.nodes.push(self.signed(&claim, &[&identity]));
        self.nodes.push(self.signed(&block, &[&identity]));
    }

    /// Signs a record for this mesh.
    pub fn signed<R: Record>(&self, record: &R, keys: &[&SigningKey]) -> Envelope {
        sign(record, &self.id, keys)
    }

    /// Request of a node that is not admitted yet.
    pub fn join_request(&self) -> Envelope {
        let identity = key("identity", 7);
        let request = JoinRequest {
            version: VERSION,
            mesh: self.id,
            org: self.orgs[0],
            name: "newcomer".into(),
            identity: identity.public(),
            transport: key("transport", 7).public(),
            issued_at: NOW,
            keys: self.signed(&node_keys(7), &[&identity]).to_bytes(),
        };
        self.signed(&request, &[&identity, &key("transport", 7)])
    }

    /// Farewell of a node.
    pub fn farewell(&self, number: u8) -> Envelope {
        let leave = NodeLeave { version: VERSION, node: node_id(number), issued_at: NOW };
        self.signed(&leave, &[&key("identity", number)])
    }

    /// Every honest envelope.
    pub fn envelopes(&self) -> Vec<Envelope> {
        let mut all = [self.chain.as_slice(), &self.nodes].concat();
        all.push(self.join_request());
        all.push(self.farewell(1));
        all
    }

    /// A roster that accepted the chain.
    pub fn founded(&self) -> Roster {
        let mut roster = Roster::new(self.id, Floor::of_org(self.orgs[0]));
        let refused = roster.accept_all(&bytes_of(&self.chain), NOW);
        assert!(refused.is_empty(), "the honest chain is refused: {refused:?}");
        roster
    }

    /// A roster that accepted everything.
    pub fn complete(&self) -> Roster {
        let mut roster = self.founded();
        let refused = roster.accept_all(&bytes_of(&self.nodes), NOW);
        assert!(refused.is_empty(), "honest nodes are refused: {refused:?}");
        roster
    }
}

/// Envelopes as they travel.
pub fn bytes_of(envelopes: &[Envelope]) -> Vec<Vec<u8>> {
    envelopes.iter().map(Envelope::to_bytes).collect()
}

/// An IPv6 address beside that of a node.
fn external6(cert: &NodeCert) -> IpAddr {
    let mut octets = cert.addr6;
    octets[15] ^= 1;
    octets.into()
}

fn node_keys(number: u8) -> NodeKeys {
    NodeKeys {
        version: VERSION,
        node: node_id(number),
        seq: 1,
        issued_at: NOW,
        suites: 1,
        post_quantum: 0,
        compromised: false,
        cur: EpochKey { epoch: 1, key: PublicKey([number; 32]), since: NOW },
        next: None,
        prev: None,
        accept_until: None,
    }
}
