//! A mesh of one organisation and some nodes that lives now, for tests.

use std::net::Ipv4Addr;

use meshd_trust::founding::{self, DelegationTerms, Founder, FoundingTerms, StewardPublicKeys};
use meshd_trust::{Floor, Roster, SigningKey, address, sign};
use meshd_wire::record::{Endpoint, NodeCert, OrgState, Prefix, Roles, VERSION};
use meshd_wire::{EndpointId, Envelope, MeshId, NodeId, OrgId, PeerBundle, Timestamp};

use crate::clock;
use crate::config::Suites;
use crate::membership::{Membership, NodeSecrets};
use crate::role::steward::fixture::secrets;

/// Has the prefix 10.91.0.0/16; node n has the address 10.91.0.n.
pub(crate) struct Meadow {
    pub(crate) mesh: MeshId,
    pub(crate) org: OrgId,
    pub(crate) now: Timestamp,
    steward: SigningKey,
    chain: Vec<Vec<u8>>,
}

impl Meadow {
    pub(crate) fn new() -> Self {
        let now = clock::wall();
        let [root, steward, log, witness, tls] =
            [1, 2, 3, 4, 5].map(|seed| SigningKey::from_seed([seed; 32]));
        let (org, root_envelope) = founding::org_root("alpha", &[&root], 1, now).expect("root");
        let prefix4 = Prefix::v4(Ipv4Addr::new(10, 91, 0, 0), 16);
        let founders = vec![Founder { org, prefix4, subnet6: 1 }];
        let terms = FoundingTerms { name: "meadow".into(), nonce: [7; 16], lab: true, founders, now };
        let mut genesis = Envelope::new(&founding::genesis(&terms).expect("genesis"));
        let mesh = founding::sign_genesis(&mut genesis, &root).expect("signed");
        let keys = StewardPublicKeys {
            record: steward.public(),
            log: log.public(),
            witness: witness.public(),
            tls: tls.public(),
        };
        let terms = DelegationTerms { org, root_version: 1, serial: 1, keys, roles: Roles::ALL, now };
        let delegation = founding::delegate(&terms, &mesh, &[&root]).expect("delegation");
        let state = OrgState {
            version: VERSION,
            org,
            root_version: 1,
            seq: 1,
            issued_at: now,
            agreement_version: 1,
            policy: None,
            revocations: None,
            checkpoint: None,
        };
        let state = sign(&state, &mesh, &[&steward]);
        let chain = [root_envelope, genesis, delegation, state].map(|envelope| envelope.to_bytes()).to_vec();
        Self { mesh, org, now, steward, chain }
    }

    /// What a node is in it.
    pub(crate) fn membership(&self, number: u8) -> Membership {
        Membership::new(self.mesh, self.org, secrets(number.into()), Vec::new(), Vec::new(), false)
    }

    /// Certificate and keys of a node.
    pub(crate) fn bundle(&self, number: u8) -> Vec<u8> {
        let secrets = secrets(number.into());
        let node = secrets.node();
        let cert = NodeCert {
            version: VERSION,
            node,
            org: self.org,
            root_version: 1,
            serial: number.into(),
            name: format!("host-{number}"),
            identity: secrets.identity().public(),
            transport: secrets.transport().public(),
            addr4: [10, 91, 0, number],
            addr6: address::node_addr6(&self.mesh, 1, &node).octets(),
            prefixes: Vec::new(),
            labels: Vec::new(),
            may_attest: Vec::new(),
            not_before: self.now,
            not_after: self.now.plus(6 * 86_400),
        };
        let cert = sign(&cert, &self.mesh, &[&self.steward]).to_bytes();
        let keys = secrets.sign_keys(&self.mesh, Suites::WG, self.now, 1, self.now).to_bytes();
        PeerBundle::new(cert, keys).to_bytes()
    }

    /// A roster that knows some nodes.
    pub(crate) fn roster(&self, numbers: impl IntoIterator<Item = u8>) -> Roster {
        let mut roster = Roster::new(self.mesh, Floor::of_org(self.org));
        assert_eq!(roster.accept_all(&self.chain, self.now), []);
        for number in numbers {
            roster.accept_bundle(&self.bundle(number), self.now).expect("a node");
        }
        roster
    }

    /// Claim of a node on addresses or on a block, signed just now.
    pub(crate) fn claim(&self, number: u8, seq: u64, nets: &[&str]) -> Endpoint {
        let addresses = nets.iter().map(|net| {
            let net: ipnet::IpNet = net.parse().expect("a prefix");
            Prefix { len: net.prefix_len(), ..Prefix::host(net.addr()) }
        });
        Endpoint {
            version: VERSION,
            node: self.node(number),
            endpoint: EndpointId::of("test", "net", nets[0], ""),
            seq,
            issued_at: self.now,
            withdrawn: false,
            addresses: addresses.collect(),
            labels: Vec::new(),
            name: None,
            image: None,
        }
    }

    /// Envelope of a claim.
    pub(crate) fn signed(&self, number: u8, claim: &Endpoint) -> Vec<u8> {
        let secrets: NodeSecrets = secrets(number.into());
        sign(claim, &self.mesh, &[&secrets.identity()]).to_bytes()
    }

    pub(crate) fn node(&self, number: u8) -> NodeId {
        secrets(number.into()).node()
    }
}
