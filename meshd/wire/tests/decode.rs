//! Decoders take any bytes without a panic, and accept one encoding of a value only.

use std::fmt::Debug;
use std::net::SocketAddr;

use meshd_wire::cbor;
use meshd_wire::enrol::{CopiedRow, EnrolReply, EnrolRequest, ExternalAddress, Refused, RegistryHint};
use meshd_wire::id::SignatureBytes;
use meshd_wire::limits::{ARRAY_LEN_MAX, DEPTH_MAX, FRAME_BYTES_MAX, RECORD_BYTES_MAX};
use meshd_wire::record::{
    AgreementBody, Candidate, CandidateKind, Endpoint, EpochKey, JoinRequest, Label, Member, MeshGenesis,
    NodeCert, NodeExternals, NodeKeys, NodeLeave, NodePaths, OrgRoot, OrgState, Prefix, Revocations, Roles,
    StewardDelegation, Versioned,
};
use meshd_wire::{
    ChannelFrame, DecodeError, EndpointId, Envelope, HaveEntry, ImageDigest, KeyId, Kind, MeshId, NodeId,
    OrgId, PeerBundle, PlacedRecord, PublicKey, Record, RecordDigest, RecordId, Signature, Timestamp,
    TokenId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

proptest! {
    #[test]
    fn records_survive_a_round_trip(
        root in org_root(),
        delegation in delegation(),
        genesis in genesis(),
        cert in node_cert(),
        keys in node_keys(),
        paths in node_paths(),
    ) {
        survives(&root)?;
        survives(&delegation)?;
        survives(&genesis)?;
        survives(&cert)?;
        survives(&keys)?;
        survives(&paths)?;
    }

    #[test]
    fn further_records_survive_a_round_trip(
        revocations in revocations(),
        state in org_state(),
        request in join_request(),
        leave in (node(), time())
            .prop_map(|(node, issued_at)| NodeLeave { version: 1, node, issued_at }),
        externals in (node(), any::<u64>(), time(), vec(text(), 0..4)).prop_map(
            |(node, seq, issued_at, names)| NodeExternals { version: 1, node, seq, issued_at, names }
        ),
        endpoint in endpoint(),
    ) {
        survives(&endpoint)?;
        survives(&revocations)?;
        survives(&state)?;
        survives(&request)?;
        survives(&leave)?;
        survives(&externals)?;
    }

    #[test]
    fn frames_survive_a_round_trip(request in enrol_request(), reply in enrol_reply()) {
        prop_assert_eq!(EnrolRequest::from_bytes(&request.to_bytes()), Ok(request));
        prop_assert_eq!(EnrolReply::from_bytes(&reply.to_bytes()), Ok(reply));
    }

    #[test]
    fn frames_of_channels_survive_a_round_trip(frame in channel_frame()) {
        prop_assert_eq!(ChannelFrame::from_bytes(&frame.to_bytes()), Ok(frame));
    }

    #[test]
    fn bundles_survive_a_round_trip(cert in blob(), keys in blob(), proofs in vec(blob(), 0..3)) {
        let mut bundle = PeerBundle::new(cert, keys);
        bundle.proofs = proofs.into_iter().map(Into::into).collect();
        prop_assert_eq!(PeerBundle::from_bytes(&bundle.to_bytes()), Ok(bundle));
    }

    #[test]
    fn signatures_survive_a_round_trip(keys in proptest::collection::btree_set(any::<[u8; 32]>(), 0..16)) {
        let mut envelope = Envelope::new(&NodeLeave { version: 1, node: NodeId([0; 32]), issued_at: Timestamp(0) });
        for key in keys.into_iter().rev() {
            envelope.sign_with(Signature { key: KeyId(key), bytes: SignatureBytes([1; 64]) });
        }
        prop_assert_eq!(Envelope::from_bytes(&envelope.to_bytes()), Ok(envelope));
    }

    #[test]
    fn any_bytes_are_refused_or_canonical(bytes in vec(any::<u8>(), 0..300)) {
        check_every_decoder(&bytes)?;
    }

    #[test]
    fn any_cbor_is_refused_or_canonical(bytes in any_cbor()) {
        check_every_decoder(&bytes)?;
    }

    #[test]
    fn mutated_bytes_are_refused_or_canonical(
        valid in valid_bytes(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..4),
    ) {
        let mut bytes = valid;
        for (at, byte, edit) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        check_every_decoder(&bytes)?;
    }

    #[test]
    fn bytes_cut_short_are_refused(valid in valid_bytes(), at in any::<prop::sample::Index>()) {
        let cut = &valid[..at.index(valid.len())];
        prop_assert_eq!(accepted_by(cut), Vec::<&str>::new());
    }

    #[test]
    fn trailing_bytes_are_refused(valid in valid_bytes(), more in vec(any::<u8>(), 1..4)) {
        prop_assert_ne!(accepted_by(&valid), Vec::<&str>::new());
        let longer = [valid, more].concat();
        prop_assert_eq!(accepted_by(&longer), Vec::<&str>::new());
    }

    #[test]
    fn a_longer_head_is_refused(valid in valid_bytes()) {
        for at in head_positions(&valid) {
            for widened in widenings(&valid, at) {
                prop_assert_eq!(accepted_by(&widened), Vec::<&str>::new());
            }
        }
    }
}

#[test]
fn forbidden_types_are_refused() {
    let forbidden: [&[u8]; 14] = [
        &[0x20],                         // negative integer
        &[0xa0],                         // map
        &[0xbf, 0xff],                   // indefinite map
        &[0xc0, 0x00],                   // tag
        &[0xf9, 0x00, 0x00],             // half float
        &[0xfa, 0, 0, 0, 0],             // float
        &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0], // double
        &[0xf7],                         // undefined
        &[0xe0],                         // simple value
        &[0xf8, 0xff],                   // simple value in two bytes
        &[0x5f, 0x41, 0x00, 0xff],       // indefinite bytes
        &[0x7f, 0x61, 0x61, 0xff],       // indefinite text
        &[0x9f, 0xff],                   // indefinite array
        &[0xff],                         // break
    ];
    for value in forbidden {
        assert_eq!(
            cbor::decode::<Timestamp>(value),
            Err(DecodeError::ForbiddenType { at: 0 }),
            "{value:02x?}"
        );
        let nested = [&[0x81], value].concat();
        assert_eq!(
            cbor::decode::<Timestamp>(&nested),
            Err(DecodeError::ForbiddenType { at: 1 }),
            "{nested:02x?}"
        );
    }
}

#[test]
fn reserved_heads_are_refused() {
    for major in 0u8..8 {
        for info in 28u8..=31 {
            let head = [major << 5 | info, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(accepted_by(&head), Vec::<&str>::new(), "{head:02x?}");
            assert!(cbor::decode::<Timestamp>(&head).is_err(), "{head:02x?}");
        }
    }
}

#[test]
fn integers_have_one_encoding() {
    let shortest: [(&[u8], u64); 8] = [
        (&[0x00], 0),
        (&[0x17], 23),
        (&[0x18, 0x18], 24),
        (&[0x18, 0xff], 255),
        (&[0x19, 0x01, 0x00], 256),
        (&[0x1a, 0x00, 0x01, 0x00, 0x00], 65_536),
        (&[0x1b, 0, 0, 0, 1, 0, 0, 0, 0], 1 << 32),
        (&[0x1b, 255, 255, 255, 255, 255, 255, 255, 255], u64::MAX),
    ];
    for (bytes, value) in shortest {
        assert_eq!(cbor::decode(bytes), Ok(Timestamp(value)));
    }
    let longer: [&[u8]; 5] = [
        &[0x18, 0x17],
        &[0x19, 0x00, 0xff],
        &[0x1a, 0x00, 0x00, 0xff, 0xff],
        &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
        &[0x1b, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for bytes in longer {
        assert_eq!(cbor::decode::<Timestamp>(bytes), Err(DecodeError::NotCanonical), "{bytes:02x?}");
    }
}

#[test]
fn lengths_beyond_the_input_are_refused_without_allocating() {
    let huge = [255; 8];
    for major in [0x5b, 0x7b] {
        let bytes = [&[0x81, major], huge.as_slice()].concat();
        assert!(matches!(cbor::decode::<Timestamp>(&bytes), Err(DecodeError::Malformed(_))));
    }
    let array = [&[0x9b], huge.as_slice()].concat();
    assert_eq!(cbor::decode::<Timestamp>(&array), Err(DecodeError::Shape));
}

#[test]
fn text_must_be_utf8() {
    assert!(matches!(cbor::decode::<Timestamp>(&[0x62, 0xc3, 0x28]), Err(DecodeError::Malformed(_))));
}

#[test]
fn arrays_have_a_longest_length() {
    let array_of = |len: usize| {
        let len = u16::try_from(len).unwrap().to_be_bytes();
        let zeros = vec![0; usize::from(u16::from_be_bytes(len))];
        [&[0x99], len.as_slice(), &zeros].concat()
    };
    let fits = cbor::decode::<Timestamp>(&array_of(ARRAY_LEN_MAX));
    assert!(matches!(fits, Err(DecodeError::Malformed(_))), "an array, but no time: {fits:?}");
    assert_eq!(cbor::decode::<Timestamp>(&array_of(ARRAY_LEN_MAX + 1)), Err(DecodeError::Shape));
}

#[test]
fn arrays_have_a_deepest_nesting() {
    let nested = |depth: usize| [vec![0x81; depth], vec![0x00]].concat();
    let fits = cbor::decode::<Timestamp>(&nested(DEPTH_MAX));
    assert!(matches!(fits, Err(DecodeError::Malformed(_))), "an array, but no time: {fits:?}");
    assert_eq!(cbor::decode::<Timestamp>(&nested(DEPTH_MAX + 1)), Err(DecodeError::Shape));
    assert_eq!(cbor::decode::<Timestamp>(&vec![0x81; 100_000]), Err(DecodeError::Shape));
}

#[test]
fn size_is_looked_at_first() {
    let record = vec![0; RECORD_BYTES_MAX + 1];
    let refused = DecodeError::TooLarge { len: RECORD_BYTES_MAX + 1, max: RECORD_BYTES_MAX };
    assert_eq!(Envelope::from_bytes(&record), Err(refused.clone()));
    assert_eq!(PeerBundle::from_bytes(&record), Err(refused.clone()));
    assert_eq!(NodeLeave::decode_payload(&record), Err(refused));
    let frame = vec![0; FRAME_BYTES_MAX + 1];
    let refused = DecodeError::TooLarge { len: FRAME_BYTES_MAX + 1, max: FRAME_BYTES_MAX };
    assert_eq!(EnrolRequest::from_bytes(&frame), Err(refused.clone()));
    assert_eq!(EnrolReply::from_bytes(&frame), Err(refused));
}

#[test]
fn the_largest_envelope_is_decoded() {
    let overhead = 8;
    let of_len = |len: usize| {
        let payload = vec![0; len - overhead];
        let payload_len = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[0x84, 0x01, 0x18, 65, 0x59], &payload_len[..], &payload, &[0x80]].concat()
    };
    let largest = of_len(RECORD_BYTES_MAX);
    assert_eq!(largest.len(), RECORD_BYTES_MAX);
    assert_eq!(Envelope::from_bytes(&largest).map(|envelope| envelope.to_bytes()), Ok(largest));
    let larger = DecodeError::TooLarge { len: RECORD_BYTES_MAX + 1, max: RECORD_BYTES_MAX };
    assert_eq!(Envelope::from_bytes(&of_len(RECORD_BYTES_MAX + 1)), Err(larger));
}

#[test]
fn another_envelope_format_is_refused() {
    let of_format = |format: u8| [0x84, format, 0x18, 65, 0x41, 0x00, 0x80];
    assert!(Envelope::from_bytes(&of_format(1)).is_ok());
    for format in [0, 2] {
        assert!(
            matches!(Envelope::from_bytes(&of_format(format)), Err(DecodeError::Malformed(_))),
            "{format}"
        );
    }
}

#[test]
fn bytes_behind_a_value_are_named() {
    let two_values = [cbor::encode(&Timestamp(1)), cbor::encode(&Timestamp(1))].concat();
    assert_eq!(cbor::decode::<Timestamp>(&two_values), Err(DecodeError::Trailing));
}

#[test]
fn unsorted_or_repeated_signatures_are_refused() {
    let signature = |byte: u8| [&[0x82, 0x58, 32][..], &[byte; 32], &[0x58, 64], &[1; 64]].concat();
    let envelope = |first, second| {
        let start: &[u8] = &[0x84, 0x01, 0x18, 65, 0x41, 0x00, 0x82];
        Envelope::from_bytes(&[start, &signature(first), &signature(second)].concat())
    };
    assert!(envelope(1, 2).is_ok());
    assert!(matches!(envelope(2, 1), Err(DecodeError::Malformed(_))));
    assert!(matches!(envelope(1, 1), Err(DecodeError::Malformed(_))));
}

#[test]
fn more_signatures_than_a_kind_may_have_are_refused() {
    let mut envelope =
        Envelope::new(&NodeLeave { version: 1, node: NodeId([0; 32]), issued_at: Timestamp(0) });
    let sign = |envelope: &mut Envelope, byte: usize| {
        let key = KeyId([u8::try_from(byte).unwrap(); 32]);
        envelope.sign_with(Signature { key, bytes: SignatureBytes([0; 64]) });
    };
    // The third byte begins the kind: 150 is the number of no kind, and may have no more.
    let of_no_kind = |envelope: &Envelope| {
        let mut bytes = envelope.to_bytes();
        assert_eq!(bytes[2], 0x18, "a kind of one byte");
        bytes[3] = 150;
        bytes
    };
    let max = Kind::NodeLeave.signatures_max();
    (0..max).for_each(|byte| sign(&mut envelope, byte));
    assert!(Envelope::from_bytes(&envelope.to_bytes()).is_ok());
    assert!(Envelope::from_bytes(&of_no_kind(&envelope)).is_ok());
    sign(&mut envelope, max);
    assert!(matches!(Envelope::from_bytes(&envelope.to_bytes()), Err(DecodeError::Malformed(_))));
    assert!(matches!(Envelope::from_bytes(&of_no_kind(&envelope)), Err(DecodeError::Malformed(_))));
}

#[test]
fn a_second_signature_of_one_key_replaces_the_first() {
    let mut envelope =
        Envelope::new(&NodeLeave { version: 1, node: NodeId([0; 32]), issued_at: Timestamp(0) });
    envelope.sign_with(Signature { key: KeyId([1; 32]), bytes: SignatureBytes([1; 64]) });
    envelope.sign_with(Signature { key: KeyId([1; 32]), bytes: SignatureBytes([2; 64]) });
    assert_eq!(envelope.signatures(), [Signature { key: KeyId([1; 32]), bytes: SignatureBytes([2; 64]) }]);
}

#[test]
fn another_kind_or_version_is_not_decoded() {
    let leave = NodeLeave { version: 1, node: NodeId([0; 32]), issued_at: Timestamp(0) };
    let expected = DecodeError::WrongKind { expected: Kind::NodeKeys, found: Kind::NodeLeave.number() };
    assert_eq!(Envelope::new(&leave).record::<NodeKeys>(), Err(expected));
    let newer = NodeLeave { version: 2, ..leave };
    let expected = DecodeError::Version { kind: Kind::NodeLeave, version: 2 };
    assert_eq!(Envelope::new(&newer).record::<NodeLeave>(), Err(expected));
}

#[test]
fn unknown_kinds_travel_as_opaque_bytes() {
    let bytes = [0x84, 0x01, 0x19, 0x03, 0xe7, 0x43, 0xff, 0xff, 0xff, 0x80];
    let envelope = Envelope::from_bytes(&bytes).unwrap();
    assert_eq!(envelope.kind(), None);
    assert_eq!(envelope.kind_number(), 999);
    assert_eq!(envelope.signed_message(&MeshId([0; 32])), None);
    assert_eq!(envelope.to_bytes(), bytes);
}

type Encoded = Result<Vec<u8>, DecodeError>;

/// What every decoder makes of the bytes, encoded again.
fn decode_all(bytes: &[u8]) -> Vec<(&'static str, Encoded)> {
    fn record<R: Record>(bytes: &[u8]) -> Encoded {
        R::decode_payload(bytes).map(|record| record.encode_payload())
    }
    vec![
        ("Envelope", Envelope::from_bytes(bytes).map(|value| value.to_bytes())),
        ("PeerBundle", PeerBundle::from_bytes(bytes).map(|value| value.to_bytes())),
        ("EnrolRequest", EnrolRequest::from_bytes(bytes).map(|value| value.to_bytes())),
        ("EnrolReply", EnrolReply::from_bytes(bytes).map(|value| value.to_bytes())),
        ("ChannelFrame", ChannelFrame::from_bytes(bytes).map(|value| value.to_bytes())),
        ("OrgRoot", record::<OrgRoot>(bytes)),
        ("StewardDelegation", record::<StewardDelegation>(bytes)),
        ("MeshGenesis", record::<MeshGenesis>(bytes)),
        ("NodeCert", record::<NodeCert>(bytes)),
        ("NodeKeys", record::<NodeKeys>(bytes)),
        ("NodePaths", record::<NodePaths>(bytes)),
        ("Endpoint", record::<Endpoint>(bytes)),
        ("Revocations", record::<Revocations>(bytes)),
        ("OrgState", record::<OrgState>(bytes)),
        ("JoinRequest", record::<JoinRequest>(bytes)),
        ("NodeLeave", record::<NodeLeave>(bytes)),
        ("NodeExternals", record::<NodeExternals>(bytes)),
    ]
}

fn accepted_by(bytes: &[u8]) -> Vec<&'static str> {
    decode_all(bytes).into_iter().filter(|(_, decoded)| decoded.is_ok()).map(|(name, _)| name).collect()
}

fn check_every_decoder(bytes: &[u8]) -> Result<(), TestCaseError> {
    for (name, decoded) in decode_all(bytes) {
        if let Ok(again) = decoded {
            prop_assert_eq!(&again, bytes, "{} accepts another encoding", name);
        }
    }
    Ok(())
}

fn survives<R: Record + PartialEq + Debug>(record: &R) -> Result<(), TestCaseError> {
    let envelope = Envelope::from_bytes(&Envelope::new(record).to_bytes());
    let decoded = envelope.and_then(|envelope| envelope.record::<R>());
    prop_assert_eq!(decoded.as_ref(), Ok(record));
    Ok(())
}

/// Where the heads of all values stand in well-formed CBOR of definite lengths.
fn head_positions(bytes: &[u8]) -> Vec<usize> {
    let mut positions = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        positions.push(at);
        let (width, value) = head(bytes, at);
        at += 1 + width;
        if matches!(bytes[positions[positions.len() - 1]] >> 5, 2 | 3) {
            at += value;
        }
    }
    positions
}

fn head(bytes: &[u8], at: usize) -> (usize, usize) {
    let info = bytes[at] & 0x1f;
    let width = if info < 24 { 0 } else { 1 << (info - 24) };
    let number = bytes[at + 1..at + 1 + width].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    (width, if width == 0 { usize::from(info) } else { number })
}

/// The same bytes with one head written longer than it needs to be, in each possible way.
fn widenings(bytes: &[u8], at: usize) -> Vec<Vec<u8>> {
    let (width, value) = head(bytes, at);
    let major = bytes[at] & 0xe0;
    if major == 0xe0 {
        return Vec::new();
    }
    let wider = [(1, 24), (2, 25), (4, 26), (8, 27)].into_iter().filter(|(wide, _)| *wide > width);
    wider
        .map(|(wide, info)| {
            let number = u64::try_from(value).unwrap().to_be_bytes();
            [&bytes[..at], &[major | info], &number[8 - wide..], &bytes[at + 1 + width..]].concat()
        })
        .collect()
}

/// CBOR of every type, the forbidden ones included.
fn any_cbor() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(|number| cbor::encode(&Timestamp(number))),
        (0u64..30).prop_map(|number| cbor::encode(&Timestamp(number))),
        Just([&[0x58, 32][..], &[7; 32]].concat()),
        blob().prop_map(|bytes| with_head(0x40, &bytes)),
        "[a-z]{0,20}".prop_map(|text| with_head(0x60, text.as_bytes())),
        (0xe0u8..).prop_map(|byte| vec![byte, 0]),
        (0x20u8..0x38).prop_map(|byte| vec![byte]),
    ];
    leaf.prop_recursive(10, 64, 12, |inner| {
        prop_oneof![
            8 => vec(inner.clone(), 0..13).prop_map(|items| {
                let head = 0x80 | u8::try_from(items.len()).unwrap();
                [vec![head], items.concat()].concat()
            }),
            1 => vec(inner.clone(), 0..4).prop_map(|items| [vec![0x9f], items.concat(), vec![0xff]].concat()),
            1 => inner.clone().prop_map(|item| [vec![0xc1], item].concat()),
            1 => inner.prop_map(|item| [vec![0xa1], item.clone(), item].concat()),
        ]
    })
}

fn with_head(major: u8, content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).unwrap();
    let head = if len < 24 { vec![major | len] } else { vec![major | 24, len] };
    [&head, content].concat()
}

fn valid_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        org_root().prop_map(|record| record.encode_payload()),
        delegation().prop_map(|record| record.encode_payload()),
        genesis().prop_map(|record| record.encode_payload()),
        node_cert().prop_map(|record| record.encode_payload()),
        node_keys().prop_map(|record| record.encode_payload()),
        node_paths().prop_map(|record| record.encode_payload()),
        endpoint().prop_map(|record| record.encode_payload()),
        revocations().prop_map(|record| record.encode_payload()),
        org_state().prop_map(|record| record.encode_payload()),
        join_request().prop_map(|record| record.encode_payload()),
        enrol_request().prop_map(|frame| frame.to_bytes()),
        enrol_reply().prop_map(|frame| frame.to_bytes()),
        channel_frame().prop_map(|frame| frame.to_bytes()),
        (blob(), blob()).prop_map(|(cert, keys)| PeerBundle::new(cert, keys).to_bytes()),
        (node_keys(), any::<[u8; 32]>()).prop_map(|(keys, id)| {
            let mut envelope = Envelope::new(&keys);
            envelope.sign_with(Signature { key: KeyId(id), bytes: SignatureBytes([3; 64]) });
            envelope.to_bytes()
        }),
    ]
}

fn org_root() -> impl Strategy<Value = OrgRoot> {
    (any::<u32>(), text(), vec(key(), 0..4), any::<u8>(), time(), option::of(record_id())).prop_map(
        |(root_version, name, keys, threshold, not_after, prev)| OrgRoot {
            version: 1,
            root_version,
            name,
            keys,
            threshold,
            not_after,
            prev,
        },
    )
}

fn delegation() -> impl Strategy<Value = StewardDelegation> {
    (org(), any::<(u32, u32, u8)>(), (key(), key(), key(), key()), text(), time(), time()).prop_map(
        |(org, (root_version, serial, roles), keys, label_namespace, not_before, not_after)| {
            StewardDelegation {
                version: 1,
                org,
                root_version,
                serial,
                record_key: keys.0,
                log_key: keys.1,
                witness_key: keys.2,
                tls_key: keys.3,
                roles: Roles(roles),
                label_namespace,
                not_before,
                not_after,
            }
        },
    )
}

fn genesis() -> impl Strategy<Value = MeshGenesis> {
    let member =
        (org(), prefix(), any::<u16>()).prop_map(|(org, prefix4, subnet6)| Member { org, prefix4, subnet6 });
    let limits = any::<(u32, u32, u32, u32, u32, u32, u8)>();
    let agreement =
        (vec(member, 0..4), time(), time(), limits).prop_map(|(members, not_before, not_after, limits)| {
            AgreementBody {
                number: limits.0,
                agreement_version: limits.1,
                members,
                not_before,
                not_after,
                freshness_soft_s: limits.2,
                freshness_hard_s: limits.3,
                key_age_max_s: limits.4,
                grace_max_s: limits.5,
                post_quantum: limits.6,
            }
        });
    (text(), any::<([u8; 16], bool, u8)>(), agreement).prop_map(
        |(name, (nonce, lab, witness_quorum), agreement)| MeshGenesis {
            version: 1,
            name,
            nonce,
            lab,
            agreement,
            witness_quorum,
        },
    )
}

fn node_cert() -> impl Strategy<Value = NodeCert> {
    let label = (text(), text()).prop_map(|(key, value)| Label { key, value });
    let claims = (vec(prefix(), 0..3), vec(label, 0..3), vec(text(), 0..3));
    let ids = (node(), org(), key(), key(), text());
    (ids, any::<(u32, u64, [u8; 4], [u8; 16])>(), claims, time(), time()).prop_map(
        |(ids, (root_version, serial, addr4, addr6), claims, not_before, not_after)| NodeCert {
            version: 1,
            node: ids.0,
            org: ids.1,
            root_version,
            serial,
            name: ids.4,
            identity: ids.2,
            transport: ids.3,
            addr4,
            addr6,
            prefixes: claims.0,
            labels: claims.1,
            may_attest: claims.2,
            not_before,
            not_after,
        },
    )
}

fn node_keys() -> impl Strategy<Value = NodeKeys> {
    fn epoch() -> impl Strategy<Value = EpochKey> {
        (any::<u32>(), key(), time()).prop_map(|(epoch, key, since)| EpochKey { epoch, key, since })
    }
    let keys = (epoch(), option::of(epoch()), option::of(epoch()), option::of(time()));
    (node(), any::<(u64, u8, u8, bool)>(), time(), keys).prop_map(
        |(node, (seq, suites, post_quantum, compromised), issued_at, keys)| NodeKeys {
            version: 1,
            node,
            seq,
            issued_at,
            suites,
            post_quantum,
            compromised,
            cur: keys.0,
            next: keys.1,
            prev: keys.2,
            accept_until: keys.3,
        },
    )
}

fn node_paths() -> impl Strategy<Value = NodePaths> {
    let kind = prop::sample::select(vec![
        CandidateKind::Host,
        CandidateKind::Static,
        CandidateKind::Mapped,
        CandidateKind::Observed,
    ]);
    let candidate = (kind, any::<SocketAddr>()).prop_map(|(kind, at)| Candidate::new(kind, at));
    (node(), any::<(u64, u8, Option<u16>)>(), time(), vec(candidate, 0..4), vec(node(), 0..3)).prop_map(
        |(node, (seq, nat, control_port), issued_at, candidates, relays)| NodePaths {
            version: 1,
            node,
            seq,
            issued_at,
            candidates,
            relays,
            nat,
            control_port,
        },
    )
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let label = (text(), text()).prop_map(|(key, value)| Label { key, value });
    let said = (vec(prefix(), 0..3), vec(label, 0..3), option::of(text()));
    (node(), any::<([u8; 32], u64, bool, Option<[u8; 32]>)>(), time(), said).prop_map(
        |(node, (endpoint, seq, withdrawn, image), issued_at, (addresses, labels, name))| Endpoint {
            version: 1,
            node,
            endpoint: EndpointId(endpoint),
            seq,
            issued_at,
            withdrawn,
            addresses,
            labels,
            name,
            image: image.map(ImageDigest),
        },
    )
}

fn revocations() -> impl Strategy<Value = Revocations> {
    let lists = (vec(node(), 0..4), vec(any::<u64>(), 0..4), vec(org(), 0..4));
    (org(), any::<(u32, u64)>(), time(), lists).prop_map(
        |(org, (root_version, n), issued_at, (nodes, certs, severed))| Revocations {
            version: 1,
            org,
            root_version,
            n,
            issued_at,
            nodes,
            certs,
            severed,
        },
    )
}

fn org_state() -> impl Strategy<Value = OrgState> {
    fn versioned() -> impl Strategy<Value = Option<Versioned>> {
        option::of((any::<u64>(), record_id()).prop_map(|(n, id)| Versioned { n, id }))
    }
    (org(), any::<(u32, u64, u32)>(), time(), (versioned(), versioned(), versioned())).prop_map(
        |(org, (root_version, seq, agreement_version), issued_at, (policy, revocations, checkpoint))| {
            OrgState {
                version: 1,
                org,
                root_version,
                seq,
                issued_at,
                agreement_version,
                policy,
                revocations,
                checkpoint,
            }
        },
    )
}

fn join_request() -> impl Strategy<Value = JoinRequest> {
    (any::<[u8; 32]>(), org(), text(), key(), key(), time(), blob()).prop_map(
        |(mesh, org, name, identity, transport, issued_at, keys)| JoinRequest {
            version: 1,
            mesh: MeshId(mesh),
            org,
            name,
            identity,
            transport,
            issued_at,
            keys,
        },
    )
}

fn enrol_request() -> impl Strategy<Value = EnrolRequest> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(|mesh| EnrolRequest::Chain { mesh: MeshId(mesh) }),
        (any::<[u8; 8]>(), blob(), any::<[u8; 32]>()).prop_map(|(token, request, mac)| EnrolRequest::Enrol {
            token: TokenId(token),
            request,
            mac
        }),
        blob().prop_map(|request| EnrolRequest::Renew { request }),
        blob().prop_map(|leave| EnrolRequest::Leave { leave }),
        vec(blob(), 0..4).prop_map(|records| EnrolRequest::Introduce {
            records: records.into_iter().map(Into::into).collect()
        }),
        blob().prop_map(|claim| EnrolRequest::Claim { claim }),
        blob().prop_map(|request| EnrolRequest::Cosign { request }),
        any::<(u64, u64)>().prop_map(|(old, new)| EnrolRequest::Growth { old, new }),
        any::<u64>().prop_map(|from| EnrolRequest::Copy { from }),
    ]
}

fn channel_frame() -> impl Strategy<Value = ChannelFrame> {
    let entry = (text(), any::<[u8; 16]>())
        .prop_map(|(place, digest)| HaveEntry { place, digest: RecordDigest(digest) });
    let record = (text(), blob()).prop_map(|(place, value)| PlacedRecord { place, value });
    prop_oneof![
        vec(entry, 0..4).prop_map(|entries| ChannelFrame::Have { entries }),
        vec(text(), 0..4).prop_map(|places| ChannelFrame::Want { places }),
        vec(record, 0..4).prop_map(|records| ChannelFrame::Records { records }),
    ]
}

fn enrol_reply() -> impl Strategy<Value = EnrolReply> {
    let registry = (text(), option::of(key())).prop_map(|(url, tls_key)| RegistryHint { url, tls_key });
    let external = (text(), any::<[u8; 4]>(), any::<[u8; 16]>())
        .prop_map(|(name, addr4, addr6)| ExternalAddress { name, addr4, addr6 });
    prop_oneof![
        (time(), vec(blob(), 0..4)).prop_map(|(now, records)| EnrolReply::Chain {
            now,
            records: records.into_iter().map(Into::into).collect()
        }),
        (blob(), vec(blob(), 0..4), vec(registry, 0..3), vec(text(), 0..3)).prop_map(
            |(cert, records, registries, stewards)| EnrolReply::Admitted {
                cert,
                records: records.into_iter().map(Into::into).collect(),
                registries,
                stewards,
            }
        ),
        Just(EnrolReply::Refused { why: Refused::NameTaken }),
        Just(EnrolReply::Done),
        blob().prop_map(|signature| EnrolReply::Cosigned { signature }),
        blob().prop_map(|checkpoint| EnrolReply::Witnessed { checkpoint }),
        (blob(), blob()).prop_map(|(old, new)| EnrolReply::Grown { old, new }),
        (vec((blob(), blob()), 0..4), blob(), vec(blob(), 0..4)).prop_map(|(rows, checkpoint, cosigned)| {
            EnrolReply::Copied {
                rows: rows.into_iter().map(|(leaf, record)| CopiedRow { leaf, record }).collect(),
                checkpoint,
                cosigned: cosigned.into_iter().map(Into::into).collect(),
            }
        }),
        (blob(), vec(external, 0..3)).prop_map(|(cert, externals)| EnrolReply::Claimed { cert, externals }),
    ]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (blob(), any::<u8>()).prop_map(|(addr, len)| Prefix { addr, len })
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn text() -> impl Strategy<Value = String> {
    ".{0,12}"
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp)
}

fn key() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_map(PublicKey)
}

fn org() -> impl Strategy<Value = OrgId> {
    any::<[u8; 32]>().prop_map(OrgId)
}

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>().prop_map(NodeId)
}

fn record_id() -> impl Strategy<Value = RecordId> {
    any::<[u8; 32]>().prop_map(RecordId)
}
