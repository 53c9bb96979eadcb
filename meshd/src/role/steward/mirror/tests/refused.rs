//! What a copy does not take from a log.

use super::*;

#[test]
fn cosigned_checkpoints_that_are_not_what_they_say_are_not_kept() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 2);
    pull(&mut alpha, &mut beta);
    let (dir, before) = (copy_dir(&alpha, &beta), from(&mut beta, &alpha));
    let log = alpha.steward.log.as_ref().expect("is open");
    let (origin, head) = (log.origin(), log.head());
    let checkpoint = Checkpoint { origin, head };
    let signed = log.note_of(head.size).expect("reads");
    let (log_key, witness) = (alpha.steward.seeds.log(), beta.steward.seeds.witness());
    let stranger = SigningKey::from_seed([7; 32]);
    let org = beta.org;
    let with = |note: &Note, checkpoint: &Checkpoint, key: &SigningKey| {
        let mut note = note.clone();
        note.add(checkpoint.cosign(org, key, NOW)).expect("room");
        note
    };
    let other = Checkpoint { origin, head: TreeHead { root: TreeHash::leaf(b"other"), ..head } };
    let larger = Checkpoint { origin, head: TreeHead { size: head.size + 1, ..head } };
    let refused = [
        signed.clone(),
        with(&signed, &checkpoint, &stranger),
        with(&signed, &other, &witness),
        with(&other.sign(&stranger), &other, &witness),
        with(&other.sign(&log_key), &other, &witness),
        with(&larger.sign(&log_key), &larger, &witness),
    ];
    let give = |beta: &mut Home, alpha: &mut Home, cosigned: Vec<Vec<u8>>| {
        let page = Copied { cosigned, ..ask(alpha, before) };
        beta.steward.on_copied(before, page, &terms(alpha, beta)).expect("is taken")
    };
    let bytes = |note: &Note| note.to_string().into_bytes();
    let all = refused.iter().map(bytes).chain([b"no note".to_vec()]).collect();
    assert!(!give(&mut beta, &mut alpha, all));
    assert!(!dir.join("checkpoints").exists());

    // One that is, is kept without what strangers have signed.
    let honest = with(&signed, &checkpoint, &witness);
    let beside = with(&honest, &checkpoint, &stranger);
    assert!(give(&mut beta, &mut alpha, vec![bytes(&beside)]));
    assert_eq!(fs::read(dir.join(format!("checkpoints/{}", head.size))).expect("is kept"), bytes(&honest));
    assert!(!give(&mut beta, &mut alpha, vec![bytes(&beside)]));
}

#[test]
fn leaves_that_the_checkpoint_does_not_have_are_not_kept() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 1);
    pull(&mut alpha, &mut beta);
    let before = files(&copy_dir(&alpha, &beta));
    invite(&mut alpha, 1);
    let from = from(&mut beta, &alpha);
    let honest = terms(&alpha, &beta);
    let stranger =
        CopyTerms { log_keys: vec![SigningKey::from_seed([7; 32]).public()], ..terms(&alpha, &beta) };
    let mut give = |terms: &CopyTerms, from, change: &dyn Fn(&mut Copied)| {
        let mut page = ask(&mut alpha, from);
        change(&mut page);
        beta.steward.on_copied(from, page, terms)
    };
    let other_leaf = give(&honest, from, &|page| page.rows[0].leaf[3] ^= 1);
    assert!(matches!(other_leaf, Err(NotCopied::Other { .. })), "{other_leaf:?}");
    let too_many = give(&honest, from - 1, &|_| {});
    assert!(matches!(too_many, Ok(false)), "an answer to another question: {too_many:?}");
    let no_leaf = give(&honest, from, &|page| page.rows.clear());
    assert!(matches!(no_leaf, Err(NotCopied::Other { .. })), "{no_leaf:?}");
    let no_note = give(&honest, from, &|page| page.checkpoint.clear());
    assert!(matches!(no_note, Err(NotCopied::Checkpoint)), "{no_note:?}");
    let not_signed = give(&stranger, from, &|_| {});
    assert!(matches!(not_signed, Err(NotCopied::Checkpoint)), "{not_signed:?}");
    assert!(files(&copy_dir_of(&beta, &honest.org)) == before);
    assert!(pull_page(&mut alpha, &mut beta).expect("is taken"));
}

#[test]
fn a_log_that_signs_another_tree_of_the_size_of_the_copy_leaves_evidence() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 2);
    pull(&mut alpha, &mut beta);
    let (at, before) = (from(&mut beta, &alpha), files(&copy_dir(&alpha, &beta)));
    let log = alpha.steward.log.as_ref().expect("is open");
    let head = TreeHead { root: TreeHash::leaf(b"other"), ..log.head() };
    let other = Checkpoint { origin: log.origin(), head }.sign(&alpha.steward.seeds.log());
    let page = Copied { rows: Vec::new(), checkpoint: other.to_string().into_bytes(), cosigned: Vec::new() };
    let refused = beta.steward.on_copied(at, page, &terms(&alpha, &beta));
    let Err(NotCopied::Forked(evidence)) = refused else { panic!("{refused:?}") };
    let keys = CheckpointKeys { log: terms(&alpha, &beta).log_keys, witnesses: Vec::new() };
    assert_eq!(evidence.verify(&LogOrigin { mesh: alpha.mesh, org: alpha.org }, &keys), Ok(()));
    assert!(files(&copy_dir(&alpha, &beta)) == before);
}

#[test]
fn a_record_that_its_leaf_does_not_name_is_missing_and_holds_up_nothing() {
    let [mut alpha, mut beta] = Home::found_two(1);
    alpha.admit(&secrets(1), "n1");
    let mut page = ask(&mut alpha, 0);
    let named = page.rows.iter().position(|row| !row.record.is_empty()).expect("a record");
    page.rows[named].record.push(0);
    let others: Vec<Vec<u8>> = page.rows.iter().map(|row| row.record.clone()).collect();
    assert!(beta.steward.on_copied(0, page, &terms(&alpha, &beta)).expect("is taken"));
    let copy = Mirror::open(&copy_dir(&alpha, &beta)).expect("opens");
    for (at, (row, record)) in copy.rows.iter().zip(others).enumerate() {
        assert_eq!(row.record, if at == named { Vec::new() } else { record });
    }
}

#[test]
fn a_log_that_has_forgotten_leaves_takes_nothing_away() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 1);
    let early = ask(&mut alpha, 0);
    invite(&mut alpha, 1);
    pull(&mut alpha, &mut beta);
    let (before, from) = (files(&copy_dir(&alpha, &beta)), from(&mut beta, &alpha));
    let page = Copied { rows: Vec::new(), ..early };
    let refused = beta.steward.on_copied(from, page, &terms(&alpha, &beta));
    assert!(matches!(refused, Err(NotCopied::Shrunk { .. })), "{refused:?}");
    assert!(files(&copy_dir(&alpha, &beta)) == before);
}

#[test]
fn more_leaves_than_fit_into_a_tile_are_no_page() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, SOME);
    let (mut page, next) = (ask(&mut alpha, 0), ask(&mut alpha, TILE_WIDTH));
    page.rows.extend(next.rows);
    page.checkpoint = next.checkpoint;
    let refused = beta.steward.on_copied(0, page, &terms(&alpha, &beta));
    assert!(matches!(refused, Err(NotCopied::Other { .. })), "{refused:?}");
}

#[test]
fn strangers_have_no_place_on_the_checkpoint() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 1);
    let mut page = ask(&mut alpha, 0);
    let honest = page.checkpoint.clone();
    let mut note = Note::from_bytes(&honest).expect("a note");
    let log = alpha.steward.log.as_ref().expect("is open");
    let checkpoint = Checkpoint { origin: log.origin(), head: log.head() };
    note.add(checkpoint.cosign(beta.org, &SigningKey::from_seed([7; 32]), NOW)).expect("room");
    page.checkpoint = note.to_string().into();
    assert!(beta.steward.on_copied(0, page, &terms(&alpha, &beta)).expect("is taken"));
    assert_eq!(fs::read(copy_dir(&alpha, &beta).join("checkpoint")).expect("reads"), honest);
}

#[test]
fn a_row_has_the_record_that_its_leaf_names() {
    let leaf = |record| Leaf {
        record,
        ..Leaf::new(NOW, LeafKind::Renew, OrgId([1; 32]), Subject([2; 32]), KeyId([3; 32]))
    };
    let kept = |leaf: &[u8], record: Vec<u8>| {
        let len = record.len();
        with_its_record(&MeshId([1; 32]), CopiedRow { leaf: leaf.to_vec(), record }).record.len() == len
    };
    assert!(!kept(&leaf(None).to_bytes(), vec![1]));
    assert!(!kept(&leaf(Some(RecordId([4; 32]))).to_bytes(), vec![1]));
    // Of a newer release, whose leaves nobody here can read.
    assert!(kept(&[0xff], vec![1; RECORD_BYTES_MAX]) && !kept(&[0xff], vec![1; RECORD_BYTES_MAX + 1]));
}

#[test]
fn a_log_that_begins_anew_with_other_keys_is_copied_beside_what_it_was() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 5);
    pull(&mut alpha, &mut beta);
    let (at, before) = (from(&mut beta, &alpha), files(&copy_dir(&alpha, &beta)));
    let next = SigningKey::from_seed([8; 32]);
    let origin = alpha.steward.log.as_ref().expect("is open").origin();
    let row = CopiedRow { leaf: vec![1; 9], record: Vec::new() };
    let head = TreeHead { size: 1, root: TreeHash::leaf(&row.leaf) };
    let checkpoint = Checkpoint { origin, head }.sign(&next).to_string().into_bytes();
    let mut terms = terms(&alpha, &beta);
    let shrunk = || Copied { rows: Vec::new(), checkpoint: checkpoint.clone(), cosigned: Vec::new() };
    // As long as the key before may sign it is the log that is wrong.
    terms.log_keys.push(next.public());
    beta.steward.on_copied(at, shrunk(), &terms).expect_err("has fewer leaves");
    assert_eq!(from(&mut beta, &alpha), at);
    terms.log_keys.remove(0);
    beta.steward.on_copied(at, shrunk(), &terms).expect_err("has fewer leaves");
    assert_eq!(from(&mut beta, &alpha), 0);
    let page = Copied { rows: vec![row], checkpoint, cosigned: Vec::new() };
    assert!(beta.steward.on_copied(0, page, &terms).expect("is taken"));
    assert!(files(&copy_dir(&alpha, &beta).with_extension(FORMER)) == before);
}

#[test]
fn cosigned_checkpoints_of_two_trees_of_one_size_are_evidence() {
    let [mut alpha, mut beta] = Home::found_two(1);
    invite(&mut alpha, 2);
    cosign(&mut alpha, &mut beta, 0).expect("is cosigned");
    pull(&mut alpha, &mut beta);
    let at = from(&mut beta, &alpha);
    let origin = alpha.steward.log.as_ref().expect("is open").origin();
    let other = Checkpoint { origin, head: TreeHead { size: at, root: TreeHash::leaf(b"other") } };
    let mut note = other.sign(&alpha.steward.seeds.log());
    note.add(other.cosign(beta.org, &beta.steward.seeds.witness(), NOW)).expect("room");
    let page = Copied { cosigned: vec![note.to_string().into()], ..ask(&mut alpha, at) };
    let refused = beta.steward.on_copied(at, page, &terms(&alpha, &beta));
    let Err(NotCopied::Forked(evidence)) = refused else { panic!("{refused:?}") };
    let keys = CheckpointKeys { log: terms(&alpha, &beta).log_keys, witnesses: Vec::new() };
    assert_eq!(evidence.verify(&origin, &keys), Ok(()));
}
