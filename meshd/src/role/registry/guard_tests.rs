//! What the guard of an embedded registry lets members write.

use meshd_trust::SigningKey;
use meshd_trust::founding::{self, DelegationTerms, Founder, FoundingTerms, StewardPublicKeys};
use meshd_wire::record::{OrgState, Prefix, Revocations, Roles, VERSION};
use meshd_wire::{EndpointId, Timestamp};

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000);

/// Root, root envelope and delegation of an organisation.
fn org(seed: u8) -> (SigningKey, OrgId, Envelope) {
    let root = SigningKey::from_seed([seed; 32]);
    let (org, envelope) = founding::org_root(&format!("org-{seed}"), &[&root], 1, NOW).expect("root");
    (root, org, envelope)
}

fn genesis(orgs: &[OrgId]) -> Envelope {
    let founders = orgs.iter().zip(1..).map(|(org, number)| Founder {
        org: *org,
        prefix4: Prefix::v4([10, number, 0, 0].into(), 16),
        subnet6: number.into(),
    });
    let founders = founders.collect();
    let terms =
        FoundingTerms { name: "m".into(), nonce: [orgs.len() as u8; 16], lab: true, founders, now: NOW };
    Envelope::new(&founding::genesis(&terms).expect("genesis"))
}

fn delegation(mesh: &MeshId, root: &SigningKey, org: OrgId) -> Vec<u8> {
    let key = |number| SigningKey::from_seed([number; 32]).public();
    let keys = StewardPublicKeys { record: key(91), log: key(92), witness: key(93), tls: key(94) };
    let terms = DelegationTerms { org, root_version: 1, serial: 1, keys, roles: Roles::ALL, now: NOW };
    founding::delegate(&terms, mesh, &[root]).expect("delegation").to_bytes()
}

#[test]
fn a_member_writes_only_records_of_its_organisation_at_their_own_keys() {
    let ((root_a, a, envelope_a), (root_b, b, envelope_b)) = (org(1), org(2));
    let genesis_ab = genesis(&[a, b]);
    let mesh = MeshId(genesis_ab.record_id(&MeshId([0; 32])).expect("kind").0);
    let (node, other, key) = (NodeId([7; 32]), NodeId([8; 32]), PublicKey([9; 32]));
    let holders = Holders::default();
    holders.replace(BTreeMap::from([(key, (node, a))]));
    let (guard, keyspace) = (Guard::new(&mesh, holders), Keyspace::new(&mesh));
    let state = |org| OrgState {
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
    let state = |org| Envelope::new(&state(org)).to_bytes();
    let revocations = |org| {
        let (nodes, certs, severed) = (Vec::new(), Vec::new(), Vec::new());
        let record = Revocations {
            version: VERSION,
            org,
            root_version: 1,
            n: 1,
            issued_at: NOW,
            nodes,
            certs,
            severed,
        };
        Envelope::new(&record).to_bytes()
    };
    let claim = |node| {
        let record = EndpointRecord {
            version: VERSION,
            node,
            endpoint: EndpointId([1; 32]),
            seq: 1,
            issued_at: NOW,
            withdrawn: false,
            addresses: vec![Prefix::v4([10, 1, 0, 5].into(), 32)],
            labels: Vec::new(),
            name: None,
            image: None,
        };
        Envelope::new(&record).to_bytes()
    };
    let (of_a, of_b) = (delegation(&mesh, &root_a, a), delegation(&mesh, &root_b, b));
    let cases = [
        (true, Slot::Genesis, genesis_ab.to_bytes()),
        (false, Slot::Genesis, genesis(&[a]).to_bytes()),
        (true, Slot::Root(a, 1), envelope_a.to_bytes()),
        (false, Slot::Root(a, 1), envelope_b.to_bytes()),
        (false, Slot::Root(a, 2), envelope_a.to_bytes()),
        (false, Slot::Root(b, 1), envelope_b.to_bytes()),
        (true, Slot::Delegation(a, 1, 1), of_a.clone()),
        (false, Slot::Delegation(a, 1, 2), of_a.clone()),
        (false, Slot::Delegation(a, 1, 1), of_b.clone()),
        (false, Slot::Delegation(b, 1, 1), of_a),
        (false, Slot::Delegation(b, 1, 1), of_b),
        (true, Slot::State(a), state(a)),
        (false, Slot::State(a), state(b)),
        (false, Slot::State(b), state(b)),
        (true, Slot::Revocations(a), revocations(a)),
        (false, Slot::Revocations(a), revocations(b)),
        (false, Slot::Revocations(b), revocations(b)),
        (false, Slot::Checkpoint(a), vec![1]),
        (false, Slot::Evidence(a), vec![1]),
        (true, Slot::Peer(node), vec![1]),
        (true, Slot::Paths(node), vec![1]),
        (false, Slot::Peer(other), vec![1]),
        (false, Slot::Paths(other), vec![1]),
        (true, Slot::Address([10, 1, 0, 5].into()), claim(node)),
        (false, Slot::Address([10, 1, 0, 6].into()), claim(node)),
        (false, Slot::Address([10, 1, 0, 5].into()), claim(other)),
        (false, Slot::Address([10, 1, 0, 5].into()), vec![1]),
        (false, Slot::Block("10.1.0.0/26".parse().expect("a block")), claim(node)),
    ];
    for (allowed, slot, value) in cases {
        let name = keyspace.key(slot);
        let put = Op::Put { key: name.as_bytes(), value: &value };
        assert_eq!(guard.allows(&ClientKey(Some(key.0)), put).is_ok(), allowed, "{slot:?}");
        assert!(guard.allows(&ClientKey(Some([1; 32])), put).is_err(), "a stranger at {slot:?}");
    }
    for (allowed, slot) in [
        (true, Slot::Peer(node)),
        (false, Slot::Peer(other)),
        (false, Slot::Root(a, 1)),
        (true, Slot::Address([10, 1, 0, 5].into())),
    ] {
        let range = KeyRange::key(keyspace.key(slot).as_bytes());
        let delete = Op::Delete { range: &range };
        assert_eq!(guard.allows(&ClientKey(Some(key.0)), delete).is_ok(), allowed, "{slot:?}");
        assert!(guard.allows(&ClientKey(Some([1; 32])), delete).is_err(), "a stranger at {slot:?}");
    }
    assert!(guard.quota(&ClientKey(Some(key.0))).keys_max >= 2 * NODE_ENDPOINTS_MAX);
    let all = KeyRange::prefix(format!("{}a4/", keyspace.prefix()).as_bytes());
    assert!(guard.allows(&ClientKey(Some(key.0)), Op::Delete { range: &all }).is_err(), "one at a time");
}
