use std::fs;

use super::*;

const SELF: NodeId = NodeId([1; 32]);
const PEER: NodeId = NodeId([2; 32]);
const OTHER: NodeId = NodeId([3; 32]);
const NOW: Timestamp = Timestamp(1_800_000_000);
const BOOT: Duration = Duration::from_secs(100);

fn key(node: NodeId, epoch: u32) -> Key {
    Key { epoch, key: PublicKey([epoch as u8; 32]), ..first_of(node) }
}

fn seen(at: u64) -> Seen {
    Seen { org: OrgId([9; 32]), first: NOW.plus(at), last: NOW.plus(at), count: 1 }
}

fn open(dir: &Path) -> Journal {
    Journal::open(dir, SELF, NOW).expect("opens")
}

#[test]
fn what_was_noted_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = open(dir.path());
    journal.note(key(PEER, 1), Seen { last: NOW.plus(20), count: 3, ..seen(10) });
    journal.note(key(PEER, 1), Seen { last: NOW.plus(15), count: 2, ..seen(5) });
    journal.note(Key { is_external: true, is_aes: true, has_psk: true, ..key(SELF, 0) }, seen(7));
    journal.store();
    let again = Journal::open(dir.path(), SELF, NOW.plus(1000)).expect("opens");
    assert_eq!(again.since(), NOW);
    assert_eq!(again.rows, journal.rows);
    let row = again.rows[&key(PEER, 1)];
    assert_eq!((row.first, row.last, row.count), (NOW.plus(5), NOW.plus(20), 5));
}

#[test]
fn what_another_membership_has_seen_is_nothing_to_this_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = open(dir.path());
    journal.note(key(PEER, 1), seen(0));
    journal.store();
    let other = Journal::open(dir.path(), OTHER, NOW.plus(5)).expect("opens");
    assert_eq!((other.rows.len(), other.since()), (0, NOW.plus(5)));
    forget_journal(dir.path()).expect("removed");
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

#[test]
fn a_new_key_is_written_within_a_minute_and_a_known_one_seldom() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = open(dir.path());
    let on_disk = || open(dir.path()).rows.values().map(|seen| seen.count).collect::<Vec<u64>>();
    journal.note(key(PEER, 1), seen(0));
    journal.store_if_due(BOOT);
    assert_eq!(on_disk(), [1], "the first one at once");
    journal.note(key(PEER, 2), seen(1));
    journal.store_if_due(BOOT + NEW_WAITS / 2);
    assert_eq!(on_disk(), [1]);
    journal.store_if_due(BOOT + NEW_WAITS);
    assert_eq!(on_disk(), [1, 1]);
    let second = BOOT + NEW_WAITS;
    journal.note(key(PEER, 2), seen(120));
    journal.store_if_due(second + NEW_WAITS);
    assert_eq!(on_disk(), [1, 1], "that it is still used may wait");
    journal.store_if_due(second + LATER_WAITS);
    assert_eq!(on_disk(), [1, 2]);
    journal.note(key(PEER, 2), seen(240));
    journal.store();
    assert_eq!(on_disk(), [1, 3], "at the end nothing waits");
}

#[test]
fn a_node_that_changes_its_key_all_the_time_pushes_out_its_own_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = open(dir.path());
    journal.note(key(OTHER, 7), seen(0));
    for epoch in 1..=1000 {
        journal.note(key(PEER, epoch), seen(u64::from(epoch)));
    }
    let kept: Vec<u32> = journal.of(PEER).map(|(key, _)| key.epoch).collect();
    assert_eq!(kept, (745..=1000).collect::<Vec<u32>>(), "the newest");
    assert_eq!(journal.of(OTHER).count(), 1);
    assert_eq!(journal.forgotten(), 744);
}

#[test]
fn a_full_journal_makes_room_where_most_is_and_can_be_read_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = open(dir.path());
    let node = |number: u32| {
        let mut id = [5; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    };
    for number in 0..ROWS_MAX as u32 - 2 {
        journal.note(key(node(number), 1), seen(100));
    }
    for epoch in 2..=3 {
        journal.note(key(node(0), epoch), seen(u64::from(epoch)));
    }
    journal.make_room();
    assert_eq!((journal.rows.len(), journal.forgotten()), (ROWS_MAX, 0));
    journal.note(key(SELF, 1), seen(200));
    journal.make_room();
    assert_eq!((journal.rows.len(), journal.forgotten()), (ROWS_MAX, 1));
    let kept: Vec<u32> = journal.of(node(0)).map(|(key, _)| key.epoch).collect();
    assert_eq!(kept, [1, 3], "the one that was used least lately");
    journal.store();
    assert_eq!(open(dir.path()).rows, journal.rows);
    let bytes = fs::metadata(dir.path().join("observed.a")).expect("a file").len();
    assert!(bytes < 3_000_000, "{bytes}");
}

#[test]
fn a_disk_that_takes_nothing_keeps_the_journal_in_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let gone = dir.path().join("gone");
    fs::create_dir(&gone).expect("made");
    let mut journal = open(&gone);
    fs::remove_dir(&gone).expect("removed");
    journal.note(key(PEER, 1), seen(0));
    journal.store();
    assert!(journal.is_failing);
    fs::create_dir(&gone).expect("made");
    journal.store();
    assert!(!journal.is_failing);
    assert_eq!(open(&gone).rows.len(), 1);
}
