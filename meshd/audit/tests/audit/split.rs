//! A log that shows two faces.

use meshd_audit::{Chain, Files, Held, compare, gather};
use meshd_trust::log::Note;

use crate::made::{Dir, Mesh, PERIOD};

#[test]
fn views_that_follow_from_each_other_are_no_evidence() {
    let (early, late) = views(|mesh| mesh.now += 0);
    let view = compare_dirs(&early, &late);
    assert!(view.evidence.is_empty() && view.unproven.is_empty(), "{view:?}");
    assert!(view.notes > 2);
}

#[test]
fn two_trees_of_one_size_are_evidence() {
    let base = base();
    let (mut one, mut other) = (base.clone(), base);
    one.renew(0);
    other.now += 1;
    other.renew(0);
    one.checkpoint();
    other.checkpoint();
    let view = compare_dirs(&one, &other);
    assert_eq!(view.evidence.len(), 1, "{view:?}");
    let evidence = &view.evidence[0];
    assert_eq!(evidence.one.size, evidence.other.size);
    let text = evidence.to_text();
    let mut rest = text.strip_prefix("meshd-evidence 1\n").expect("a head");
    for _ in 0..2 {
        let (length, after) =
            rest.strip_prefix("note ").and_then(|rest| rest.split_once('\n')).expect("a length");
        let (note, after) = after.split_at(length.parse().expect("a number"));
        assert!(Note::from_bytes(note.as_bytes()).is_ok());
        rest = after;
    }
    assert_eq!(rest, "");
}

#[test]
fn a_larger_tree_that_does_not_hold_the_smaller_is_evidence() {
    let base = base();
    let (mut one, mut other) = (base.clone(), base);
    one.renew(0);
    one.checkpoint();
    other.now += PERIOD / 2;
    other.renew(1);
    other.renew(0);
    other.checkpoint();
    let view = compare_dirs(&one, &other);
    assert!(!view.evidence.is_empty(), "{view:?}");
    assert!(view.evidence.iter().all(|evidence| evidence.one.size < evidence.other.size));
}

#[test]
fn a_checkpoint_whose_leaves_nobody_has_is_not_proven() {
    let (early, late) = views(|_| {});
    let dir = early.orgs[0].dir();
    let chain = Chain::read(&early.chain(), None).expect("a chain");
    let mut held = gather(&dir, &chain, early.orgs[0].id).expect("in memory");
    let (size, note) = late.orgs[0].notes.last_key_value().expect("a note");
    held.push(Held::of_note(note.as_bytes(), &chain).expect("signed"));
    let view = compare(&held, &[&dir as &dyn Files]).expect("in memory");
    assert_eq!((view.unproven, view.evidence.len()), (vec![*size], 0));
    let foreign = Mesh::lived(2, 1);
    let note = foreign.orgs[0].notes.values().next().expect("a note");
    assert!(Held::of_note(note.as_bytes(), &chain).is_none(), "nobody of this mesh signed it");
}

fn base() -> Mesh {
    let mut mesh = Mesh::new("care", 1);
    mesh.enrol("scanner", 0);
    mesh.enrol("archive", 0);
    mesh.checkpoint();
    mesh
}

fn views(change: impl Fn(&mut Mesh)) -> (Mesh, Mesh) {
    let early = base();
    let mut late = early.clone();
    change(&mut late);
    late.renew(0);
    late.checkpoint();
    (early, late)
}

fn compare_dirs(one: &Mesh, other: &Mesh) -> meshd_audit::SplitView {
    let chain = Chain::read(&one.chain(), None).expect("a chain");
    let dirs: Vec<Dir> = [one, other].iter().map(|mesh| mesh.orgs[0].dir()).collect();
    let mut held = Vec::new();
    for dir in &dirs {
        held.extend(gather(dir, &chain, one.orgs[0].id).expect("in memory"));
    }
    compare(&held, &dirs.iter().map(|dir| dir as &dyn Files).collect::<Vec<_>>()).expect("in memory")
}
