use proptest::prelude::*;

use super::*;

const RANDOM: [u8; SEAL_RANDOM_LEN] = [7; SEAL_RANDOM_LEN];

#[test]
fn an_unsealed_key_has_its_text_and_opens() {
    let text = seal(&key(), None, &RANDOM).unwrap();
    let expected = "-----BEGIN MESHD ROOT KEY-----\n\
        AEAFUWS2LJNFUWS2LJNFUWS2LJNFUWS2LJNFUWS2LJNFUWS2LJNFUWXXYMJXA\n\
        -----END MESHD ROOT KEY-----\n";
    assert_eq!(*text, expected);
    assert!(!is_sealed(&text));
    assert_eq!(*open(&text, None).unwrap().seed(), *key().seed());
    assert_eq!(*open(&text, Some(b"not needed")).unwrap().seed(), *key().seed());
}

#[test]
fn a_sealed_key_has_its_text_and_opens_with_its_passphrase_only() {
    let text = seal(&key(), Some(b"correct horse"), &RANDOM).unwrap();
    let expected = "-----BEGIN MESHD ROOT KEY-----\n\
        AEAQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHA4DQOBYHBVITNO4CYXNGGAXT\n\
        OMRJMBPHDCU7DQOJ6T7SQ7F5ILBJGPWWLM4OUSMEEDLHYI5JCZYOXI3FIOTEGK2D\n\
        JZQA\n\
        -----END MESHD ROOT KEY-----\n";
    assert_eq!(*text, expected);
    assert!(is_sealed(&text));
    assert_eq!(*open(&text, Some(b"correct horse")).unwrap().seed(), *key().seed());
    assert_eq!(open(&text, None).err(), Some(RootFileError::PassphraseNeeded));
    for wrong in [b"".as_slice(), b"correct horsE", b"correct horse\n"] {
        assert_eq!(open(&text, Some(wrong)).err(), Some(RootFileError::WrongPassphrase));
    }
}

#[test]
fn an_empty_passphrase_seals_nothing() {
    assert_eq!(seal(&key(), Some(b""), &RANDOM).err(), Some(SealError::EmptyPassphrase));
}

#[test]
fn line_breaks_of_other_systems_and_blank_lines_do_no_harm() {
    let text = seal(&key(), None, &RANDOM).unwrap();
    let edited = format!("\r\n{}\n\n", text.replace('\n', "\r\n"));
    assert_eq!(*open(&edited, None).unwrap().seed(), *key().seed());
}

#[test]
fn every_flipped_bit_is_noticed() {
    for passphrase in [None, Some(b"correct horse".as_slice())] {
        let text = seal(&key(), passphrase, &RANDOM).unwrap();
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                let changed = String::from_utf8(bytes).unwrap();
                // Line breaks may turn into other white space, which changes nothing.
                let is_break = text.as_bytes()[at] == b'\n';
                match open(&changed, None) {
                    Err(RootFileError::NotRootKey | RootFileError::Damaged) => {}
                    Err(RootFileError::PassphraseNeeded) if is_break && passphrase.is_some() => {}
                    Ok(_) if is_break => {}
                    other => panic!("byte {at}, bit {bit}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_text_cut_off_is_noticed() {
    let text = seal(&key(), None, &RANDOM).unwrap();
    for len in 0..text.trim_end().len() {
        assert_eq!(open(&text[..len], None).err(), Some(RootFileError::NotRootKey), "{len}");
    }
}

#[test]
fn a_newer_version_is_named() {
    assert_eq!(open(&text_of(&[2, 0, 1, 2, 3]), None).err(), Some(RootFileError::Version(2)));
}

#[test]
fn a_body_of_the_wrong_length_is_damaged() {
    for content in [vec![], vec![1], vec![1, 0], vec![1, 2], [vec![1, 0], vec![0; 31]].concat()] {
        assert_eq!(open(&text_of(&content), None).err(), Some(RootFileError::Damaged), "{content:?}");
    }
    for len in [0, 15, 16, 28, 60, 75, 77] {
        let content = [vec![1, 1], vec![0; len]].concat();
        assert_eq!(open(&text_of(&content), Some(b"any")).err(), Some(RootFileError::Damaged), "{len}");
    }
}

#[test]
fn a_huge_text_is_not_looked_at() {
    let padded = format!("{}{}", text_of(&[1, 0]), " ".repeat(TEXT_LEN_MAX));
    assert_eq!(open(&padded, None).err(), Some(RootFileError::NotRootKey));
}

proptest! {
    #[test]
    fn any_text_is_refused_without_a_panic(text in "\\PC{0,300}") {
        prop_assert!(open(&text, Some(b"any")).is_err());
    }

    #[test]
    fn any_body_is_refused_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..120)) {
        prop_assert!(open(&armour(&body), None).is_err());
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed([0x5a; 32])
}

fn text_of(content: &[u8]) -> String {
    let sum = checksum(content);
    armour(&[content, &sum].concat()).to_string()
}
