//! A log that grows, one that shows two faces, and one that shows nothing.

use std::collections::BTreeMap;

use meshd_trust::SigningKey;
use meshd_trust::log::{
    CheckpointKeys, Edge, LogOrigin, TileAddress, TileSource, TreeHash, prove_consistency, tree_head,
};
use meshd_wire::{MeshId, OrgId};

use super::*;

const ORIGIN: LogOrigin = LogOrigin { mesh: MeshId([1; 32]), org: OrgId([2; 32]) };
const DELAY: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_secs(10);

#[test]
fn a_larger_checkpoint_is_kept_once_the_log_has_shown_that_it_grew() {
    let (log, now) = (Tree::of("one", 0, 40), Instant::now());
    let mut view = LogView::default();
    assert_eq!(view.hear(log.seen(7), now, DELAY), Heard::First);
    assert_eq!(view.hear(log.seen(7), now, DELAY), Heard::Known);
    assert_eq!(view.question(now + DELAY, AGAIN), None, "there is nothing to ask");

    assert_eq!(view.hear(log.seen(20), now, DELAY), Heard::Unproven);
    assert_eq!(view.question(now, AGAIN), None, "not at the same moment as everybody");
    let asked = view.question(now + DELAY, AGAIN).expect("a question");
    assert_eq!((asked.0.head.size, asked.1.head.size), (7, 20));
    assert_eq!(view.question(now + DELAY + AGAIN, AGAIN), None, "one at a time");
    assert_eq!(view.on_told(asked.1, Some(log.told(7, 20)), now), Growth::Shown);
    assert_eq!(view.kept(), Some(&log.seen(20).note));
    assert_eq!(view.unproven_for(now), None);
    assert_eq!(view.hear(log.seen(5), now, DELAY), Heard::Known, "a smaller one is no news");
    assert_eq!(
        view.hear(Seen { head: TreeHead { size: 0, ..log.head(1) }, ..log.seen(1) }, now, DELAY),
        Heard::Known
    );
}

#[test]
fn a_first_checkpoint_that_was_made_up_hides_nothing() {
    let (log, now) = (Tree::of("one", 0, 40), Instant::now());
    let mut view = LogView::default();
    let head = TreeHead { size: 1 << 40, ..log.head(9) };
    let note = Checkpoint { origin: ORIGIN, head }.sign(&key());
    assert_eq!(view.hear(Seen { note, head }, now, DELAY), Heard::First);
    assert_eq!(view.hear(log.seen(7), now, DELAY), Heard::Unproven, "now there is something to ask");
    let (kept, asked) = view.question(now + DELAY, AGAIN).expect("a question");
    assert_eq!((kept.head.size, asked.head.size), (7, 1 << 40));
    assert_eq!(view.on_told(asked, None, now), Growth::NotShown);
    let later = now + DELAY + AGAIN;
    assert_eq!(view.hear(log.seen(20), later, DELAY), Heard::Unproven, "what was refused makes room");
    let (_, asked) = view.question(later + DELAY, AGAIN).expect("a question");
    assert_eq!(view.on_told(asked, Some(log.told(7, 20)), later), Growth::Shown);
    assert_eq!(view.kept(), Some(&log.seen(20).note));
}

#[test]
fn a_log_is_asked_no_more_often_however_fast_it_answers() {
    let (log, now) = (Tree::of("one", 0, 40), Instant::now());
    let mut view = LogView::resume(log.seen(7));
    view.hear(log.seen(20), now, Duration::ZERO);
    let (_, asked) = view.question(now, AGAIN).expect("a question");
    assert_eq!(view.on_told(asked, Some(log.told(7, 20)), now), Growth::Shown);
    view.hear(log.seen(30), now, Duration::ZERO);
    assert_eq!(view.question(now + AGAIN / 2, AGAIN), None);
    assert!(view.question(now + AGAIN, AGAIN).is_some());
}

#[test]
fn what_came_while_the_log_was_asked_is_asked_next() {
    let (log, now) = (Tree::of("one", 0, 40), Instant::now());
    let mut view = LogView::resume(log.seen(7));
    assert_eq!(view.hear(log.seen(20), now, Duration::ZERO), Heard::Unproven);
    let (_, asked) = view.question(now, AGAIN).expect("a question");
    assert_eq!(view.hear(log.seen(30), now, Duration::ZERO), Heard::Unproven);
    let later = now + AGAIN;
    assert_eq!(view.on_told(asked, Some(log.told(7, 20)), later), Growth::Shown);
    assert_eq!(view.unproven_for(later), Some(Duration::ZERO), "the time of the larger one begins");
    let (kept, asked) = view.question(later, AGAIN).expect("a question");
    assert_eq!((kept.head.size, asked.head.size), (20, 30));
}

#[test]
fn another_root_of_a_size_that_is_known_is_evidence() {
    let (one, other, now) = (Tree::of("one", 7, 40), Tree::of("other", 7, 40), Instant::now());
    let mut view = LogView::resume(one.seen(9));
    assert_convicts(view.hear(other.seen(9), now, DELAY));
    assert_eq!(view.kept(), Some(&one.seen(9).note), "the first one stays");
    assert_eq!(view.hear(one.seen(20), now, DELAY), Heard::Unproven);
    assert_convicts(view.hear(other.seen(20), now, DELAY));
}

#[test]
fn a_log_that_signs_another_tree_of_a_size_that_was_kept_convicts_itself() {
    let (one, other, now) = (Tree::of("one", 7, 40), Tree::of("other", 7, 40), Instant::now());
    // Shown one face, it hears of the other, of another size.
    for (kept, heard) in [(&one, &other), (&one, &one)] {
        let mut view = LogView::resume(kept.seen(9));
        assert_eq!(view.hear(heard.seen(20), now, Duration::ZERO), Heard::Unproven);
        let (_, asked) = view.question(now, AGAIN).expect("a question");
        match view.on_told(asked, Some(other.told(9, 20)), now) {
            Growth::Forked(evidence) => assert_convicts(Heard::Forked(evidence)),
            growth => panic!("{growth:?}"),
        }
    }
}

#[test]
fn a_log_that_shows_nothing_is_asked_again_and_the_time_is_counted() {
    let (one, other, now) = (Tree::of("one", 7, 40), Tree::of("other", 7, 40), Instant::now());
    let mut view = LogView::resume(one.seen(9));
    assert_eq!(view.hear(other.seen(20), now, Duration::ZERO), Heard::Unproven);
    let answers: [fn(&Tree) -> Option<Told>; 5] = [
        |_| None,
        // Of other sizes, so that they exclude nothing.
        |one| Some(one.told(10, 21)),
        |one| Some(one.told(1, 9)),
        |one| Some(Told { old: one.seen(9), ..one.told(10, 30) }),
        |one| Some(Told { proof: ConsistencyProof::default(), ..one.told(10, 21) }),
    ];
    for (answer, at) in answers.into_iter().zip(0..) {
        let at = now + AGAIN * at;
        let (_, asked) = view.question(at, AGAIN).expect("a question");
        assert_eq!(view.question(at + AGAIN, AGAIN), None, "one at a time");
        assert_eq!(view.on_told(asked, answer(&one), at), Growth::NotShown);
        assert_eq!(view.unproven_for(at), Some(at - now));
    }
    assert_eq!(view.kept(), Some(&one.seen(9).note));
}

#[test]
fn neighbours_are_told_now_and_then_however_fast_a_log_grows() {
    let (log, now) = (Tree::of("one", 0, 40), Instant::now());
    let mut view = LogView::default();
    view.show(now);
    assert_eq!(view.shown(), None);
    let mut told = Vec::new();
    for second in 1..=40 {
        let at = now + Duration::from_secs(second);
        view.hear(log.seen(second), at, Duration::ZERO);
        if let Some((kept, asked)) = view.question(at, Duration::ZERO) {
            let proof = log.told(kept.head.size, asked.head.size);
            assert_eq!(view.on_told(asked, Some(proof), at), Growth::Shown);
        }
        view.show(at);
        told.extend(view.shown().cloned());
    }
    told.dedup();
    assert_eq!(told, [1, 11, 21, 31].map(|size| log.seen(size).note));
}

fn assert_convicts(heard: Heard) {
    let Heard::Forked(evidence) = heard else { panic!("{heard:?}") };
    let keys = CheckpointKeys { log: vec![key().public()], witnesses: Vec::new() };
    assert_eq!(evidence.verify(&ORIGIN, &keys), Ok(()));
}

fn key() -> SigningKey {
    SigningKey::from_seed([3; 32])
}

/// A log: so many leaves that all have in common, and then its own.
struct Tree {
    tiles: BTreeMap<(u8, u64), Vec<u8>>,
}

impl TileSource for Tree {
    type Error = std::convert::Infallible;

    fn read(&self, address: TileAddress) -> Result<Vec<u8>, Self::Error> {
        Ok(self.tiles[&(address.level(), address.index())].clone())
    }
}

impl Tree {
    fn of(name: &str, shared: u64, size: u64) -> Self {
        let leaf = |number: u64| {
            let name = if number < shared { "shared" } else { name };
            TreeHash::leaf(format!("{name} {number}").as_bytes())
        };
        let tiles = Edge::new().append((0..size).map(leaf)).into_iter();
        Self { tiles: tiles.map(|tile| ((tile.address.level(), tile.address.index()), tile.bytes)).collect() }
    }

    fn head(&self, size: u64) -> TreeHead {
        tree_head(self, size).expect("has the tiles")
    }

    fn seen(&self, size: u64) -> Seen {
        let head = self.head(size);
        Seen { note: Checkpoint { origin: ORIGIN, head }.sign(&key()), head }
    }

    fn told(&self, old: u64, new: u64) -> Told {
        let proof = prove_consistency(self, old, new).expect("has the tiles");
        Told { old: self.seen(old), proof, new: self.seen(new) }
    }
}
