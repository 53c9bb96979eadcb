//! Whatever somebody without keys does to a bundle is found, and has a name.

use meshd_audit::{read_frames, write_frames};
use meshd_trust::SigningKey;
use meshd_trust::log::{Checkpoint, LogOrigin, TileAddress, TreeHash, TreeHead, read_entries, write_entries};
use meshd_wire::Leaf;

use crate::faults::verdict;
use crate::made::Mesh;
use crate::packed::{Files, pack, seal, unpack};

/// Names of the changes, in the order of [`change`].
const KINDS: [&str; 16] = [
    "a bit of the archive",
    "the end of the archive",
    "a bit of a file",
    "the end of a file",
    "a file",
    "two files swapped",
    "two leaves swapped",
    "a leaf twice",
    "a checkpoint by a foreign key",
    "a checkpoint of another tree",
    "all leaves of a node",
    "a record of another key",
    "two records swapped",
    "a record",
    "a further file",
    "a file out of the manifest",
];

#[test]
fn no_change_is_missed() {
    change_often(2_000, 1);
}

#[test]
#[ignore = "takes minutes; run on demand"]
fn no_change_of_ten_thousand_is_missed() {
    change_often(10_000, 2);
}

fn change_often(count: usize, seed: u64) {
    let mesh = Mesh::lived(2, 1);
    let honest = mesh.bundle();
    assert_eq!(verdict(&honest, mesh.id), (0, vec![]));
    let mut random = Random(seed);
    let mut tried = [0; KINDS.len()];
    let mut done = 0;
    while done < count {
        let kind = random.below(KINDS.len());
        let Some(bytes) = change(kind, &mesh, &honest, &mut random) else { continue };
        if bytes == honest {
            continue;
        }
        let (exit, codes) = verdict(&bytes, mesh.id);
        let is_named = exit == 1 || !codes.is_empty() || exit == 3;
        assert!(exit != 0 && is_named, "change {done}, {}: {exit} {codes:?}", KINDS[kind]);
        tried[kind] += 1;
        done += 1;
    }
    assert!(tried.iter().all(|times| *times * KINDS.len() * 4 > count), "{tried:?}");
}

/// Changes a bundle; none where the change happens to be none.
fn change(kind: usize, mesh: &Mesh, honest: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut files = unpack(honest);
    let org = random.below(mesh.orgs.len());
    let log = &mesh.orgs[org];
    let size = log.leaves.len();
    let tile = TileAddress::within(size as u64, 0, 0)?;
    let file = |path: &str| format!("log/{}/{path}", log.id);
    let any = |files: &Files, random: &mut Random| -> String {
        let names: Vec<&String> = files.keys().filter(|name| *name != "MANIFEST").collect();
        names[random.below(names.len())].clone()
    };
    match kind {
        0 => {
            let mut bytes = honest.to_vec();
            let at = random.below(bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            return Some(bytes);
        }
        1 => return Some(honest[..random.below(honest.len())].to_vec()),
        2 => {
            let name = any(&files, random);
            let content = files.get_mut(&name)?;
            let at = random.below(content.len() * 8);
            // When a bundle was made is nobody's signed word.
            let made = content.windows(5).position(|word| word == b"made ").filter(|_| name == "about");
            if made.is_some_and(|made| at / 8 >= made + 5) {
                return None;
            }
            content[at / 8] ^= 1 << (at % 8);
        }
        3 => {
            let name = any(&files, random);
            let content = files.get_mut(&name)?;
            let len = random.below(content.len());
            // A cosignature less is no lie: nobody promised it.
            if name.contains("checkpoint") && content[..len].ends_with(b"\n") && content[..len].len() > 300 {
                return None;
            }
            if name == "about" {
                return None;
            }
            content.truncate(len);
        }
        4 => {
            let name = any(&files, random);
            // An older checkpoint less is no lie either.
            if name.contains("/checkpoints/") {
                return None;
            }
            files.remove(&name);
        }
        5 => {
            let (one, other) = (any(&files, random), any(&files, random));
            let (first, second) = (files[&one].clone(), files[&other].clone());
            files.insert(one, second);
            files.insert(other, first);
        }
        6 | 7 => {
            let bytes = files[&file(&tile.entries_path())].clone();
            let mut leaves = read_entries(&bytes, tile).ok()?;
            let (one, other) = (random.below(size), random.below(size));
            if kind == 6 {
                leaves.swap(one, other);
            } else {
                leaves[one] = leaves[other];
            }
            files.insert(file(&tile.entries_path()), write_entries(leaves).ok()?);
        }
        8 | 9 => {
            let origin = LogOrigin { mesh: mesh.id, org: log.id };
            let size = 1 + random.below(size) as u64;
            let root = TreeHash::leaf(&random.next().to_be_bytes());
            let checkpoint = Checkpoint { origin, head: TreeHead { size, root } };
            let foreign = SigningKey::from_seed([random.below(250) as u8; 32]);
            let note = checkpoint.sign(if kind == 8 { &foreign } else { &log.log });
            let path =
                if random.below(2) == 0 { "checkpoint".to_owned() } else { format!("checkpoints/{size}") };
            files.insert(file(&path), note.to_string().into_bytes());
        }
        10 => forget_node(mesh, org, &mut files, random)?,
        11..=13 => {
            let path = file(&tile.record_path());
            let bytes = files[&path].clone();
            let mut records: Vec<&[u8]> = read_frames(&bytes).ok()?;
            let (one, other) = (random.below(size), random.below(size));
            let envelope = &mesh.nodes[random.below(mesh.nodes.len())].envelope;
            match kind {
                11 => records[one] = envelope,
                12 => records.swap(one, other),
                _ => records[one] = &[],
            }
            files.insert(path, write_frames(records).ok()?);
        }
        14 => {
            let names = ["extra", "log/extra", "tile/0/001", "tile/1/000.p/1", "record/001", "checkpoints/x"];
            let name = names[random.below(names.len())];
            files.insert(if name.contains("extra") { name.to_owned() } else { file(name) }, vec![0; 32]);
        }
        15 => {
            files.remove(&any(&files, random));
            return Some(pack(&files));
        }
        _ => unreachable!("no such kind"),
    }
    Some(seal(&files))
}

/// Writes the log anew without a node, as far as that goes without the key of the log.
fn forget_node(mesh: &Mesh, org: usize, files: &mut Files, random: &mut Random) -> Option<()> {
    let mut without = mesh.clone();
    let of_org: Vec<_> = mesh.nodes.iter().filter(|node| node.org == org).collect();
    let gone = of_org[random.below(of_org.len())].id;
    without.orgs[org].leaves.retain(|(leaf, _): &(Leaf, Vec<u8>)| leaf.subject.0 != gone.0);
    let notes = std::mem::take(&mut without.orgs[org].notes);
    let prefix = format!("log/{}/", mesh.orgs[org].id);
    files.retain(|name, _| !name.starts_with(&prefix));
    for (path, bytes) in without.orgs[org].dir().0 {
        files.insert(format!("{prefix}{path}"), bytes);
    }
    let newest = notes.last_key_value()?.1.clone().into_bytes();
    files.insert(format!("{prefix}checkpoint"), newest);
    Some(())
}

/// Numbers that are the same in every run: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("below an index")
    }
}
