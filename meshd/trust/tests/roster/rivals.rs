//! Keys and ids are public, so an organisation can put those of another's nodes into its own certificates.

use meshd_trust::{Change, Roster, Standing};
use meshd_wire::PeerBundle;
use meshd_wire::record::{NodeCert, NodeKeys};

use crate::fixture::{NOW, TestMesh, assert_new, node_id};

/// Roster of a node of the first organisation, which heard another organisation first.
fn heard_thief_first(mesh: &TestMesh, theft: impl FnOnce(&mut NodeCert, &mut NodeKeys)) -> Roster {
    let mut roster = mesh.founded();
    let (mut cert, mut keys) = (mesh.cert(1, 2), mesh.keys(2, 1));
    theft(&mut cert, &mut keys);
    assert_new(&mut roster, &mesh.by_steward(1, &cert), NOW);
    if keys.node == cert.node && cert.identity == mesh.cert(1, 2).identity {
        assert_new(&mut roster, &mesh.by_node(2, &keys), NOW);
    }
    roster
}

#[test]
fn no_other_organisation_keeps_a_node_of_the_own_one_out() {
    let mesh = TestMesh::new(2);
    let own = mesh.cert(0, 1);
    let thefts: [fn(&TestMesh, &mut NodeCert, &mut NodeKeys); 3] = [
        |mesh, cert, _| cert.transport = mesh.cert(0, 1).transport,
        |mesh, _, keys| keys.cur.key = mesh.keys(1, 1).cur.key,
        |mesh, cert, _| {
            (cert.node, cert.identity, cert.serial) = (node_id(1), mesh.cert(0, 1).identity, u64::MAX);
            cert.addr6 = mesh.cert(1, 1).addr6;
        },
    ];
    for (number, theft) in thefts.into_iter().enumerate() {
        let mut roster = heard_thief_first(&mesh, |cert, keys| theft(&mesh, cert, keys));
        let bundle = PeerBundle::new(mesh.by_steward(0, &own), mesh.by_node(1, &mesh.keys(1, 1)));
        let changes = roster.accept_bundle(&bundle.to_bytes(), NOW);
        assert_eq!(changes, Ok(vec![Change::Cert(node_id(1)), Change::Keys(node_id(1))]), "theft {number}");
        assert_eq!(roster.standing(&node_id(1), NOW), Standing::InForce, "theft {number}");
        assert_eq!(roster.node(&node_id(1)).expect("held").org(), mesh.orgs[0].id);
        let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
        assert_eq!(restored.to_bytes(), roster.to_bytes());

        // The thief does not get it back.
        let (mut cert, mut keys) = (mesh.cert(1, 2), mesh.keys(2, 1));
        theft(&mesh, &mut cert, &mut keys);
        roster.accept_all(&[mesh.by_steward(1, &cert), mesh.by_node(2, &keys)], NOW);
        assert_eq!(roster.standing(&node_id(1), NOW), Standing::InForce, "theft {number}");
        assert_eq!(roster.node(&node_id(1)).expect("held").org(), mesh.orgs[0].id);
    }
}
