//! What honest members say is accepted, in any order, and survives a restart.

use meshd_trust::{Accepted, Change, Freshness, Roster, RosterFileError, Standing};
use meshd_wire::MeshId;

use crate::fixture::{NOW, TestMesh, key, node_id};

#[test]
fn accepts_a_chain_and_its_nodes() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    for records in [mesh.node_records(0, 1), mesh.node_records(1, 2)] {
        assert_eq!(roster.accept_all(&records, NOW), []);
    }
    assert_eq!(roster.nodes().count(), 2);
    assert_eq!(roster.standing(&node_id(1), NOW), Standing::InForce);
    assert_eq!(roster.standing(&node_id(2), NOW), Standing::InForce);
    assert_eq!(roster.standing(&node_id(3), NOW), Standing::Unknown);
    assert_eq!(roster.genesis(), Some(&mesh.genesis));
    let org = roster.org(&mesh.orgs[0].id).expect("a founder");
    assert_eq!((org.name(), org.freshness(NOW)), (mesh.orgs[0].root.name.as_str(), Freshness::Fresh));
    assert_eq!(roster.holder_of_transport(&key("transport", 1).public(), NOW), Some(node_id(1)));
    assert!(roster.is_steward_tls(&mesh.orgs[1].id, &key("tls", 1).public(), NOW));
    assert!(!roster.is_steward_tls(&mesh.orgs[0].id, &key("tls", 1).public(), NOW));
}

#[test]
fn a_newcomer_accepts_the_chain_and_bundles_of_another() {
    let mesh = TestMesh::new(2);
    let mut veteran = mesh.founded();
    assert_eq!(veteran.accept_all(&mesh.node_records(1, 1), NOW), []);

    let mut newcomer = mesh.roster();
    assert_eq!(newcomer.accept_all(&veteran.chain(), NOW), []);
    let bundle = veteran.bundle(&node_id(1)).expect("cert and keys").to_bytes();
    let changes = newcomer.accept_bundle(&bundle, NOW).expect("an honest bundle");
    assert_eq!(changes, [Change::Cert(node_id(1)), Change::Keys(node_id(1))]);
    assert_eq!(newcomer.accept_bundle(&bundle, NOW).expect("again"), []);
    let paths = veteran.paths_envelope(&node_id(1)).expect("paths");
    assert_eq!(newcomer.accept(paths, NOW), Ok(Accepted::New(Change::Paths(node_id(1)))));
    assert_eq!(newcomer.to_bytes(), veteran.to_bytes());
}

#[test]
fn survives_a_restart() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    let bytes = roster.to_bytes();
    let restored = Roster::from_bytes(&bytes, mesh.id, NOW).expect("its own bytes");
    assert_eq!(restored.to_bytes(), bytes);
    assert_eq!(restored.standing(&node_id(1), NOW), Standing::InForce);
}

#[test]
fn refuses_the_file_of_another_mesh() {
    let bytes = TestMesh::new(1).founded().to_bytes();
    let refusal = Roster::from_bytes(&bytes, MeshId([9; 32]), NOW).expect_err("another mesh");
    assert!(matches!(refusal, RosterFileError::OtherMesh { .. }), "{refusal}");
}
