//! Certificates, tunnel keys and paths that break a rule.

use meshd_trust::{Refusal, SigningKey, sign};
use meshd_wire::record::{
    Candidate, CandidateKind, EpochKey, Label, NodeCert, NodeKeys, NodePaths, Prefix, Roles,
};
use meshd_wire::{NodeId, PeerBundle, PublicKey};

use crate::fixture::{DAY_S, NOW, TestMesh, ago, assert_new, assert_refused, key, node_id, tunnel_key};

fn label(key: &str, value: &str) -> Label {
    Label { key: key.into(), value: value.into() }
}

#[test]
fn only_a_steward_of_the_organisation_enrols() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    let cert = mesh.cert(0, 1);
    assert_refused(&mut roster, &mesh.by_steward(1, &cert), NOW, "unknown-signer");
    assert_refused(&mut roster, &mesh.by_root(0, &cert), NOW, "unknown-signer");
    assert_refused(&mut roster, &mesh.by_node(1, &cert), NOW, "unknown-signer");
    let both = sign(&cert, &mesh.id, &[&mesh.orgs[0].steward_key, &mesh.orgs[1].steward_key]);
    assert_refused(&mut roster, &both.to_bytes(), NOW, "unknown-signer");
    assert_refused(&mut roster, &sign(&cert, &mesh.id, &[]).to_bytes(), NOW, "too-few-signers");
    let mut forged = sign(&cert, &mesh.id, &[&mesh.orgs[0].steward_key]);
    forged.sign_with(sign(&mesh.cert(0, 2), &mesh.id, &[&mesh.orgs[0].steward_key]).signatures()[0]);
    assert_refused(&mut roster, &forged.to_bytes(), NOW, "bad-signature");
    assert_new(&mut roster, &mesh.by_steward(0, &cert), NOW);
}

#[test]
fn a_steward_enrols_only_with_its_role_and_in_its_time() {
    let mesh = TestMesh::new(1);
    let mut delegation = mesh.delegation(0);
    let clerk = key("clerk", 0);
    delegation.serial = 2;
    delegation.record_key = clerk.public();
    delegation.roles = Roles(Roles::REVOKE.0 | Roles::POLICY.0);
    let mut roster = mesh.founded();
    assert_new(&mut roster, &mesh.by_root(0, &delegation), NOW);
    let cert = sign(&mesh.cert(0, 1), &mesh.id, &[&clerk]).to_bytes();
    assert_refused(&mut roster, &cert, NOW, "wrong-role");

    let late = NOW.plus(81 * DAY_S);
    let mut cert = mesh.cert(0, 1);
    (cert.not_before, cert.not_after) = (late, late.plus(DAY_S));
    assert_refused(&mut roster, &mesh.by_steward(0, &cert), late, "expired");
}

#[test]
fn an_organisation_that_is_shut_brings_in_nobody_new_and_keeps_whom_it_has() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 1)), NOW);
    let shut = mesh.cert(0, 1).org;
    roster.shut([shut].into());
    assert_refused(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 2)), NOW, "shut");
    assert_new(&mut roster, &mesh.by_steward(1, &mesh.cert(1, 3)), NOW);
    let renewed = NodeCert { serial: mesh.cert(0, 1).serial + 1, ..mesh.cert(0, 1) };
    assert_new(&mut roster, &mesh.by_steward(0, &renewed), NOW);
    assert_new(&mut roster, &mesh.by_node(1, &mesh.keys(1, 1)), NOW);
    let serial = renewed.serial + 1;
    for other in [
        NodeCert { serial, identity: key("identity", 9).public(), ..mesh.cert(0, 1) },
        NodeCert { serial, transport: key("transport", 9).public(), ..mesh.cert(0, 1) },
    ] {
        assert_refused(&mut roster, &mesh.by_steward(0, &other), NOW, "shut");
    }
    roster.shut([].into());
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 2)), NOW);
}

#[test]
fn certificates_that_break_a_rule_are_refused() {
    type Change = fn(&mut NodeCert);
    let cases: [(Change, &str); 30] = [
        (|cert| cert.node = node_id(2), "outside-prefix"),
        (|cert| cert.identity = key("identity", 2).public(), "invalid"),
        (|cert| cert.transport = cert.identity, "invalid"),
        (|cert| cert.root_version = 2, "invalid"),
        (|cert| cert.name = String::new(), "invalid"),
        (|cert| cert.name = "Upper".into(), "invalid"),
        (|cert| cert.name = "under_score".into(), "invalid"),
        (|cert| cert.name = "-edge".into(), "invalid"),
        (|cert| cert.name = "n".repeat(64), "invalid"),
        (|cert| cert.addr4 = [10, 90, 0, 0], "outside-prefix"),
        (|cert| cert.addr4 = [10, 90, 255, 255], "outside-prefix"),
        (|cert| cert.addr4 = [10, 91, 0, 2], "outside-prefix"),
        (|cert| cert.addr4 = [192, 0, 2, 1], "outside-prefix"),
        (|cert| cert.addr6[15] ^= 1, "outside-prefix"),
        (|cert| cert.addr6[7] ^= 1, "outside-prefix"),
        (|cert| cert.prefixes = vec![Prefix::v4([0, 0, 0, 0].into(), 0)], "outside-prefix"),
        (|cert| cert.prefixes = vec![Prefix::v4([10, 88, 0, 0].into(), 14)], "outside-prefix"),
        (|cert| cert.prefixes = vec![Prefix::v4([10, 91, 3, 0].into(), 24)], "outside-prefix"),
        (|cert| cert.prefixes = vec![Prefix { addr: vec![0; 16], len: 0 }], "outside-prefix"),
        (|cert| cert.prefixes = vec![Prefix { addr: vec![10, 90, 3, 1], len: 24 }], "invalid"),
        (|cert| cert.prefixes = vec![Prefix::v4([10, 90, 3, 0].into(), 24); 65], "invalid"),
        (|cert| cert.labels = vec![label("b", "1"), label("a", "1")], "invalid"),
        (|cert| cert.labels = vec![label("a", "1"), label("a", "2")], "invalid"),
        (|cert| cert.labels = vec![label("a b", "1")], "invalid"),
        (|cert| cert.labels = vec![label("a", "")], "invalid"),
        (|cert| cert.may_attest = vec!["b".into(), "a".into()], "invalid"),
        (|cert| cert.not_after = cert.not_before, "invalid"),
        (|cert| cert.not_after = cert.not_before.plus(8 * DAY_S), "invalid"),
        (|cert| (cert.not_before, cert.not_after) = (NOW.plus(301), NOW.plus(DAY_S)), "future"),
        (|cert| (cert.not_before, cert.not_after) = (ago(DAY_S), ago(1)), "expired"),
    ];
    // The first organisation by id need not be the first by prefix.
    let mesh = TestMesh::new(1);
    for (change, reason) in cases {
        let mut roster = mesh.founded();
        let mut cert = mesh.cert(0, 1);
        change(&mut cert);
        assert_refused(&mut roster, &mesh.by_steward(0, &cert), NOW, reason);
        assert_new(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 1)), NOW);
    }
}

#[test]
fn a_label_outside_its_stewards_namespace_is_refused() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let clerk = key("clerk", 0);
    let mut delegation = mesh.delegation(0);
    delegation.serial = 2;
    delegation.record_key = clerk.public();
    delegation.roles = Roles::ENROL;
    delegation.label_namespace = "lab.".into();
    assert_new(&mut roster, &mesh.by_root(0, &delegation), NOW);
    let mut cert = mesh.cert(0, 1);
    cert.labels = vec![label("role", "db")];
    assert_refused(&mut roster, &sign(&cert, &mesh.id, &[&clerk]).to_bytes(), NOW, "invalid");
    cert.labels = vec![label("lab.role", "db")];
    assert_new(&mut roster, &sign(&cert, &mesh.id, &[&clerk]).to_bytes(), NOW);
}

#[test]
fn an_address_has_one_live_holder() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let first = mesh.cert(0, 1);
    assert_new(&mut roster, &mesh.by_steward(0, &first), NOW);
    let mut second = mesh.cert(0, 2);
    second.addr4 = first.addr4;
    let refusal = roster.accept(&mesh.by_steward(0, &second), NOW);
    assert_eq!(refusal, Err(Refusal::AddressTaken { holder: node_id(1) }));
    second.addr4 = mesh.cert(0, 2).addr4;
    second.prefixes = vec![Prefix::v4(first.ipv4(), 32)];
    assert_refused(&mut roster, &mesh.by_steward(0, &second), NOW, "address-taken");
    second.prefixes.clear();
    second.transport = first.transport;
    assert_refused(&mut roster, &mesh.by_steward(0, &second), NOW, "key-taken");

    // Once the first is over, its address is free again.
    let later = first.not_after.plus(1);
    let mut second = mesh.cert(0, 2);
    second.addr4 = first.addr4;
    (second.not_before, second.not_after) = (later, later.plus(DAY_S));
    assert_new(&mut roster, &mesh.by_steward(0, &second), later);
    assert!(roster.node(&node_id(1)).is_none());
}

#[test]
fn a_node_moves_to_another_address_and_frees_the_old_one() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let first = mesh.cert(0, 1);
    assert_new(&mut roster, &mesh.by_steward(0, &first), NOW);
    let mut moved = mesh.cert(0, 1);
    (moved.serial, moved.addr4[3]) = (50, 99);
    assert_new(&mut roster, &mesh.by_steward(0, &moved), NOW);
    let mut second = mesh.cert(0, 2);
    second.addr4 = first.addr4;
    assert_new(&mut roster, &mesh.by_steward(0, &second), NOW);
}

#[test]
fn another_organisation_cannot_enrol_the_same_node() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 1)), NOW);
    let mut claimed = mesh.cert(1, 1);
    claimed.serial = 90;
    assert_refused(&mut roster, &mesh.by_steward(1, &claimed), NOW, "other-org");
}

#[test]
fn a_node_keeps_its_id_when_its_identity_is_renewed() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    let mut renewed = mesh.cert(0, 1);
    (renewed.serial, renewed.identity) = (50, key("identity", 77).public());
    assert_new(&mut roster, &mesh.by_steward(0, &renewed), NOW);
    assert!(roster.node(&node_id(1)).is_some_and(|node| node.keys().is_none() && node.paths().is_none()));
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.keys(1, 2)), NOW, "unknown-signer");
    assert_new(&mut roster, &mesh.by_node(77, &mesh.keys(1, 2)), NOW);
}

#[test]
fn only_the_node_itself_publishes_keys_and_paths() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.keys(1, 1)), NOW, "missing-parent");
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.paths(1, 1)), NOW, "missing-parent");
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 1)), NOW);
    for stranger in [&key("identity", 2), &mesh.orgs[0].steward_key, &key("transport", 1)] {
        let by = |envelope: meshd_wire::Envelope| envelope.to_bytes();
        let keys: &[&SigningKey] = &[stranger];
        assert_refused(&mut roster, &by(sign(&mesh.keys(1, 1), &mesh.id, keys)), NOW, "unknown-signer");
        assert_refused(&mut roster, &by(sign(&mesh.paths(1, 1), &mesh.id, keys)), NOW, "unknown-signer");
    }
}

#[test]
fn tunnel_keys_that_break_a_rule_are_refused() {
    let mut order8 = PublicKey([0; 32]);
    order8.0.copy_from_slice(&[
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ]);
    type Change = Box<dyn Fn(&mut NodeKeys)>;
    let epoch = |epoch, key| Some(EpochKey { epoch, key: tunnel_key(key), since: NOW });
    let cases: [(Change, &str); 11] = [
        (Box::new(|keys| keys.cur.key = PublicKey([0; 32])), "invalid"),
        (Box::new(move |keys| keys.cur.key = order8), "invalid"),
        (Box::new(|keys| keys.cur.key = PublicKey([0xff; 32])), "invalid"),
        (Box::new(|keys| keys.cur.key.0[31] |= 0x80), "invalid"),
        (Box::new(move |keys| keys.next = epoch(1, 40)), "invalid"),
        (Box::new(move |keys| keys.next = epoch(2, 1)), "invalid"),
        (Box::new(move |keys| keys.prev = epoch(1, 40)), "invalid"),
        (Box::new(|keys| keys.suites = 0), "invalid"),
        (Box::new(|keys| keys.issued_at = NOW.plus(301)), "future"),
        (Box::new(|keys| keys.issued_at = ago(172_801)), "expired"),
        (Box::new(|keys| keys.cur.key = tunnel_key(2)), "key-taken"),
    ];
    let mesh = TestMesh::new(1);
    for (change, reason) in cases {
        let mut roster = mesh.founded();
        assert_eq!(roster.accept_all(&mesh.node_records(0, 2), NOW), []);
        assert_new(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 1)), NOW);
        let mut keys = mesh.keys(1, 1);
        change(&mut keys);
        assert_refused(&mut roster, &mesh.by_node(1, &keys), NOW, reason);
        assert_new(&mut roster, &mesh.by_node(1, &mesh.keys(1, 1)), NOW);
    }
}

#[test]
fn paths_that_break_a_rule_are_refused() {
    let mesh = TestMesh::new(1);
    let inside = meshd_trust::address::node_addr6(&mesh.id, 0, &node_id(1));
    let candidates = [
        "127.0.0.1:1",
        "0.0.0.0:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "10.90.0.9:1",
        "192.0.2.1:0",
        "[::1]:1",
        "[ff02::1]:1",
        "[::ffff:192.0.2.1]:1",
    ];
    let mut cases: Vec<NodePaths> = Vec::new();
    for at in candidates.iter().map(|at| at.parse().expect("an address")).chain([(inside, 1).into()]) {
        let mut paths = mesh.paths(1, 1);
        paths.candidates.push(Candidate::new(CandidateKind::Observed, at));
        cases.push(paths);
    }
    let mut odd = mesh.paths(1, 1);
    odd.candidates[0].addr.pop();
    cases.push(odd);
    let mut many = mesh.paths(1, 1);
    many.candidates = vec![many.candidates[0].clone(); 33];
    cases.push(many);
    let mut relays = mesh.paths(1, 1);
    relays.relays = vec![NodeId([1; 32]); 9];
    cases.push(relays);
    let mut port = mesh.paths(1, 1);
    port.control_port = Some(0);
    cases.push(port);

    let mut roster = mesh.founded();
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 1)), NOW);
    for paths in cases {
        assert_refused(&mut roster, &mesh.by_node(1, &paths), NOW, "invalid");
    }
    let mut future = mesh.paths(1, 1);
    future.issued_at = NOW.plus(301);
    assert_refused(&mut roster, &mesh.by_node(1, &future), NOW, "future");
    // Old paths are still a hint.
    let mut old = mesh.paths(1, 1);
    old.issued_at = ago(DAY_S);
    assert_new(&mut roster, &mesh.by_node(1, &old), NOW);
}

#[test]
fn a_bundle_is_accepted_whole_or_not_at_all() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let cert = mesh.by_steward(0, &mesh.cert(0, 1));
    let swapped = PeerBundle::new(cert.clone(), mesh.by_node(2, &mesh.keys(1, 1)));
    let mixed = PeerBundle::new(cert.clone(), mesh.by_node(2, &mesh.keys(2, 1)));
    for (bundle, reason) in [(swapped, "unknown-signer"), (mixed, "invalid")] {
        let refusal = roster.accept_bundle(&bundle.to_bytes(), NOW).expect_err("a forged bundle");
        assert_eq!(refusal.reason(), reason);
        assert_eq!(roster.nodes().count(), 0);
    }
    assert_eq!(roster.accept_bundle(&[0; 9], NOW).expect_err("garbage").reason(), "malformed");
    // Keys that are merely over leave the node known, without a tunnel.
    let mut old = mesh.keys(1, 1);
    old.issued_at = ago(172_801);
    let over = PeerBundle::new(cert, mesh.by_node(1, &old)).to_bytes();
    assert_eq!(roster.accept_bundle(&over, NOW).map(|changes| changes.len()), Ok(1));
}
