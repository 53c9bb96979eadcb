//! A mesh for tests: organisations with a root and a steward each, and nodes that are easy to make.

use meshd_trust::{Floor, Roster, SigningKey, address, sign};
use meshd_wire::record::{
    AgreementBody, Candidate, CandidateKind, EpochKey, Member, MeshGenesis, NodeCert, NodeKeys, NodePaths,
    OrgRoot, OrgState, Prefix, Revocations, Roles, StewardDelegation, VERSION, Versioned,
};
use meshd_wire::{Envelope, MeshId, NodeId, OrgId, PublicKey, Record, RecordId, Timestamp};

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

/// One organisation of a meadow.
pub struct Farm {
    pub id: OrgId,
    pub root_key: SigningKey,
    pub root: OrgRoot,
    pub root_envelope: Envelope,
    pub steward_key: SigningKey,
    pub member: Member,
}

/// A mesh of some organisations, with everything needed to sign for any of them.
pub struct Meadow {
    pub mesh: MeshId,
    pub genesis: MeshGenesis,
    pub genesis_envelope: Envelope,
    pub farms: Vec<Farm>,
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

impl Meadow {
    pub fn new(farms: usize) -> Self {
        Self::with_terms(farms, |_| {})
    }

    /// A meadow whose genesis was changed before it was signed.
    pub fn with_terms(farms: usize, change: impl FnOnce(&mut MeshGenesis)) -> Self {
        let mut farms: Vec<Farm> = (0..farms).map(farm).collect();
        farms.sort_by_key(|farm| farm.id);
        let mut genesis = MeshGenesis {
            version: VERSION,
            name: "meadow".into(),
            nonce: [5; 16],
            lab: false,
            agreement: AgreementBody {
                number: 0,
                agreement_version: 1,
                members: farms.iter().map(|farm| farm.member.clone()).collect(),
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
        let roots: Vec<&SigningKey> = farms.iter().map(|farm| &farm.root_key).collect();
        let genesis_envelope = sign(&genesis, &NO_MESH, &roots);
        let mesh = MeshId(id_of(&genesis, &NO_MESH).0);
        Self { mesh, genesis, genesis_envelope, farms }
    }

    pub fn roster(&self) -> Roster {
        Roster::new(self.mesh, Floor::of_org(self.farms[0].id))
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
        for (index, farm) in self.farms.iter().enumerate() {
            chain.push(farm.root_envelope.to_bytes());
            chain.push(self.by_root(index, &self.delegation(index)));
            chain.push(self.by_steward(index, &self.state(index, 1, NOW)));
        }
        chain
    }

    pub fn delegation(&self, farm: usize) -> StewardDelegation {
        StewardDelegation {
            version: VERSION,
            org: self.farms[farm].id,
            root_version: 1,
            serial: 1,
            record_key: self.farms[farm].steward_key.public(),
            log_key: key("log", farm as u64).public(),
            witness_key: key("witness", farm as u64).public(),
            tls_key: key("tls", farm as u64).public(),
            roles: Roles::ALL,
            label_namespace: String::new(),
            not_before: ago(DAY_S),
            not_after: NOW.plus(80 * DAY_S),
        }
    }

    pub fn state(&self, farm: usize, seq: u64, issued_at: Timestamp) -> OrgState {
        OrgState {
            version: VERSION,
            org: self.farms[farm].id,
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
        state.revocations = Some(Versioned { n: revocations.n, id: id_of(revocations, &self.mesh) });
        state
    }

    pub fn revocations(&self, farm: usize, n: u64, nodes: &[NodeId]) -> Revocations {
        let mut nodes = nodes.to_vec();
        nodes.sort();
        Revocations {
            version: VERSION,
            org: self.farms[farm].id,
            root_version: 1,
            n,
            issued_at: NOW,
            nodes,
            certs: Vec::new(),
            severed: Vec::new(),
        }
    }

    /// Certificate of a node, by number; its address follows from the number.
    pub fn cert(&self, farm: usize, number: u64) -> NodeCert {
        let identity = key("identity", number).public();
        let node = NodeId::from(identity.key_id());
        let member = &self.farms[farm].member;
        let host = u16::try_from(number + 1).expect("few nodes").to_be_bytes();
        NodeCert {
            version: VERSION,
            node,
            org: self.farms[farm].id,
            root_version: 1,
            serial: number + 1,
            name: format!("cow-{number}"),
            identity,
            transport: key("transport", number).public(),
            addr4: [10, member.prefix4.addr[1], host[0], host[1]],
            addr6: address::node_addr6(&self.mesh, member.subnet6, &node).octets(),
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

    pub fn by_root<R: Record>(&self, farm: usize, record: &R) -> Vec<u8> {
        sign(record, &self.mesh, &[&self.farms[farm].root_key]).to_bytes()
    }

    pub fn by_steward<R: Record>(&self, farm: usize, record: &R) -> Vec<u8> {
        sign(record, &self.mesh, &[&self.farms[farm].steward_key]).to_bytes()
    }

    pub fn by_node<R: Record>(&self, number: u64, record: &R) -> Vec<u8> {
        sign(record, &self.mesh, &[&key("identity", number)]).to_bytes()
    }

    /// Certificate, keys and paths of a node.
    pub fn node_records(&self, farm: usize, number: u64) -> Vec<Vec<u8>> {
        vec![
            self.by_steward(farm, &self.cert(farm, number)),
            self.by_node(number, &self.keys(number, 1)),
            self.by_node(number, &self.paths(number, 1)),
        ]
    }
}

pub fn node_id(number: u64) -> NodeId {
    NodeId::from(key("identity", number).public().key_id())
}

fn farm(index: usize) -> Farm {
    let root_key = key("root", index as u64);
    let root = root_record(&format!("farm {index}"), 1, &[&root_key], 1);
    let root_envelope = sign(&root, &NO_MESH, &[&root_key]);
    let id = OrgId(id_of(&root, &NO_MESH).0);
    let number = u8::try_from(index).expect("few farms");
    let prefix4 = Prefix::v4([10, 90 + number, 0, 0].into(), 16);
    let member = Member { org: id, prefix4, subnet6: u16::from(number) };
    Farm { id, root_key, root, root_envelope, steward_key: key("steward", index as u64), member }
}
