//! Versions only move forward, and one version has one content.

use meshd_trust::{Accepted, sign};
use meshd_wire::RecordId;
use meshd_wire::record::{EpochKey, Roles};

use crate::fixture::{
    DAY_S, NO_MESH, NOW, TestMesh, ago, assert_new, assert_refused, key, root_record, tunnel_key,
};

#[test]
fn a_replayed_certificate_is_refused() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let first = mesh.cert(0, 1);
    let mut renewed = first.clone();
    renewed.serial += 1;
    assert_new(&mut roster, &mesh.by_steward(0, &first), NOW);
    assert_new(&mut roster, &mesh.by_steward(0, &renewed), NOW);
    assert_refused(&mut roster, &mesh.by_steward(0, &first), NOW, "stale");
    let mut other = renewed.clone();
    other.name = "other".into();
    assert_refused(&mut roster, &mesh.by_steward(0, &other), NOW, "equivocation");
    assert_eq!(roster.accept(&mesh.by_steward(0, &renewed), NOW), Ok(Accepted::Known));
}

#[test]
fn replayed_keys_and_paths_are_refused() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    let mut keys = mesh.keys(1, 2);
    keys.cur = EpochKey { epoch: 4, key: tunnel_key(40), since: NOW };
    assert_new(&mut roster, &mesh.by_node(1, &keys), NOW);
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.keys(1, 1)), NOW, "stale");
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.keys(1, 3)), NOW, "stale");
    let mut other = keys.clone();
    other.suites = 3;
    assert_refused(&mut roster, &mesh.by_node(1, &other), NOW, "equivocation");
    (other.seq, other.cur.key) = (3, tunnel_key(41));
    assert_refused(&mut roster, &mesh.by_node(1, &other), NOW, "equivocation");

    assert_new(&mut roster, &mesh.by_node(1, &mesh.paths(1, 2)), NOW);
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.paths(1, 1)), NOW, "stale");
    let mut other = mesh.paths(1, 2);
    other.control_port = None;
    assert_refused(&mut roster, &mesh.by_node(1, &other), NOW, "equivocation");
}

#[test]
fn marks_outlive_the_records_they_came_from() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let mut renewed = mesh.cert(0, 1);
    renewed.serial = 50;
    assert_new(&mut roster, &mesh.by_steward(0, &renewed), NOW);
    assert_new(&mut roster, &mesh.by_node(1, &mesh.keys(1, 7)), NOW);
    assert_new(&mut roster, &mesh.by_node(1, &mesh.paths(1, 7)), NOW);
    assert_new(
        &mut roster,
        &mesh.by_steward(0, &mesh.state(0, 2, NOW.plus(30 * DAY_S))),
        NOW.plus(30 * DAY_S),
    );
    roster.forget_expired(NOW.plus(30 * DAY_S));
    assert_eq!(roster.nodes().count(), 0);
    let bytes = roster.to_bytes();
    let mut roster = meshd_trust::Roster::from_bytes(&bytes, mesh.id, NOW).expect("its own bytes");
    assert_refused(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 1)), NOW, "stale");
    assert_new(&mut roster, &mesh.by_steward(0, &renewed), NOW);
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.keys(1, 6)), NOW, "stale");
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.paths(1, 6)), NOW, "stale");
    assert_new(&mut roster, &mesh.by_node(1, &mesh.keys(1, 7)), NOW);
}

#[test]
fn states_and_revocations_only_move_forward() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.state(0, 3, NOW)), NOW);
    assert_refused(&mut roster, &mesh.by_steward(0, &mesh.state(0, 2, NOW)), NOW, "stale");
    assert_refused(&mut roster, &mesh.by_steward(0, &mesh.state(0, 3, ago(1))), NOW, "equivocation");
    let future = mesh.state(0, 4, NOW.plus(301));
    assert_refused(&mut roster, &mesh.by_steward(0, &future), NOW, "future");

    assert_new(&mut roster, &mesh.by_steward(0, &mesh.revocations(0, 3, &[])), NOW);
    assert_refused(&mut roster, &mesh.by_steward(0, &mesh.revocations(0, 2, &[])), NOW, "stale");
    let mut other = mesh.revocations(0, 3, &[]);
    other.certs = vec![4];
    assert_refused(&mut roster, &mesh.by_steward(0, &other), NOW, "equivocation");
    (other.n, other.issued_at) = (4, NOW.plus(301));
    assert_refused(&mut roster, &mesh.by_steward(0, &other), NOW, "future");
    (other.issued_at, other.certs) = (NOW, vec![4, 3]);
    assert_refused(&mut roster, &mesh.by_steward(0, &other), NOW, "invalid");
}

#[test]
fn states_and_revocations_need_their_roles() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    let clerk = key("clerk", 0);
    let mut delegation = mesh.delegation(0);
    (delegation.serial, delegation.record_key) = (2, clerk.public());
    delegation.roles = Roles::ENROL;
    assert_new(&mut roster, &mesh.by_root(0, &delegation), NOW);
    let state = mesh.state(0, 2, NOW);
    let revocations = mesh.revocations(0, 1, &[]);
    assert_refused(&mut roster, &sign(&state, &mesh.id, &[&clerk]).to_bytes(), NOW, "wrong-role");
    assert_refused(&mut roster, &sign(&revocations, &mesh.id, &[&clerk]).to_bytes(), NOW, "wrong-role");
    assert_refused(&mut roster, &mesh.by_steward(1, &state), NOW, "unknown-signer");
    assert_refused(&mut roster, &mesh.by_steward(1, &revocations), NOW, "unknown-signer");
    assert_refused(&mut roster, &mesh.by_root(0, &state), NOW, "unknown-signer");
    // The root may always revoke.
    assert_new(&mut roster, &mesh.by_root(0, &revocations), NOW);
}

#[test]
fn there_is_one_head_the_last_that_the_root_named() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let heir = key("heir", 0);
    let mut delegation = mesh.delegation(0);
    (delegation.serial, delegation.record_key) = (2, heir.public());
    assert_new(&mut roster, &mesh.by_root(0, &delegation), NOW);
    let state = mesh.state(0, 2, NOW);
    assert_refused(&mut roster, &mesh.by_steward(0, &state), NOW, "wrong-role");
    assert_new(&mut roster, &sign(&state, &mesh.id, &[&heir]).to_bytes(), NOW);
}

#[test]
fn a_new_root_version_outranks_an_inflated_count_and_drops_the_thief() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.state(0, u64::MAX, NOW)), NOW);
    let root_key = &mesh.orgs[0].root_key;
    let mut root = root_record("org 0", 2, &[root_key], 1);
    root.prev = Some(RecordId(mesh.orgs[0].id.0));
    assert_new(&mut roster, &sign(&root, &NO_MESH, &[root_key]).to_bytes(), NOW);
    let heir = key("heir", 0);
    let mut delegation = mesh.delegation(0);
    (delegation.root_version, delegation.record_key) = (2, heir.public());
    assert_new(&mut roster, &mesh.by_root(0, &delegation), NOW);
    let mut state = mesh.state(0, 1, NOW);
    state.root_version = 2;
    assert_refused(&mut roster, &mesh.by_steward(0, &state), NOW, "unknown-signer");
    assert_new(&mut roster, &sign(&state, &mesh.id, &[&heir]).to_bytes(), NOW);
    assert_refused(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 2)), NOW, "unknown-signer");
    assert_eq!(roster.standing(&crate::fixture::node_id(1), NOW), meshd_trust::Standing::StewardGone);
    // What the thief signed before is still readable after a restart, and still out.
    let restored = meshd_trust::Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("own bytes");
    assert_eq!(restored.to_bytes(), roster.to_bytes());
}
