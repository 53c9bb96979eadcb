//! Notes and checkpoints: what others signed is read, and what nobody signed is not believed.

use data_encoding::BASE64;
use meshd_trust::SigningKey;
use meshd_trust::log::{
    BadSignature, Checkpoint, CheckpointError, CheckpointKeys, CheckpointRefusal, InclusionProof,
    LOG_PROOF_BYTES_MAX, LogOrigin, LogProof, LogProofError, LogProofRefusal, NOTE_BYTES_MAX,
    NOTE_SIGNATURES_MAX, Note, NoteError, NoteSignature, PROOF_LEN_MAX, ProofRefusal, SIZE_MAX, TreeHash,
    TreeHead, log_verifier_key, prove_inclusion, witness_verifier_key,
};
use meshd_wire::{MeshId, OrgId, PublicKey, Timestamp};
use proptest::prelude::*;

use crate::tiles::{Log, leaf};

/// A checkpoint of a public log of certificates, with cosignatures of public witnesses.
const PUBLIC: &str = "\
arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

\u{2014} arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
\u{2014} arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
\u{2014} transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
\u{2014} witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
\u{2014} remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
\u{2014} witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
";
const PUBLIC_LOG_KEY: &str =
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const PUBLIC_WITNESS_KEY: &str = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";

/// The examples of C2SP signed-note and tlog-cosignature.
const EXAMPLES: [&str; 2] = [
    "Ognuno sta solo sul cuor della terra
trafitto da un raggio di sole:

ed è subito sera.

\u{2014} quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=
",
    "example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==
",
];

const MESH: MeshId = MeshId([1; 32]);
const ORG: OrgId = OrgId([2; 32]);
const WITNESS: OrgId = OrgId([3; 32]);
const ORIGIN: LogOrigin = LogOrigin { mesh: MESH, org: ORG };
const NOW: Timestamp = Timestamp(1_800_000_000);

#[test]
fn a_note_of_others_is_read_and_written_as_it_was() {
    for text in EXAMPLES.iter().copied().chain([PUBLIC]) {
        let note = Note::from_bytes(text.as_bytes()).unwrap();
        assert_eq!(note.to_string(), text);
    }
    let poem = Note::from_bytes(EXAMPLES[0].as_bytes()).unwrap();
    assert!(poem.text().ends_with("\n\ned è subito sera.\n"), "a text may have blank lines");
    assert_eq!(poem.signatures()[0].name(), "quasimodo.example/salvatore");
}

#[test]
fn signatures_of_public_logs_and_witnesses_verify() {
    let note = Note::from_bytes(PUBLIC.as_bytes()).unwrap();
    let (log, log_key) = verifier_key(PUBLIC_LOG_KEY);
    let (witness, witness_key) = verifier_key(PUBLIC_WITNESS_KEY);
    assert_eq!(note.is_signed_by(log, &log_key), Ok(true));
    assert_eq!(note.cosigned_by(witness, &witness_key), Ok(Some(Timestamp(0x6a12_2120))));
    assert_eq!(log_verifier_key(log, &log_key), PUBLIC_LOG_KEY);
    assert_eq!(witness_verifier_key(witness, &witness_key), PUBLIC_WITNESS_KEY);
    // A name alone, or a key alone, is nobody.
    assert_eq!(note.is_signed_by(witness, &log_key), Ok(false));
    assert_eq!(note.is_signed_by(log, &witness_key), Ok(false));
    assert_eq!(note.cosigned_by(log, &log_key), Ok(None));
}

#[test]
fn the_key_of_the_example_has_its_number() {
    let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let (name, public) = verifier_key(key);
    assert_eq!(log_verifier_key(name, &public), key);
    let text = "If you think cryptography is the answer to your problem,\n\
                then you don't know what your problem is.\n\n\
                \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    let note = Note::from_bytes(text.as_bytes()).unwrap();
    assert_eq!(note.is_signed_by(name, &public), Ok(true));
}

#[test]
fn no_flipped_bit_of_a_public_note_is_missed() {
    let (log, log_key) = verifier_key(PUBLIC_LOG_KEY);
    let (witness, witness_key) = verifier_key(PUBLIC_WITNESS_KEY);
    for bit in 0..PUBLIC.len() * 8 {
        let mut bytes = PUBLIC.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(note) = Note::from_bytes(&bytes) else { continue };
        let is_text_same = PUBLIC.starts_with(&format!("{}\n\u{2014}", note.text()));
        let signed = note.is_signed_by(log, &log_key);
        let cosigned = note.cosigned_by(witness, &witness_key);
        if !is_text_same {
            assert!(signed != Ok(true) && !matches!(cosigned, Ok(Some(_))), "bit {bit}");
        } else if signed == Ok(true) && cosigned == Ok(Some(Timestamp(0x6a12_2120))) {
            // Then the flip is in the line of a key that is not known here.
            let line = PUBLIC[..].bytes().take(bit / 8).filter(|byte| *byte == b'\n').count();
            assert!([4, 6, 7, 9].contains(&line), "bit {bit} in line {line}");
        }
    }
}

#[test]
fn malformed_notes_are_refused() {
    let line = "\u{2014} name AAAAAAA=\n";
    let is = |text: String| Note::from_bytes(text.as_bytes()).map(|note| note.to_string());
    assert_eq!(is(format!("text\n\n{line}")), Ok(format!("text\n\n{line}")));
    assert_eq!(is(format!("\n\n{line}")), Ok(format!("\n\n{line}")), "an empty line is a text");
    for (malformed, expected) in [
        (String::new(), NoteError::Shape),
        ("text\n".into(), NoteError::Shape),
        (format!("text\n{line}"), NoteError::Shape),
        (format!("text\n\n{}", line.trim_end()), NoteError::Shape),
        ("text\n\n".into(), NoteError::Shape),
        (format!("text\n\n{line}\n"), NoteError::Shape),
        (format!("te\txt\n\n{line}"), NoteError::Text),
        (format!("text\r\n\r\n{line}"), NoteError::Text),
        (format!("text\n\n{line}{line}"), NoteError::Repeated),
        ("text\n\n\u{2014}  AAAAAAA=\n".into(), NoteError::Line),
        ("text\n\n\u{2014} name\n".into(), NoteError::Line),
        ("text\n\n\u{2014} na+me AAAAAAA=\n".into(), NoteError::Line),
        ("text\n\n\u{2014} na\u{2003}me AAAAAAA=\n".into(), NoteError::Line),
        ("text\n\n- name AAAAAAA=\n".into(), NoteError::Line),
        ("text\n\n\u{2014} name AAAAAAA\n".into(), NoteError::Line),
        ("text\n\n\u{2014} name AAAAAAB=\n".into(), NoteError::Line),
        ("text\n\n\u{2014} name AAAAAA==\n".into(), NoteError::Line),
        ("text\n\n\u{2014} name AAAAAAA= \n".into(), NoteError::Line),
        ("text\n\n\u{2014} name AAAAAAA=AAAA\n".into(), NoteError::Line),
    ] {
        assert_eq!(is(malformed.clone()), Err(expected), "{malformed:?}");
    }
    assert_eq!(Note::from_bytes(b"te\xffxt\n\n"), Err(NoteError::Text));
}

#[test]
fn notes_are_bounded() {
    let note = |signatures: usize| {
        let line = |n: usize| format!("\u{2014} name{n} AAAAAAA=\n");
        format!("text\n\n{}", (0..signatures).map(line).collect::<String>())
    };
    let mut full = Note::from_bytes(note(NOTE_SIGNATURES_MAX).as_bytes()).unwrap();
    assert_eq!(Note::from_bytes(note(NOTE_SIGNATURES_MAX + 1).as_bytes()), Err(NoteError::TooMany));
    let one_more: NoteSignature = "\u{2014} new AAAAAAA=".parse().unwrap();
    assert_eq!(full.add(one_more), Err(NoteError::TooMany));
    let again: NoteSignature = "\u{2014} name7 AAAAAAE=".parse().unwrap();
    full.add(again.clone()).unwrap();
    assert_eq!((full.signatures().len(), &full.signatures()[7]), (NOTE_SIGNATURES_MAX, &again));
    let long = format!("{}{}", "t".repeat(NOTE_BYTES_MAX), note(1));
    assert_eq!(Note::from_bytes(long.as_bytes()), Err(NoteError::TooLarge(long.len())));
    assert!(Note::from_bytes(&long.as_bytes()[long.len() - NOTE_BYTES_MAX..]).is_ok());
    let line = format!("\u{2014} {} AAAAAAA=", "n".repeat(NOTE_BYTES_MAX));
    assert_eq!(line.parse::<NoteSignature>(), Err(NoteError::TooLarge(line.len())));
    // The largest note that meshd can have to write: every organisation of a mesh with two keys.
    let mut largest = checkpoint(SIZE_MAX).sign(&key(1));
    for org in 0..63 {
        for number in 0..2 {
            let signature = checkpoint(SIZE_MAX).cosign(OrgId([org; 32]), &key(number), NOW);
            largest.add(signature).unwrap();
        }
    }
    assert_eq!(Note::from_bytes(largest.to_string().as_bytes()), Ok(largest));
}

#[test]
fn a_checkpoint_is_believed_with_its_cosignatures() {
    let verified = keys().verify(&cosigned(), &ORIGIN).unwrap();
    assert_eq!(verified.checkpoint, checkpoint(1000));
    assert_eq!(verified.cosigned, [(WITNESS, NOW)].into());
    let nobody = CheckpointKeys { witnesses: vec![], ..keys() };
    assert!(nobody.verify(&cosigned(), &ORIGIN).unwrap().cosigned.is_empty(), "of an unknown key");
}

#[test]
fn both_keys_of_a_log_and_a_witness_count_while_one_follows_the_other() {
    let both = CheckpointKeys {
        log: vec![key(9).public(), key(1).public()],
        witnesses: vec![(WITNESS, key(2).public()), (WITNESS, key(8).public())],
    };
    assert_eq!(both.verify(&cosigned(), &ORIGIN).unwrap().cosigned, [(WITNESS, NOW)].into());
    let mut twice = cosigned();
    twice.add(checkpoint(1000).cosign(WITNESS, &key(8), NOW.plus(1))).unwrap();
    assert_eq!(both.verify(&twice, &ORIGIN).unwrap().cosigned, [(WITNESS, NOW)].into(), "the first counts");
}

#[test]
fn who_is_not_entitled_is_not_believed() {
    let refused = |keys: CheckpointKeys, note: &Note| keys.verify(note, &ORIGIN).unwrap_err();
    let stranger = CheckpointKeys { log: vec![key(7).public()], ..keys() };
    assert_eq!(refused(stranger, &cosigned()), CheckpointRefusal::Unsigned);
    assert_eq!(refused(CheckpointKeys::default(), &cosigned()), CheckpointRefusal::Unsigned);
    // A cosignature is no signature of the log, not even by the log's own key.
    let witness_as_log = CheckpointKeys { log: vec![key(2).public()], ..keys() };
    assert_eq!(refused(witness_as_log, &cosigned()), CheckpointRefusal::Unsigned);
    let mut own = checkpoint(1000).sign(&key(7));
    own.add(checkpoint(1000).cosign(ORG, &key(1), NOW)).unwrap();
    assert_eq!(refused(keys(), &own), CheckpointRefusal::Unsigned);
    // The witness of one organisation does not cosign for another.
    let other_org = CheckpointKeys { witnesses: vec![(OrgId([4; 32]), key(2).public())], ..keys() };
    assert!(other_org.verify(&cosigned(), &ORIGIN).unwrap().cosigned.is_empty());
}

#[test]
fn a_wrong_signature_in_the_name_of_the_log_refuses_the_note() {
    let line = cosigned().to_string().lines().nth(4).unwrap().to_owned();
    let other = checkpoint(999).sign(&key(1)).to_string().lines().nth(4).unwrap().to_owned();
    let forged = Note::from_bytes(cosigned().to_string().replace(&line, &other).as_bytes()).unwrap();
    assert_eq!(forged.is_signed_by(&ORIGIN.to_string(), &key(1).public()), Err(BadSignature));
    // Not even the log's second key makes up for it.
    let mut both = checkpoint(1000).sign(&key(9));
    both.add(other.parse().unwrap()).unwrap();
    let keys = CheckpointKeys { log: vec![key(9).public(), key(1).public()], ..keys() };
    assert_eq!(keys.verify(&both, &ORIGIN), Err(BadSignature.into()));
}

#[test]
fn a_checkpoint_of_another_log_or_mesh_is_refused() {
    for origin in [LogOrigin { org: WITNESS, ..ORIGIN }, LogOrigin { mesh: MeshId([9; 32]), ..ORIGIN }] {
        assert_eq!(keys().verify(&cosigned(), &origin), Err(CheckpointRefusal::OtherLog));
    }
}

#[test]
fn a_cosignature_of_another_checkpoint_or_time_refuses_the_note() {
    let mut note = checkpoint(1000).sign(&key(1));
    note.add(checkpoint(999).cosign(WITNESS, &key(2), NOW)).unwrap();
    assert_eq!(keys().verify(&note, &ORIGIN), Err(BadSignature.into()));
    let late = checkpoint(1000).cosign(WITNESS, &key(2), Timestamp(1 << 63));
    note.add(late).unwrap();
    assert_eq!(
        keys().verify(&note, &ORIGIN),
        Err(BadSignature.into()),
        "a time that others read as negative"
    );
    note.add(checkpoint(1000).cosign(WITNESS, &key(2), NOW)).unwrap();
    assert!(keys().verify(&note, &ORIGIN).is_ok());
}

#[test]
fn no_flipped_bit_of_a_checkpoint_is_missed() {
    let text = cosigned().to_string();
    let believed = keys().verify(&cosigned(), &ORIGIN).unwrap();
    for bit in 0..text.len() * 8 {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(note) = Note::from_bytes(&bytes) else { continue };
        // A flip in the name or number of the witness makes it somebody unknown; all else is refused.
        if let Ok(verified) = keys().verify(&note, &ORIGIN) {
            assert_eq!(verified.checkpoint, believed.checkpoint, "bit {bit}");
            assert!(verified.cosigned.is_empty(), "bit {bit}");
        }
    }
}

#[test]
fn what_a_log_signed_must_be_a_checkpoint() {
    let root = TreeHash::empty();
    let largest = format!("{ORIGIN}\n{SIZE_MAX}\n{root}\n");
    assert_eq!(largest.parse::<Checkpoint>().unwrap().to_string(), largest);
    for (text, expected) in [
        (format!("{ORIGIN}\n05\n{root}\n"), CheckpointError::Size),
        (format!("{ORIGIN}\n+5\n{root}\n"), CheckpointError::Size),
        (format!("{ORIGIN}\n-5\n{root}\n"), CheckpointError::Size),
        (format!("{ORIGIN}\n\n{root}\n"), CheckpointError::Size),
        (format!("{ORIGIN}\n{}\n{root}\n", SIZE_MAX + 1), CheckpointError::Size),
        (format!("{ORIGIN}\n5\n{root}"), CheckpointError::Lines),
        (format!("{ORIGIN}\n5\n{root}\nextension\n"), CheckpointError::Lines),
        (format!("{ORIGIN}\n5\n{root}\n\n"), CheckpointError::Lines),
        (format!("{ORIGIN}\n5\n"), CheckpointError::Lines),
        (format!("{ORIGIN}\n5\n{}\n", &root.to_string()[1..]), CheckpointError::Root),
        (format!("example.com/log\n5\n{root}\n"), CheckpointError::Origin),
        (format!("{ORIGIN}/x\n5\n{root}\n"), CheckpointError::Origin),
        (format!("{}\n5\n{root}\n", ORIGIN.to_string().to_uppercase()), CheckpointError::Origin),
        (format!("{}\n5\n{root}\n", ORIGIN.to_string().replace("/aea", "/AEA")), CheckpointError::Origin),
        (format!("meshd/{MESH}\n5\n{root}\n"), CheckpointError::Origin),
    ] {
        assert_eq!(text.parse::<Checkpoint>(), Err(expected), "{text:?}");
    }
    // Signed by the log all the same.
    let note = format!("{ORIGIN}\n05\n{root}\n");
    let note = signed_by_hand(&note);
    assert_eq!(keys().verify(&note, &ORIGIN), Err(CheckpointRefusal::Malformed(CheckpointError::Size)));
}

#[test]
fn a_proof_beside_a_record_is_believed() {
    let (proof, log) = proof();
    let read = LogProof::from_bytes(proof.to_string().as_bytes()).unwrap();
    assert_eq!(read, proof);
    let verified = read.verify(&leaf(777), &ORIGIN, &keys()).unwrap();
    assert_eq!(verified.checkpoint.head, log.edge.head());
    assert_eq!(verified.cosigned, [(WITNESS, NOW)].into());
    assert_eq!(
        read.verify(&leaf(776), &ORIGIN, &keys()),
        Err(LogProofRefusal::Leaf(ProofRefusal::Root)),
        "another leaf"
    );
    assert_eq!(
        read.verify(&leaf(777), &LogOrigin { org: WITNESS, ..ORIGIN }, &keys()),
        Err(LogProofRefusal::Checkpoint(CheckpointRefusal::OtherLog))
    );
}

#[test]
fn no_flipped_bit_of_a_proof_is_missed() {
    let text = proof().0.to_string();
    for bit in 0..text.len() * 8 {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(read) = LogProof::from_bytes(&bytes) else { continue };
        if let Ok(verified) = read.verify(&leaf(777), &ORIGIN, &keys()) {
            assert!(verified.cosigned.is_empty(), "bit {bit}");
        }
    }
}

#[test]
fn malformed_proofs_are_refused() {
    let text = proof().0.to_string();
    let is = |text: &str| LogProof::from_bytes(text.as_bytes());
    let hash = leaf(0);
    let path = format!("{hash}\n").repeat(PROOF_LEN_MAX);
    let longest = text.replacen("index 777\n", &format!("index 777\n{path}"), 1);
    for malformed in [
        text.replacen("index 777", "index 0777", 1),
        text.replacen("index 777", "index", 1),
        text.replacen("index 777\n", "extra AAAA\nindex 777\n", 1),
        text.replacen("@v1", "@v2", 1),
        text.replacen("\n\n", "\n", 1),
        format!("\n{text}"),
        longest.clone(),
        String::new(),
    ] {
        assert_eq!(is(&malformed), Err(LogProofError::Shape), "{malformed:?}");
    }
    assert_eq!(is("c2sp.org/tlog-proof@v1\nindex 0\n\ntext\n"), Err(LogProofError::Note(NoteError::Shape)));
    let short = cosigned();
    let full =
        LogProof { inclusion: InclusionProof { index: 0, path: vec![hash; PROOF_LEN_MAX] }, note: short };
    assert_eq!(is(&full.to_string()), Ok(full));
    let long = "x".repeat(LOG_PROOF_BYTES_MAX + 1);
    assert_eq!(is(&long), Err(LogProofError::TooLarge(long.len())));
}

#[test]
fn a_proof_has_its_bytes() {
    let log = Log::of(3);
    let inclusion = prove_inclusion(&log.tiles, 0, 3).unwrap();
    let checkpoint = Checkpoint { origin: ORIGIN, head: log.edge.head() };
    let mut note = checkpoint.sign(&key(1));
    note.add(checkpoint.cosign(WITNESS, &key(2), NOW)).unwrap();
    assert_eq!(LogProof { inclusion, note }.to_string(), GOLDEN);
}

/// Computed a second time by another program, in Python.
const GOLDEN: &str = "\
c2sp.org/tlog-proof@v1
index 0
KuHBnAy9N45GySep82EZI+wHzBrjV1AqCVNtRVJ1zyE=
2B9ReB7rj0ag4RLobKM1iWzMEs7gDmz89Yo1ARKd/CQ=

meshd/aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq/aibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaiba
3
m0ll+LIgukL3A5rQeByWbPkLsa6hWoBYbWNLMiqx9M4=

\u{2014} meshd/aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq/aibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaiba uHJYbxfxnN7UVCOIvaADfWUplsSCMw51s/MWFn1D+keTzGKO8e0vhd+dP5bWHWBatcza+/7whOu1zzjd+vtuf7kzEgw=
\u{2014} meshd/aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq/ambqgaydambqgaydambqgaydambqgaydambqgaydambqgaydambq zPaZ/wAAAABrSdIAAcm5duexT03ZQ51AOt7a/TnzBHQVjvBJuFk8tNVoKOpaGMh9snYLQMseXtMg8oynPYoMHTAuIO2WJntp1HkmCw==
";

proptest! {
    #[test]
    fn any_text_is_refused_or_written_as_it_was(text in "[a-z\u{2014} +=/A\n]{0,80}") {
        if let Ok(note) = Note::from_bytes(text.as_bytes()) {
            prop_assert_eq!(note.to_string(), text);
        }
    }

    #[test]
    fn any_checkpoint_survives_a_round_trip(
        ids in any::<[[u8; 32]; 3]>(),
        size in 0..=SIZE_MAX,
        index in any::<u64>(),
        path in proptest::collection::vec(any::<[u8; 32]>().prop_map(TreeHash), 0..=PROOF_LEN_MAX),
    ) {
        let [mesh, org, root] = ids;
        let origin = LogOrigin { mesh: MeshId(mesh), org: OrgId(org) };
        let checkpoint = Checkpoint { origin, head: TreeHead { size, root: TreeHash(root) } };
        prop_assert_eq!(checkpoint.to_string().parse(), Ok(checkpoint));
        let note = checkpoint.sign(&key(1));
        prop_assert_eq!(keys().verify(&note, &origin).unwrap().checkpoint, checkpoint);
        let proof = LogProof { inclusion: InclusionProof { index, path }, note };
        prop_assert_eq!(LogProof::from_bytes(proof.to_string().as_bytes()), Ok(proof));
    }
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed([byte; 32])
}

fn keys() -> CheckpointKeys {
    CheckpointKeys { log: vec![key(1).public()], witnesses: vec![(WITNESS, key(2).public())] }
}

fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint { origin: ORIGIN, head: TreeHead { size, root: leaf(size) } }
}

/// A checkpoint of the log with the cosignature of one witness.
fn cosigned() -> Note {
    let mut note = checkpoint(1000).sign(&key(1));
    note.add(checkpoint(1000).cosign(WITNESS, &key(2), NOW)).unwrap();
    note
}

/// Proof of leaf 777 of 1,000.
fn proof() -> (LogProof, Log) {
    let log = Log::of(1000);
    let checkpoint = Checkpoint { origin: ORIGIN, head: log.edge.head() };
    let mut note = checkpoint.sign(&key(1));
    note.add(checkpoint.cosign(WITNESS, &key(2), NOW)).unwrap();
    (LogProof { inclusion: prove_inclusion(&log.tiles, 777, 1000).unwrap(), note }, log)
}

/// A text that meshd would not sign as a checkpoint, signed with the log's key.
fn signed_by_hand(text: &str) -> Note {
    use ed25519_dalek::Signer;

    let (_, number) = log_verifier_key(&ORIGIN.to_string(), &key(1).public())
        .split_once('+')
        .map(|(name, rest)| (name.to_owned(), rest[..8].to_owned()))
        .unwrap();
    let number = data_encoding::HEXLOWER.decode(number.as_bytes()).unwrap();
    let signature = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).sign(text.as_bytes()).to_bytes();
    let line = BASE64.encode(&[&number[..], &signature].concat());
    Note::from_bytes(format!("{text}\n\u{2014} {ORIGIN} {line}\n").as_bytes()).unwrap()
}

/// Name and key out of a line that tools write.
fn verifier_key(line: &str) -> (&str, PublicKey) {
    let mut parts = line.splitn(3, '+');
    let (name, _number, base64) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let bytes = BASE64.decode(base64.as_bytes()).unwrap();
    (name, PublicKey(bytes[1..].try_into().unwrap()))
}
