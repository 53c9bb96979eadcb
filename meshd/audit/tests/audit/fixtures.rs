//! Bundles of every kind with the verdict that each must get, for this verifier and for others.

use meshd_audit::{read_frames, write_frames};
use meshd_trust::log::{Checkpoint, LogOrigin, TileAddress, TreeHash, TreeHead, read_entries, write_entries};
use meshd_trust::{SigningKey, sign};
use meshd_wire::{Envelope, Leaf, LeafKind, MeshId, Subject};
use serde_json::json;

use crate::made::{Mesh, PERIOD, tunnel_key};
use crate::packed::{Files, pack, seal, unpack};

/// A bundle and what a verifier has to say.
pub struct Fixture {
    pub name: &'static str,
    /// Mesh id that the auditor gives.
    pub mesh: MeshId,
    pub bytes: Vec<u8>,
    pub exit: u8,
    /// Codes of all findings, sorted, each once.
    pub codes: Vec<&'static str>,
}

/// Files of all fixtures with `index.json`, which says what is expected of each.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let (mut files, mut index) = (Vec::new(), Vec::new());
    for Fixture { name, mesh, bytes, exit, codes } in all() {
        let file = format!("{name}.bundle");
        let mesh = mesh.to_string();
        index.push(json!({
            "file": file, "mesh": mesh, "period_s": PERIOD, "exit": exit, "codes": codes
        }));
        files.push((file, bytes));
    }
    let index = serde_json::to_vec_pretty(&index).expect("JSON");
    files.push(("index.json".to_owned(), index));
    files
}

/// All fixtures.
pub fn all() -> Vec<Fixture> {
    let mut all = lived();
    all.extend(rules());
    all.extend(changed());
    all.extend(refused());
    all
}

fn of(name: &'static str, mesh: &Mesh, exit: u8, codes: &[&'static str]) -> Fixture {
    Fixture { name, mesh: mesh.id, bytes: mesh.bundle(), exit, codes: codes.to_vec() }
}

/// Logs without fault.
fn lived() -> Vec<Fixture> {
    let two = Mesh::lived(2, 3);
    let one_of_two = {
        let mut files = unpack(&two.bundle());
        let other = format!("log/{}/", two.orgs[1].id);
        files.retain(|name, _| !name.starts_with(&other));
        Fixture { bytes: seal(&files), ..of("one-log-of-two", &two, 4, &["ABSENT"]) }
    };
    // Its certificate of seven days ends before its last key is due.
    let mut dormant = Mesh::new("care", 1);
    dormant.enrol("scanner", 0);
    dormant.checkpoint();
    for _ in 0..13 {
        dormant.now += PERIOD;
        dormant.rotate_all();
    }
    dormant.now += 2 * 86_400;
    let mut rotated = Mesh::lived(2, 1);
    rotated.rotate_root(0);
    rotated.renew(0);
    rotated.checkpoint();
    vec![
        of("clean", &two, 0, &[]),
        of("root-rotated", &rotated, 0, &[]),
        of("clean-several-tiles", &Mesh::lived(1, 50), 0, &[]),
        one_of_two,
        of("dormant", &dormant, 0, &["DORMANT"]),
    ]
}

/// A mesh of one organisation with one node, one rotation and a second node.
fn small() -> Mesh {
    let mut mesh = Mesh::new("care", 1);
    mesh.enrol("scanner", 0);
    mesh.announce(0, 2);
    mesh.activate(0, 2);
    mesh.destroy(0, 1);
    mesh.enrol("archive", 0);
    mesh.checkpoint();
    mesh
}

/// Logs that are whole and break a rule.
fn rules() -> Vec<Fixture> {
    let broken = |name, codes: &[&'static str], change: &dyn Fn(&mut Mesh)| {
        let mut mesh = small();
        change(&mut mesh);
        mesh.checkpoint();
        of(name, &mesh, 2, codes)
    };
    vec![
        broken("overdue", &["OVERDUE"], &|mesh| mesh.now += PERIOD + PERIOD / 10 + 601),
        broken("undestroyed", &["UNDESTROYED"], &|mesh| {
            mesh.announce(0, 3);
            mesh.activate(0, 3);
            mesh.now += 3601;
        }),
        broken("gap", &["GAP"], &|mesh| {
            mesh.announce(0, 5);
            mesh.activate(0, 5);
            mesh.destroy(0, 2);
        }),
        broken("reuse", &["REUSE"], &|mesh| {
            let key = mesh.nodes[0].keys.cur.key;
            mesh.nodes[1].keys.next =
                Some(meshd_wire::record::EpochKey { epoch: 2, key, since: meshd_wire::Timestamp(mesh.now) });
            mesh.publish(1);
            mesh.about(1, LeafKind::RotateAnnounce, Some(2));
        }),
        {
            let mut mesh = Mesh::lived(2, 0);
            let key = mesh.nodes[0].keys.cur.key;
            let since = meshd_wire::Timestamp(mesh.now);
            mesh.nodes[2].keys.next = Some(meshd_wire::record::EpochKey { epoch: 2, key, since });
            mesh.publish(2);
            mesh.about(2, LeafKind::RotateAnnounce, Some(2));
            mesh.checkpoint();
            of("reuse-in-two-logs", &mesh, 2, &["REUSE"])
        },
        broken("unlogged-epoch", &["UNLOGGED"], &|mesh| {
            mesh.activate(0, 3);
            mesh.destroy(0, 2);
        }),
        broken("unlogged-key", &["UNLOGGED"], &|mesh| {
            mesh.announce(0, 3);
            let other = tunnel_key(&mesh.nodes[0].id, 77);
            let keys = &mut mesh.nodes[0].keys;
            keys.cur.epoch = 3;
            keys.cur.key = other;
            keys.next = None;
            mesh.publish(0);
            mesh.about(0, LeafKind::RotateActivate, Some(3));
            mesh.destroy(0, 2);
        }),
        broken("late-log", &["LATE-LOG"], &|mesh| {
            mesh.announce(0, 3);
            mesh.now -= 301;
            mesh.activate(0, 3);
            mesh.destroy(0, 2);
        }),
        broken("orphan-revoke", &["ORPHAN-REVOKE"], &|mesh| {
            mesh.revoke(0);
            mesh.renew(0);
        }),
        broken("hidden-leaf", &["CHAIN"], &|mesh| {
            mesh.renew(0);
            let leaf = &mut mesh.orgs[0].leaves.last_mut().expect("a leaf").0;
            leaf.prev = leaf.prev.map(|prev| prev - 1);
        }),
        {
            let mut mesh = Mesh::lived(2, 0);
            mesh.renew(0);
            mesh.now += 301;
            mesh.checkpoint();
            of("clock", &mesh, 2, &["CLOCK"])
        },
        {
            let mut mesh = Mesh::lived(2, 0);
            mesh.renew(0);
            mesh.checkpoint_of(0, false);
            mesh.now += 601;
            of("unwitnessed", &mesh, 2, &["UNWITNESSED"])
        },
        {
            let mut mesh = Mesh::lived(3, 0);
            mesh.renew(0);
            mesh.checkpoint_by(0, &[1]);
            mesh.now += 601;
            of("unwitnessed-by-one-of-two", &mesh, 2, &["UNWITNESSED"])
        },
        {
            let mut mesh = Mesh::lived(2, 0);
            mesh.renew(0);
            mesh.checkpoint_of(0, false);
            mesh.now += 200;
            mesh.renew(0);
            mesh.checkpoint();
            // What is cosigned later covers what was signed before.
            mesh.now += 601;
            of("witnessed-later", &mesh, 0, &[])
        },
        {
            let mut mesh = Mesh::lived(2, 0);
            let next = mesh.rotate_root(1);
            let (org, actor) = (mesh.orgs[0].id, mesh.orgs[1].root.key_id());
            mesh.say(0, LeafKind::RootRotate, org.into(), None, Some(next), actor);
            mesh.checkpoint();
            of("root-of-another", &mesh, 3, &["RECORD"])
        },
        {
            let mut mesh = Mesh::lived(1, 0);
            let (org, actor) = (mesh.orgs[0].id, mesh.orgs[0].root.key_id());
            let first = Envelope::from_bytes(&mesh.orgs[0].root_envelope).expect("an envelope");
            mesh.say(0, LeafKind::RootRotate, org.into(), None, Some(first), actor);
            mesh.checkpoint();
            of("root-that-follows-none", &mesh, 3, &["RECORD"])
        },
        {
            let mut mesh = Mesh::lived(1, 0);
            mesh.rotate_root(0);
            mesh.orgs[0].later.clear();
            mesh.checkpoint();
            of("root-outside-of-the-chain", &mesh, 3, &["AUTHORITY", "RECORD"])
        },
    ]
}

/// Bundles that somebody without keys has changed, with a manifest that fits.
fn changed() -> Vec<Fixture> {
    let mesh = Mesh::lived(2, 1);
    let org = &mesh.orgs[0];
    let size = org.leaves.len() as u64;
    let tile = TileAddress::within(size, 0, 0).expect("a tile");
    let file = |path: &str| format!("log/{}/{path}", org.id);
    let (entries, record, hashes) =
        (file(&tile.entries_path()), file(&tile.record_path()), file(&tile.path()));
    let make = |name, exit, codes: &[&'static str], change: &dyn Fn(&mut Files)| {
        let mut files = unpack(&mesh.bundle());
        change(&mut files);
        Fixture { bytes: seal(&files), ..of(name, &mesh, exit, codes) }
    };
    let edit_leaves = |files: &mut Files, edit: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let bytes = files[&entries].clone();
        let mut leaves: Vec<Vec<u8>> =
            read_entries(&bytes, tile).expect("leaves").into_iter().map(<[u8]>::to_vec).collect();
        edit(&mut leaves);
        let written = write_entries(leaves.iter().map(Vec::as_slice)).expect("they fit");
        files.insert(entries.clone(), written);
    };
    let edit_records = |files: &mut Files, edit: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let bytes = files[&record].clone();
        let mut records: Vec<Vec<u8>> =
            read_frames(&bytes).expect("records").into_iter().map(<[u8]>::to_vec).collect();
        edit(&mut records);
        files.insert(record.clone(), write_frames(records.iter().map(Vec::as_slice)).expect("they fit"));
    };
    let foreign = SigningKey::from_seed([77; 32]);
    let origin = LogOrigin { mesh: mesh.id, org: org.id };
    let other_tree = Checkpoint { origin, head: TreeHead { size, root: TreeHash::leaf(b"other") } };
    let other_smaller = Checkpoint { origin, head: TreeHead { size: 3, root: TreeHash::leaf(b"other") } };
    let honest_size = mesh.orgs[0].notes.last_key_value().map(|(size, _)| *size);
    assert_eq!(honest_size, Some(size), "the newest note has all leaves");
    vec![
        make("leaf-time-changed", 3, &["CHAIN", "RECORD", "ROOT", "TILE"], &|files| {
            edit_leaves(files, &|leaves| {
                let mut leaf = Leaf::from_bytes(&leaves[4]).expect("a leaf");
                leaf.time.0 += 1;
                leaf.prev = Some(0);
                leaf.actor = foreign.key_id();
                leaves[4] = leaf.to_bytes();
            });
        }),
        make("leaves-swapped", 3, &["CHAIN", "RECORD", "ROOT", "TILE"], &|files| {
            edit_leaves(files, &|leaves| leaves.swap(3, 6));
        }),
        make("leaf-dropped", 3, &["MISSING", "TILE"], &|files| {
            edit_leaves(files, &|leaves| drop(leaves.remove(5)));
        }),
        make("entries-gone", 4, &["MISSING", "TILE"], &|files| drop(files.remove(&entries))),
        make("entries-cut", 3, &["MISSING", "TILE"], &|files| {
            files.get_mut(&entries).expect("entries").pop();
        }),
        make("tile-gone", 4, &["TILE"], &|files| drop(files.remove(&hashes))),
        make("tile-changed", 3, &["TILE"], &|files| files.get_mut(&hashes).expect("hashes")[40] ^= 1),
        make("tile-cut", 3, &["TILE"], &|files| files.get_mut(&hashes).expect("hashes").truncate(64)),
        make("stranger-in-the-log", 3, &["TILE"], &|files| {
            files.insert(file("tile/0/000.p/1"), vec![0; 32]);
        }),
        make("record-absent", 4, &["RECORD"], &|files| edit_records(files, &|records| records[1].clear())),
        make("records-swapped", 3, &["RECORD"], &|files| edit_records(files, &|records| records.swap(0, 1))),
        make("records-gone", 4, &["TILE"], &|files| drop(files.remove(&record))),
        make("records-cut", 3, &["TILE"], &|files| {
            files.get_mut(&record).expect("records").pop();
        }),
        make("record-of-another-key", 3, &["RECORD"], &|files| {
            edit_records(files, &|records| {
                let mut keys = mesh.nodes[0].keys.clone();
                keys.cur.key = tunnel_key(&keys.node, 99);
                records[4] = sign(&keys, &mesh.id, &[&mesh.nodes[0].identity]).to_bytes();
            });
        }),
        make("checkpoint-of-a-foreign-key", 3, &["CHECKPOINT"], &|files| {
            files.insert(file("checkpoint"), other_tree.sign(&foreign).to_string().into_bytes());
        }),
        make("checkpoint-gone", 4, &["CHECKPOINT"], &|files| drop(files.remove(&file("checkpoint")))),
        make("checkpoint-under-another-size", 3, &["CHECKPOINT"], &|files| {
            let note = files[&file("checkpoint")].clone();
            files.insert(file("checkpoints/2"), note);
        }),
        make("fork", 3, &["FORK"], &|files| {
            let path = file(&format!("checkpoints/{size}"));
            files.insert(path, other_tree.sign(&org.log).to_string().into_bytes());
        }),
        make("fork-of-an-older-size", 3, &["ROOT"], &|files| {
            files.insert(file("checkpoints/3"), other_smaller.sign(&org.log).to_string().into_bytes());
        }),
        make("signer-unknown", 4, &["SIGNER"], &|files| {
            let note = files[&file("checkpoint")].clone();
            let mut note = meshd_trust::log::Note::from_bytes(&note).expect("a note");
            let checkpoint: Checkpoint = note.text().parse().expect("a checkpoint");
            let stranger = checkpoint.cosign(org.id, &foreign, meshd_wire::Timestamp(mesh.now));
            note.add(stranger).expect("room");
            files.insert(file("checkpoint"), note.to_string().into_bytes());
        }),
        make("cosignature-forged", 3, &["CHECKPOINT"], &|files| {
            // In the name and number of the witness's key, but over something else.
            let at = meshd_wire::Timestamp(mesh.now);
            let cosignature = other_tree.cosign(mesh.orgs[1].id, &mesh.orgs[1].witness, at);
            let mut note = meshd_trust::log::Note::from_bytes(&files[&file("checkpoint")]).expect("a note");
            note.add(cosignature).expect("room");
            files.insert(file("checkpoint"), note.to_string().into_bytes());
        }),
        make("authority-changed", 3, &["AUTHORITY", "CHECKPOINT", "SIGNER", "UNWITNESSED"], &|files| {
            let chain = files.get_mut("chain").expect("a chain");
            let end = chain.len() - 1;
            chain[end] ^= 1;
        }),
        unknown(&mesh, "leaf-of-an-unknown-kind", |leaf| {
            let mut leaf = leaf;
            leaf.kind = 999;
            leaf.to_bytes()
        }),
        unknown(&mesh, "leaf-of-a-newer-version", |_| vec![0x82, 0x02, 0x00]),
    ]
}

/// A log in which its steward, of a newer release, has written something else.
fn unknown(mesh: &Mesh, name: &'static str, write: impl Fn(Leaf) -> Vec<u8>) -> Fixture {
    let mut mesh = mesh.clone();
    // A leaf without a time has that of the one before it.
    mesh.now -= 900;
    let steward = mesh.orgs[0].record.key_id();
    let about = Subject([8; 32]);
    mesh.say(0, LeafKind::TokenIssue, about, None, None, steward);
    let bytes = write(mesh.orgs[0].leaves.last().expect("a leaf").0.clone());
    mesh.orgs[0].raw = Some(bytes);
    mesh.checkpoint();
    of(name, &mesh, 4, &["UNREADABLE"])
}

/// What is no bundle, not this one, or was changed without care.
fn refused() -> Vec<Fixture> {
    let mesh = small();
    let honest = mesh.bundle();
    let files = unpack(&honest);
    let make = |name, exit, bytes: Vec<u8>| Fixture { bytes, ..of(name, &mesh, exit, &[]) };
    let without = |gone: &str| {
        let mut files = files.clone();
        files.remove(gone);
        files
    };
    let with = |name: &str, content: &[u8]| {
        let mut files = files.clone();
        files.insert(name.to_owned(), content.to_vec());
        files
    };
    let other = Mesh::lived(2, 0);
    let about = String::from_utf8(files["about"].clone()).expect("text");
    let swapped = about.replace(&mesh.id.to_string(), &other.id.to_string());
    let mut unsorted: Vec<_> = files.iter().collect();
    unsorted.swap(1, 2);
    let mut readable = honest.clone();
    readable[105] = b'5';
    let mut chain_order = read_frames(&files["chain"]).expect("a chain");
    chain_order.reverse();
    let chain_order = write_frames(chain_order).expect("they fit");
    vec![
        make("manifest-does-not-fit", 3, pack(&with("chain", b"other"))),
        make("manifest-gone", 1, pack(&without("MANIFEST"))),
        make("about-gone", 1, seal(&without("about"))),
        make("chain-gone", 1, seal(&without("chain"))),
        make("chain-out-of-order", 3, seal(&with("chain", &chain_order))),
        make("chain-without-genesis", 1, seal(&with("chain", b""))),
        make("format-unknown", 1, seal(&with("about", about.replace("bundle 1", "bundle 2").as_bytes()))),
        make("stranger", 1, seal(&with("notes", b"hello"))),
        make("archive-cut", 1, honest[..honest.len() - 512].to_vec()),
        make("archive-cut-in-a-file", 1, honest[..honest.len() / 2].to_vec()),
        make("archive-longer", 1, [&honest[..], &[0; 512]].concat()),
        make("archive-out-of-order", 1, pack(unsorted)),
        make("archive-of-another-mode", 1, readable),
        make("nothing", 1, Vec::new()),
        Fixture { mesh: other.id, ..make("another-mesh", 1, honest.clone()) },
        Fixture {
            mesh: other.id,
            ..make("another-mesh-by-name", 3, seal(&with("about", swapped.as_bytes())))
        },
    ]
}
