//! What an audit log is read from: the first byte chooses the format. What nobody signed is never believed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::edit::Script;
use meshd_fuzz::honest::{MESH, NOW, key, node_id};
use meshd_fuzz::seed;
use meshd_trust::log::{
    Checkpoint, CheckpointKeys, ConsistencyProof, CosignRequest, Evidence, InclusionProof, LogOrigin, LogProof,
    Note, NoteSignature, TileAddress, TreeHash, TreeHead, read_entries, write_entries,
};
use meshd_wire::{Leaf, LeafKind, Subject};

const NOTE: usize = 0;
const SIGNATURE: usize = 1;
const CHECKPOINT: usize = 2;
const PROOF: usize = 3;
const LEAF: usize = 4;
const ENTRIES: usize = 5;
/// The honest proof with some bytes changed.
const EDITED: usize = 6;
const REQUEST: usize = 7;
const EVIDENCE: usize = 8;
const CHOICES: usize = 9;

/// Proof of the first of two leaves, its checkpoint, and the keys of its log and one witness.
struct Honest {
    checkpoint: Checkpoint,
    proof: LogProof,
    leaf: Leaf,
    keys: CheckpointKeys,
}

static HONEST: LazyLock<Honest> = LazyLock::new(|| {
    let origin = LogOrigin { mesh: MESH.id, org: MESH.orgs[0] };
    let (log, witness) = (key("log", 0), key("witness", 1));
    let leaf = Leaf::new(NOW, LeafKind::Enrol, origin.org, Subject::from(node_id(1)), log.key_id());
    let (first, second) = (TreeHash::leaf(&leaf.to_bytes()), TreeHash::leaf(b"second"));
    let checkpoint = Checkpoint { origin, head: TreeHead { size: 2, root: TreeHash::node(&first, &second) } };
    let mut note = checkpoint.sign(&log);
    note.add(checkpoint.cosign(MESH.orgs[1], &witness, NOW)).expect("a note has room");
    Honest {
        checkpoint,
        proof: LogProof { inclusion: InclusionProof { index: 0, path: vec![second] }, note },
        leaf,
        keys: CheckpointKeys {
            log: vec![log.public()],
            witnesses: vec![(MESH.orgs[1], witness.public())],
        },
    }
});

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    match usize::from(*choice) % CHOICES {
        NOTE => {
            if let Ok(note) = Note::from_bytes(rest) {
                assert_eq!(note.to_string().as_bytes(), rest);
                believed(&note);
            }
        }
        SIGNATURE => {
            let Ok(text) = str::from_utf8(rest) else { return };
            if let Ok(signature) = text.parse::<NoteSignature>() {
                assert_eq!(signature.to_string(), text);
            }
        }
        CHECKPOINT => {
            let Ok(text) = str::from_utf8(rest) else { return };
            if let Ok(checkpoint) = text.parse::<Checkpoint>() {
                assert_eq!(checkpoint.to_string(), text);
            }
        }
        PROOF => proof(rest),
        LEAF => {
            if let Ok(leaf) = Leaf::from_bytes(rest) {
                assert_eq!(leaf.to_bytes(), rest);
            }
        }
        ENTRIES => entries(rest),
        REQUEST => {
            if let Ok(request) = CosignRequest::from_bytes(rest) {
                assert_eq!(request.to_string().as_bytes(), rest);
                believed(&request.note);
            }
        }
        EVIDENCE => {
            if let Ok(evidence) = Evidence::from_bytes(rest) {
                assert_eq!(evidence.to_string().as_bytes(), rest);
                evidence.notes.iter().for_each(believed);
                // Of one checkpoint nothing follows.
                assert!(evidence.verify(&HONEST.checkpoint.origin, &HONEST.keys).is_err());
            }
        }
        _ => {
            let mut edited = HONEST.proof.to_string().into_bytes();
            Script::new(rest).edit(&mut edited);
            proof(&edited);
        }
    }
}

fn proof(bytes: &[u8]) {
    let Ok(read) = LogProof::from_bytes(bytes) else { return };
    assert_eq!(read.to_string().as_bytes(), bytes);
    believed(&read.note);
    let leaf = TreeHash::leaf(&HONEST.leaf.to_bytes());
    if read.verify(&leaf, &HONEST.checkpoint.origin, &HONEST.keys).is_ok() {
        assert_eq!(read.inclusion, HONEST.proof.inclusion);
    }
}

/// Only the one checkpoint was signed.
fn believed(note: &Note) {
    if let Ok(verified) = HONEST.keys.verify(note, &HONEST.checkpoint.origin) {
        assert_eq!(verified.checkpoint, HONEST.checkpoint);
        assert!(verified.cosigned.values().all(|at| *at == NOW));
    }
}

fn entries(bytes: &[u8]) {
    let Some((width, rest)) = bytes.split_first() else { return };
    let Some(tile) = TileAddress::within(u64::from(*width), 0, 0) else { return };
    if let Ok(leaves) = read_entries(rest, tile) {
        assert_eq!(leaves.len(), usize::from(*width));
        assert!(rest.starts_with(&write_entries(leaves).expect("they fitted")));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let proof = &HONEST.proof;
    let leaf = HONEST.leaf.to_bytes();
    let bundle = write_entries([leaf.as_slice(), b"second"]).expect("they fit");
    let growth = ConsistencyProof { path: proof.inclusion.path.clone() };
    let request = CosignRequest { old: 1, growth, note: proof.note.clone() };
    let evidence = Evidence { notes: [proof.note.clone(), proof.note.clone()] };
    vec![
        seed::chosen(NOTE, proof.note.to_string().as_bytes()),
        seed::chosen(SIGNATURE, proof.note.signatures()[0].to_string().as_bytes()),
        seed::chosen(CHECKPOINT, HONEST.checkpoint.to_string().as_bytes()),
        seed::chosen(PROOF, proof.to_string().as_bytes()),
        seed::chosen(LEAF, &leaf),
        seed::chosen(ENTRIES, &[&[2], &bundle[..]].concat()),
        seed::chosen(EDITED, &[]),
        seed::chosen(REQUEST, request.to_string().as_bytes()),
        seed::chosen(EVIDENCE, evidence.to_string().as_bytes()),
    ]
}
