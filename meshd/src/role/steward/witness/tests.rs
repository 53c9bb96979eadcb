//! Two stewards that witness each other: what follows is cosigned, and nothing else.

use std::fs;
use std::path::PathBuf;

use meshd_trust::SigningKey;
use meshd_trust::log::{Checkpoint, CheckpointKeys, CosignRequest, LogOrigin, Note, TreeHash, TreeHead};
use meshd_wire::PublicKey;
use meshd_wire::enrol::{EnrolReply, EnrolRequest, Refused};

use crate::enrol::CosignAnswer;
use crate::role::steward::fixture::{EXPORTER, Home, NOW, copy_of, cosign};
use crate::role::steward::{Answer, CosignAsk, NotCosigned, Steward};

#[test]
fn a_log_is_cosigned_as_it_grows_and_the_note_says_so() {
    let [mut alpha, mut beta] = Home::found_two(1);
    for grown in 1..=3 {
        alpha.invite();
        assert!(is_cosigned(&mut alpha, &mut beta), "after {grown} tokens");
        assert!(ask(&mut alpha, &beta).is_none(), "there is nothing more to cosign");
        let newest = note(&alpha, "checkpoint");
        let verified = keys(&alpha, &beta).verify(&newest, &origin(&alpha)).expect("verifies");
        assert_eq!(verified.cosigned.get(&beta.org), Some(&NOW));
        let size = verified.checkpoint.head.size;
        assert_eq!(note(&alpha, &format!("checkpoints/{size}")), newest, "it stays when the log grows");
    }
    // Both know after a restart how far they were.
    alpha = reopened(alpha, None);
    beta = reopened(beta, None);
    assert!(ask(&mut alpha, &beta).is_none());
    alpha.invite();
    let size = note(&alpha, "checkpoint").text().parse::<Checkpoint>().expect("a checkpoint").head.size;
    let asked = ask(&mut alpha, &beta).expect("it has grown");
    assert_eq!(CosignRequest::from_bytes(&asked.request).expect("a request").old, size - 1);
    assert!(is_cosigned(&mut alpha, &mut beta));
}

#[test]
fn a_cosignature_that_got_lost_is_given_again_as_it_was() {
    let [mut alpha, mut beta] = Home::found_two(1);
    alpha.invite();
    let asked = ask(&mut alpha, &beta).expect("something to cosign").request;
    let first = answer(&mut beta, &asked, 0);
    assert!(matches!(first, EnrolReply::Cosigned { .. }), "{first:?}");
    assert_eq!(answer(&mut beta, &asked, 30), first, "with the time of the first");
}

#[test]
fn a_witness_never_goes_back_and_goes_on_from_nothing_else() {
    let [mut alpha, mut beta] = Home::found_two(1);
    alpha.invite();
    let early = ask(&mut alpha, &beta).expect("something to cosign").request;
    assert!(is_cosigned(&mut alpha, &mut beta));
    alpha.invite();
    let late = ask(&mut alpha, &beta).expect("it has grown").request;
    assert!(is_cosigned(&mut alpha, &mut beta));
    let held = witnessed(&alpha, &beta);

    assert_eq!(
        answer(&mut beta, &early, 0),
        EnrolReply::Witnessed { checkpoint: held.clone() },
        "an older tree"
    );
    alpha.invite();
    let grown =
        CosignRequest::from_bytes(&ask(&mut alpha, &beta).expect("it has grown").request).expect("reads");
    let from_nothing = CosignRequest { old: 0, growth: Default::default(), note: grown.note.clone() };
    let from_before =
        CosignRequest { note: grown.note.clone(), ..CosignRequest::from_bytes(&late).expect("reads") };
    for wrong in [from_nothing, from_before] {
        let reply = answer(&mut beta, wrong.to_string().as_bytes(), 0);
        assert_eq!(reply, EnrolReply::Witnessed { checkpoint: held.clone() });
    }
    let mut forged = grown.clone();
    forged.growth.path[0] = TreeHash::leaf(b"other");
    assert_eq!(answer(&mut beta, forged.to_string().as_bytes(), 0), malformed());
    assert_eq!(witnessed(&alpha, &beta), held, "none of them changed what it knows");
    assert!(is_cosigned(&mut alpha, &mut beta), "and the log goes on");
}

#[test]
fn what_the_log_has_not_signed_or_is_no_log_of_another_organisation_is_not_cosigned() {
    let [alpha, mut beta] = Home::found_two(1);
    let checkpoint =
        |origin| Checkpoint { origin, head: TreeHead { size: 1, root: TreeHash::leaf(b"a leaf") } };
    let request = |origin, key: &SigningKey| {
        let note = checkpoint(origin).sign(key);
        CosignRequest { old: 0, growth: Default::default(), note }.to_string().into_bytes()
    };
    let log = alpha.steward.seeds.log();
    let stranger = SigningKey::from_seed([7; 32]);
    let nobody = LogOrigin { org: meshd_wire::OrgId([9; 32]), ..origin(&alpha) };
    let elsewhere = LogOrigin { mesh: meshd_wire::MeshId([9; 32]), ..origin(&alpha) };
    let refused = |why| EnrolReply::Refused { why };
    let cases = [
        (request(origin(&alpha), &stranger), malformed()),
        (request(origin(&alpha), &alpha.steward.seeds.record()), malformed()),
        (request(origin(&beta), &beta.steward.seeds.log()), refused(Refused::WrongMesh)),
        (request(nobody, &log), refused(Refused::WrongMesh)),
        (request(elsewhere, &log), refused(Refused::WrongMesh)),
        (b"old 0\n\nhello\n".to_vec(), malformed()),
        (Vec::new(), malformed()),
    ];
    for (request, expected) in cases {
        assert_eq!(answer(&mut beta, &request, 0), expected, "{}", String::from_utf8_lossy(&request));
    }
    let honest = request(origin(&alpha), &log);
    let delegation = 366 * 86_400;
    assert_eq!(answer(&mut beta, &honest, delegation), malformed(), "the key's delegation is over");
    assert!(
        matches!(answer(&mut beta, &honest, 0), EnrolReply::Cosigned { .. }),
        "such a request is cosigned"
    );
}

#[test]
fn a_log_that_was_restored_and_signs_another_history_is_convicted() {
    let [mut alpha, mut beta] = Home::found_two(1);
    alpha.invite();
    assert!(is_cosigned(&mut alpha, &mut beta));
    let backup = copy_of(&alpha.dir.path().join("steward"));
    alpha.invite();
    assert!(is_cosigned(&mut alpha, &mut beta));
    let held = witnessed(&alpha, &beta);

    alpha.steward = Steward::open(backup.path()).expect("opens");
    alpha.tokens += 7;
    alpha.invite();
    let asked = ask(&mut alpha, &beta).expect("something to cosign").request;
    let (org, evidence) = heard(&mut beta, &asked, 0).evidence.expect("evidence");
    assert_eq!(org, alpha.org);
    assert_eq!(evidence.verify(&origin(&alpha), &keys(&alpha, &beta)), Ok(()));
    let is_alone = |note: &Note| note.signatures().len() == 1;
    assert!(evidence.notes.iter().all(is_alone), "the log's signatures are all that it takes");
    let refused = cosign(&mut alpha, &mut beta, 0);
    assert!(matches!(refused, Err(NotCosigned::Excluded { .. })), "{refused:?}");

    // However long it grows, and whatever it shows.
    for _ in 0..3 {
        alpha.invite();
        assert!(matches!(cosign(&mut alpha, &mut beta, 0), Err(NotCosigned::Excluded { .. })));
    }
    assert_eq!(witnessed(&alpha, &beta), held);
}

#[test]
fn a_witness_that_cannot_read_what_it_cosigned_cosigns_nothing() {
    let [mut alpha, mut beta] = Home::found_two(1);
    alpha.invite();
    assert!(is_cosigned(&mut alpha, &mut beta));
    alpha.invite();
    let asked = ask(&mut alpha, &beta).expect("it has grown").request;
    let (path, held) = (witnessed_path(&alpha, &beta), witnessed(&alpha, &beta));
    let lines: Vec<&[u8]> = held.split_inclusive(|byte| *byte == b'\n').collect();
    let before_log: usize = lines[..4].iter().map(|line| line.len()).sum();
    // The line of the log is no part of what the witness has signed, and of what it goes on from.
    let of_log = before_log..before_log + lines[4].len() - 1;
    for at in (0..held.len()).filter(|at| !of_log.contains(at)).step_by(7) {
        let mut flipped = held.clone();
        flipped[at] ^= 1;
        fs::write(&path, &flipped).expect("is written");
        let reply = answer(&mut beta, &asked, 0);
        assert_eq!(reply, EnrolReply::Refused { why: Refused::Unavailable }, "byte {at}");
        assert_eq!(fs::read(&path).expect("is there"), flipped);
    }
    fs::write(&path, &held).expect("is written");
    assert!(matches!(answer(&mut beta, &asked, 0), EnrolReply::Cosigned { .. }));
}

#[test]
fn a_witness_that_was_restored_does_not_go_behind_what_the_mesh_knows() {
    let [mut alpha, beta] = Home::found_two(1);
    alpha.invite();
    let early = ask(&mut alpha, &beta).expect("something to cosign").request;
    alpha.invite();
    let state = alpha.steward.state(NOW).expect("signs");
    let mut beta = reopened(beta, Some(state));
    let late = ask(&mut alpha, &beta).expect("something to cosign").request;
    assert_eq!(answer(&mut beta, &early, 0), EnrolReply::Refused { why: Refused::Unavailable });
    let size =
        CosignRequest::from_bytes(&late).expect("reads").note.text().parse::<Checkpoint>().expect("reads");
    let other = Checkpoint { head: TreeHead { root: TreeHash::leaf(b"other"), ..size.head }, ..size };
    let note = other.sign(&alpha.steward.seeds.log());
    let forked = CosignRequest { old: 0, growth: Default::default(), note }.to_string();
    assert_eq!(answer(&mut beta, forked.as_bytes(), 0), malformed());
    assert!(matches!(answer(&mut beta, &late, 0), EnrolReply::Cosigned { .. }));
}

#[test]
fn a_cosignature_that_is_not_the_witnesss_own_is_not_stored() {
    let [mut alpha, mut beta] = Home::found_two(1);
    alpha.invite();
    let asked = ask(&mut alpha, &beta).expect("something to cosign");
    let before = note(&alpha, "checkpoint");
    let checkpoint: Checkpoint = asked.note.text().parse().expect("a checkpoint");
    let other = Checkpoint { head: TreeHead { size: 9, ..checkpoint.head }, ..checkpoint };
    let stranger = SigningKey::from_seed([7; 32]);
    let wrong = [
        checkpoint.cosign(beta.org, &stranger, NOW),
        checkpoint.cosign(alpha.org, &beta.steward.seeds.witness(), NOW),
        other.cosign(beta.org, &beta.steward.seeds.witness(), NOW),
    ];
    for signature in wrong.map(|one| one.to_string().into_bytes()).into_iter().chain([b"hello".to_vec()]) {
        let told = CosignAnswer::Cosigned(signature);
        let stored = alpha.steward.on_cosigned(&beta.org, &[witness_key(&beta)], &asked.note, told);
        assert!(matches!(stored, Err(NotCosigned::Signature)), "{stored:?}");
    }
    let foreign = CosignAnswer::Witnessed(other.sign(&stranger).to_string().into_bytes());
    let stored = alpha.steward.on_cosigned(&beta.org, &[witness_key(&beta)], &asked.note, foreign);
    assert!(matches!(stored, Err(NotCosigned::Checkpoint)), "{stored:?}");
    assert_eq!(note(&alpha, "checkpoint"), before);
    assert!(is_cosigned(&mut alpha, &mut beta));
}

#[test]
fn what_is_cosigned_while_the_log_grows_stays_beside_it() {
    let [mut alpha, mut beta] = Home::found_two(1);
    alpha.invite();
    let asked = ask(&mut alpha, &beta).expect("something to cosign");
    alpha.invite();
    let EnrolReply::Cosigned { signature } = answer(&mut beta, &asked.request, 0) else { panic!("cosigned") };
    let told = CosignAnswer::Cosigned(signature);
    alpha.steward.on_cosigned(&beta.org, &[witness_key(&beta)], &asked.note, told).expect("is stored");
    let size = asked.note.text().parse::<Checkpoint>().expect("a checkpoint").head.size;
    assert_eq!(note(&alpha, &format!("checkpoints/{size}")).signatures().len(), 2);
    assert_eq!(note(&alpha, "checkpoint").signatures().len(), 1, "the newer one is not cosigned yet");
    assert!(is_cosigned(&mut alpha, &mut beta));
}

fn is_cosigned(log: &mut Home, witness: &mut Home) -> bool {
    cosign(log, witness, 0).is_ok()
}

fn ask(log: &mut Home, witness: &Home) -> Option<CosignAsk> {
    log.steward.cosign_ask(&witness.org, &[witness_key(witness)]).expect("reads")
}

fn answer(witness: &mut Home, request: &[u8], later_s: u64) -> EnrolReply {
    heard(witness, request, later_s).reply
}

fn heard(witness: &mut Home, request: &[u8], later_s: u64) -> Answer {
    let request = EnrolRequest::Cosign { request: request.to_vec() };
    witness.steward.answer(&PublicKey([1; 32]), &EXPORTER, &request, NOW.plus(later_s))
}

/// The same steward after a restart; it has heard this state.
fn reopened(home: Home, state: Option<Vec<u8>>) -> Home {
    let Home { dir, steward, mesh, org, tokens } = home;
    drop(steward);
    let mut steward = Steward::open(&dir.path().join("steward")).expect("opens");
    steward.merge(&state.into_iter().collect::<Vec<_>>(), NOW).expect("merges");
    Home { dir, steward, mesh, org, tokens }
}

fn witness_key(home: &Home) -> PublicKey {
    home.steward.public_keys().witness
}

fn keys(log: &Home, witness: &Home) -> CheckpointKeys {
    let witnesses = vec![(witness.org, witness_key(witness))];
    CheckpointKeys { log: vec![log.steward.public_keys().log], witnesses }
}

fn origin(home: &Home) -> LogOrigin {
    LogOrigin { mesh: home.mesh, org: home.org }
}

fn note(log: &Home, path: &str) -> Note {
    let path = log.dir.path().join("steward/log").join(path);
    Note::from_bytes(&fs::read(path).expect("is there")).expect("a note")
}

fn witnessed_path(log: &Home, witness: &Home) -> PathBuf {
    witness.dir.path().join("steward/witnessed").join(log.org.to_string())
}

fn witnessed(log: &Home, witness: &Home) -> Vec<u8> {
    fs::read(witnessed_path(log, witness)).expect("is there")
}

fn malformed() -> EnrolReply {
    EnrolReply::Refused { why: Refused::Malformed }
}
