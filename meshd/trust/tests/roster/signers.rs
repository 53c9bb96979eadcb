//! Whose signature counts on what, and when.

use meshd_trust::sign;

use crate::fixture::{DAY_S, NOW, TestMesh, ago, assert_new, assert_refused, key};

#[test]
fn two_stewards_do_not_sign_one_record() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let deputy = key("deputy", 0);
    let mut delegation = mesh.delegation(0);
    (delegation.serial, delegation.record_key) = (2, deputy.public());
    assert_new(&mut roster, &mesh.by_root(0, &delegation), NOW);
    let revocations = mesh.revocations(0, 1, &[]);
    let by_both = sign(&revocations, &mesh.id, &[&mesh.orgs[0].steward_key, &deputy]);
    assert_refused(&mut roster, &by_both.to_bytes(), NOW, "invalid");
    // Either alone may.
    assert_new(&mut roster, &sign(&revocations, &mesh.id, &[&deputy]).to_bytes(), NOW);
    assert_new(&mut roster, &mesh.by_steward(0, &mesh.revocations(0, 2, &[])), NOW);
}

#[test]
fn a_steward_does_not_sign_before_its_delegation_begins() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    // The delegation came in time, and then the clock was set back to before it began.
    let begin = mesh.delegation(0).not_before;
    let early = ago(DAY_S + 301);
    let mut revocations = mesh.revocations(0, 1, &[]);
    revocations.issued_at = early;
    assert_refused(&mut roster, &mesh.by_steward(0, &revocations), early, "future");
    let mut state = mesh.state(0, 2, early);
    assert_refused(&mut roster, &mesh.by_steward(0, &state), early, "future");
    state.issued_at = begin;
    assert_new(&mut roster, &mesh.by_steward(0, &state), begin);
}
