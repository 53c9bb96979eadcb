//! Files for people: sealed and unsealed root keys, and public records as text.
#![no_main]

use data_encoding::BASE32_NOPAD;
use libfuzzer_sys::fuzz_target;
use meshd_fuzz::armour::{self, Content};
use meshd_fuzz::honest::{self, MESH};
use meshd_fuzz::{checksum4, seed};
use meshd_trust::root_file::{self, SEAL_RANDOM_LEN};

const CHECKSUM_DOMAIN: &[u8] = b"meshd-v1/root-file-checksum\0";
const FIRST_LINE: &str = "-----BEGIN MESHD ROOT KEY-----";
const LAST_LINE: &str = "-----END MESHD ROOT KEY-----";
const TEXT: usize = 0;
const CONTENT: usize = 1;

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    if usize::from(*choice) % 2 == CONTENT {
        root(&with_checksum(rest));
        return;
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    root(text);
    if let Ok(blocks) = armour::read(text) {
        let again: String = blocks.iter().map(|block| armour::write(block.content, &block.bytes)).collect();
        assert_eq!(armour::read(&again), Ok(blocks));
    }
}

/// Opens without a passphrase: deriving a key from one takes longer than everything else together.
fn root(text: &str) {
    if let Ok(key) = root_file::open(text, None) {
        assert!(!root_file::is_sealed(text));
        let again = root_file::seal(&key, None, &[0; SEAL_RANDOM_LEN]).expect("seals");
        let again = root_file::open(&again, None).expect("opens");
        assert_eq!(again.public(), key.public());
    }
}

fn with_checksum(content: &[u8]) -> String {
    let letters = BASE32_NOPAD.encode(&[content, &checksum4(CHECKSUM_DOMAIN, content)].concat());
    format!("{FIRST_LINE}\n{letters}\n{LAST_LINE}\n")
}

fn seeds() -> Vec<Vec<u8>> {
    let key = honest::key("root", 0);
    let content = [&[1, 0][..], &*key.seed()].concat();
    let opened = root_file::open(&with_checksum(&content), None).expect("the checksum is that of root files");
    assert_eq!(opened.public(), key.public());
    let mut seeds = vec![seed::chosen(CONTENT, &content)];
    for passphrase in [None, Some(&b"passphrase"[..])] {
        let text = root_file::seal(&key, passphrase, &[7; SEAL_RANDOM_LEN]).expect("seals");
        seeds.push(seed::chosen(TEXT, text.as_bytes()));
    }
    let request = armour::write(Content::JoinRequest, &MESH.join_request().to_bytes());
    let root = armour::write(Content::OrgRoot, &MESH.chain[0].to_bytes());
    seeds.push(seed::chosen(TEXT, format!("For people.\n{root}\n{request}").as_bytes()));
    seeds
}
