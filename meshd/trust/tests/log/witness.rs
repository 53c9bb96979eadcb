//! What a witness is asked, and what it shows when a log has two faces.

use meshd_trust::SigningKey;
use meshd_trust::log::{
    COSIGN_REQUEST_BYTES_MAX, Checkpoint, CheckpointKeys, CheckpointRefusal, ConsistencyProof, CosignRequest,
    CosignRequestError, EVIDENCE_BYTES_MAX, Evidence, EvidenceError, EvidenceRefusal, LogOrigin, Note,
    NoteError, PROOF_LEN_MAX, TreeHash, TreeHead,
};
use meshd_wire::{MeshId, OrgId, Timestamp};

const ORIGIN: LogOrigin = LogOrigin { mesh: MeshId([1; 32]), org: OrgId([2; 32]) };

/// The request of the specification `tlog-witness`, but for its names and keys.
const REQUEST: &str = "\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
";

#[test]
fn a_request_of_the_specification_is_read_and_written_as_it_was() {
    let request = CosignRequest::from_bytes(REQUEST.as_bytes()).expect("reads");
    assert_eq!((request.old, request.growth.path.len()), (20_852_014, 4));
    assert_eq!(request.note.text().lines().nth(1), Some("20852163"));
    assert_eq!(request.to_string(), REQUEST);
    let first = CosignRequest { old: 0, growth: ConsistencyProof::default(), note: note(3) };
    assert!(first.to_string().starts_with("old 0\n\nmeshd/"));
    assert_eq!(CosignRequest::from_bytes(first.to_string().as_bytes()), Ok(first));
}

#[test]
fn what_is_no_request_is_refused() {
    let longer = vec![TreeHash::leaf(b"one"); PROOF_LEN_MAX + 1];
    let with =
        |path: Vec<TreeHash>| CosignRequest { old: 1, growth: ConsistencyProof { path }, note: note(3) };
    assert!(CosignRequest::from_bytes(with(longer[1..].to_vec()).to_string().as_bytes()).is_ok());
    let cases = [
        (with(longer).to_string(), CosignRequestError::Shape),
        (REQUEST.replace("old 2", "old 02"), CosignRequestError::Shape),
        (REQUEST.replace("old ", "old +"), CosignRequestError::Shape),
        (REQUEST.replace("old ", "new "), CosignRequestError::Shape),
        (REQUEST.replace("pkaw=", "pkaw"), CosignRequestError::Shape),
        (REQUEST.replace("PlRN", "\u{e9}lRN"), CosignRequestError::Shape),
        (REQUEST.replace("\n\n", "\n"), CosignRequestError::Shape),
        (format!("{}\n", REQUEST), CosignRequestError::Note(NoteError::Shape)),
        ("old 0\n\nhello\n".to_owned(), CosignRequestError::Note(NoteError::Shape)),
        (String::new(), CosignRequestError::Shape),
        (
            " ".repeat(COSIGN_REQUEST_BYTES_MAX + 1),
            CosignRequestError::TooLarge(COSIGN_REQUEST_BYTES_MAX + 1),
        ),
    ];
    for (text, error) in cases {
        assert_eq!(CosignRequest::from_bytes(text.as_bytes()), Err(error), "{text:?}");
    }
}

#[test]
fn evidence_is_read_and_written_as_it_was_and_nothing_else_is() {
    let evidence = Evidence { notes: [note(3), note(4)] };
    let text = evidence.to_string();
    assert!(Evidence::is_meant(text.as_bytes()));
    assert_eq!(Evidence::from_bytes(text.as_bytes()), Ok(evidence));
    let length = note(3).to_string().len();
    let cases = [
        (format!("{text}\n"), EvidenceError::Shape),
        (text.replacen("evidence 1", "evidence 2", 1), EvidenceError::Shape),
        (text.replacen(&format!("note {length}"), &format!("note 0{length}"), 1), EvidenceError::Shape),
        (text.replacen(&format!("note {length}"), "note 99999999999999999999", 1), EvidenceError::Shape),
        (
            text.replacen(&format!("note {length}"), &format!("note {}", length - 1), 1),
            EvidenceError::Note(NoteError::Shape),
        ),
        (text[..text.len() / 2].to_owned(), EvidenceError::Shape),
        (" ".repeat(EVIDENCE_BYTES_MAX + 1), EvidenceError::TooLarge(EVIDENCE_BYTES_MAX + 1)),
    ];
    for (text, error) in cases {
        assert_eq!(Evidence::from_bytes(text.as_bytes()), Err(error), "{text:?}");
    }
}

#[test]
fn two_trees_of_one_size_convict_the_log_that_signed_both_and_nobody_else() {
    let log = SigningKey::from_seed([1; 32]);
    let keys = CheckpointKeys { log: vec![log.public()], witnesses: Vec::new() };
    let note = |size, leaf: &[u8], origin, key: &SigningKey| {
        Checkpoint { origin, head: TreeHead { size, root: TreeHash::leaf(leaf) } }.sign(key)
    };
    let (one, other) = (note(3, b"one", ORIGIN, &log), note(3, b"other", ORIGIN, &log));
    let evidence = Evidence::new(one.clone(), other.clone());
    assert_eq!(evidence.verify(&ORIGIN, &keys), Ok(()));
    assert_eq!(Evidence::new(other.clone(), one.clone()), evidence, "there is one order");

    let stranger = SigningKey::from_seed([2; 32]);
    let org = LogOrigin { org: OrgId([9; 32]), ..ORIGIN };
    let mesh = LogOrigin { mesh: MeshId([9; 32]), ..ORIGIN };
    let of = |second| Evidence::new(one.clone(), second);
    let refused = |why| Err(EvidenceRefusal::Checkpoint(why));
    let cases = [
        (of(one.clone()), Err(EvidenceRefusal::Agreement)),
        (of(note(4, b"other", ORIGIN, &log)), Err(EvidenceRefusal::Agreement)),
        (of(note(3, b"other", ORIGIN, &stranger)), refused(CheckpointRefusal::Unsigned)),
        (of(note(3, b"other", org, &log)), refused(CheckpointRefusal::OtherLog)),
        (of(note(3, b"other", mesh, &log)), refused(CheckpointRefusal::OtherLog)),
    ];
    for (evidence, expected) in cases {
        assert_eq!(evidence.verify(&ORIGIN, &keys), expected, "{evidence}");
    }
    assert_eq!(evidence.verify(&org, &keys), refused(CheckpointRefusal::OtherLog));
}

#[test]
fn of_a_note_the_lines_of_its_log_alone_are_left() {
    let (log, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
    let checkpoint = checkpoint(3);
    let mut cosigned = checkpoint.sign(&log);
    cosigned.add(checkpoint.cosign(OrgId([3; 32]), &other, Timestamp(7))).expect("room");
    let times: Vec<_> = cosigned.signatures().iter().map(|one| one.cosigned_at()).collect();
    assert_eq!(times, [None, Some(Timestamp(7))]);
    let name = ORIGIN.to_string();
    assert_eq!(cosigned.signed_alone_by(&name, &[other.public(), log.public()]), checkpoint.sign(&log));
}

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint { origin: ORIGIN, head: TreeHead { size, root: TreeHash::leaf(b"a leaf") } }
}

fn note(size: u64) -> Note {
    checkpoint(size).sign(&SigningKey::from_seed([1; 32]))
}
