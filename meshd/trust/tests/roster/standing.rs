//! Whether a node counts, and why not.

use meshd_trust::{Freshness, Roster, Standing};

use crate::fixture::{DAY_S, NOW, TestMesh, ago, assert_new, assert_refused, node_id};

const HARD_S: u64 = 86_400;

/// Two organisations with one node each: node 1 of the first, node 2 of the second.
fn populated(mesh: &TestMesh) -> Roster {
    let mut roster = mesh.founded();
    for records in [mesh.node_records(0, 1), mesh.node_records(1, 2)] {
        assert_eq!(roster.accept_all(&records, NOW), []);
    }
    roster
}

#[test]
fn a_revoked_node_is_out_and_says_nothing_more() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    // Another organisation's word changes nothing.
    assert_new(&mut roster, &mesh.by_steward(1, &mesh.revocations(1, 1, &[node_id(1)])), NOW);
    assert_eq!(roster.standing(&node_id(1), NOW), Standing::InForce);
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.revocations(0, 1, &[node_id(1)])), NOW);
    assert_eq!(roster.standing(&node_id(1), NOW), Standing::Revoked);
    assert_eq!(roster.standing(&node_id(2), NOW), Standing::InForce);
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.keys(1, 2)), NOW, "revoked");
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.paths(1, 2)), NOW, "revoked");
    let mut renewed = mesh.cert(0, 1);
    renewed.serial = 50;
    assert_refused(&mut roster, &mesh.by_steward(0, &renewed), NOW, "revoked");
    let transport = renewed.transport;
    assert_eq!(roster.holder_of_transport(&transport, NOW), None);
    let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).expect("its own bytes");
    assert_eq!(restored.standing(&node_id(1), NOW), Standing::Revoked);
}

#[test]
fn a_certificate_is_judged_without_a_trace() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    let before = roster.to_bytes();
    let cert = mesh.by_steward(0, &mesh.cert(0, 1));
    assert_eq!(roster.judge_cert(&cert, NOW), Ok(mesh.cert(0, 1)));
    let forged = mesh.by_steward(1, &mesh.cert(0, 1));
    assert_eq!(roster.judge_cert(&forged, NOW).map_err(|refusal| refusal.reason()), Err("unknown-signer"));
    assert_eq!(roster.to_bytes(), before);
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.revocations(0, 1, &[node_id(1)])), NOW);
    assert_eq!(roster.judge_cert(&cert, NOW).map_err(|refusal| refusal.reason()), Err("revoked"));
}

#[test]
fn a_revoked_serial_is_out_until_it_is_replaced() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    let mut revocations = mesh.revocations(0, 1, &[]);
    revocations.certs = vec![mesh.cert(0, 1).serial];
    assert_new(&mut roster, &mesh.by_steward(0, &revocations), NOW);
    assert_eq!(roster.standing(&node_id(1), NOW), Standing::Revoked);
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.keys(1, 2)), NOW, "revoked");
    let mut renewed = mesh.cert(0, 1);
    renewed.serial = 50;
    assert_new(&mut roster, &mesh.by_steward(0, &renewed), NOW);
    assert_eq!(roster.standing(&node_id(1), NOW), Standing::InForce);
}

#[test]
fn a_steward_stays_its_organisations_when_another_names_its_key() {
    let mesh = TestMesh::new(2);
    for thief in [0, 1] {
        let mut roster = mesh.founded();
        let mut copied = mesh.delegation(thief);
        copied.serial = 2;
        copied.tls_key = mesh.delegation(1 - thief).tls_key;
        assert_new(&mut roster, &mesh.by_root(thief, &copied), NOW);
        assert!(roster.is_steward_tls(&mesh.orgs[1 - thief].id, &copied.tls_key, NOW));
    }
}

#[test]
fn either_organisation_severs_both() {
    for severing in [0, 1] {
        let mesh = TestMesh::new(2);
        let mut roster = populated(&mesh);
        let mut revocations = mesh.revocations(severing, 1, &[]);
        revocations.severed = vec![mesh.orgs[1 - severing].id];
        assert_new(&mut roster, &mesh.by_steward(severing, &revocations), NOW);
        // The roster belongs to a node of the first organisation.
        assert_eq!(roster.standing(&node_id(1), NOW), Standing::InForce);
        assert_eq!(roster.standing(&node_id(2), NOW), Standing::Severed);
    }
}

#[test]
fn an_organisation_that_is_silent_too_long_is_cut() {
    let mesh = TestMesh::new(2);
    let mut roster = populated(&mesh);
    let fresh = mesh.state(1, 2, NOW.plus(600));
    assert_new(&mut roster, &mesh.by_steward(1, &fresh), NOW.plus(600));
    let freshness =
        |roster: &Roster, after| roster.org(&mesh.orgs[0].id).expect("a founder").freshness(NOW.plus(after));
    assert_eq!(freshness(&roster, 900), Freshness::Fresh);
    assert_eq!(freshness(&roster, 901), Freshness::Stale);
    assert_eq!(freshness(&roster, HARD_S), Freshness::Stale);
    assert_eq!(roster.standing(&node_id(1), NOW.plus(HARD_S)), Standing::InForce);
    assert_eq!(freshness(&roster, HARD_S + 1), Freshness::Expired);
    assert_eq!(roster.standing(&node_id(1), NOW.plus(HARD_S + 1)), Standing::OrgStale);
    assert_eq!(roster.standing(&node_id(2), NOW.plus(HARD_S + 1)), Standing::InForce);
}

#[test]
fn an_organisation_never_heard_is_not_fresh() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.roster();
    assert_eq!(roster.accept_all(&mesh.chain()[..3], NOW), []);
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    assert_eq!(roster.standing(&node_id(1), NOW), Standing::OrgStale);
}

#[test]
fn a_withheld_component_counts_like_a_missing_state() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let revocations = mesh.revocations(0, 1, &[]);
    let state = mesh.naming(mesh.state(0, 2, NOW.plus(1000)), &revocations);
    let later = NOW.plus(1000);
    assert_new(&mut roster, &mesh.by_steward(0, &state), later);
    let freshness = |roster: &Roster| roster.org(&mesh.orgs[0].id).expect("a founder").freshness(later);
    assert_eq!(freshness(&roster), Freshness::Stale);
    let restored = Roster::from_bytes(&roster.to_bytes(), mesh.id, later).expect("its own bytes");
    assert_eq!((freshness(&restored), restored.to_bytes()), (Freshness::Stale, roster.to_bytes()));
    assert_new(&mut roster, &mesh.by_steward(0, &revocations), later);
    assert_eq!(freshness(&roster), Freshness::Fresh);

    // Other content under the number that the state names does not complete it.
    let mut roster = mesh.founded();
    assert_new(&mut roster, &mesh.by_steward(0, &state), later);
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.revocations(0, 1, &[node_id(8)])), later);
    assert_eq!(freshness(&roster), Freshness::Stale);
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.revocations(0, 2, &[])), later);
    assert_eq!(freshness(&roster), Freshness::Fresh);
}

#[test]
fn certificates_and_keys_end() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 1)), NOW);
    assert_eq!(roster.standing(&node_id(1), NOW), Standing::NoKeys);
    assert_new(&mut roster, &mesh.by_node(1, &mesh.keys(1, 1)), NOW);
    let states = [(1, NOW.plus(172_801)), (2, NOW.plus(8 * DAY_S))];
    for ((seq, at), standing) in states.into_iter().zip([Standing::KeysExpired, Standing::Expired]) {
        assert_new(&mut roster, &mesh.by_steward(0, &mesh.state(0, seq + 1, at)), at);
        assert_eq!(roster.standing(&node_id(1), at), standing);
    }
    assert_eq!(roster.standing(&node_id(1), ago(DAY_S)), Standing::NotYetValid);
    assert_eq!(roster.standing(&node_id(1), NOW), Standing::InForce);
    let late = NOW.plus(8 * DAY_S);
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.keys(1, 2)), late, "expired");
    assert_refused(&mut roster, &mesh.by_node(1, &mesh.paths(1, 2)), late, "expired");
}

#[test]
fn an_agreement_ends() {
    let mesh = TestMesh::with_terms(1, |genesis| genesis.agreement.not_after = NOW.plus(60));
    let mut roster = mesh.founded();
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    assert_eq!(roster.standing(&node_id(1), NOW.plus(60)), Standing::InForce);
    assert_eq!(roster.standing(&node_id(1), NOW.plus(61)), Standing::AgreementOver);
}
