//! What a node makes of checkpoints and evidence that anybody hands over.

use meshd_trust::SigningKey;
use meshd_trust::log::{BadSignature, Checkpoint, TreeHash, TreeHead};
use meshd_wire::{MeshId, Timestamp};
use tempfile::TempDir;

use super::super::fixture::Meadow;
use super::*;

const NOW_AND_AT_ONCE: Duration = Duration::ZERO;

/// A node of the meadow and its state directory.
struct Node {
    meadow: Meadow,
    roster: Roster,
    dir: TempDir,
    checkpoints: Checkpoints,
}

impl Node {
    fn new() -> Self {
        let (meadow, dir) = (Meadow::new(), tempfile::tempdir().expect("directory"));
        let roster = meadow.roster([1]);
        let checkpoints = Checkpoints::open(dir.path(), &roster);
        Self { meadow, roster, dir, checkpoints }
    }

    fn restart(&mut self) {
        self.checkpoints = Checkpoints::open(self.dir.path(), &self.roster);
    }

    fn origin(&self) -> LogOrigin {
        LogOrigin { mesh: self.meadow.mesh, org: self.meadow.org }
    }

    fn hear(&mut self, note: &Note) -> Result<Option<Evidence>, CheckpointRefusal> {
        let when = (Instant::now(), NOW_AND_AT_ONCE);
        self.checkpoints.hear(&self.roster, self.meadow.org, note, when)
    }

    fn file(&self, dir: &str) -> std::path::PathBuf {
        self.dir.path().join(dir).join(self.meadow.org.to_string())
    }

    /// A note of this tree by the key of the meadow's log.
    fn note(&self, size: u64, leaf: &[u8]) -> Note {
        checkpoint(self.origin(), size, leaf).sign(&log_key())
    }

    fn evidence(&self) -> Evidence {
        Evidence::new(self.note(3, b"one"), self.note(3, b"other"))
    }
}

#[test]
fn the_first_checkpoint_is_kept_over_a_restart_and_told_without_what_others_signed() {
    let mut node = Node::new();
    let (plain, mut cosigned) = (node.note(3, b"one"), node.note(3, b"one"));
    let cosignature = checkpoint(node.origin(), 3, b"one").cosign(
        OrgId([9; 32]),
        &SigningKey::from_seed([9; 32]),
        Timestamp(7),
    );
    cosigned.add(cosignature).expect("room");
    assert_eq!(node.hear(&cosigned), Ok(None));
    assert_eq!(std::fs::read(node.file("checkpoints")).expect("is there"), plain.to_string().into_bytes());
    node.restart();
    assert_eq!(node.checkpoints.holdings(&node.roster), [], "nothing is told before it is looked after");
    node.checkpoints.logs.values_mut().for_each(|log| log.show(Instant::now()));
    let told = (Slot::Checkpoint(node.meadow.org), plain.to_string().into_bytes());
    assert_eq!(node.checkpoints.holdings(&node.roster), [told]);
    let evidence = node.hear(&node.note(3, b"other")).expect("is believed").expect("two faces");
    assert_eq!(evidence, node.evidence());
}

#[test]
fn what_the_log_has_not_signed_is_not_believed() {
    let mut node = Node::new();
    let stranger = SigningKey::from_seed([7; 32]);
    let mesh = LogOrigin { mesh: MeshId([9; 32]), ..node.origin() };
    let org = LogOrigin { org: OrgId([9; 32]), ..node.origin() };
    let of = |origin| checkpoint(origin, 3, b"one").sign(&log_key());
    let forged = node.note(3, b"one").to_string().replacen("\n3\n", "\n4\n", 1);
    let cases = [
        (checkpoint(node.origin(), 3, b"one").sign(&stranger), CheckpointRefusal::Unsigned),
        (of(mesh), CheckpointRefusal::OtherLog),
        (of(org), CheckpointRefusal::OtherLog),
        (Note::from_bytes(forged.as_bytes()).expect("a note"), CheckpointRefusal::Signature(BadSignature)),
    ];
    for (note, refusal) in cases {
        assert_eq!(node.hear(&note), Err(refusal), "{note}");
        let slot = Slot::Checkpoint(node.meadow.org);
        let is_misplaced = refusal == CheckpointRefusal::OtherLog && !note.text().contains(&mesh.to_string());
        assert_eq!(slot.suits(note.to_string().as_bytes()), !is_misplaced);
    }
    assert!(node.checkpoints.logs.is_empty());
    // An organisation that is not of the mesh has no log.
    let nobody = node.checkpoints.hear(&node.roster, org.org, &of(org), (Instant::now(), NOW_AND_AT_ONCE));
    assert_eq!(nobody, Err(CheckpointRefusal::Unsigned));
}

#[test]
fn evidence_is_kept_once_and_acted_upon_after_a_restart() {
    let mut node = Node::new();
    let (org, evidence) = (node.meadow.org, node.evidence());
    assert!(node.checkpoints.convict(&node.roster, org, &evidence));
    let further = Evidence::new(node.note(5, b"one"), node.note(5, b"other"));
    assert!(!node.checkpoints.convict(&node.roster, org, &further), "more of it says no more");
    for _ in 0..2 {
        assert_eq!(node.checkpoints.convicted(&node.roster), [org]);
        let told = (Slot::Evidence(org), evidence.to_string().into_bytes());
        assert_eq!(node.checkpoints.holdings(&node.roster), [told]);
        assert_eq!(
            std::fs::read(node.file("evidence")).expect("is there"),
            evidence.to_string().into_bytes()
        );
        assert_eq!(node.hear(&node.note(9, b"one")), Ok(None), "its checkpoints say nothing any more");
        assert!(node.checkpoints.logs.is_empty());
        node.restart();
    }
}

#[test]
fn lines_of_others_are_left_out_of_evidence() {
    let mut node = Node::new();
    let (org, clean) = (node.meadow.org, node.evidence());
    let mut padded = clean.clone();
    let witness = SigningKey::from_seed([4; 32]);
    let forged = checkpoint(node.origin(), 9, b"something else").cosign(org, &witness, Timestamp(1));
    padded.notes[0].add(forged).expect("room");
    assert!(node.checkpoints.convict(&node.roster, org, &padded));
    assert_eq!(std::fs::read(node.file("evidence")).expect("is there"), clean.to_string().into_bytes());
}

#[test]
fn evidence_that_convicts_nobody_is_not_kept() {
    let mut node = Node::new();
    let (org, stranger) = (node.meadow.org, SigningKey::from_seed([7; 32]));
    let mesh = LogOrigin { mesh: MeshId([9; 32]), ..node.origin() };
    let by = |origin, key: &SigningKey| {
        [b"one" as &[u8], b"other"].map(|leaf| checkpoint(origin, 3, leaf).sign(key))
    };
    let [one, other] = by(node.origin(), &stranger);
    let [here, there] = by(mesh, &log_key());
    let cases = [
        Evidence::new(node.note(3, b"one"), node.note(3, b"one")),
        Evidence::new(node.note(3, b"one"), node.note(4, b"other")),
        Evidence::new(node.note(3, b"one"), other.clone()),
        Evidence::new(one, other),
        Evidence::new(here, there),
    ];
    for evidence in cases {
        assert!(!node.checkpoints.convict(&node.roster, org, &evidence), "{evidence}");
        assert!(!node.checkpoints.convict(&node.roster, OrgId([9; 32]), &evidence));
    }
    assert!(node.checkpoints.convicted(&node.roster).is_empty());
    assert!(!node.file("evidence").exists());
    let text = node.evidence().to_string();
    assert!(Slot::Evidence(org).suits(text.as_bytes()) && Slot::Evidence(org).suits(b"unreadable"));
    assert!(!Slot::Evidence(OrgId([9; 32])).suits(text.as_bytes()), "of another organisation's log");
}

#[test]
fn damaged_files_are_as_good_as_none_and_are_replaced() {
    let mut node = Node::new();
    assert_eq!(node.hear(&node.note(3, b"one")), Ok(None));
    assert!(node.checkpoints.convict(&node.roster, node.meadow.org, &node.evidence()));
    for dir in ["checkpoints", "evidence"] {
        let path = node.file(dir);
        let sound = std::fs::read(&path).expect("is there");
        let half = sound[..sound.len() / 2].to_vec();
        let forged = String::from_utf8(sound.clone()).expect("text").replace("\n3\n", "\n4\n").into_bytes();
        for damaged in [half, forged, Vec::new(), vec![b'x'; 1 << 20]] {
            std::fs::write(&path, damaged).expect("is written");
            node.restart();
            let is_kept = match dir {
                "checkpoints" => !node.checkpoints.logs.is_empty(),
                _ => node.checkpoints.has_convicted(&node.roster, &node.meadow.org),
            };
            assert!(!is_kept, "{dir}");
        }
        std::fs::write(&path, sound).expect("is written");
    }
    std::fs::write(node.file("evidence"), b"damaged").expect("is written");
    node.restart();
    assert!(node.checkpoints.convict(&node.roster, node.meadow.org, &node.evidence()));
    assert_eq!(
        std::fs::read(node.file("evidence")).expect("is there"),
        node.evidence().to_string().into_bytes()
    );
}

#[test]
fn evidence_that_finds_no_room_on_the_disk_counts_and_is_stored_later() {
    let mut node = Node::new();
    let in_the_way = node.dir.path().join("evidence");
    std::fs::write(&in_the_way, b"").expect("is written");
    assert!(node.checkpoints.convict(&node.roster, node.meadow.org, &node.evidence()));
    assert!(node.checkpoints.has_convicted(&node.roster, &node.meadow.org));
    std::fs::remove_file(&in_the_way).expect("is removed");
    node.checkpoints.store_evidence();
    assert!(node.file("evidence").exists());
}

#[test]
fn what_is_no_growth_changes_nothing() {
    let mut node = Node::new();
    assert_eq!(node.hear(&node.note(3, b"one")), Ok(None));
    assert_eq!(node.hear(&node.note(9, b"other")), Ok(None));
    let (note, stranger) = (|size| node.note(size, b"one").to_string(), SigningKey::from_seed([7; 32]));
    let foreign = checkpoint(node.origin(), 3, b"other").sign(&stranger).to_string();
    let answers = [
        ("", String::new()),
        (&note(3) as &str, "hello".to_owned()),
        (&note(3), format!("old 3\n\n{foreign}")),
        (&foreign, format!("old 3\n\n{}", note(9))),
    ];
    let answers =
        answers.map(|(old, new)| Grown { old: old.as_bytes().to_vec(), new: new.as_bytes().to_vec() });
    let asked = node.note(9, b"other");
    for answer in answers {
        let org = node.meadow.org;
        let told = node.checkpoints.on_grown(&node.roster, org, asked.clone(), Some(answer), Instant::now());
        assert_eq!(told, None);
    }
    let kept = std::fs::read(node.file("checkpoints")).expect("is there");
    assert_eq!(kept, node.note(3, b"one").to_string().into_bytes());
    // The log itself signs another tree of a size that it was asked about.
    let grown = Grown {
        old: node.note(3, b"other").to_string().into_bytes(),
        new: format!("old 3\n\n{asked}").into_bytes(),
    };
    let told = node.checkpoints.on_grown(&node.roster, node.meadow.org, asked, Some(grown), Instant::now());
    assert_eq!(told, Some(node.evidence()));
}

fn log_key() -> SigningKey {
    SigningKey::from_seed([3; 32])
}

fn checkpoint(origin: LogOrigin, size: u64, leaf: &[u8]) -> Checkpoint {
    Checkpoint { origin, head: TreeHead { size, root: TreeHash::leaf(leaf) } }
}
