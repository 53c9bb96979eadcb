//! Leaves of the audit log: their bytes for ever, and what is refused.

use data_encoding::HEXLOWER;
use meshd_wire::limits::{ARRAY_LEN_MAX, LEAF_BYTES_MAX};
use meshd_wire::{
    DecodeError, KeyId, Leaf, LeafError, LeafKind, NodeId, OrgId, Receipts, ReceiptsDigest, RecordId,
    Subject, Timestamp, TokenId,
};
use proptest::option;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_800_000_000);

#[test]
fn a_leaf_has_its_bytes() {
    let shortest = leaf();
    assert_eq!(
        HEXLOWER.encode(&shortest.to_bytes()),
        "\
        88011a6b49d2000158200202020202020202020202020202020202020202020202020202020202020202582001010101\
        01010101010101010101010101010101010101010101010101010101f6f6582003030303030303030303030303030303\
        03030303030303030303030303030303"
    );
    let longest = Leaf {
        kind: LeafKind::RotateActivate.number(),
        epoch: Some(7),
        record: Some(RecordId([4; 32])),
        prev: Some(300),
        receipts: Some(Receipts { count: 2, digest: ReceiptsDigest([5; 32]) }),
        ..shortest
    };
    assert_eq!(
        HEXLOWER.encode(&longest.to_bytes()),
        "\
        8a011a6b49d2000458200202020202020202020202020202020202020202020202020202020202020202582001010101\
        010101010101010101010101010101010101010101010101010101010758200404040404040404040404040404040404\
        040404040404040404040404040404582003030303030303030303030303030303030303030303030303030303030303\
        0319012c820258200505050505050505050505050505050505050505050505050505050505050505"
    );
    assert_eq!(Leaf::from_bytes(&longest.to_bytes()), Ok(longest));
}

#[test]
fn subjects_of_tokens_have_their_bytes() {
    let subject = Subject::from(TokenId([3; 8]));
    assert_eq!(
        HEXLOWER.encode(&subject.0),
        "677a910ed6ce8c4786bb53276bef4969679167e1c621c1728f76b0c6e8319d90"
    );
    assert_eq!(Subject::from(NodeId([1; 32])).0, [1; 32]);
    assert_eq!(Subject::from(OrgId([2; 32])).0, [2; 32]);
}

#[test]
fn every_kind_keeps_its_number_and_name() {
    let names: Vec<String> =
        LeafKind::ALL.iter().map(|kind| format!("{} {}", kind.number(), kind.name())).collect();
    assert_eq!(
        names,
        [
            "1 enrol",
            "2 renew",
            "3 rotate-announce",
            "4 rotate-activate",
            "5 key-destroy",
            "6 key-compromised",
            "7 revoke",
            "8 revoke-effect",
            "9 sever",
            "10 policy",
            "11 agreement-join",
            "12 agreement-leave",
            "13 steward-delegate",
            "14 steward-retire",
            "15 root-rotate",
            "16 token-issue",
            "17 token-use",
            "18 state-rollback",
            "19 clock-reset",
            "20 break-glass",
            "21 config-pq-downgrade",
        ]
    );
    for kind in LeafKind::ALL {
        assert_eq!(LeafKind::from_number(kind.number()), Some(kind));
    }
}

#[test]
fn a_kind_of_a_newer_release_is_readable() {
    let newer = Leaf { kind: 999, ..leaf() };
    let read = Leaf::from_bytes(&newer.to_bytes()).unwrap();
    assert_eq!((read.known_kind(), &read), (None, &newer));
    assert_eq!(leaf().known_kind(), Some(LeafKind::Enrol));
}

#[test]
fn a_version_of_a_newer_release_is_told_apart_from_garbage() {
    assert_eq!(Leaf::from_bytes(&[0x82, 0x02, 0x61, b'x']), Err(LeafError::Version(2)));
    assert_eq!(Leaf::from_bytes(&[0x81, 0x00]), Err(LeafError::Version(0)));
    let decode = |bytes: &[u8]| match Leaf::from_bytes(bytes) {
        Err(LeafError::Decode(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(decode(&[]), DecodeError::Malformed(_)));
    assert!(matches!(decode(&[0x80]), DecodeError::Malformed(_)));
    assert!(matches!(decode(&[0x01]), DecodeError::Malformed(_)));
    assert!(matches!(decode(&[0x81, 0x19, 0x01, 0x00]), DecodeError::Malformed(_)), "a version is one byte");
    assert!(matches!(decode(&[0x81, 0x01]), DecodeError::Malformed(_)));
    assert_eq!(decode(&[0x81, 0x02, 0x00]), DecodeError::Trailing);
    assert!(matches!(decode(&[0x82, 0x02, 0xa0]), DecodeError::ForbiddenType { .. }));
}

#[test]
fn leaves_are_bounded() {
    let long = |text: usize| {
        let mut bytes = vec![0x82, 0x02, 0x79];
        bytes.extend(u16::try_from(text).unwrap().to_be_bytes());
        bytes.extend(vec![b'x'; text]);
        bytes
    };
    let most = LEAF_BYTES_MAX - 5;
    assert_eq!(Leaf::from_bytes(&long(most)), Err(LeafError::Version(2)));
    let refused = DecodeError::TooLarge { len: LEAF_BYTES_MAX + 1, max: LEAF_BYTES_MAX };
    assert_eq!(Leaf::from_bytes(&long(most + 1)), Err(LeafError::Decode(refused)));
    let array = u16::try_from(ARRAY_LEN_MAX + 1).unwrap().to_be_bytes();
    assert_eq!(Leaf::from_bytes(&[0x99, array[0], array[1]]), Err(LeafError::Decode(DecodeError::Shape)));
}

#[test]
fn a_second_encoding_of_a_leaf_is_refused() {
    let bytes = leaf().to_bytes();
    let mut with_null = bytes.clone();
    with_null[0] = 0x89;
    with_null.push(0xf6);
    let mut long_kind = bytes.clone();
    long_kind.splice(7..8, [0x18, 0x01]);
    for other in [with_null, long_kind] {
        assert_eq!(Leaf::from_bytes(&other), Err(LeafError::Decode(DecodeError::NotCanonical)));
    }
    let mut more = bytes.clone();
    more[0] = 0x8b;
    more.extend([0x00, 0x82, 0x00, 0x58, 0x20]);
    more.extend([0; 32]);
    more.push(0x00);
    assert!(Leaf::from_bytes(&more).is_err(), "more fields than version 1 has");
}

#[test]
fn a_leaf_with_a_flipped_bit_is_another_leaf_or_none() {
    let bytes = leaf().to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = Leaf::from_bytes(&flipped) {
            assert_ne!(read, leaf(), "bit {bit}");
            assert_eq!(read.to_bytes(), flipped, "bit {bit}");
        }
    }
}

proptest! {
    #[test]
    fn leaves_survive_a_round_trip(
        ids in any::<[[u8; 32]; 3]>(),
        numbers in any::<(u64, u16)>(),
        epoch in option::of(any::<u32>()),
        record in option::of(any::<[u8; 32]>().prop_map(RecordId)),
        prev in option::of(any::<u64>()),
        receipts in option::of(any::<(u32, [u8; 32])>()),
    ) {
        let [org, subject, actor] = ids;
        let leaf = Leaf {
            kind: numbers.1,
            epoch,
            record,
            prev,
            receipts: receipts.map(|(count, digest)| Receipts { count, digest: ReceiptsDigest(digest) }),
            ..Leaf::new(Timestamp(numbers.0), LeafKind::Enrol, OrgId(org), Subject(subject), KeyId(actor))
        };
        let bytes = leaf.to_bytes();
        prop_assert!(bytes.len() <= LEAF_BYTES_MAX / 5 + 25);
        prop_assert_eq!(Leaf::from_bytes(&bytes), Ok(leaf));
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(leaf) = Leaf::from_bytes(&bytes) {
            prop_assert_eq!(leaf.to_bytes(), bytes);
        }
    }
}

fn leaf() -> Leaf {
    Leaf::new(NOW, LeafKind::Enrol, OrgId([2; 32]), Subject::from(NodeId([1; 32])), KeyId([3; 32]))
}
