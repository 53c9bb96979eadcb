//! The copy of one steward's log at another, page by page as they come over the wire.

mod refused;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use meshd_trust::SigningKey;
use meshd_trust::log::{Audit, AuditTerms, Beside, Finding};
use meshd_wire::enrol::EnrolRequest;
use meshd_wire::{KeyId, LeafKind, RecordId, Subject};

use super::super::fixture::{EXPORTER, Home, NOW, cosign, quarter_hour, secrets};
use super::super::log::Statement;
use super::*;

const PEER: PublicKey = PublicKey([1; 32]);
/// More than a tile has.
const SOME: usize = 300;

#[test]
fn a_copy_has_what_the_log_has_and_goes_on_after_a_restart() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, SOME);
    assert_eq!(pull(&mut alpha, &mut beta), 3, "one tile, a part of another, and nothing more");
    assert!(files(&copy_dir(&alpha, &beta)) == files(&alpha.dir.path().join("steward/log")));
    assert!(copy_dir(&alpha, &beta).join("chain").exists(), "an auditor finds beside it who may sign");

    invite(&mut alpha, 1);
    pull(&mut alpha, &mut beta);
    let mut beta = reopened(beta);
    invite(&mut alpha, SOME);
    assert_eq!(pull(&mut alpha, &mut beta), 3);
    let chain = fs::read(copy_dir(&alpha, &beta).join("chain")).expect("reads");
    assert!(!chain.is_empty());
    assert!(files(&copy_dir(&alpha, &beta)) == files(&alpha.dir.path().join("steward/log")));
}

#[test]
fn each_page_counts_as_soon_as_it_came() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, SOME);
    assert!(pull_page(&mut alpha, &mut beta).expect("is taken"));
    let mut beta = reopened(beta);
    assert_eq!(from(&mut beta, &alpha), TILE_WIDTH);
    pull(&mut alpha, &mut beta);
    assert!(files(&copy_dir(&alpha, &beta)) == files(&alpha.dir.path().join("steward/log")));
}

#[test]
fn what_lies_behind_the_checkpoint_after_a_crash_is_removed() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 20);
    pull(&mut alpha, &mut beta);
    let (dir, before) = (copy_dir(&alpha, &beta), from(&mut beta, &alpha));
    let smaller = files(&dir);
    invite(&mut alpha, 100);
    cosign(&mut alpha, &mut beta, 0).expect("is cosigned");
    invite(&mut alpha, SOME);
    assert!(pull_page(&mut alpha, &mut beta).expect("is taken"));
    assert!(dir.join(format!("checkpoints/{}", before + 100)).exists());
    for (path, bytes) in &smaller {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("is made");
        fs::write(path, bytes).expect("as if it had not been replaced yet");
    }
    let mut beta = reopened(beta);
    assert_eq!(from(&mut beta, &alpha), before);
    assert!(files(&dir) == smaller, "something is left of the page");
    pull(&mut alpha, &mut beta);
    assert!(files(&dir) == files(&alpha.dir.path().join("steward/log")));
}

#[test]
fn cosignatures_come_with_the_leaves_or_later() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 2);
    cosign(&mut alpha, &mut beta, 0).expect("is cosigned");
    invite(&mut alpha, 2);
    cosign(&mut alpha, &mut beta, 400).expect("is cosigned");
    invite(&mut alpha, 2);
    assert_eq!(ask(&mut alpha, 0).cosigned.len(), 2);
    pull(&mut alpha, &mut beta);
    let (org, witnesses) = (alpha.org, [beta.org]);
    let others = [beta.org, OrgId([9; 32])];
    let wants = |beta: &mut Home| beta.steward.copy_from(&org, 1, &witnesses).expect("reads").is_some();
    assert!(wants(&mut beta), "the newest checkpoint is not cosigned");
    assert!(!pull_page(&mut alpha, &mut beta).expect("is taken"), "nor is it in the log");
    cosign(&mut alpha, &mut beta, 401).expect("is cosigned");
    assert!(pull_page(&mut alpha, &mut beta).expect("is taken"));
    assert!(!wants(&mut beta), "that is all");
    assert!(
        beta.steward.copy_from(&org, 1, &others).expect("reads").is_some(),
        "another witness has not cosigned"
    );
    assert!(!pull_page(&mut alpha, &mut beta).expect("is taken"));
    let mut beta = reopened(beta);
    assert!(!wants(&mut beta));
    let copy = |name: &str| fs::read_dir(copy_dir(&alpha, &beta).join(name)).expect("lists").count();
    assert_eq!(copy("checkpoints"), 3);
}

#[test]
fn an_auditor_finds_nothing_in_a_copy_of_a_log_that_was_written_over_a_long_time() {
    let [mut alpha, mut beta] = Home::found_two(1);
    for at in [0, 1_000, 5_000] {
        alpha.tokens += 1;
        let random = zeroize::Zeroizing::new([alpha.tokens as u8; 24]);
        alpha
            .steward
            .invite(&quarter_hour(), &[([192, 0, 2, 1], 51820).into()], NOW.plus(at), &random)
            .expect("a token");
        cosign(&mut alpha, &mut beta, at).expect("is cosigned");
    }
    pull(&mut alpha, &mut beta);
    assert_eq!(audit(&alpha, &beta, NOW.plus(9_000)), []);
    // With the newest cosigned checkpoint alone, leaves look as if they had been cosigned much too late.
    let further = copy_dir(&alpha, &beta).join("checkpoints");
    let sizes = fs::read_dir(&further).expect("lists").flatten().map(|file| file.file_name());
    let mut sizes: Vec<u64> =
        sizes.map(|name| name.to_str().expect("text").parse().expect("a size")).collect();
    sizes.sort_unstable();
    for size in &sizes[..2] {
        fs::remove_file(further.join(size.to_string())).expect("removes");
    }
    let found: Vec<_> = audit(&alpha, &beta, NOW.plus(9_000)).iter().map(Finding::code).collect();
    assert_eq!(found, ["CLOCK"]);
}

#[test]
fn what_is_vouched_for_is_not_written_again() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 1);
    pull(&mut alpha, &mut beta);
    let dir = copy_dir(&alpha, &beta);
    for (path, _) in files(&dir) {
        let file = fs::File::options().write(true).open(dir.join(path)).expect("opens");
        file.set_modified(std::time::UNIX_EPOCH).expect("is set");
    }
    let written_at = || {
        let paths = files(&dir).into_iter().map(|(path, _)| dir.join(path));
        let times = paths.map(|path| fs::metadata(path).and_then(|file| file.modified()).expect("is there"));
        times.collect::<Vec<_>>()
    };
    let before = written_at();
    assert!(!pull_page(&mut alpha, &mut beta).expect("is taken"));
    assert_eq!(written_at(), before);
}

#[test]
fn a_copy_that_can_not_be_read_now_is_not_put_aside() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 1);
    pull(&mut alpha, &mut beta);
    let dir = copy_dir(&alpha, &beta);
    for (path, _) in files(&dir) {
        let (path, away) = (dir.join(path), dir.join("away"));
        fs::rename(&path, &away).expect("moves");
        fs::create_dir(&path).expect("something that can't be read as a file");
        beta = reopened(beta);
        assert!(beta.steward.copy_from(&alpha.org, u64::MAX, &[]).is_err(), "{}", path.display());
        assert!(!dir.with_extension("damaged").exists());
        fs::remove_dir(&path).expect("removes");
        fs::rename(&away, &path).expect("moves");
        assert!(from(&mut beta, &alpha) > 0);
    }
}

#[test]
fn a_copy_that_is_damaged_is_put_aside_and_made_anew() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 1);
    pull(&mut alpha, &mut beta);
    let dir = copy_dir(&alpha, &beta);
    for (path, bytes) in files(&dir) {
        let mut changed = bytes;
        *changed.last_mut().expect("bytes") ^= 1;
        let damages: [&dyn Fn() -> io::Result<()>; 3] =
            [&|| fs::write(dir.join(&path), &changed), &|| fs::write(dir.join(&path), [0; 2]), &|| {
                fs::remove_file(dir.join(&path))
            }];
        // A record counts when it comes; an auditor sees it again.
        let is_seen = !path.contains("records");
        for damage in damages.iter().skip(usize::from(!is_seen)) {
            damage().expect("damages");
            beta = reopened(beta);
            assert_eq!(from(&mut beta, &alpha), 0, "{path}: begins anew");
            pull(&mut alpha, &mut beta);
            assert!(files(&dir) == files(&alpha.dir.path().join("steward/log")));
            fs::remove_dir_all(dir.with_extension("damaged"))
                .or_else(|error| match path.as_str() {
                    // Without a checkpoint a copy was never begun.
                    "checkpoint" => Ok(()),
                    _ => Err(error),
                })
                .expect("the damaged one is there");
        }
    }
    // Of two, the first stays.
    for number in 1..=2 {
        fs::write(dir.join("checkpoint"), b"no note").expect("writes");
        beta = reopened(beta);
        let opened = beta.steward.copy_from(&alpha.org, u64::MAX, &[]);
        assert_eq!(opened.is_ok(), number == 1, "{opened:?}");
    }
    assert!(dir.join("checkpoint").exists() && dir.with_extension("damaged").join("checkpoint").exists());
}

#[test]
fn whoever_asks_too_often_has_to_wait() {
    let mut home = Home::found(1, 24);
    home.invite();
    let mut replies = (0..=COPIES_AT_ONCE)
        .map(|_| home.steward.answer(&PEER, &EXPORTER, &EnrolRequest::Copy { from: 0 }, NOW).reply);
    for _ in 0..COPIES_AT_ONCE {
        assert!(matches!(replies.next(), Some(EnrolReply::Copied { .. })));
    }
    assert_eq!(replies.next(), Some(EnrolReply::Refused { why: Refused::Unavailable }));
}

#[test]
fn a_page_fits_into_a_frame_however_large_its_records_are() {
    let mut home = Home::found(1, 24);
    let statements = (0..40).map(|number| Statement {
        kind: LeafKind::Renew,
        subject: Subject([number; 32]),
        epoch: None,
        actor: KeyId([1; 32]),
        record: Some((RecordId([number; 32]), vec![number; RECORD_BYTES_MAX])),
    });
    let log = home.steward.log.as_mut().expect("is open");
    log.append(&statements.collect::<Vec<_>>(), NOW).expect("is written");
    let (mut pages, mut at) = (0, 0);
    loop {
        let reply = home.steward.answer(&PEER, &EXPORTER, &EnrolRequest::Copy { from: at }, NOW).reply;
        assert!(reply.to_bytes().len() <= FRAME_BYTES_MAX);
        let EnrolReply::Copied { rows, .. } = reply else { panic!("{reply:?}") };
        if rows.is_empty() {
            break;
        }
        (pages, at) = (pages + 1, at + rows.len() as u64);
    }
    assert_eq!((pages, at), (4, log_size(&home)), "ten of 64 KiB fit into one");
}

#[test]
fn what_a_replaced_key_of_the_log_signed_is_kept() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 2);
    cosign(&mut alpha, &mut beta, 0).expect("is cosigned");
    let mut page = ask(&mut alpha, 0);
    let (before, next) = (alpha.steward.public_keys().log, SigningKey::from_seed([8; 32]));
    let log = alpha.steward.log.as_ref().expect("is open");
    page.checkpoint = (Checkpoint { origin: log.origin(), head: log.head() }).sign(&next).to_string().into();
    let mut terms = terms(&alpha, &beta);
    terms.log_keys = vec![next.public()];
    terms.keys_ever.log = vec![before, next.public()];
    assert!(beta.steward.on_copied(0, page, &terms).expect("is taken"));
    assert!(copy_dir(&alpha, &beta).join(format!("checkpoints/{}", log.head().size)).exists());
}

#[test]
fn a_page_ends_where_others_have_seen_the_log_unless_the_log_ends() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 40);
    cosign(&mut alpha, &mut beta, 0).expect("is cosigned");
    let noted = log_size(&alpha);
    invite(&mut alpha, 3);
    assert_eq!(
        ask(&mut alpha, 0).rows.len() as u64,
        noted + 3,
        "the newest leaves are what is lost with a disk"
    );
    invite(&mut alpha, SOME);
    assert_eq!(ask(&mut alpha, 0).rows.len() as u64, noted);
    assert_eq!(ask(&mut alpha, noted).rows.len() as u64, TILE_WIDTH - noted);
}

#[test]
fn however_late_cosignatures_come_they_are_asked_for() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 1);
    pull(&mut alpha, &mut beta);
    // Each says something, so that all are kept: more than are looked at for changes.
    for late in 0..100 {
        cosign(&mut alpha, &mut beta, late * 100).expect("is cosigned");
        invite(&mut alpha, 1);
    }
    assert!(ask(&mut alpha, 1).cosigned.len() <= COSIGNED_MAX);
    pull(&mut alpha, &mut beta);
    let log = files(&alpha.dir.path().join("steward/log"));
    assert_eq!(log.iter().filter(|(path, _)| path.starts_with("checkpoints/")).count(), 100);
    assert!(files(&copy_dir(&alpha, &beta)) == log);
}

#[test]
fn who_may_sign_is_there_before_the_cosignature() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 1);
    pull(&mut alpha, &mut beta);
    let chain = copy_dir(&alpha, &beta).join("chain");
    fs::remove_file(&chain).expect("as if it had been another one");
    cosign(&mut alpha, &mut beta, 0).expect("is cosigned");
    assert!(pull_page(&mut alpha, &mut beta).expect("is taken"));
    assert!(chain.exists());
}

#[test]
fn a_witness_knows_how_far_a_log_is_that_it_has_cosigned() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 1);
    pull(&mut alpha, &mut beta);
    assert_eq!(beta.steward.copy_from(&alpha.org, 0, &[]).expect("reads"), None);
    invite(&mut alpha, 1);
    cosign(&mut alpha, &mut beta, 0).expect("is cosigned");
    assert!(beta.steward.copy_from(&alpha.org, 0, &[]).expect("reads").is_some());
}

#[test]
fn copies_leave_room_to_others() {
    let dir = tempfile::tempdir().expect("directory");
    assert!(leave_room(dir.path(), 0).is_ok());
    assert!(matches!(leave_room(dir.path(), u64::MAX), Err(NotCopied::Room { .. })));
}

fn log_size(home: &Home) -> u64 {
    home.steward.log.as_ref().expect("is open").head().size
}

fn invite(home: &mut Home, times: usize) {
    (0..times).for_each(|_| drop(home.invite()));
}

/// Whatever the log has, as a steward asks for it; says in how many pages.
fn pull(log: &mut Home, keeper: &mut Home) -> usize {
    (1..).find(|_| !pull_page(log, keeper).expect("is taken")).expect("it ends")
}

fn pull_page(log: &mut Home, keeper: &mut Home) -> Result<bool, NotCopied> {
    let from = from(keeper, log);
    let page = ask(log, from);
    keeper.steward.on_copied(from, page, &terms(log, keeper))
}

fn from(keeper: &mut Home, log: &Home) -> u64 {
    keeper.steward.copy_from(&log.org, u64::MAX, &[]).expect("reads").expect("never whole")
}

fn ask(log: &mut Home, from: u64) -> Copied {
    // Each time somebody else, whom nothing is counted against yet.
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let mut peer = PEER;
    peer.0[..8].copy_from_slice(&ASKED.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    match log.steward.answer(&peer, &EXPORTER, &EnrolRequest::Copy { from }, NOW).reply {
        EnrolReply::Copied { rows, checkpoint, cosigned } => {
            Copied { rows, checkpoint, cosigned: cosigned.into_iter().map(Vec::from).collect() }
        }
        other => panic!("{other:?}"),
    }
}

fn terms(log: &Home, witness: &Home) -> CopyTerms {
    let log_keys = vec![log.steward.public_keys().log];
    let witnesses = vec![(witness.org, witness.steward.public_keys().witness)];
    CopyTerms {
        org: log.org,
        log_keys: log_keys.clone(),
        keys_ever: CheckpointKeys { log: log_keys, witnesses },
    }
}

/// Findings of an audit of the leaves and checkpoints of a copy.
fn audit(log: &Home, keeper: &Home, now: Timestamp) -> Vec<Finding> {
    let (dir, origin) = (copy_dir(log, keeper), LogOrigin { mesh: log.mesh, org: log.org });
    let further =
        fs::read_dir(dir.join("checkpoints")).into_iter().flatten().flatten().map(|file| file.path());
    let notes = further.chain([dir.join("checkpoint")]).map(|path| {
        let note = Note::from_bytes(&fs::read(path).expect("reads")).expect("a note");
        terms(log, keeper).keys_ever.verify(&note, &origin).expect("verifies")
    });
    let terms = AuditTerms { org: log.org, rotation_period_s: 43_200, witnesses: vec![keeper.org] };
    let mut audit = Audit::new(terms, notes);
    let copy = Mirror::open(&dir).expect("opens");
    for row in &copy.rows {
        audit.leaf(&row.leaf, Beside::Nothing);
    }
    audit.finish(now)
}

fn copy_dir(log: &Home, keeper: &Home) -> PathBuf {
    copy_dir_of(keeper, &log.org)
}

fn copy_dir_of(keeper: &Home, org: &OrgId) -> PathBuf {
    keeper.dir.path().join("steward").join(MIRROR).join(org.to_string())
}

/// Files below a directory, but those that say who may sign.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        for path in fs::read_dir(&next).expect("lists").flatten().map(|file| file.path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().is_some_and(|name| name != "chain") {
                let name = path.strip_prefix(dir).expect("below").display().to_string();
                found.push((name, fs::read(&path).expect("reads")));
            }
        }
    }
    found.sort();
    found
}

fn reopened(home: Home) -> Home {
    let Home { dir, steward, mesh, org, tokens } = home;
    drop(steward);
    let steward = Steward::open(&dir.path().join("steward")).expect("opens");
    Home { dir, steward, mesh, org, tokens }
}
