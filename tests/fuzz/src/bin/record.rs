//! Payloads of records: the first byte chooses the kind, what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::honest::MESH;
use meshd_fuzz::seed;
use meshd_wire::Record;
use meshd_wire::record::{
    JoinRequest, MeshGenesis, NodeCert, NodeKeys, NodeLeave, NodePaths, OrgRoot, OrgState, Prefix,
    Revocations, StewardDelegation,
};

const KINDS: [fn(&[u8]); 10] = [
    |bytes| same::<OrgRoot>(bytes, |_| {}),
    |bytes| same::<StewardDelegation>(bytes, |_| {}),
    |bytes| {
        same::<MeshGenesis>(bytes, |genesis| {
            genesis.agreement.members.iter().for_each(|member| prefix(&member.prefix4));
        })
    },
    |bytes| same::<NodeCert>(bytes, |cert| cert.prefixes.iter().for_each(prefix)),
    |bytes| same::<NodeKeys>(bytes, |_| {}),
    |bytes| {
        same::<NodePaths>(bytes, |paths| {
            for candidate in &paths.candidates {
                let is_address = matches!(candidate.addr.len(), 4 | 16);
                assert_eq!(candidate.socket_addr().is_some(), is_address);
            }
        })
    },
    |bytes| same::<Revocations>(bytes, |_| {}),
    |bytes| same::<OrgState>(bytes, |_| {}),
    |bytes| same::<JoinRequest>(bytes, |_| {}),
    |bytes| same::<NodeLeave>(bytes, |_| {}),
];

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, payload)) = bytes.split_first() else { return };
    KINDS[usize::from(*choice) % KINDS.len()](payload);
}

fn same<R: Record>(bytes: &[u8], also: impl Fn(&R)) {
    if let Ok(record) = R::decode_payload(bytes) {
        assert_eq!(record.encode_payload(), bytes);
        also(&record);
    }
}

fn prefix(prefix: &Prefix) {
    if let Some((addr, len)) = prefix.parts() {
        assert!(len <= if addr.is_ipv4() { 32 } else { 128 });
    }
}

/// Every payload under every choice: most do not fit, and the fuzzer drops what adds nothing.
fn seeds() -> Vec<Vec<u8>> {
    let envelopes = MESH.envelopes();
    let under = |choice| envelopes.iter().map(move |envelope| seed::chosen(choice, envelope.payload()));
    (0..KINDS.len()).flat_map(under).collect()
}
