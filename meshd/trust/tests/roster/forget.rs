//! What is dropped when it is long over, and what must not be.

use crate::fixture::{DAY_S, NOW, TestMesh, assert_new, assert_refused};

#[test]
fn a_clock_that_ran_ahead_costs_nothing() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    let before = roster.to_bytes();
    let ahead = NOW.plus(10 * 365 * DAY_S);
    roster.forget_expired(ahead);
    assert_eq!(roster.to_bytes(), before);
    let restored = meshd_trust::Roster::from_bytes(&before, mesh.id, ahead).expect("its own bytes");
    assert_eq!(restored.to_bytes(), before);
    // Another organisation's word is no clock of ours.
    let late = NOW.plus(60 * DAY_S);
    assert_new(&mut roster, &mesh.by_steward(1, &mesh.state(1, 2, late)), late);
    roster.forget_expired(late);
    assert_eq!(roster.nodes().count(), 1);
}

#[test]
fn marks_of_a_node_that_is_long_gone_make_room() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let empty = roster.to_bytes().len();
    assert_eq!(roster.accept_all(&mesh.node_records(0, 1), NOW), []);
    for (seq, days) in [(2, 30), (3, 60)] {
        let at = NOW.plus(days * DAY_S);
        assert_new(&mut roster, &mesh.by_steward(0, &mesh.state(0, seq, at)), at);
        roster.forget_expired(at);
        let has_marks = days == 30;
        assert_eq!(roster.to_bytes().len() > empty + 64, has_marks, "after {days} days");
    }
    let late = NOW.plus(60 * DAY_S);
    assert_refused(&mut roster, &mesh.by_steward(0, &mesh.cert(0, 1)), late, "expired");
}
