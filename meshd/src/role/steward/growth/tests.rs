//! A steward that is asked how its log grew.

use meshd_trust::log::{Checkpoint, CheckpointKeys, CosignRequest, LogOrigin, Note, TreeHead};
use meshd_wire::PublicKey;
use meshd_wire::enrol::{EnrolReply, EnrolRequest, Refused};

use super::{ASKED_AT_ONCE, LogError};
use crate::role::steward::fixture::{EXPORTER, Home, NOW};

const PEER: PublicKey = PublicKey([1; 32]);

#[test]
fn every_growth_is_shown_from_tiles_that_are_wider_by_now() {
    let mut home = Home::found(1, 16);
    let mut heads = Vec::new();
    for _ in 0..300 {
        home.invite();
        heads.push(newest(&home));
    }
    let keys = CheckpointKeys { log: vec![home.steward.public_keys().log], witnesses: Vec::new() };
    let origin = LogOrigin { mesh: home.mesh, org: home.org };
    for (at, old) in heads.iter().enumerate().step_by(37) {
        for new in heads[at + 1..].iter().step_by(41) {
            let grown = home.steward.growth(old.size, new.size).expect("reads").expect("it grew");
            let before = Note::from_bytes(&grown.old).expect("a note");
            let shown = CosignRequest::from_bytes(&grown.new).expect("a note behind a proof");
            let signed = [&before, &shown.note]
                .map(|note| keys.verify(note, &origin).expect("the log has signed it").checkpoint.head);
            assert_eq!((signed, shown.old), ([*old, *new], old.size));
            assert_eq!(shown.growth.verify(old, new), Ok(()), "from {} to {}", old.size, new.size);
        }
    }
}

#[test]
fn a_tile_that_was_damaged_since_is_not_signed() {
    let mut home = Home::found(1, 16);
    (0..5).for_each(|_| drop(home.invite()));
    let size = newest(&home).size;
    assert!(home.steward.growth(2, size - 1).expect("reads").is_some());
    let dir = home.dir.path().join("steward/log/tile/0/000.p");
    for tile in std::fs::read_dir(&dir).expect("partial tiles") {
        let path = tile.expect("a tile").path();
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes[0] ^= 1;
        std::fs::write(&path, bytes).expect("writes");
    }
    let refused = home.steward.growth(2, size - 1);
    assert!(matches!(refused, Err(LogError::Damaged { .. })), "{refused:?}");
}

#[test]
fn what_the_log_never_had_is_refused_and_nobody_asks_too_often() {
    let mut home = Home::found(1, 16);
    (0..3).for_each(|_| drop(home.invite()));
    let size = newest(&home).size;
    let refused = EnrolReply::Refused { why: Refused::Unavailable };
    for (old, new) in [(0, size), (size, size), (size, size - 1), (1, size + 1), (1, u64::MAX), (u64::MAX, 1)]
    {
        let asked = home.steward.answer(&PEER, &EXPORTER, &EnrolRequest::Growth { old, new }, NOW);
        assert_eq!(asked.reply, refused, "from {old} to {new}");
    }
    let later = NOW.plus(10_000);
    let ask = |home: &mut Home, peer| {
        let request = EnrolRequest::Growth { old: 1, new: size };
        matches!(home.steward.answer(&peer, &EXPORTER, &request, later).reply, EnrolReply::Grown { .. })
    };
    assert!((0..ASKED_AT_ONCE).all(|_| ask(&mut home, PEER)));
    assert!(!ask(&mut home, PEER), "one too many");
    assert!(ask(&mut home, PublicKey([2; 32])), "another node may ask");
}

fn newest(home: &Home) -> TreeHead {
    let note = home.steward.checkpoint().expect("there is a log");
    note.text().parse::<Checkpoint>().expect("a checkpoint").head
}
