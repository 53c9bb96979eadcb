use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use meshd_trust::SigningKey;
use meshd_trust::log::{Audit, AuditTerms, Beside, CheckpointKeys, LogOrigin, LogProof, Note, TreeHash};
use meshd_wire::{KeyId, LeafKind, MeshId, OrgId, RecordId, Subject, Timestamp};

use super::{Log, LogError, Statement};

const NOW: Timestamp = Timestamp(1_800_000_000);
const ORIGIN: LogOrigin = LogOrigin { mesh: MeshId([1; 32]), org: OrgId([2; 32]) };

fn key() -> SigningKey {
    SigningKey::from_seed([9; 32])
}

fn open(dir: &Path) -> Result<Log, LogError> {
    Log::open(&dir.join("log"), ORIGIN, key(), &[])
}

/// Something about one of seven subjects, different from everything else.
fn statement(number: u64) -> Statement {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let envelope = vec![0x77; usize::try_from(number % 50).expect("small")];
    Statement {
        kind: LeafKind::Policy,
        subject: Subject([u8::try_from(number % 7).expect("small"); 32]),
        epoch: None,
        actor: KeyId([4; 32]),
        record: Some((RecordId(id), envelope)),
    }
}

fn statements(numbers: std::ops::Range<u64>) -> Vec<Statement> {
    numbers.map(statement).collect()
}

/// All files below a directory with their content.
fn files(dir: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("lists").flatten() {
        match entry.path() {
            path if path.is_dir() => all.extend(files(&path)),
            path => drop(all.insert(path.clone(), fs::read(&path).expect("reads"))),
        }
    }
    all
}

/// Audits a log by its files alone.
fn assert_clean(log: &Log) {
    let note = log.note.clone();
    let keys = CheckpointKeys { log: vec![key().public()], witnesses: Vec::new() };
    let terms = AuditTerms { org: ORIGIN.org, rotation_period_s: 43_200, witnesses: Vec::new() };
    let mut audit = Audit::new(terms, [keys.verify(&note, &ORIGIN).expect("believed")]);
    let mut prover = log.prover();
    for index in 0..log.head().size {
        let logged = prover.prove(index).expect("reads").expect("is there");
        audit.leaf(&logged.leaf, Beside::Nothing);
        let proof = LogProof::from_bytes(&logged.proof).expect("well-formed");
        proof.verify(&TreeHash::leaf(&logged.leaf), &ORIGIN, &keys).expect("proven");
    }
    assert_eq!(audit.finish(NOW), []);
}

#[test]
fn what_was_appended_in_any_batches_is_found_and_proven_after_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let mut said = 0;
    assert_eq!(open(dir.path()).expect("opens").head().size, 0);
    for more in [1, 1, 3, 250, 1, 1, 300, 512, 7] {
        let mut log = open(dir.path()).expect("opens");
        let indices = log.append(&statements(said..said + more), NOW).expect("appends");
        assert_eq!(indices, Vec::from_iter(said..said + more));
        said += more;
        assert_eq!(log.head(), open(dir.path()).expect("opens again").head());
        if log.head().size < 300 {
            assert_clean(&log);
        }
    }
    let log = open(dir.path()).expect("opens");
    assert_eq!(log.head().size, said);
    assert_clean(&log);
    // One partial file a kind is left, besides the full ones.
    let partial = files(dir.path()).into_keys().filter(|path| path.to_string_lossy().contains(".p/"));
    assert_eq!(partial.count(), 4, "leaves, their records and hashes, and the hashes of full tiles");
}

#[test]
fn what_was_said_lately_is_not_said_again_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("directory");
    let mut log = open(dir.path()).expect("opens");
    let first = log.append(&statements(0..5), NOW).expect("appends");
    let mut log = open(dir.path()).expect("opens");
    let twice: Vec<Statement> = statements(3..6).into_iter().chain(statements(3..6)).collect();
    let again = log.append(&twice, Timestamp(NOW.0 + 9)).expect("appends");
    assert_eq!(again, [first[3], first[4], 5, first[3], first[4], 5]);
    assert_eq!(log.head().size, 6);
    assert_clean(&log);
}

#[test]
fn an_append_that_was_broken_off_anywhere_is_as_if_it_had_not_begun() {
    let whole = tempfile::tempdir().expect("directory");
    let mut log = open(whole.path()).expect("opens");
    log.append(&statements(0..300), NOW).expect("appends");
    let before = files(whole.path());
    let signed = log.head();
    log.append(&statements(300..700), NOW).expect("appends");
    let after = files(whole.path());

    // Everything that the append writes before its checkpoint, none to all of it, each cut off in its middle.
    let new: Vec<_> = after.iter().filter(|(path, _)| !before.contains_key(*path)).collect();
    for written in 0..=new.len() {
        let dir = tempfile::tempdir().expect("directory");
        let place = |path: &Path| dir.path().join(path.strip_prefix(whole.path()).expect("below"));
        let put = |path: &Path, bytes: &[u8]| {
            let path = place(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("is made");
            fs::write(path, bytes).expect("is written");
        };
        before.iter().for_each(|(path, bytes)| put(path, bytes));
        for (at, (path, bytes)) in new[..written].iter().enumerate() {
            put(path, if at + 1 == written { &bytes[..bytes.len() / 2] } else { bytes });
        }
        let mut log = open(dir.path()).expect("opens");
        assert_eq!(log.head(), signed);
        log.append(&statements(900..1_000), NOW).expect("appends");
        assert_clean(&open(dir.path()).expect("opens"));
    }
}

#[test]
fn an_append_that_fails_changes_nothing_and_can_be_repeated() {
    let dir = tempfile::tempdir().expect("directory");
    let mut log = open(dir.path()).expect("opens");
    log.append(&statements(0..250), NOW).expect("appends");
    let before = log.head();
    // A directory stands where the leaves of the next tile would.
    let wall = dir.path().join("log/tile/entries/001.p/4");
    fs::create_dir_all(&wall).expect("is made");
    assert!(matches!(log.append(&statements(250..260), NOW), Err(LogError::File(_))));
    assert_eq!(log.head(), before);
    assert_eq!(open(dir.path()).expect("opens").head(), before);
    fs::remove_dir(&wall).expect("is removed");
    log.append(&statements(250..260), NOW).expect("appends");
    assert_clean(&open(dir.path()).expect("opens"));
}

#[test]
fn a_log_that_is_not_what_was_signed_is_mended_or_not_continued() {
    let dir = tempfile::tempdir().expect("directory");
    open(dir.path()).expect("opens").append(&statements(0..300), NOW).expect("appends");
    for (path, bytes) in files(dir.path()) {
        let has = |part: &str| path.components().any(|one| one.as_os_str() == part);
        let is_hashes = has("tile") && !has("entries");
        let judge = |what: &str| match open(dir.path()) {
            // Hashes follow from the leaves.
            Ok(_) if is_hashes => assert_eq!(fs::read(&path).expect("is there"), bytes, "{what}"),
            Ok(_) => panic!("{what} of {} is not noticed", path.display()),
            Err(error) => assert!(!is_hashes, "{what} of {}: {error}", path.display()),
        };
        // A record is beside the tree: its leaf names it, and an auditor compares them.
        for at in (0..bytes.len()).step_by(97).filter(|_| !has("record")) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).expect("is written");
            judge("a byte");
        }
        fs::write(&path, &bytes[..bytes.len() / 2]).expect("is written");
        judge("half");
        fs::remove_file(&path).expect("is removed");
        judge("the whole");
        fs::write(&path, &bytes).expect("is written");
        assert!(open(dir.path()).is_ok());
    }
}

#[test]
fn a_checkpoint_of_another_log_or_key_is_not_taken_up() {
    let dir = tempfile::tempdir().expect("directory");
    open(dir.path()).expect("opens").append(&statements(0..3), NOW).expect("appends");
    let other = LogOrigin { org: OrgId([3; 32]), ..ORIGIN };
    let place = dir.path().join("log");
    assert!(matches!(Log::open(&place, other, key(), &[]), Err(LogError::Checkpoint(_))));
    let stranger = SigningKey::from_seed([8; 32]);
    assert!(matches!(Log::open(&place, ORIGIN, stranger, &[]), Err(LogError::Checkpoint(_))));
    fs::write(place.join("checkpoint"), "no note\n").expect("is written");
    assert!(matches!(open(dir.path()), Err(LogError::Note { .. })));
}

#[test]
fn the_newest_checkpoint_is_a_note_that_others_can_read() {
    let dir = tempfile::tempdir().expect("directory");
    let mut log = open(dir.path()).expect("opens");
    log.append(&statements(0..3), NOW).expect("appends");
    let note = Note::from_bytes(&fs::read(dir.path().join("log/checkpoint")).expect("reads"));
    assert_eq!(note.expect("well-formed").text().lines().nth(1), Some("3"));
}
