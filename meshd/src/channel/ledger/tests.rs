use meshd_wire::NodeId;

use super::*;

fn slot(number: u8) -> Slot {
    Slot::Peer(NodeId([number; 32]))
}

fn digest(content: &str) -> RecordDigest {
    RecordDigest::of(content.as_bytes())
}

#[test]
fn what_differs_is_asked_for_once() {
    let mut ledger = Ledger::default();
    ledger.they_have(slot(1), digest("same"), Some(digest("same")));
    ledger.they_have(slot(2), digest("new"), Some(digest("old")));
    ledger.they_have(slot(3), digest("new"), None);
    assert_eq!(ledger.take_lacking(9), [slot(2), slot(3)]);
    assert!(ledger.take_lacking(9).is_empty());
}

#[test]
fn only_what_stands_here_is_owed() {
    let mut ledger = Ledger::default();
    ledger.they_want(slot(1), None);
    ledger.they_want(slot(2), Some(digest("own")));
    ledger.they_want(slot(2), Some(digest("own")));
    assert_eq!(ledger.next_owed(), Some(slot(2)));
    assert_eq!(ledger.next_owed(), None);
}

#[test]
fn what_came_from_the_other_end_does_not_go_back() {
    let mut ledger = Ledger::default();
    ledger.came(slot(1), digest("theirs"));
    ledger.changed(slot(1), Some(digest("theirs")));
    assert_eq!(ledger.next_owed(), None);
    ledger.changed(slot(1), Some(digest("newer")));
    assert_eq!(ledger.next_owed(), Some(slot(1)));
    ledger.changed(slot(2), None);
    assert_eq!(ledger.next_owed(), None);
}

#[test]
fn what_they_have_by_now_is_owed_no_more() {
    let mut ledger = Ledger::default();
    ledger.changed(slot(1), Some(digest("new")));
    ledger.they_have(slot(1), digest("new"), Some(digest("new")));
    assert_eq!(ledger.next_owed(), None);
}

#[test]
fn what_has_come_is_asked_for_no_more() {
    let mut ledger = Ledger::default();
    ledger.they_have(slot(1), digest("new"), None);
    ledger.came(slot(1), digest("new"));
    assert!(ledger.take_lacking(9).is_empty());
}

#[test]
fn a_wish_outlives_that_something_older_is_sent() {
    let mut ledger = Ledger::default();
    ledger.they_have(slot(1), digest("new"), Some(digest("old")));
    ledger.sent(slot(1), digest("old"));
    assert!(ledger.is_theirs(&slot(1), digest("new")));
    assert_eq!(ledger.take_lacking(9), [slot(1)]);
}

#[test]
fn what_was_refused_is_wanted_again_and_what_was_taken_is_not() {
    let mut ledger = Ledger::default();
    ledger.came(slot(1), digest("refused"));
    ledger.came(slot(2), digest("taken"));
    ledger.sent(slot(3), digest("own"));
    ledger.look_again(|place| {
        (*place != slot(1)).then_some(digest(if *place == slot(2) { "taken" } else { "own" }))
    });
    assert_eq!(ledger.take_lacking(9), [slot(1)]);
}

#[test]
fn a_flood_of_places_ends_at_the_limit() {
    let mut ledger = Ledger::default();
    let places = (0..PLACES_MAX as u32 + 10).map(|number| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Slot::Peer(NodeId(id))
    });
    for place in places {
        ledger.they_have(place, digest("x"), None);
    }
    assert_eq!(ledger.take_lacking(usize::MAX).len(), PLACES_MAX);
    ledger.they_have(slot(0), digest("y"), None);
    assert_eq!(ledger.take_lacking(9), [slot(0)], "one that is remembered may change");
}
