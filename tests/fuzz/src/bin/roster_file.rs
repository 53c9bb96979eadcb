//! The stored roster: whatever is behind a fitting checksum is refused or loads again as it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::edit::Script;
use meshd_fuzz::honest::{MESH, NOW};
use meshd_fuzz::seed;
use meshd_trust::{Floor, Roster};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;

/// Begins every roster file.
const MAGIC_LEN: usize = 16;
const CHECKSUM_LEN: usize = 32;
const RAW: usize = 0;
const CONTENT: usize = 1;
const EDITED: usize = 2;

/// Files before anything, after the chain, and after everything.
static FILES: LazyLock<[Vec<u8>; 3]> = LazyLock::new(|| {
    [Roster::new(MESH.id, Floor::none()), MESH.founded(), MESH.complete()].map(|roster| roster.to_bytes())
});

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    match usize::from(*choice) % 3 {
        RAW => load(rest),
        CONTENT => load(&with_checksum(rest)),
        _ => {
            let mut script = Script::new(rest);
            let mut content = content(script.choose::<Vec<u8>>(&*FILES)).to_vec();
            script.edit(&mut content);
            load(&with_checksum(&content));
        }
    }
}

fn load(file: &[u8]) {
    if let Ok(roster) = Roster::from_bytes(file, MESH.id, NOW) {
        assert_eq!(roster.mesh(), MESH.id);
        let written = roster.to_bytes();
        let again = Roster::from_bytes(&written, MESH.id, NOW).expect("what was written loads");
        assert_eq!(again.to_bytes(), written);
    }
}

fn content(file: &[u8]) -> &[u8] {
    &file[MAGIC_LEN..file.len() - CHECKSUM_LEN]
}

fn with_checksum(content: &[u8]) -> Vec<u8> {
    let mut file = [&FILES[0][..MAGIC_LEN], content].concat();
    let checksum = Sha256::digest(&file);
    file.extend_from_slice(&checksum);
    file
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (which, file) in (0..).zip(&*FILES) {
        assert_eq!(with_checksum(content(file)), *file, "the frame here is not that of roster files");
        seeds.push(seed::chosen(RAW, file));
        seeds.push(seed::chosen(CONTENT, content(file)));
        seeds.push(seed::chosen(EDITED, &[which]));
        seeds.push(seed::chosen(EDITED, &[which, 0, 0, 50, 1]));
    }
    seeds
}
