//! Join tokens and identifiers: what people type is read or refused, and reads back as it is shown.
#![no_main]

use data_encoding::BASE32_NOPAD;
use libfuzzer_sys::fuzz_target;
use meshd_fuzz::honest::{MESH, NOW};
use meshd_fuzz::{checksum4, seed};
use meshd_wire::token::TokenSecret;
use meshd_wire::{JoinToken, NodeId, TokenId};

const CHECKSUM_DOMAIN: &[u8] = b"meshd-v1/join-token-checksum\0";
const TEXT: usize = 0;
const CONTENT: usize = 1;

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    if usize::from(*choice) % 2 == CONTENT {
        token(&with_checksum(rest));
        return;
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    token(text);
    if let Ok(node) = text.parse::<NodeId>() {
        assert_eq!(node.to_string().parse(), Ok(node));
    }
    if let Ok(token) = text.parse::<TokenId>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
}

fn token(text: &str) {
    if let Ok(token) = text.parse::<JoinToken>() {
        assert!(!token.stewards.is_empty());
        assert_eq!(token.to_string().parse(), Ok(token));
    }
}

fn with_checksum(content: &[u8]) -> String {
    BASE32_NOPAD.encode(&[content, &checksum4(CHECKSUM_DOMAIN, content)].concat())
}

fn seeds() -> Vec<Vec<u8>> {
    let v4 = ([192, 0, 2, 1], 7946).into();
    let v6 = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 7946).into();
    let of = |stewards| JoinToken {
        mesh: MESH.id,
        org: MESH.orgs[0],
        id: TokenId([1; 8]),
        secret: TokenSecret([2; 16]),
        root_version_min: 1,
        agreement_version_min: 1,
        not_after: NOW,
        stewards,
    };
    let mut seeds = vec![seed::chosen(TEXT, MESH.id.to_string().as_bytes())];
    for token in [of(vec![v4]), of(vec![v6]), of(vec![v4, v6, v4, v6])] {
        let text = token.to_string();
        let bytes = BASE32_NOPAD.decode(text.as_bytes()).expect("a token is base32");
        let content = &bytes[..bytes.len() - 4];
        assert_eq!(with_checksum(content), text, "the checksum here is not that of the tokens");
        seeds.push(seed::chosen(CONTENT, content));
        seeds.push(seed::chosen(TEXT, text.as_bytes()));
    }
    seeds
}
