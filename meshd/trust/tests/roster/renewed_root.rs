//! What a new version of an organisation's root changes, and what it leaves alone.

use meshd_trust::{SigningKey, Standing, sign};
use meshd_wire::RecordId;
use meshd_wire::record::StewardDelegation;

use crate::fixture::{DAY_S, NO_MESH, NOW, TestMesh, assert_new, assert_refused, key, node_id, root_record};

/// The second root of an organisation, held by another key.
fn renewed(mesh: &TestMesh, org: usize, to: &SigningKey) -> Vec<u8> {
    let mut root = root_record(&mesh.orgs[org].root.name, 2, &[to], 1);
    root.prev = Some(RecordId(mesh.orgs[org].id.0));
    sign(&root, &NO_MESH, &[&mesh.orgs[org].root_key, to]).to_bytes()
}

/// The first delegation under the second root.
fn second_delegation(mesh: &TestMesh, org: usize) -> StewardDelegation {
    let mut delegation = mesh.delegation(org);
    delegation.root_version = 2;
    delegation
}

#[test]
fn a_replaced_root_revokes_nothing() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let new_key = key("new root", 0);
    assert_new(&mut roster, &renewed(&mesh, 0, &new_key), NOW);
    let mut revocations = mesh.revocations(0, 1, &[node_id(1)]);
    assert_refused(&mut roster, &mesh.by_root(0, &revocations), NOW, "unknown-signer");
    revocations.root_version = 2;
    assert_refused(&mut roster, &mesh.by_root(0, &revocations), NOW, "unknown-signer");
    assert_new(&mut roster, &sign(&revocations, &mesh.id, &[&new_key]).to_bytes(), NOW);
}

#[test]
fn a_revoked_serial_is_free_again_under_a_later_root() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let mut cert = mesh.cert(0, 1);
    let mut revocations = mesh.revocations(0, 1, &[]);
    revocations.certs = vec![cert.serial];
    assert_new(&mut roster, &mesh.by_steward(0, &revocations), NOW);
    assert_refused(&mut roster, &mesh.by_steward(0, &cert), NOW, "revoked");
    let new_key = key("new root", 0);
    assert_new(&mut roster, &renewed(&mesh, 0, &new_key), NOW);
    let delegation = second_delegation(&mesh, 0);
    assert_new(&mut roster, &sign(&delegation, &mesh.id, &[&new_key]).to_bytes(), NOW);
    cert.root_version = 2;
    assert_new(&mut roster, &mesh.by_steward(0, &cert), NOW);
    assert_new(&mut roster, &mesh.by_node(1, &mesh.keys(1, 1)), NOW);
    assert_eq!(roster.standing(&node_id(1), NOW), Standing::InForce);
}

#[test]
fn a_replaced_steward_stays_out_when_its_successor_is_long_over() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    let (new_key, heir) = (key("new root", 1), key("heir", 1));
    assert_new(&mut roster, &renewed(&mesh, 1, &new_key), NOW);
    let mut delegation = second_delegation(&mesh, 1);
    (delegation.record_key, delegation.not_after) = (heir.public(), NOW.plus(DAY_S));
    assert_new(&mut roster, &sign(&delegation, &mesh.id, &[&new_key]).to_bytes(), NOW);
    let late = NOW.plus(30 * DAY_S);
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.state(0, 2, late)), late);
    roster.forget_expired(late);
    assert_refused(&mut roster, &mesh.by_steward(1, &mesh.state(1, 2, late)), late, "unknown-signer");
}
