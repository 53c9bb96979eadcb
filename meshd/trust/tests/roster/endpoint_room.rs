//! How many endpoints are remembered, for how long, and in which order their records count.

use meshd_trust::{Accepted, Roster};
use meshd_wire::Timestamp;
use meshd_wire::record::Endpoint;

use crate::fixture::{DAY_S, NOW, TestMesh, assert_new, assert_refused, endpoint_id, node_id};

const NODE_MAX: u16 = 4096;

fn with_node(mesh: &TestMesh) -> Roster {
    let mut roster = mesh.founded();
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    roster
}

fn claim(mesh: &TestMesh, endpoint: u16) -> Endpoint {
    let [high, low] = endpoint.to_be_bytes();
    mesh.endpoint(1, endpoint, &[&format!("10.90.{}.{low}", 64 + high)])
}

/// Lets the own organisation say that it is some time.
fn hear(mesh: &TestMesh, roster: &mut Roster, seq: u64, at: Timestamp) {
    assert_new(roster, &mesh.by_steward(0, &mesh.state(0, seq, at)), at);
}

#[test]
fn replayed_records_of_an_endpoint_are_refused() {
    let mesh = TestMesh::new(1);
    let mut roster = with_node(&mesh);
    let first = claim(&mesh, 1);
    let second = Endpoint { seq: 2, ..first.clone() };
    assert_new(&mut roster, &mesh.by_node(1, &second), NOW);
    assert_refused(&mut roster, &mesh.by_node(1, &first), NOW, "stale");
    let other = Endpoint { name: Some("other".into()), ..second.clone() };
    assert_refused(&mut roster, &mesh.by_node(1, &other), NOW, "equivocation");
    let end = mesh.by_node(1, &Endpoint { seq: 3, withdrawn: true, ..first.clone() });
    assert_new(&mut roster, &end, NOW);
    assert_eq!(roster.accept(&end, NOW), Ok(Accepted::Known));
    // Its mark stays when it is forgotten.
    roster.forget_expired(NOW.plus(60));
    assert!(roster.endpoint(&node_id(1), &endpoint_id(1)).is_some());
    roster.forget_expired(NOW.plus(61));
    assert!(roster.endpoint(&node_id(1), &endpoint_id(1)).is_none());
    for record in [&first, &second] {
        assert_refused(&mut roster, &mesh.by_node(1, record), NOW, "stale");
    }
    assert_eq!(roster.accept(&end, NOW), Ok(Accepted::Known));
    assert_eq!(roster.endpoint_seq(&node_id(1), &endpoint_id(1)), Some(3));
    assert_new(&mut roster, &mesh.by_node(1, &Endpoint { seq: 4, ..first }), NOW);
}

#[test]
fn what_was_given_back_is_read_from_the_file_and_rests() {
    let mesh = TestMesh::new(1);
    let mut roster = with_node(&mesh);
    let end = Endpoint { withdrawn: true, ..claim(&mesh, 1) };
    assert_new(&mut roster, &mesh.by_node(1, &end), NOW);
    let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
    assert_eq!(restored.to_bytes(), roster.to_bytes());
    let (addr, len) = end.prefixes().next().expect("an address");
    assert_eq!(restored.claims_on(addr, len, NOW).len(), 1);
}

#[test]
fn a_claim_is_forgotten_a_week_after_its_end_and_its_mark_a_day_later() {
    let mesh = TestMesh::new(1);
    let mut roster = with_node(&mesh);
    let mut cert = mesh.cert(0, 1);
    let empty = roster.to_bytes().len();
    assert_new(&mut roster, &mesh.by_node(1, &claim(&mesh, 1)), NOW);
    // A wall clock alone costs nothing.
    let before = roster.to_bytes();
    roster.forget_expired(NOW.plus(100 * DAY_S));
    assert_eq!(roster.to_bytes(), before);
    for (seq, days, is_held, is_marked) in [(2, 8, true, true), (3, 9, false, false)] {
        let at = NOW.plus(days * DAY_S);
        hear(&mesh, &mut roster, seq, at);
        (cert.serial, cert.not_before, cert.not_after) = (100 + seq, at, at.plus(6 * DAY_S));
        assert_new(&mut roster, &mesh.by_steward(0, &cert), at);
        roster.forget_expired(at);
        assert_eq!(roster.endpoint(&node_id(1), &endpoint_id(1)).is_some(), is_held, "day {days}");
        assert_eq!(roster.endpoint_seq(&node_id(1), &endpoint_id(1)).is_some(), is_marked, "day {days}");
    }
    assert!(roster.to_bytes().len() < empty + 16);
}

#[test]
fn a_node_that_was_forgotten_holds_nothing_when_it_comes_back() {
    let mesh = TestMesh::new(1);
    let mut roster = with_node(&mesh);
    assert_new(&mut roster, &mesh.by_node(1, &claim(&mesh, 1)), NOW);
    let at = NOW.plus(30 * DAY_S);
    hear(&mesh, &mut roster, 2, at);
    roster.forget_expired(at);
    assert_eq!(roster.nodes().count(), 0);
    for number in [1, 2] {
        let mut cert = mesh.cert(0, number);
        (cert.serial, cert.not_before, cert.not_after) = (100 + number, at, at.plus(DAY_S));
        assert_new(&mut roster, &mesh.by_steward(0, &cert), at);
    }
    let elsewhere = Endpoint { issued_at: at, addresses: claim(&mesh, 2).addresses, ..claim(&mesh, 1) };
    assert_new(&mut roster, &mesh.by_node(1, &elsewhere), at);
    let taken_over = Endpoint { issued_at: at, node: node_id(2), ..claim(&mesh, 1) };
    assert_new(&mut roster, &mesh.by_node(2, &taken_over), at);
}

#[test]
fn a_node_has_so_many_endpoints_and_no_more() {
    let mesh = TestMesh::new(1);
    let mut roster = with_node(&mesh);
    for endpoint in 0..NODE_MAX {
        assert_new(&mut roster, &mesh.by_node(1, &claim(&mesh, endpoint)), NOW);
    }
    let one_more = mesh.by_node(1, &claim(&mesh, NODE_MAX));
    assert_refused(&mut roster, &one_more, NOW, "too-many");
    // Those there are can change and go; another node has room of its own.
    assert_new(&mut roster, &mesh.by_node(1, &Endpoint { seq: 2, ..claim(&mesh, 7) }), NOW);
    assert_eq!(roster.accept_all(&mesh.node_records(0, 2), NOW), []);
    assert_new(&mut roster, &mesh.by_node(2, &mesh.endpoint(2, 1, &["10.90.200.1"])), NOW);
    assert_new(&mut roster, &mesh.by_node(1, &Endpoint { seq: 2, withdrawn: true, ..claim(&mesh, 8) }), NOW);
    roster.forget_expired(NOW.plus(61));
    assert_new(&mut roster, &one_more, NOW);
}

#[test]
fn a_host_that_starts_and_stops_much_is_not_kept_from_it() {
    let mesh = TestMesh::new(1);
    let mut roster = with_node(&mesh);
    let kept = claim(&mesh, 0);
    assert_new(&mut roster, &mesh.by_node(1, &kept), NOW);
    for endpoint in 1..=2 * NODE_MAX {
        let mut gone = claim(&mesh, endpoint);
        // The first is the oldest, so its mark makes room.
        (gone.withdrawn, gone.issued_at) = (true, if endpoint == 1 { crate::fixture::ago(60) } else { NOW });
        assert_new(&mut roster, &mesh.by_node(1, &gone), NOW);
        if endpoint % 1024 == 0 {
            roster.forget_expired(NOW.plus(61));
        }
    }
    assert_eq!(roster.endpoint_seq(&node_id(1), &endpoint_id(0)), Some(1));
    assert_eq!(roster.endpoint_seq(&node_id(1), &endpoint_id(1)), None);
    assert_eq!(roster.endpoint_seq(&node_id(1), &endpoint_id(2)), Some(1));
}
