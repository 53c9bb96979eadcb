//! Frames between a node and a steward: what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::honest::{self, MESH, NOW};
use meshd_fuzz::seed;
use meshd_wire::enrol::{CopiedRow, EnrolReply, EnrolRequest, Refused, RegistryHint};
use meshd_wire::{PublicKey, TokenId};

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    if let Ok(request) = EnrolRequest::from_bytes(bytes) {
        assert_eq!(request.to_bytes(), bytes);
    }
    if let Ok(reply) = EnrolReply::from_bytes(bytes) {
        assert_eq!(reply.to_bytes(), bytes);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let records = || honest::bytes_of(&MESH.chain[..2]).into_iter().map(Into::into).collect();
    let request = MESH.join_request().to_bytes();
    let requests = [
        EnrolRequest::Chain { mesh: MESH.id },
        EnrolRequest::Enrol { token: TokenId([3; 8]), request: request.clone(), mac: [4; 32] },
        EnrolRequest::Renew { request },
        EnrolRequest::Leave { leave: MESH.farewell(1).to_bytes() },
        EnrolRequest::Introduce { records: records() },
        EnrolRequest::Cosign { request: b"old 0\n\n".to_vec() },
        EnrolRequest::Growth { old: 3, new: 300 },
        EnrolRequest::Copy { from: 300 },
    ];
    let replies = [
        EnrolReply::Chain { now: NOW, records: records() },
        EnrolReply::Admitted {
            cert: MESH.nodes[0].to_bytes(),
            records: records(),
            registries: vec![
                RegistryHint { url: "meshd://192.0.2.1:7946".into(), tls_key: Some(PublicKey([6; 32])) },
                RegistryHint { url: "https://etcd.example:2379".into(), tls_key: None },
            ],
            stewards: vec!["192.0.2.1:7946".into()],
        },
        EnrolReply::Refused { why: Refused::TokenUsed },
        EnrolReply::Done,
        EnrolReply::Cosigned { signature: vec![7; 12] },
        EnrolReply::Witnessed { checkpoint: Vec::new() },
        EnrolReply::Grown { old: vec![8; 12], new: b"old 3\n\n".to_vec() },
        EnrolReply::Copied {
            rows: vec![CopiedRow { leaf: vec![8; 12], record: vec![9; 12] }],
            checkpoint: vec![7; 12],
            cosigned: vec![vec![6; 12].into()],
        },
    ];
    let requests = requests.iter().map(EnrolRequest::to_bytes);
    requests.chain(replies.iter().map(EnrolReply::to_bytes)).collect()
}
