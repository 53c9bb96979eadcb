//! Join tokens as people copy, cut and mistype them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use data_encoding::BASE32_NOPAD;
use meshd_wire::token::{ParseTokenError, STEWARDS_MAX, TokenSecret};
use meshd_wire::{JoinToken, MeshId, OrgId, Timestamp, TokenId};
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

proptest! {
    #[test]
    fn tokens_survive_a_round_trip(token in token()) {
        prop_assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn lower_case_spaces_and_line_breaks_do_no_harm(
        token in token(),
        breaks in vec((any::<prop::sample::Index>(), prop::sample::select(vec![' ', '\n', '\r', '\t', '\u{a0}'])), 0..9),
    ) {
        let mut text = token.to_string().to_lowercase();
        for (at, space) in breaks {
            let mut at = at.index(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            text.insert(at, space);
        }
        prop_assert_eq!(text.parse(), Ok(token));
    }

    #[test]
    fn any_text_parses_without_a_panic(text in "\\PC{0,400}") {
        prop_assert!(text.parse::<JoinToken>().is_err());
    }

    #[test]
    fn any_base32_parses_without_a_panic(text in "[A-Z2-7 ]{0,400}") {
        prop_assert!(text.parse::<JoinToken>().is_err());
    }

    #[test]
    fn any_checksummed_bytes_parse_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let accepted = text_of(&bytes).parse::<JoinToken>();
        if let Ok(token) = accepted {
            prop_assert_eq!(token.to_string(), text_of(&bytes));
        }
    }

    #[test]
    fn one_wrong_letter_is_noticed(token in token(), at in any::<prop::sample::Index>(), letter in "[A-Z2-7]") {
        let mut text = token.to_string();
        let at = at.index(text.len());
        prop_assume!(text[at..=at] != letter);
        text.replace_range(at..=at, &letter);
        prop_assert_eq!(text.parse::<JoinToken>(), Err(ParseTokenError::Checksum));
    }

    #[test]
    fn a_token_cut_off_is_noticed(token in token(), at in any::<prop::sample::Index>()) {
        let text = token.to_string();
        let cut = &text[..at.index(text.len())];
        prop_assert_eq!(cut.parse::<JoinToken>(), Err(ParseTokenError::Checksum));
    }
}

#[test]
fn letters_of_no_token_are_named() {
    for text in ["not/a/token", "A=======", "AAAAAAA1", "Ä"] {
        assert_eq!(text.parse::<JoinToken>(), Err(ParseTokenError::Alphabet), "{text}");
    }
    assert_eq!("".parse::<JoinToken>(), Err(ParseTokenError::Checksum));
}

#[test]
fn a_newer_format_is_named() {
    assert_eq!(text_of(&[2, 1, 1]).parse::<JoinToken>(), Err(ParseTokenError::Format(2)));
}

#[test]
fn wrong_stewards_are_refused() {
    let v4: &[u8] = &[4, 192, 0, 2, 1, 0x1f, 0x0a];
    let wrong: [(&str, Vec<u8>); 7] = [
        ("none", vec![]),
        ("too many", v4.repeat(STEWARDS_MAX + 1)),
        ("unknown family", vec![5, 192, 0, 2, 1, 0x1f, 0x0a]),
        ("unknown family of that length", [&[7], &[0x20; 16][..], &[0x1f, 0x0a]].concat()),
        ("cut off", vec![4, 192, 0, 2, 1, 0x1f]),
        ("port zero", vec![4, 192, 0, 2, 1, 0, 0]),
        ("no address", vec![4, 0, 0, 0, 0, 0x1f, 0x0a]),
    ];
    assert!(with_stewards(v4).parse::<JoinToken>().is_ok());
    assert!(with_stewards(&v4.repeat(STEWARDS_MAX)).parse::<JoinToken>().is_ok());
    for (what, stewards) in wrong {
        let parsed = with_stewards(&stewards).parse::<JoinToken>();
        assert_eq!(parsed, Err(ParseTokenError::Malformed), "{what}");
    }
}

#[test]
fn a_text_longer_than_any_token_is_refused_before_it_is_decoded() {
    let v6: Vec<u8> = [&[6], &[0x20; 16][..], &[0x1f, 0x0a]].concat();
    assert!(with_stewards(&v6.repeat(STEWARDS_MAX)).parse::<JoinToken>().is_ok());
    // Its checksum fits; its length alone refuses it.
    let longer = with_stewards(&v6.repeat(STEWARDS_MAX + 1));
    assert_eq!(longer.parse::<JoinToken>(), Err(ParseTokenError::Checksum));
}

#[test]
fn a_token_carries_the_first_stewards_that_fit() {
    let mut token = with_stewards(&[4, 192, 0, 2, 1, 0x1f, 0x0a]).parse::<JoinToken>().unwrap();
    token.stewards = (1..=5).map(|host| SocketAddr::from(([192, 0, 2, host], 7946))).collect();
    let parsed = token.to_string().parse::<JoinToken>().unwrap();
    assert_eq!(parsed.stewards, token.stewards[..STEWARDS_MAX]);
}

#[test]
fn debug_hides_the_secret() {
    let secret = [0xc3; 16];
    let token = JoinToken {
        mesh: MeshId([1; 32]),
        org: OrgId([2; 32]),
        id: TokenId([3; 8]),
        secret: TokenSecret(secret),
        root_version_min: 1,
        agreement_version_min: 1,
        not_after: Timestamp(0),
        stewards: vec![],
    };
    let shown = format!("{token:?}").to_lowercase();
    assert!(shown.contains("hidden"));
    for form in ["195, 195", "c3c3", "c3, c3", &BASE32_NOPAD.encode(&secret).to_lowercase()[..8]] {
        assert!(!shown.contains(form), "{shown}");
    }
}

fn token() -> impl Strategy<Value = JoinToken> {
    let steward = prop_oneof![
        (1u32.., 1u16..).prop_map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(ip).into(), port)),
        (1u128.., 1u16..).prop_map(|(ip, port)| SocketAddr::new(Ipv6Addr::from(ip).into(), port)),
    ];
    let ids = any::<([u8; 32], [u8; 32], [u8; 8], [u8; 16])>();
    (ids, any::<(u32, u32, u64)>(), vec(steward, 1..=STEWARDS_MAX)).prop_map(|(ids, numbers, stewards)| {
        JoinToken {
            mesh: MeshId(ids.0),
            org: OrgId(ids.1),
            id: TokenId(ids.2),
            secret: TokenSecret(ids.3),
            root_version_min: numbers.0,
            agreement_version_min: numbers.1,
            not_after: Timestamp(numbers.2),
            stewards,
        }
    })
}

/// Text of bytes with the checksum that belongs to them.
fn text_of(body: &[u8]) -> String {
    let sum = Sha256::digest([b"meshd-v1/join-token-checksum\0", body].concat());
    BASE32_NOPAD.encode(&[body, &sum[..4]].concat())
}

fn with_stewards(stewards: &[u8]) -> String {
    text_of(&[&[1], [0; 104].as_slice(), stewards].concat())
}
