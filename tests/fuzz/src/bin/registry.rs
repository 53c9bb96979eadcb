//! What a registry hands back: keys, ranges of keys, and the bundles that stand at them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::edit::Script;
use meshd_fuzz::honest::{self, MESH, node_id};
use meshd_fuzz::keyspace::{Keyspace, Slot};
use meshd_fuzz::range::KeyRange;
use meshd_fuzz::seed;
use meshd_wire::PeerBundle;

const KEY: usize = 0;
const RANGE: usize = 1;
const BUNDLE: usize = 2;

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    match usize::from(*choice) % 3 {
        KEY => key(rest),
        RANGE => range(rest),
        _ => {
            if let Ok(bundle) = PeerBundle::from_bytes(rest) {
                assert_eq!(bundle.to_bytes(), rest);
            }
        }
    }
}

fn key(tail: &[u8]) {
    let keyspace = Keyspace::new(&MESH.id);
    for key in [tail, &[keyspace.prefix().as_bytes(), tail].concat()] {
        if let Some(slot) = keyspace.slot(key) {
            assert_eq!(keyspace.key(slot).as_bytes(), key);
        }
    }
}

/// What may be asked for depends on this: a range within a prefix holds no key outside of it.
fn range(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let lens = [script.byte(), script.byte(), script.byte()];
    let mut rest = script.rest();
    let [start, end, prefix] = lens.map(|len| {
        let (part, after) = rest.split_at(usize::from(len).min(rest.len()));
        rest = after;
        part
    });
    let key = rest;
    let range = KeyRange::from_wire(start.to_vec(), end.to_vec());
    let (wire_start, wire_end) = range.to_wire();
    let again = KeyRange::from_wire(wire_start, wire_end);
    assert_eq!(again.contains(key), range.contains(key));
    if range.lies_within_prefix(prefix) && range.contains(key) {
        assert!(key.starts_with(prefix), "{range:?} is not within {prefix:?}");
    }
    assert_eq!(KeyRange::prefix(prefix).contains(key), key.starts_with(prefix));
    assert!(KeyRange::prefix(prefix).lies_within_prefix(prefix));
    if range.after(key).contains(key) {
        panic!("{range:?} after a key contains it");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let keyspace = Keyspace::new(&MESH.id);
    let (org, node) = (MESH.orgs[0], node_id(1));
    let slots = [
        Slot::Genesis,
        Slot::Root(org, 1),
        Slot::Delegation(org, 1, 2),
        Slot::Revocations(org),
        Slot::State(org),
        Slot::Peer(node),
        Slot::Paths(node),
    ];
    let mut seeds = Vec::new();
    for slot in slots {
        let key = keyspace.key(slot);
        let tail = key.strip_prefix(keyspace.prefix()).expect("every key has the prefix");
        seeds.push(seed::chosen(KEY, tail.as_bytes()));
    }
    for parts in [["/a/b", "/a/c", "/a/", "/a/bc"], ["/a/", "\0", "", "x"], ["k", "", "k", "k"]] {
        let lens = [parts[0], parts[1], parts[2]].map(|part| u8::try_from(part.len()).expect("short"));
        seeds.push(seed::chosen(RANGE, &[&lens[..], parts.concat().as_bytes()].concat()));
    }
    let records = honest::bytes_of(&MESH.nodes);
    seeds.push(seed::chosen(BUNDLE, &PeerBundle::new(records[0].clone(), records[1].clone()).to_bytes()));
    seeds
}
