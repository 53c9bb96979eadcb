//! Bytes of every format as they were first released: a change here breaks running meshes.

use std::net::{Ipv4Addr, SocketAddr};

use data_encoding::HEXLOWER;
use meshd_wire::enrol::{CopiedRow, EnrolReply, EnrolRequest, ExternalAddress, Refused, RegistryHint};
use meshd_wire::id::SignatureBytes;
use meshd_wire::record::{
    AgreementBody, Candidate, CandidateKind, Endpoint, EpochKey, JoinRequest, Label, Member, MeshGenesis,
    NodeCert, NodeExternals, NodeKeys, NodeLeave, NodePaths, OrgRoot, OrgState, Prefix, Revocations, Roles,
    StewardDelegation, Versioned,
};
use meshd_wire::token::TokenSecret;
use meshd_wire::{
    ChannelFrame, EndpointId, Envelope, HaveEntry, ImageDigest, JoinToken, KeyId, Kind, MeshId, NodeId,
    OrgId, PeerBundle, PlacedRecord, PublicKey, Record, RecordDigest, RecordId, Signature, Timestamp,
    TokenId,
};

#[test]
fn org_root_has_its_bytes() {
    let first = OrgRoot {
        version: 1,
        root_version: 1,
        name: "acme".into(),
        keys: vec![key(1), key(2)],
        threshold: 2,
        not_after: LATER,
        prev: None,
    };
    assert_payload(
        &first,
        "\
        8601016461636d6582582001010101010101010101010101010101010101010101010101010101010101015820020202\
        0202020202020202020202020202020202020202020202020202020202021a6b530c80",
    );
    let second = OrgRoot { root_version: 2, prev: Some(RecordId([9; 32])), ..first };
    assert_payload(
        &second,
        "\
        8701026461636d6582582001010101010101010101010101010101010101010101010101010101010101015820020202\
        0202020202020202020202020202020202020202020202020202020202021a6b530c8058200909090909090909090909\
        090909090909090909090909090909090909090909",
    );
}

#[test]
fn steward_delegation_has_its_bytes() {
    let delegation = StewardDelegation {
        version: 1,
        org: OrgId([1; 32]),
        root_version: 1,
        serial: 300,
        record_key: key(2),
        log_key: key(3),
        witness_key: key(4),
        tls_key: key(5),
        roles: Roles::ALL,
        label_namespace: "acme.".into(),
        not_before: NOW,
        not_after: LATER,
    };
    assert_payload(
        &delegation,
        "\
        8c01582001010101010101010101010101010101010101010101010101010101010101010119012c5820020202020202\
        020202020202020202020202020202020202020202020202020258200303030303030303030303030303030303030303\
        030303030303030303030303582004040404040404040404040404040404040404040404040404040404040404045820\
        0505050505050505050505050505050505050505050505050505050505050505181f6561636d652e1a6b49d2001a6b53\
        0c80",
    );
}

#[test]
fn mesh_genesis_has_its_bytes() {
    assert_payload(
        &genesis(),
        "\
        86016961636d652d6d6573685007070707070707070707070707070707f48a0001828358200101010101010101010101\
        01010101010101010101010101010101010101010182440a5b0000110083582002020202020202020202020202020202\
        0202020202020202020202020202020282440a5b800011011a6b49d2001a6b530c801903841a000151801a0002a30019\
        0e100000",
    );
}

#[test]
fn node_cert_has_its_bytes() {
    let cert = NodeCert {
        version: 1,
        node: NodeId([1; 32]),
        org: OrgId([2; 32]),
        root_version: 1,
        serial: 7,
        name: "host-a".into(),
        identity: key(3),
        transport: key(4),
        addr4: [10, 91, 0, 1],
        addr6: [0xfd, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        prefixes: vec![Prefix::v4(Ipv4Addr::new(10, 91, 128, 0), 24)],
        labels: vec![Label { key: "role".into(), value: "db".into() }],
        may_attest: vec!["app".into()],
        not_before: NOW,
        not_after: LATER,
    };
    assert_payload(
        &cert,
        "\
        8f0158200101010101010101010101010101010101010101010101010101010101010101582002020202020202020202\
        02020202020202020202020202020202020202020202010766686f73742d615820030303030303030303030303030303\
        030303030303030303030303030303030358200404040404040404040404040404040404040404040404040404040404\
        040404440a5b000150fd0102030405000000000000000000018182440a5b80001818818264726f6c6562646281636170\
        701a6b49d2001a6b530c80",
    );
}

#[test]
fn node_keys_has_its_bytes() {
    let epoch = |epoch, byte| EpochKey { epoch, key: key(byte), since: NOW };
    let first = NodeKeys {
        version: 1,
        node: NodeId([1; 32]),
        seq: 1,
        issued_at: NOW,
        suites: 1,
        post_quantum: 0,
        compromised: false,
        cur: epoch(1, 2),
        next: None,
        prev: None,
        accept_until: None,
    };
    assert_payload(
        &first,
        "\
        880158200101010101010101010101010101010101010101010101010101010101010101011a6b49d2000100f4830158\
        2002020202020202020202020202020202020202020202020202020202020202021a6b49d200",
    );
    let rotating = NodeKeys {
        seq: 2,
        compromised: true,
        cur: epoch(2, 3),
        next: Some(epoch(3, 4)),
        prev: Some(epoch(1, 2)),
        accept_until: Some(LATER),
        ..first
    };
    assert_payload(
        &rotating,
        "\
        8b0158200101010101010101010101010101010101010101010101010101010101010101021a6b49d2000100f5830258\
        2003030303030303030303030303030303030303030303030303030303030303031a6b49d20083035820040404040404\
        04040404040404040404040404040404040404040404040404041a6b49d2008301582002020202020202020202020202\
        020202020202020202020202020202020202021a6b49d2001a6b530c80",
    );
}

#[test]
fn node_paths_has_its_bytes() {
    let paths = NodePaths {
        version: 1,
        node: NodeId([1; 32]),
        seq: 5,
        issued_at: NOW,
        candidates: vec![
            Candidate::new(CandidateKind::Host, socket("192.0.2.1:51820")),
            Candidate::new(CandidateKind::Static, socket("[2001:db8::1]:51821")),
            Candidate::new(CandidateKind::Mapped, socket("192.0.2.2:1")),
            Candidate::new(CandidateKind::Observed, socket("192.0.2.3:2")),
        ],
        relays: vec![NodeId([2; 32])],
        nat: 0,
        control_port: Some(7946),
    };
    assert_payload(
        &paths,
        "\
        880158200101010101010101010101010101010101010101010101010101010101010101051a6b49d20084830144c000\
        020119ca6c83025020010db800000000000000000000000119ca6d830344c000020201830444c0000203028158200202\
        02020202020202020202020202020202020202020202020202020202020200191f0a",
    );
}

#[test]
fn endpoint_has_its_bytes() {
    let attached = Endpoint {
        version: 1,
        node: NodeId([1; 32]),
        endpoint: EndpointId([2; 32]),
        seq: 3,
        issued_at: NOW,
        withdrawn: false,
        addresses: vec![
            Prefix::host(Ipv4Addr::new(10, 91, 128, 5).into()),
            Prefix::host("fd01:203:405:1::5".parse().unwrap()),
        ],
        labels: vec![Label { key: "app".into(), value: "db".into() }],
        name: Some("web.prod".into()),
        image: Some(ImageDigest([4; 32])),
    };
    assert!(!attached.is_block());
    assert_payload(
        &attached,
        "\
        8a0158200101010101010101010101010101010101010101010101010101010101010101582002020202020202020202\
        02020202020202020202020202020202020202020202031a6b49d200f48282440a5b800518208250fd01020304050001\
        0000000000000005188081826361707062646268776562\
        2e70726f6458200404040404040404040404040404040404040404040404040404040404040404",
    );
    let block = Endpoint {
        seq: 4,
        withdrawn: true,
        addresses: vec![Prefix::v4(Ipv4Addr::new(10, 91, 128, 64), 26)],
        labels: Vec::new(),
        name: None,
        image: None,
        ..attached
    };
    assert!(block.is_block());
    assert_payload(
        &block,
        "\
        880158200101010101010101010101010101010101010101010101010101010101010101582002020202020202020202\
        02020202020202020202020202020202020202020202041a6b49d200f58182440a5b8040181a80",
    );
}

#[test]
fn revocations_has_its_bytes() {
    let revocations = Revocations {
        version: 1,
        org: OrgId([1; 32]),
        root_version: 1,
        n: 3,
        issued_at: NOW,
        nodes: vec![NodeId([2; 32])],
        certs: vec![7, 70_000],
        severed: vec![OrgId([3; 32])],
    };
    assert_payload(
        &revocations,
        "\
        88015820010101010101010101010101010101010101010101010101010101010101010101031a6b49d2008158200202\
        02020202020202020202020202020202020202020202020202020202020282071a000111708158200303030303030303\
        030303030303030303030303030303030303030303030303",
    );
}

#[test]
fn org_state_has_its_bytes() {
    let state = OrgState {
        version: 1,
        org: OrgId([1; 32]),
        root_version: 1,
        seq: 70_000,
        issued_at: NOW,
        agreement_version: 1,
        policy: None,
        revocations: Some(Versioned { n: 3, id: RecordId([2; 32]) }),
        checkpoint: None,
    };
    assert_payload(
        &state,
        "\
        880158200101010101010101010101010101010101010101010101010101010101010101011a000111701a6b49d20001\
        f6820358200202020202020202020202020202020202020202020202020202020202020202",
    );
}

#[test]
fn join_request_has_its_bytes() {
    let request = JoinRequest {
        version: 1,
        mesh: MeshId([1; 32]),
        org: OrgId([2; 32]),
        name: "host-a".into(),
        identity: key(3),
        transport: key(4),
        issued_at: NOW,
        keys: vec![0xaa, 0xbb],
    };
    assert_payload(
        &request,
        "\
        880158200101010101010101010101010101010101010101010101010101010101010101582002020202020202020202\
        0202020202020202020202020202020202020202020266686f73742d6158200303030303030303030303030303030303\
        030303030303030303030303030303582004040404040404040404040404040404040404040404040404040404040404\
        041a6b49d20042aabb",
    );
}

#[test]
fn node_leave_has_its_bytes() {
    assert_payload(
        &leave(),
        "\
        8301582001010101010101010101010101010101010101010101010101010101010101011a6b49d200",
    );
}

#[test]
fn node_externals_have_their_bytes() {
    let externals = NodeExternals {
        version: 1,
        node: NodeId([1; 32]),
        seq: 7,
        issued_at: NOW,
        names: vec!["phone".into(), "router".into()],
    };
    assert_payload(
        &externals,
        "\
        850158200101010101010101010101010101010101010101010101010101010101010101071a6b49d2008265\
        70686f6e6566726f75746572",
    );
}

#[test]
fn envelope_has_its_bytes() {
    let mut envelope = Envelope::new(&leave());
    envelope.sign_with(Signature { key: KeyId([9; 32]), bytes: SignatureBytes([8; 64]) });
    envelope.sign_with(Signature { key: KeyId([7; 32]), bytes: SignatureBytes([6; 64]) });
    assert_bytes(
        &envelope.to_bytes(),
        "\
        8401184158298301582001010101010101010101010101010101010101010101010101010101010101011a6b49d20082\
        825820070707070707070707070707070707070707070707070707070707070707070758400606060606060606060606\
        060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606060606\
        060606060682582009090909090909090909090909090909090909090909090909090909090909095840080808080808\
        080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808080808\
        08080808080808080808",
    );
    assert_eq!(Envelope::from_bytes(&envelope.to_bytes()), Ok(envelope));
}

#[test]
fn signed_message_names_domain_kind_and_mesh() {
    let mesh = MeshId([5; 32]);
    let message = Envelope::new(&leave()).signed_message(&mesh).unwrap();
    assert_bytes(
        &message,
        "\
        6d657368642d76312f4e6f64654c65617665000505050505050505050505050505050505050505050505050505050505\
        0505058301582001010101010101010101010101010101010101010101010101010101010101011a6b49d200",
    );
    let message = Envelope::new(&genesis()).signed_message(&mesh).unwrap();
    let start = [b"meshd-v1/MeshGenesis\0".as_slice(), &[0; 32]].concat();
    assert_eq!(message.get(..start.len()), Some(start.as_slice()), "a genesis precedes its mesh");
}

#[test]
fn ids_have_their_bytes() {
    let mesh = MeshId([5; 32]);
    assert_bytes(
        &Envelope::new(&leave()).record_id(&mesh).unwrap().0,
        "\
        5d4b56dd9f6a5138c5f2ccb6007bd089e976972db27bfe30062c4d0d3220bad1",
    );
    assert_bytes(
        &Envelope::new(&genesis()).record_id(&mesh).unwrap().0,
        "\
        cc1aa455165d8a81b6d41214b9160ca3f4cbe095db975501cdeefede610d36db",
    );
    assert_bytes(
        &key(1).key_id().0,
        "\
        f6888d314d4443627becfd4eaf12a4764f7e193cabcdb2c6bf301c7036525a35",
    );
    let endpoint = EndpointId::of("docker", "net", "web", "eth0");
    let text = "47544ac6f015bb579307282cf832d0a34a2f1832117e27605c78be729fd0dabb";
    assert_eq!(endpoint.to_string(), text);
    assert_eq!(text.parse(), Ok(endpoint));
    assert_ne!(EndpointId::of("docker", "ne", "tweb", "eth0"), endpoint);
    assert_eq!(key(1).to_string(), "aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq");
}

#[test]
fn peer_bundle_has_its_bytes() {
    let bundle = PeerBundle::new(vec![1, 2, 3], vec![4, 5]);
    assert_bytes(&bundle.to_bytes(), "84014301020342040580");
    assert_eq!(PeerBundle::from_bytes(&bundle.to_bytes()), Ok(bundle));
}

#[test]
fn frames_of_channels_have_their_bytes() {
    let frames = [
        (
            ChannelFrame::Have {
                entries: vec![HaveEntry { place: "meta".into(), digest: RecordDigest::of(b"abc") }],
            },
            "82008182646d65746150ba7816bf8f01cfea414140de5dae2223",
        ),
        (ChannelFrame::Want { places: vec!["meta".into()] }, "820181646d657461"),
        (
            ChannelFrame::Records { records: vec![PlacedRecord { place: "meta".into(), value: vec![7, 8] }] },
            "82028182646d657461420708",
        ),
    ];
    for (frame, hex) in frames {
        assert_bytes(&frame.to_bytes(), hex);
        assert_eq!(ChannelFrame::from_bytes(&frame.to_bytes()), Ok(frame));
    }
}

#[test]
fn enrol_requests_have_their_bytes() {
    let requests = [
        (
            EnrolRequest::Chain { mesh: MeshId([1; 32]) },
            "\
            820058200101010101010101010101010101010101010101010101010101010101010101",
        ),
        (
            EnrolRequest::Enrol { token: TokenId([2; 8]), request: vec![3, 4], mac: [5; 32] },
            "\
            840148020202020202020242030458200505050505050505050505050505050505050505050505050505050505050505",
        ),
        (EnrolRequest::Renew { request: vec![3, 4] }, "8202420304"),
        (EnrolRequest::Leave { leave: vec![6] }, "82034106"),
        (EnrolRequest::Introduce { records: vec![vec![7].into(), vec![8].into()] }, "82048241074108"),
        (EnrolRequest::Claim { claim: vec![9] }, "82054109"),
        (EnrolRequest::Cosign { request: vec![9] }, "82074109"),
        (EnrolRequest::Growth { old: 3, new: 300 }, "83080319012c"),
        (EnrolRequest::Copy { from: 300 }, "820919012c"),
    ];
    for (request, hex) in requests {
        assert_bytes(&request.to_bytes(), hex);
        assert_eq!(EnrolRequest::from_bytes(&request.to_bytes()), Ok(request));
    }
}

#[test]
fn enrol_replies_have_their_bytes() {
    let registry = RegistryHint { url: "meshd://192.0.2.1:7946".into(), tls_key: Some(key(1)) };
    let etcd = RegistryHint { url: "https://192.0.2.2:2379".into(), tls_key: None };
    let replies = [
        (
            EnrolReply::Chain { now: NOW, records: vec![vec![1].into(), vec![2].into()] },
            "\
            83001a6b49d2008241014102",
        ),
        (
            EnrolReply::Admitted {
                cert: vec![1],
                records: vec![vec![2].into()],
                registries: vec![registry, etcd],
                stewards: vec!["192.0.2.1:7946".into()],
            },
            "\
                850141018141028282766d657368643a2f2f3139322e302e322e313a3739343658200101010101010101010101010101\
                010101010101010101010101010101010101817668747470733a2f2f3139322e302e322e323a32333739816e3139322e\
                302e322e313a37393436",
        ),
        (EnrolReply::Refused { why: Refused::TokenUsed }, "820203"),
        (EnrolReply::Done, "8103"),
        (EnrolReply::Cosigned { signature: vec![9] }, "82064109"),
        (EnrolReply::Witnessed { checkpoint: vec![] }, "820740"),
        (EnrolReply::Grown { old: vec![9], new: vec![8] }, "830841094108"),
        (
            EnrolReply::Copied {
                rows: vec![CopiedRow { leaf: vec![1], record: vec![] }],
                checkpoint: vec![2],
                cosigned: vec![vec![3].into()],
            },
            "840981824101404102814103",
        ),
        (
            EnrolReply::Claimed {
                cert: vec![1],
                externals: vec![ExternalAddress { name: "phone".into(), addr4: [2; 4], addr6: [3; 16] }],
            },
            "\
            8304410181836570686f6e6544020202025003030303030303030303030303030303",
        ),
    ];
    for (reply, hex) in replies {
        assert_bytes(&reply.to_bytes(), hex);
        assert_eq!(EnrolReply::from_bytes(&reply.to_bytes()), Ok(reply));
    }
}

#[test]
fn refusals_keep_their_numbers() {
    let refusals = [
        Refused::Malformed,
        Refused::WrongMesh,
        Refused::TokenUnknown,
        Refused::TokenUsed,
        Refused::TokenExpired,
        Refused::Clock,
        Refused::NameTaken,
        Refused::NoAddress,
        Refused::NotMember,
        Refused::Unavailable,
    ];
    for (number, why) in (0u8..).zip(refusals) {
        assert_eq!(EnrolReply::Refused { why }.to_bytes(), [0x82, 0x02, number]);
    }
}

#[test]
fn kinds_keep_their_numbers_and_names() {
    let numbers = Kind::ALL.map(Kind::number);
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 64, 65, 66]);
    let names = Kind::ALL.map(Kind::name).join(" ");
    assert_eq!(
        names,
        "OrgRoot StewardDelegation MeshGenesis Agreement Leave NodeCert NodeKeys NodePaths Endpoint \
         OrgPolicy Revocations OrgState Receipt Recovery JoinRequest NodeLeave NodeExternals"
    );
    assert!(Kind::ALL.iter().all(|kind| Kind::from_number(kind.number()) == Some(*kind)));
    assert_eq!(Kind::from_number(0), None);
}

#[test]
fn join_token_has_its_text() {
    let token = JoinToken {
        mesh: MeshId([1; 32]),
        org: OrgId([2; 32]),
        id: TokenId([3; 8]),
        secret: TokenSecret([4; 16]),
        root_version_min: 5,
        agreement_version_min: 6,
        not_after: LATER,
        stewards: vec![socket("192.0.2.1:7946"), socket("[2001:db8::1]:7946")],
    };
    let text = "\
        AEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQC\
        AIBAEAQCAMBQGAYDAMBQGBAEAQCAIBAEAQCAIBAEAQCAIBAAAAAAKAAAAADAAAAAABVVGDEAATAAAAQBD4FAMIABBW4AAAAA\
        AAAAAAAAAAAAAAI7BKNRAFLV";
    assert_eq!(token.to_string(), text);
    assert_eq!(text.parse(), Ok(token));
}

const NOW: Timestamp = Timestamp(1_800_000_000);
const LATER: Timestamp = Timestamp(1_800_604_800);

fn key(byte: u8) -> PublicKey {
    PublicKey([byte; 32])
}

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn leave() -> NodeLeave {
    NodeLeave { version: 1, node: NodeId([1; 32]), issued_at: NOW }
}

fn genesis() -> MeshGenesis {
    let member = |byte, third, subnet6| Member {
        org: OrgId([byte; 32]),
        prefix4: Prefix::v4(Ipv4Addr::new(10, 91, third, 0), 17),
        subnet6,
    };
    MeshGenesis {
        version: 1,
        name: "acme-mesh".into(),
        nonce: [7; 16],
        lab: false,
        agreement: AgreementBody {
            number: 0,
            agreement_version: 1,
            members: vec![member(1, 0, 0), member(2, 128, 1)],
            not_before: NOW,
            not_after: LATER,
            freshness_soft_s: 900,
            freshness_hard_s: 86_400,
            key_age_max_s: 172_800,
            grace_max_s: 3600,
            post_quantum: 0,
        },
        witness_quorum: 0,
    }
}

fn assert_payload<R: Record + PartialEq + std::fmt::Debug>(record: &R, hex: &str) {
    assert_bytes(&record.encode_payload(), hex);
    assert_eq!(R::decode_payload(&record.encode_payload()).as_ref(), Ok(record));
}

fn assert_bytes(bytes: &[u8], hex: &str) {
    assert_eq!(HEXLOWER.encode(bytes), hex);
}
