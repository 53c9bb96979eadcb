//! A mesh for tests: organisations with a root and a steward each, and nodes that are easy to make.

use meshd_trust::{Accepted, Floor, Roster, SigningKey, address, sign};
use meshd_wire::record::{
    AgreementBody, Candidate, CandidateKind, Endpoint, EpochKey, Member, MeshGenesis, NodeCert, NodeKeys,
    NodePaths, OrgRoot, OrgState, Prefix, Revocations, Roles, StewardDelegation, VERSION, Versioned,
};
use meshd_wire::{EndpointId, Envelope, MeshId, NodeId, OrgId, PublicKey, Record, RecordId, Timestamp};

/// The time most tests live at.
pub const NOW: Timestamp = Timestamp(1_800_000_000);
pub const DAY_S: u64 = 86_400;

/// A time before NOW.
pub fn ago(seconds: u64) -> Timestamp {
    Timestamp(NOW.0 - seconds)
}

/// A key that depends on a name and a number only.
pub fn key(name: &str, number: u64) -> SigningKey {
    let mut seed = [0u8; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    for (to, from) in seed[8..].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    SigningKey::from_seed(seed)
}

/// An X25519 coordinate below the prime, not of small order.
pub fn tunnel_key(number: u64) -> PublicKey {
    let mut bytes = [7u8; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    PublicKey(bytes)
}

/// One organisation of a mesh.
pub struct TestOrg {
    pub id: OrgId,
    pub root_key: SigningKey,
    pub root: OrgRoot,
    pub root_envelope: Envelope,
    pub steward_key: SigningKey,
    pub member: Member,
}

/// A mesh of some organisations, with everything needed to sign for any of them.
pub struct TestMesh {
    pub id: MeshId,
    pub genesis: MeshGenesis,
    pub genesis_envelope: Envelope,
    pub orgs: Vec<TestOrg>,
}

pub const NO_MESH: MeshId = MeshId([0; 32]);

pub fn root_record(name: &str, version: u32, keys: &[&SigningKey], threshold: u8) -> OrgRoot {
    let mut keys: Vec<PublicKey> = keys.iter().map(|key| key.public()).collect();
    keys.sort();
    let not_after = NOW.plus(365 * DAY_S);
    OrgRoot {
        version: VERSION,
        root_version: version,
        name: name.into(),
        keys,
        threshold,
        not_after,
        prev: None,
    }
}

pub fn id_of<R: Record>(record: &R, mesh: &MeshId) -> RecordId {
    Envelope::new(record).record_id(mesh).expect("a known kind")
}

impl TestMesh {
    pub fn new(orgs: usize) -> Self {
        Self::with_terms(orgs, |_| {})
    }

    /// A mesh whose genesis was changed before it was signed.
    pub fn with_terms(orgs: usize, change: impl FnOnce(&mut MeshGenesis)) -> Self {
        let mut orgs: Vec<TestOrg> = (0..orgs).map(org).collect();
        orgs.sort_by_key(|org| org.id);
        let mut genesis = MeshGenesis {
            version: VERSION,
            name: "mesh".into(),
            nonce: [5; 16],
            lab: false,
            agreement: AgreementBody {
                number: 0,
                agreement_version: 1,
                members: orgs.iter().map(|org| org.member.clone()).collect(),
                not_before: ago(DAY_S),
                not_after: NOW.plus(365 * DAY_S),
                freshness_soft_s: 900,
                freshness_hard_s: 86_400,
                key_age_max_s: 172_800,
                grace_max_s: 600,
                post_quantum: 0,
            },
            witness_quorum: 0,
        };
        change(&mut genesis);
        let roots: Vec<&SigningKey> = orgs.iter().map(|org| &org.root_key).collect();
        let genesis_envelope = sign(&genesis, &NO_MESH, &roots);
        let id = MeshId(id_of(&genesis, &NO_MESH).0);
        Self { id, genesis, genesis_envelope, orgs }
    }

    pub fn roster(&self) -> Roster {
        Roster::new(self.id, Floor::of_org(self.orgs[0].id))
    }

    /// A roster that has accepted every organisation's chain, fresh states included.
    pub fn founded(&self) -> Roster {
        let mut roster = self.roster();
        let refused = roster.accept_all(&self.chain(), NOW);
        assert_eq!(refused, []);
        roster
    }

    /// Genesis, and root, delegation and first state of every organisation.
    pub fn chain(&self) -> Vec<Vec<u8>> {
        let mut chain = vec![self.genesis_envelope.to_bytes()];
        for (index, org) in self.orgs.iter().enumerate() {
            chain.push(org.root_envelope.to_bytes());
            chain.push(self.by_root(index, &self.delegation(index)));
            chain.push(self.by_steward(index, &self.state(index, 1, NOW)));
        }
        chain
    }

    pub fn delegation(&self, org: usize) -> StewardDelegation {
        StewardDelegation {
            version: VERSION,
            org: self.orgs[org].id,
            root_version: 1,
            serial: 1,
            record_key: self.orgs[org].steward_key.public(),
            log_key: key("log", org as u64).public(),
            witness_key: key("witness", org as u64).public(),
            tls_key: key("tls", org as u64).public(),
            roles: Roles::ALL,
            label_namespace: String::new(),
            not_before: ago(DAY_S),
            not_after: NOW.plus(80 * DAY_S),
        }
    }

    pub fn state(&self, org: usize, seq: u64, issued_at: Timestamp) -> OrgState {
        OrgState {
            version: VERSION,
            org: self.orgs[org].id,
            root_version: 1,
            seq,
            issued_at,
            agreement_version: 1,
            policy: None,
            revocations: None,
            checkpoint: None,
        }
    }

    pub fn naming(&self, mut state: OrgState, revocations: &Revocations) -> OrgState {
        state.revocations = Some(Versioned { n: revocations.n, id: id_of(revocations, &self.id) });
        state
    }

    pub fn revocations(&self, org: usize, n: u64, nodes: &[NodeId]) -> Revocations {
        let mut nodes = nodes.to_vec();
        nodes.sort();
        Revocations {
            version: VERSION,
            org: self.orgs[org].id,
            root_version: 1,
            n,
            issued_at: NOW,
            nodes,
            certs: Vec::new(),
            severed: Vec::new(),
        }
    }

    /// Certificate of a node, by number; its address follows from the number.
    pub fn cert(&self, org: usize, number: u64) -> NodeCert {
        let identity = key("identity", number).public();
        let node = NodeId::from(identity.key_id());
        let member = &self.orgs[org].member;
        let host = u16::try_from(number + 1).expect("few nodes").to_be_bytes();
        NodeCert {
            version: VERSION,
            node,
            org: self.orgs[org].id,
            root_version: 1,
            serial: number + 1,
            name: format!("host-{number}"),
            identity,
            transport: key("transport", number).public(),
            addr4: [10, member.prefix4.addr[1], host[0], host[1]],
            addr6: address::node_addr6(&self.id, member.subnet6, &node).octets(),
            prefixes: Vec::new(),
            labels: Vec::new(),
            may_attest: Vec::new(),
            not_before: ago(60),
            not_after: NOW.plus(7 * DAY_S - 60),
        }
    }

    pub fn keys(&self, number: u64, seq: u64) -> NodeKeys {
        NodeKeys {
            version: VERSION,
            node: node_id(number),
            seq,
            issued_at: NOW,
            suites: 1,
            post_quantum: 0,
            compromised: false,
            cur: EpochKey { epoch: 1, key: tunnel_key(number), since: NOW },
            next: None,
            prev: None,
            accept_until: None,
        }
    }

    pub fn paths(&self, number: u64, seq: u64) -> NodePaths {
        NodePaths {
            version: VERSION,
            node: node_id(number),
            seq,
            issued_at: NOW,
            candidates: vec![Candidate::new(CandidateKind::Host, ([192, 0, 2, 1], 51_820).into())],
            relays: Vec::new(),
            nat: 0,
            control_port: Some(7946),
        }
    }

    /// First record of an endpoint of a node, by number, with addresses or a block as `a.b.c.d/len`.
    pub fn endpoint(&self, number: u64, endpoint: u16, addresses: &[&str]) -> Endpoint {
        Endpoint {
            version: VERSION,
            node: node_id(number),
            endpoint: endpoint_id(endpoint),
            seq: 1,
            issued_at: NOW,
            withdrawn: false,
            addresses: addresses.iter().map(|text| prefix(text)).collect(),
            labels: Vec::new(),
            name: None,
            image: None,
        }
    }

    /// Text of an IPv6 address or prefix in the subnet of an organisation.
    pub fn subnet6(&self, org: usize, rest: &str) -> String {
        let (mesh, _) = address::mesh_prefix6(&self.id);
        let [a, b, c, ..] = mesh.segments();
        format!("{a:x}:{b:x}:{c:x}:{:x}::{rest}", self.orgs[org].member.subnet6)
    }

    pub fn by_root<R: Record>(&self, org: usize, record: &R) -> Vec<u8> {
        sign(record, &self.id, &[&self.orgs[org].root_key]).to_bytes()
    }

    pub fn by_steward<R: Record>(&self, org: usize, record: &R) -> Vec<u8> {
        sign(record, &self.id, &[&self.orgs[org].steward_key]).to_bytes()
    }

    pub fn by_node<R: Record>(&self, number: u64, record: &R) -> Vec<u8> {
        sign(record, &self.id, &[&key("identity", number)]).to_bytes()
    }

    /// Certificate, keys and paths of a node.
    pub fn node_records(&self, org: usize, number: u64) -> Vec<Vec<u8>> {
        vec![
            self.by_steward(org, &self.cert(org, number)),
            self.by_node(number, &self.keys(number, 1)),
            self.by_node(number, &self.paths(number, 1)),
        ]
    }
}

pub fn node_id(number: u64) -> NodeId {
    NodeId::from(key("identity", number).public().key_id())
}

pub fn endpoint_id(endpoint: u16) -> EndpointId {
    EndpointId::of("test", "net", &endpoint.to_string(), "eth0")
}

/// An address, or a prefix with its length behind a slash.
pub fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').map_or((text, None), |(addr, len)| (addr, Some(len)));
    let mut prefix = Prefix::host(addr.parse().expect("an address"));
    if let Some(len) = len {
        prefix.len = len.parse().expect("a length");
    }
    prefix
}

fn org(index: usize) -> TestOrg {
    let root_key = key("root", index as u64);
    let root = root_record(&format!("org {index}"), 1, &[&root_key], 1);
    let root_envelope = sign(&root, &NO_MESH, &[&root_key]);
    let id = OrgId(id_of(&root, &NO_MESH).0);
    let number = u8::try_from(index).expect("few orgs");
    let prefix4 = Prefix::v4([10, 90 + number, 0, 0].into(), 16);
    let member = Member { org: id, prefix4, subnet6: u16::from(number) };
    TestOrg { id, root_key, root, root_envelope, steward_key: key("steward", index as u64), member }
}

/// Asserts that a record is refused for a reason, and that the roster stays as it was.
#[track_caller]
pub fn assert_refused(roster: &mut Roster, record: &[u8], now: Timestamp, reason: &str) {
    let before = roster.to_bytes();
    match roster.accept(record, now) {
        Ok(accepted) => panic!("{accepted:?}, but should be refused as {reason}"),
        Err(refusal) => assert_eq!(refusal.reason(), reason, "{refusal}"),
    }
    assert_eq!(roster.to_bytes(), before, "a refused record changed the roster");
}

/// Asserts that a record is new.
#[track_caller]
pub fn assert_new(roster: &mut Roster, record: &[u8], now: Timestamp) {
    match roster.accept(record, now) {
        Ok(Accepted::New(_)) => {}
        other => panic!("{other:?}, but should be new"),
    }
}
