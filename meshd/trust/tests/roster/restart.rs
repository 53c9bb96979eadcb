//! A roster's file: damaged bytes are an error, never a panic and never a forgotten mark.

use meshd_trust::{Roster, RosterFileError};

use crate::fixture::{NOW, TestMesh, assert_new, assert_refused, node_id};

fn file(mesh: &TestMesh) -> Vec<u8> {
    let mut roster = mesh.founded();
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    let revocations = mesh.by_steward(0, &mesh.revocations(0, 1, &[node_id(9)]));
    assert_eq!(roster.accept_all(&[revocations], NOW), []);
    roster.to_bytes()
}

#[test]
fn every_flipped_byte_is_an_error() {
    let mesh = TestMesh::new(1);
    let bytes = file(&mesh);
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            assert!(Roster::from_bytes(&damaged, mesh.id, NOW).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
}

#[test]
fn every_truncation_is_an_error() {
    let mesh = TestMesh::new(1);
    let bytes = file(&mesh);
    for len in 0..bytes.len() {
        assert!(Roster::from_bytes(&bytes[..len], mesh.id, NOW).is_err(), "{len} bytes");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Roster::from_bytes(&longer, mesh.id, NOW).is_err());
}

#[test]
fn a_forged_record_under_a_right_checksum_is_an_error() {
    use sha2::{Digest, Sha256};

    let mesh = TestMesh::new(1);
    let bytes = file(&mesh);
    let signature = &mesh.genesis_envelope.signatures()[0].bytes.0;
    let body = &bytes[..bytes.len() - 32];
    let at = body.windows(64).position(|window| window == signature).expect("the genesis's signature");
    let mut forged = body.to_vec();
    forged[at] ^= 1;
    let checksum = Sha256::digest(&forged);
    forged.extend_from_slice(&checksum);
    let error = Roster::from_bytes(&forged, mesh.id, NOW).expect_err("a forged record");
    assert!(matches!(error, RosterFileError::Record { .. }), "{error}");
}

#[test]
fn what_was_accepted_in_time_is_read_at_any_time() {
    let mesh = TestMesh::new(1);
    let bytes = file(&mesh);
    for now in [meshd_wire::Timestamp(0), NOW, NOW.plus(400 * 86_400), meshd_wire::Timestamp(u64::MAX)] {
        assert!(Roster::from_bytes(&bytes, mesh.id, now).is_ok(), "{now:?}");
    }
}

#[test]
fn a_certificate_outlives_a_change_of_its_stewards_label_namespace() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let mut cert = mesh.cert(0, 1);
    cert.labels = vec![meshd_wire::record::Label { key: "zone".into(), value: "b".into() }];
    assert_new(&mut roster, &mesh.by_steward(0, &cert), NOW);
    let mut narrower = mesh.delegation(0);
    narrower.serial = 2;
    narrower.label_namespace = "org.".into();
    assert_new(&mut roster, &mesh.by_root(0, &narrower), NOW);
    let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
    assert_eq!(restored.to_bytes(), roster.to_bytes());
    let mut next = mesh.cert(0, 2);
    next.labels = cert.labels;
    assert_refused(&mut roster, &mesh.by_steward(0, &next), NOW, "invalid");
}
