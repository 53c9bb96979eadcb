//! Who has which address and name: what nodes claim for what they attach.

use std::net::IpAddr;

use meshd_trust::{Accepted, Change, ClaimState, Roster};
use meshd_wire::record::{Endpoint, Label};
use meshd_wire::{ImageDigest, Timestamp};

use crate::fixture::{
    DAY_S, NOW, TestMesh, ago, assert_new, assert_refused, endpoint_id, key, node_id, prefix,
};

/// In the prefix of the first organisation.
const A: &str = "10.91.128.5";
const BLOCK: &str = "10.91.128.0/26";

/// Nodes 1 and 3 of the first organisation, node 2 of the second.
fn populated(mesh: &TestMesh) -> Roster {
    let mut roster = mesh.founded();
    for (org, number) in [(0, 1), (1, 2), (0, 3)] {
        assert_eq!(roster.accept_all(&mesh.node_records(org, number), NOW), []);
    }
    roster
}

fn claimed(roster: &Roster, number: u64, now: Timestamp) -> Vec<String> {
    let view = roster.node(&node_id(number)).expect("held");
    view.claimed(now).map(|(addr, len)| format!("{addr}/{len}")).collect()
}

fn withdrawn(claim: &Endpoint) -> Endpoint {
    Endpoint { seq: claim.seq + 1, withdrawn: true, ..claim.clone() }
}

fn named(mesh: &TestMesh, number: u64, endpoint: u16, addr: &str, name: &str) -> Endpoint {
    Endpoint { name: Some(name.into()), ..mesh.endpoint(number, endpoint, &[addr]) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn a_claim_names_its_holder_by_address_and_by_name() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    let addr6 = mesh.subnet6(0, "5");
    let mut claim = mesh.endpoint(1, 7, &[A, &addr6]);
    (claim.name, claim.image) = (Some("web.prod".into()), Some(ImageDigest([1; 32])));
    let said = mesh.by_node(1, &claim);
    assert_eq!(roster.accept(&said, NOW), Ok(Accepted::New(Change::Endpoint(node_id(1), endpoint_id(7)))));
    assert_eq!(roster.accept(&said, NOW), Ok(Accepted::Known));

    assert_eq!(claimed(&roster, 1, NOW), [format!("{A}/32"), format!("{addr6}/128")]);
    assert_eq!(claimed(&roster, 3, NOW), Vec::<String>::new());
    for addr in [A, &addr6] {
        assert_eq!(roster.endpoint_at(ip(addr), NOW).expect("claimed").record(), &claim);
    }
    let org = mesh.orgs[0].id;
    assert_eq!(roster.endpoint_named(&org, "web.prod", NOW).expect("named").envelope(), said);
    assert!(roster.endpoint_named(&mesh.orgs[1].id, "web.prod", NOW).is_none());
    assert_eq!(roster.endpoint_seq(&node_id(1), &endpoint_id(7)), Some(1));

    let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
    assert_eq!(restored.to_bytes(), roster.to_bytes());
    assert_eq!(claimed(&restored, 1, NOW), claimed(&roster, 1, NOW));
}

#[test]
fn claims_that_break_a_rule_are_refused() {
    type Broken = fn(&mut Endpoint);
    let addresses = |claim: &mut Endpoint, all: &[&str]| {
        claim.addresses = all.iter().map(|text| prefix(text)).collect();
    };
    let mesh = TestMesh::new(2);
    let (own6, own6_more) = (mesh.subnet6(0, "5"), mesh.subnet6(0, "6"));
    let block6 = format!("{}/112", mesh.subnet6(0, "1:0"));
    let wrong: [(&[&str], &str); 17] = [
        (&[], "invalid"),
        (&[A, "10.91.128.6"], "invalid"),
        (&[&own6, &own6_more], "invalid"),
        (&[&own6, A], "invalid"),
        (&[A, BLOCK], "invalid"),
        (&[BLOCK, &block6], "invalid"),
        (&[A, &own6, &own6_more], "invalid"),
        (&["10.91.0.0/23"], "invalid"),
        (&["10.91.128.4/31"], "invalid"),
        (&["10.91.128.5/26"], "invalid"),
        (&["::/0"], "invalid"),
        (&["10.90.128.5"], "outside-prefix"),
        (&["10.91.0.0"], "outside-prefix"),
        (&["10.91.255.255"], "outside-prefix"),
        (&["10.90.128.0/26"], "outside-prefix"),
        (&["fd00::5"], "outside-prefix"),
        (&[A, &mesh.subnet6(1, "5")], "outside-prefix"),
    ];
    let mut roster = populated(&mesh);
    for (list, reason) in wrong {
        let mut claim = mesh.endpoint(1, 7, &[]);
        addresses(&mut claim, list);
        assert_refused(&mut roster, &mesh.by_node(1, &claim), NOW, reason);
    }
    let label = |key: &str| Label { key: key.into(), value: "1".into() };
    let broken: [(Broken, &str); 8] = [
        (|claim| claim.name = Some("Web".into()), "invalid"),
        (|claim| claim.name = Some(String::new()), "invalid"),
        (|claim| claim.name = Some("web..prod".into()), "invalid"),
        (|claim| claim.issued_at = NOW.plus(301), "future"),
        (|claim| claim.issued_at = ago(DAY_S + 1), "expired"),
        (|claim| claim.node = node_id(9), "missing-parent"),
        (|claim| claim.node = node_id(3), "unknown-signer"),
        (|claim| claim.addresses[0].addr = vec![10, 91, 128], "invalid"),
    ];
    for (change, reason) in broken {
        let mut claim = mesh.endpoint(1, 7, &[A]);
        change(&mut claim);
        assert_refused(&mut roster, &mesh.by_node(1, &claim), NOW, reason);
    }
    let many: Vec<Label> = (0..17).map(|number| label(&format!("k{number:02}"))).collect();
    for labels in [vec![label("b"), label("a")], vec![label("a"), label("a")], vec![label("a b")], many] {
        let claim = Endpoint { labels, ..mesh.endpoint(1, 7, &[A]) };
        assert_refused(&mut roster, &mesh.by_node(1, &claim), NOW, "invalid");
    }
    let block = mesh.endpoint(1, 8, &[BLOCK]);
    for block in [
        Endpoint { name: Some("b".into()), ..block.clone() },
        Endpoint { labels: vec![label("a")], ..block.clone() },
        Endpoint { image: Some(ImageDigest([0; 32])), ..block.clone() },
    ] {
        assert_refused(&mut roster, &mesh.by_node(1, &block), NOW, "invalid");
    }
    for (number, right) in (10..).zip([&block6 as &str, BLOCK, "10.91.129.0/24", "10.91.130.0/30", &own6]) {
        assert_new(&mut roster, &mesh.by_node(1, &mesh.endpoint(1, number, &[right])), NOW);
    }
}

#[test]
fn an_address_stays_with_the_first_claim_until_that_ends() {
    let mesh = TestMesh::new(2);
    let first = mesh.endpoint(1, 7, &[A]);
    let second = mesh.by_node(3, &mesh.endpoint(3, 8, &[A, &mesh.subnet6(0, "8")]));
    let mut ends: Vec<(Roster, Timestamp)> = Vec::new();
    for _ in 0..3 {
        let mut roster = populated(&mesh);
        assert_new(&mut roster, &mesh.by_node(1, &first), NOW);
        assert_refused(&mut roster, &second, NOW, "address-taken");
        assert_refused(&mut roster, &mesh.by_node(1, &mesh.endpoint(1, 8, &[A])), NOW, "address-taken");
        ends.push((roster, NOW));
    }
    assert_new(&mut ends[0].0, &mesh.by_node(1, &withdrawn(&first)), NOW);
    assert_new(&mut ends[1].0, &mesh.by_steward(0, &mesh.revocations(0, 1, &[node_id(1)])), NOW);
    // A day later, to a node that heard nothing of it in between.
    let late = NOW.plus(DAY_S + 1);
    let mut later = mesh.endpoint(3, 8, &[A, &mesh.subnet6(0, "8")]);
    later.issued_at = NOW.plus(DAY_S);
    assert_refused(&mut ends[2].0, &mesh.by_node(3, &later), NOW.plus(DAY_S), "address-taken");
    ends[2].1 = late;
    for (end, (mut roster, at)) in ends.into_iter().enumerate() {
        assert_new(&mut roster, &mesh.by_node(3, &later_if(&later, at)), at);
        assert_eq!(roster.endpoint_at(ip(A), at).expect("claimed").record().node, node_id(3), "end {end}");
        let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, at).expect("its own bytes");
        assert_eq!(restored.to_bytes(), roster.to_bytes(), "end {end}");
    }
}

/// A claim, signed early enough for a time.
fn later_if(claim: &Endpoint, at: Timestamp) -> Endpoint {
    Endpoint { issued_at: claim.issued_at.min(at), ..claim.clone() }
}

#[test]
fn an_address_in_the_block_of_another_is_refused_unless_it_was_claimed_before() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    let before = mesh.endpoint(3, 7, &[A]);
    assert_new(&mut roster, &mesh.by_node(3, &before), NOW);
    let block = mesh.endpoint(1, 1, &[BLOCK]);
    assert_new(&mut roster, &mesh.by_node(1, &block), NOW);
    let inside = mesh.by_node(3, &mesh.endpoint(3, 8, &["10.91.128.6"]));
    assert_refused(&mut roster, &inside, NOW, "address-taken");
    assert_new(&mut roster, &mesh.by_node(1, &mesh.endpoint(1, 8, &["10.91.128.7"])), NOW);
    // Who had it before may renew it, and has it after a restart.
    let renewed = Endpoint { seq: 2, ..before.clone() };
    assert_new(&mut roster, &mesh.by_node(3, &renewed), NOW);
    let mut roster = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
    assert_eq!(roster.endpoint_at(ip(A), NOW).expect("claimed").record(), &renewed);
    // Who gave it back may not.
    assert_new(&mut roster, &mesh.by_node(3, &Endpoint { seq: 3, withdrawn: true, ..before.clone() }), NOW);
    assert_refused(&mut roster, &mesh.by_node(3, &Endpoint { seq: 4, ..before }), NOW, "address-taken");
    assert_new(&mut roster, &mesh.by_node(1, &withdrawn(&block)), NOW);
    assert_new(&mut roster, &inside, NOW);
}

#[test]
fn who_hears_address_and_block_at_once_takes_the_address_first() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    let mut records =
        vec![mesh.by_node(1, &mesh.endpoint(1, 1, &[BLOCK])), mesh.by_node(3, &mesh.endpoint(3, 7, &[A]))];
    records.extend([mesh.node_records(0, 1), mesh.node_records(0, 3)].concat());
    assert_eq!(roster.accept_all(&records, NOW), []);
    assert_eq!(claimed(&roster, 1, NOW), [BLOCK]);
    assert_eq!(claimed(&roster, 3, NOW), [format!("{A}/32")]);
}

#[test]
fn blocks_do_not_overlap() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    assert_new(&mut roster, &mesh.by_node(1, &mesh.endpoint(1, 1, &[BLOCK])), NOW);
    for (number, endpoint, overlapping) in
        [(3, 2, BLOCK), (3, 2, "10.91.128.0/24"), (3, 2, "10.91.128.48/28"), (1, 2, "10.91.128.16/28")]
    {
        let block = mesh.by_node(number, &mesh.endpoint(number, endpoint, &[overlapping]));
        assert_refused(&mut roster, &block, NOW, "address-taken");
    }
    assert_new(&mut roster, &mesh.by_node(3, &mesh.endpoint(3, 2, &["10.91.128.64/26"])), NOW);
    let block6 = format!("{}/112", mesh.subnet6(0, "1:0"));
    assert_new(&mut roster, &mesh.by_node(3, &mesh.endpoint(3, 3, &[&block6])), NOW);
    let inner6 = format!("{}/120", mesh.subnet6(0, "1:ff00"));
    let inner6 = mesh.by_node(1, &mesh.endpoint(1, 4, &[&inner6]));
    assert_refused(&mut roster, &inner6, NOW, "address-taken");
}

#[test]
fn an_address_of_a_certificate_is_no_endpoints() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    let mut cert = mesh.cert(0, 1);
    let external = "10.91.200.1";
    cert.prefixes = vec![prefix(external), prefix("10.91.201.0/24")];
    assert_new(&mut roster, &mesh.by_steward(0, &cert), NOW);
    assert_eq!(roster.accept_all(&mesh.node_records(0, 3), NOW), []);
    let (own, own6) = (cert.ipv4().to_string(), cert.ipv6().to_string());
    for number in [1, 3] {
        for taken in [&own as &str, &own6, external] {
            let claim = mesh.by_node(number, &mesh.endpoint(number, 7, &[taken]));
            assert_refused(&mut roster, &claim, NOW, "address-taken");
        }
    }
    // Inside a wider prefix of a certificate only its own node claims; around addresses anybody has a block.
    for inside in ["10.91.201.9", "10.91.201.64/26", "10.91.201.0/24"] {
        let claim = mesh.by_node(3, &mesh.endpoint(3, 7, &[inside]));
        assert_refused(&mut roster, &claim, NOW, "address-taken");
    }
    assert_new(&mut roster, &mesh.by_node(1, &mesh.endpoint(1, 7, &["10.91.201.9"])), NOW);
    assert_new(&mut roster, &mesh.by_node(3, &mesh.endpoint(3, 8, &["10.91.200.0/26"])), NOW);
}

#[test]
fn a_certificate_displaces_endpoints_from_its_addresses() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    for (number, endpoint, addr) in [(1, 1, "10.91.0.6"), (3, 2, "10.91.201.9"), (3, 3, "10.91.202.0/26")] {
        assert_new(&mut roster, &mesh.by_node(number, &mesh.endpoint(number, endpoint, &[addr])), NOW);
    }
    let mut cert = mesh.cert(0, 5);
    assert_eq!(cert.ipv4().to_string(), "10.91.0.6");
    cert.prefixes = vec![prefix("10.91.201.0/24"), prefix("10.91.202.16/28")];
    assert_new(&mut roster, &mesh.by_steward(0, &cert), NOW);
    for number in [1, 3] {
        assert_eq!(claimed(&roster, number, NOW), Vec::<String>::new());
    }
    assert!(roster.endpoint_at(ip("10.91.0.6"), NOW).is_none());
    let again = mesh.by_node(1, &mesh.endpoint(1, 1, &["10.91.0.6"]));
    assert_refused(&mut roster, &again, NOW, "address-taken");
    let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
    assert_eq!(restored.to_bytes(), roster.to_bytes());
}

#[test]
fn a_name_has_one_live_holder_in_an_organisation() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    let web = named(&mesh, 1, 1, A, "web");
    assert_new(&mut roster, &mesh.by_node(1, &web), NOW);
    let rival = mesh.by_node(3, &named(&mesh, 3, 2, "10.91.128.6", "web"));
    match roster.accept(&rival, NOW) {
        Err(meshd_trust::Refusal::NameTaken { holder }) => assert_eq!(holder, node_id(1)),
        other => panic!("{other:?}"),
    }
    assert_refused(&mut roster, &rival, NOW, "name-taken");
    let of_node = mesh.by_node(3, &named(&mesh, 3, 2, "10.91.128.6", "host-1"));
    assert_refused(&mut roster, &of_node, NOW, "name-taken");
    assert_new(&mut roster, &mesh.by_node(2, &named(&mesh, 2, 1, "10.90.128.5", "web")), NOW);
    assert_new(&mut roster, &mesh.by_node(1, &withdrawn(&web)), NOW);
    assert!(roster.endpoint_named(&mesh.orgs[0].id, "web", NOW).is_none());
    assert_new(&mut roster, &rival, NOW);
    let holder = roster.endpoint_named(&mesh.orgs[0].id, "web", NOW).expect("named");
    assert_eq!(holder.record().node, node_id(3));
    // A node that takes a name later does not make the file unreadable.
    let mut renamed = mesh.cert(0, 1);
    (renamed.serial, renamed.name) = (50, "web".into());
    assert_new(&mut roster, &mesh.by_steward(0, &renamed), NOW);
    let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
    assert_eq!(restored.to_bytes(), roster.to_bytes());
}

#[test]
fn a_changed_endpoint_gives_up_what_it_had() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    assert_new(&mut roster, &mesh.by_node(1, &named(&mesh, 1, 1, A, "web")), NOW);
    let moved = Endpoint { seq: 2, ..named(&mesh, 1, 1, "10.91.128.6", "www") };
    assert_new(&mut roster, &mesh.by_node(1, &moved), NOW);
    assert_eq!(claimed(&roster, 1, NOW), ["10.91.128.6/32"]);
    assert_new(&mut roster, &mesh.by_node(3, &named(&mesh, 3, 2, A, "web")), NOW);
}

#[test]
fn a_node_hands_an_address_from_one_endpoint_to_another() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    let addr6 = mesh.subnet6(0, "5");
    let reserved = [mesh.endpoint(1, 1, &[A]), mesh.endpoint(1, 2, &[&addr6])];
    for claim in &reserved {
        assert_new(&mut roster, &mesh.by_node(1, claim), NOW);
    }
    let attached = Endpoint { seq: 2, ..mesh.endpoint(1, 3, &[A, &addr6]) };
    assert_new(&mut roster, &mesh.by_node(1, &attached), NOW);
    for addr in [A, &addr6] {
        assert_eq!(roster.endpoint_at(ip(addr), NOW).expect("claimed").record(), &attached);
    }
    assert_eq!(claimed(&roster, 1, NOW), [format!("{A}/32"), format!("{addr6}/128")]);
    // What they said before is nothing any more, neither now nor when the address is free.
    let mut roster = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
    for claim in &reserved {
        assert_refused(&mut roster, &mesh.by_node(1, claim), NOW, "stale");
    }
    assert_new(&mut roster, &mesh.by_node(1, &withdrawn(&attached)), NOW);
    roster.forget_expired(NOW.plus(61));
    for claim in &reserved {
        assert_refused(&mut roster, &mesh.by_node(1, claim), NOW, "stale");
    }
    assert_eq!(claimed(&roster, 1, NOW), Vec::<String>::new());
    let again = Endpoint { seq: 5, ..reserved[0].clone() };
    assert_new(&mut roster, &mesh.by_node(1, &again), NOW);
    assert_eq!(claimed(&roster, 1, NOW), [format!("{A}/32")]);
}

#[test]
fn a_node_takes_no_address_of_another_node_nor_a_block_by_a_greater_seq() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    assert_new(&mut roster, &mesh.by_node(1, &mesh.endpoint(1, 1, &[A])), NOW);
    assert_new(&mut roster, &mesh.by_node(1, &mesh.endpoint(1, 2, &[BLOCK])), NOW);
    let of_another = Endpoint { seq: 9, ..mesh.endpoint(3, 1, &[A]) };
    assert_refused(&mut roster, &mesh.by_node(3, &of_another), NOW, "address-taken");
    let block = Endpoint { seq: 9, ..mesh.endpoint(1, 3, &[BLOCK]) };
    assert_refused(&mut roster, &mesh.by_node(1, &block), NOW, "address-taken");
}

#[test]
fn an_address_that_was_claimed_before_a_block_is_handed_on_in_it() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    assert_new(&mut roster, &mesh.by_node(3, &mesh.endpoint(3, 1, &[A])), NOW);
    assert_new(&mut roster, &mesh.by_node(1, &mesh.endpoint(1, 1, &[BLOCK])), NOW);
    let attached = Endpoint { seq: 2, ..mesh.endpoint(3, 2, &[A]) };
    assert_new(&mut roster, &mesh.by_node(3, &attached), NOW);
    assert_eq!(roster.endpoint_at(ip(A), NOW).expect("claimed").record(), &attached);
}

#[test]
fn the_order_in_which_records_of_one_node_arrive_does_not_matter() {
    let mesh = TestMesh::new(2);
    let addr6 = mesh.subnet6(0, "5");
    let reserved = mesh.endpoint(1, 1, &[A]);
    let attached = Endpoint { seq: 2, ..mesh.endpoint(1, 2, &[A, &addr6]) };
    let gone = withdrawn(&attached);
    let mut ends = vec![("given back", vec![reserved.clone(), attached.clone(), gone.clone()], vec![])];
    let handed = Endpoint { seq: 4, ..reserved.clone() };
    ends.push(("claimed anew", vec![reserved, attached, gone, handed], vec![format!("{A}/32")]));
    for (end, records, expected) in ends {
        for order in orders(records.len()) {
            let mut roster = populated(&mesh);
            for at in &order {
                let _ = roster.accept(&mesh.by_node(1, &records[*at]), NOW);
            }
            assert_eq!(claimed(&roster, 1, NOW), expected, "{end}: {order:?}");
            let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
            assert_eq!(restored.to_bytes(), roster.to_bytes(), "{end}: {order:?}");
        }
    }
}

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    (0..count).fold(vec![Vec::new()], |orders, next| {
        let with_next = |order: &Vec<usize>| -> Vec<Vec<usize>> {
            (0..=order.len()).map(|at| [&order[..at], &[next], &order[at..]].concat()).collect()
        };
        orders.iter().flat_map(with_next).collect()
    })
}

#[test]
fn only_attested_labels_count() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    let mut cert = mesh.cert(0, 1);
    cert.may_attest = vec!["app".into(), "tier".into()];
    assert_new(&mut roster, &mesh.by_steward(0, &cert), NOW);
    let label = |key: &str| Label { key: key.into(), value: "1".into() };
    let mut claim = mesh.endpoint(1, 1, &[A]);
    claim.labels = vec![label("app"), label("role")];
    assert_new(&mut roster, &mesh.by_node(1, &claim), NOW);
    let counted = |roster: &Roster| -> Vec<Label> {
        roster.endpoint_at(ip(A), NOW).expect("claimed").labels().cloned().collect()
    };
    assert_eq!(counted(&roster), [label("app")]);
    (cert.serial, cert.may_attest) = (50, Vec::new());
    assert_new(&mut roster, &mesh.by_steward(0, &cert), NOW);
    assert_eq!(counted(&roster), []);
}

#[test]
fn endpoints_go_with_their_node_and_its_identity() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    assert_new(&mut roster, &mesh.by_node(1, &named(&mesh, 1, 1, A, "web")), NOW);
    assert_new(&mut roster, &mesh.by_node(3, &mesh.endpoint(3, 2, &["10.91.128.6"])), NOW);
    let mut renewed = mesh.cert(0, 1);
    (renewed.serial, renewed.identity) = (50, key("identity", 101).public());
    assert_new(&mut roster, &mesh.by_steward(0, &renewed), NOW);
    assert_eq!(claimed(&roster, 1, NOW), Vec::<String>::new());
    assert!(roster.endpoint_at(ip(A), NOW).is_none());
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.revocations(0, 1, &[node_id(3)])), NOW);
    assert!(roster.endpoint_at(ip("10.91.128.6"), NOW).is_none());
    let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
    assert_eq!(restored.to_bytes(), roster.to_bytes());
}

#[test]
fn a_claim_is_judged_without_a_trace() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    let before = roster.to_bytes();
    let claim = mesh.by_node(1, &mesh.endpoint(1, 1, &[A]));
    assert_eq!(roster.judge_endpoint(&claim, NOW), Ok(()));
    assert_eq!(roster.to_bytes(), before);
    assert_new(&mut roster, &claim, NOW);
    let rival = mesh.by_node(3, &mesh.endpoint(3, 1, &[A]));
    assert_eq!(roster.judge_endpoint(&rival, NOW).map_err(|why| why.reason()), Err("address-taken"));
}

#[test]
fn who_looks_for_a_free_address_sees_every_claim_on_it() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    let on = |roster: &Roster, text: &str, now: Timestamp| -> Vec<(u64, bool, ClaimState)> {
        let (addr, len) = prefix(text).parts().expect("a prefix");
        let claims = roster.claims_on(addr, len, now);
        claims
            .iter()
            .map(|claim| {
                let number = (1..4).find(|number| node_id(*number) == claim.node).expect("a node");
                (number, claim.endpoint.is_some(), claim.state)
            })
            .collect()
    };
    let claim = mesh.endpoint(1, 1, &[A]);
    assert_new(&mut roster, &mesh.by_node(1, &claim), NOW);
    assert_new(&mut roster, &mesh.by_node(3, &mesh.endpoint(3, 2, &[BLOCK])), NOW);
    assert_eq!(on(&roster, A, NOW), [(1, true, ClaimState::Live), (3, true, ClaimState::Live)]);
    assert_eq!(on(&roster, "10.91.128.6", NOW), [(3, true, ClaimState::Live)]);
    assert_eq!(on(&roster, "10.91.128.64", NOW), []);
    assert_eq!(on(&roster, "10.91.128.0/24", NOW).len(), 2);
    assert_eq!(on(&roster, &mesh.cert(0, 1).ipv4().to_string(), NOW), [(1, false, ClaimState::Live)]);
    // Given back, over, or its node lost: it rests.
    assert_new(&mut roster, &mesh.by_node(1, &withdrawn(&claim)), NOW);
    let rests = |until| (1, true, ClaimState::Rests { until });
    assert_eq!(on(&roster, A, NOW.plus(60))[0], (3, true, ClaimState::Live));
    assert_eq!(on(&roster, A, NOW.plus(60))[1], rests(NOW.plus(60)));
    assert_eq!(on(&roster, A, NOW.plus(61)), [(3, true, ClaimState::Live)]);
    let end = NOW.plus(8 * DAY_S);
    let over = on(&roster, "10.91.128.9", NOW.plus(DAY_S + 1));
    assert_eq!(over, [(3, true, ClaimState::Rests { until: end })]);
    assert_eq!(on(&roster, "10.91.128.9", end.plus(1)), []);
}
