use meshd_wire::limits::NAME_BYTES_MAX;
use meshd_wire::record::EpochKey;
use meshd_wire::{OrgId, Record};
use proptest::prelude::*;

use super::*;
use crate::key::{SigningKey, sign};

const NOW: Timestamp = Timestamp(1_800_000_000);
const MESH: MeshId = MeshId([5; 32]);
const OTHER_MESH: MeshId = MeshId([6; 32]);
const TOKEN: TokenId = TokenId([7; 8]);

#[test]
fn token_key_is_bound_to_secret_mesh_and_token() {
    let key = token_key(&TokenSecret([1; 16]), &MESH, &TOKEN);
    assert_eq!(key, token_key(&TokenSecret([1; 16]), &MESH, &TOKEN));
    assert_ne!(key, token_key(&TokenSecret([2; 16]), &MESH, &TOKEN));
    assert_ne!(key, token_key(&TokenSecret([1; 16]), &OTHER_MESH, &TOKEN));
    assert_ne!(key, token_key(&TokenSecret([1; 16]), &MESH, &TokenId([8; 8])));
}

#[test]
fn token_key_and_proof_keep_their_bytes() {
    let key = token_key(&TokenSecret([1; 16]), &MESH, &TOKEN);
    assert_eq!(
        data_encoding::HEXLOWER.encode(&key),
        "9e2166de56852aa6c0fde30d50d17a1f78fe5c1bd468ccdd7519ba04835b9521"
    );
    assert_eq!(
        data_encoding::HEXLOWER.encode(&proof(&key, b"request", &[9; 32])),
        "6071693655efbcbd2bcf63ec7777c4da965babe93f7c91d1af847d7c70769a7b"
    );
}

#[test]
fn a_proof_fits_its_token_request_and_connection_only() {
    let key = token_key(&TokenSecret([1; 16]), &MESH, &TOKEN);
    let other_key = token_key(&TokenSecret([2; 16]), &MESH, &TOKEN);
    let made = proof(&key, b"request", &[9; 32]);
    assert!(proof_fits(&key, b"request", &[9; 32], &made));
    assert!(!proof_fits(&other_key, b"request", &[9; 32], &made), "another token");
    assert!(!proof_fits(&key, b"requesT", &[9; 32], &made), "another request");
    assert!(!proof_fits(&key, b"request", &[10; 32], &made), "another connection");
    for bit in 0..256 {
        let mut changed = made;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!proof_fits(&key, b"request", &[9; 32], &changed), "bit {bit}");
    }
}

#[test]
fn an_honest_request_is_verified() {
    let made = Applicant::default();
    let verified = verify_request(&made.envelope(), &MESH, NOW).unwrap();
    assert_eq!(verified.node, NodeId::from(made.identity.key_id()));
    assert_eq!(verified.request.name, "host-a");
    assert_eq!(verified.keys.node, verified.node);
    assert_eq!(verified.keys_envelope, verified.request.keys);
}

#[test]
fn a_request_for_another_mesh_is_refused() {
    let made = Applicant::default();
    assert_eq!(refusal(&made.envelope(), &OTHER_MESH), RequestRefusal::OtherMesh(MESH));
}

#[test]
fn a_request_signed_for_another_mesh_is_refused() {
    let made = Applicant::default();
    let signed = sign(&made.request(), &OTHER_MESH, &[&made.identity, &made.transport]);
    assert_eq!(refusal(&signed.to_bytes(), &MESH), RequestRefusal::Signature);
}

#[test]
fn a_request_needs_both_signatures_and_no_other() {
    let made = Applicant::default();
    let stranger = key(9);
    let signers: [&[&SigningKey]; 5] = [
        &[],
        &[&made.identity],
        &[&made.transport],
        &[&made.identity, &stranger],
        &[&made.identity, &made.transport, &stranger],
    ];
    for keys in signers {
        let envelope = sign(&made.request(), &MESH, keys).to_bytes();
        assert_eq!(refusal(&envelope, &MESH), RequestRefusal::Signature);
    }
}

#[test]
fn one_key_for_two_purposes_is_refused() {
    let made = Applicant { transport: key(1), ..Applicant::default() };
    assert_eq!(refusal(&made.envelope(), &MESH), RequestRefusal::SharedKey);
}

#[test]
fn a_changed_request_is_refused() {
    let made = Applicant::default();
    let signed = Envelope::from_bytes(&made.envelope()).unwrap();
    let mut changed = Envelope::new(&JoinRequest { name: "host-b".into(), ..made.request() });
    signed.signatures().iter().for_each(|one| changed.sign_with(*one));
    assert_eq!(refusal(&changed.to_bytes(), &MESH), RequestRefusal::Signature);
}

#[test]
fn tunnel_keys_must_be_signed_by_the_identity_alone() {
    let made = Applicant::default();
    let (identity, stranger) = (&made.identity, key(9));
    let signers: [&[&SigningKey]; 4] = [&[], &[&stranger], &[&made.transport], &[identity, &stranger]];
    for keys in signers {
        let keys = sign(&made.keys(), &MESH, keys).to_bytes();
        assert_eq!(refusal(&made.envelope_with(keys), &MESH), RequestRefusal::KeysSignature);
    }
    let elsewhere = sign(&made.keys(), &OTHER_MESH, &[identity]).to_bytes();
    assert_eq!(refusal(&made.envelope_with(elsewhere), &MESH), RequestRefusal::KeysSignature);
}

#[test]
fn tunnel_keys_of_another_node_are_refused() {
    let made = Applicant::default();
    let keys = NodeKeys { node: NodeId([3; 32]), ..made.keys() };
    let keys = sign(&keys, &MESH, &[&made.identity]).to_bytes();
    assert_eq!(refusal(&made.envelope_with(keys), &MESH), RequestRefusal::OtherNode);
}

#[test]
fn other_records_are_no_request_and_no_tunnel_keys() {
    let made = Applicant::default();
    let keys = sign(&made.keys(), &MESH, &[&made.identity]).to_bytes();
    assert!(matches!(refusal(&keys, &MESH), RequestRefusal::Malformed(DecodeError::WrongKind { .. })));
    let leave = NodeLeave { version: 1, node: NodeId([1; 32]), issued_at: NOW };
    let leave = sign(&leave, &MESH, &[&made.identity]).to_bytes();
    assert!(matches!(
        refusal(&made.envelope_with(leave), &MESH),
        RequestRefusal::MalformedKeys(DecodeError::WrongKind { .. })
    ));
    assert!(matches!(refusal(&made.envelope_with(vec![]), &MESH), RequestRefusal::MalformedKeys(_)));
}

#[test]
fn names_are_host_names() {
    let longest = "a".repeat(NAME_BYTES_MAX);
    for name in ["a", "host-1", "0", &longest] {
        let made = Applicant { name: name.into(), ..Applicant::default() };
        assert!(verify_request(&made.envelope(), &MESH, NOW).is_ok(), "{name}");
    }
    let longer = "a".repeat(NAME_BYTES_MAX + 1);
    for name in ["", "-a", "a-", "Host", "a.b", "a b", "ä", "../x", "a\n", &longer] {
        let made = Applicant { name: name.into(), ..Applicant::default() };
        assert_eq!(refusal(&made.envelope(), &MESH), RequestRefusal::Name, "{name}");
    }
}

#[test]
fn requests_of_a_wrong_time_are_refused() {
    let at = |issued_at| Applicant { issued_at, ..Applicant::default() }.envelope();
    assert!(verify_request(&at(NOW.plus(CLOCK_SKEW_S)), &MESH, NOW).is_ok());
    let ahead_s = CLOCK_SKEW_S + 1;
    assert_eq!(refusal(&at(NOW.plus(ahead_s)), &MESH), RequestRefusal::Future { ahead_s });
    let later = NOW.plus(REQUEST_AGE_MAX_S);
    assert!(verify_request(&at(NOW), &MESH, later).is_ok());
    let refused = verify_request(&at(NOW), &MESH, later.plus(1));
    assert_eq!(refused, Err(RequestRefusal::Old { age_s: REQUEST_AGE_MAX_S + 1 }));
}

#[test]
fn tunnel_keys_of_a_wrong_time_are_refused() {
    let made = Applicant::default();
    let keys = NodeKeys { issued_at: NOW.plus(CLOCK_SKEW_S + 1), ..made.keys() };
    let keys = sign(&keys, &MESH, &[&made.identity]).to_bytes();
    assert!(matches!(refusal(&made.envelope_with(keys), &MESH), RequestRefusal::Future { .. }));
}

#[test]
fn an_honest_farewell_is_verified() {
    let (identity, leave) = farewell();
    let envelope = sign(&leave, &MESH, &[&identity]).to_bytes();
    let verified = verify_leave(&envelope, &MESH, |node| (*node == leave.node).then_some(identity.public()));
    assert_eq!(verified, Ok(leave));
}

#[test]
fn a_farewell_of_an_unknown_node_is_refused() {
    let (identity, leave) = farewell();
    let envelope = sign(&leave, &MESH, &[&identity]).to_bytes();
    assert_eq!(verify_leave(&envelope, &MESH, |_| None), Err(LeaveRefusal::UnknownNode(leave.node)));
}

#[test]
fn a_farewell_must_be_signed_by_its_node_alone_for_this_mesh() {
    let (identity, leave) = farewell();
    let stranger = key(9);
    let signers: [&[&SigningKey]; 3] = [&[], &[&stranger], &[&identity, &stranger]];
    for keys in signers {
        let envelope = sign(&leave, &MESH, keys).to_bytes();
        let refused = verify_leave(&envelope, &MESH, |_| Some(identity.public()));
        assert_eq!(refused, Err(LeaveRefusal::Signature));
    }
    let elsewhere = sign(&leave, &OTHER_MESH, &[&identity]).to_bytes();
    let refused = verify_leave(&elsewhere, &MESH, |_| Some(identity.public()));
    assert_eq!(refused, Err(LeaveRefusal::Signature));
}

#[test]
fn a_changed_farewell_is_refused() {
    let (identity, leave) = farewell();
    let mut changed = Envelope::new(&NodeLeave { node: NodeId([4; 32]), ..leave.clone() });
    changed.sign_with(sign(&leave, &MESH, &[&identity]).signatures()[0]);
    let refused = verify_leave(&changed.to_bytes(), &MESH, |_| Some(identity.public()));
    assert_eq!(refused, Err(LeaveRefusal::Signature));
}

#[test]
fn externals_are_believed_of_their_node_alone_in_this_mesh_and_now() {
    let (identity, said) = externals(&["phone", "router"]);
    let verify = |envelope: &Envelope, now| {
        verify_externals(&envelope.to_bytes(), &MESH, now, |_| Some(identity.public()))
    };
    let honest = sign(&said, &MESH, &[&identity]);
    for now in [NOW, NOW.plus(300), Timestamp(NOW.0 - 300)] {
        assert_eq!(verify(&honest, now), Ok(said.clone()));
    }
    for now in [NOW.plus(301), Timestamp(NOW.0 - 301)] {
        assert_eq!(verify(&honest, now), Err(ExternalsRefusal::Clock { by_s: 301 }));
    }
    let stranger = key(9);
    let signers: [&[&SigningKey]; 3] = [&[], &[&stranger], &[&identity, &stranger]];
    for keys in signers {
        assert_eq!(verify(&sign(&said, &MESH, keys), NOW), Err(ExternalsRefusal::Signature));
    }
    assert_eq!(verify(&sign(&said, &OTHER_MESH, &[&identity]), NOW), Err(ExternalsRefusal::Signature));
    let unknown = verify_externals(&honest.to_bytes(), &MESH, NOW, |_| None);
    assert_eq!(unknown, Err(ExternalsRefusal::UnknownNode(said.node)));
}

#[test]
fn externals_are_a_sorted_set_of_host_names() {
    let many: Vec<String> = (0..=EXTERNALS_MAX).map(|number| format!("host-{number:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases: [(&[&str], bool); 6] = [
        (&[], true),
        (&many[1..], true),
        (&many, false),
        (&["b", "a"], false),
        (&["a", "a"], false),
        (&["A"], false),
    ];
    for (names, is_right) in cases {
        let (identity, said) = externals(names);
        let envelope = sign(&said, &MESH, &[&identity]).to_bytes();
        let verified = verify_externals(&envelope, &MESH, NOW, |_| Some(identity.public()));
        assert_eq!(verified, if is_right { Ok(said) } else { Err(ExternalsRefusal::Names) }, "{names:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(verify_request(&bytes, &MESH, NOW).is_err());
        prop_assert!(verify_leave(&bytes, &MESH, |_| Some(key(1).public())).is_err());
        prop_assert!(verify_externals(&bytes, &MESH, NOW, |_| Some(key(1).public())).is_err());
    }

    #[test]
    fn a_request_changed_anywhere_is_refused(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = Applicant::default().envelope();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(verify_request(&bytes, &MESH, NOW).is_err());
    }
}

fn externals(names: &[&str]) -> (SigningKey, NodeExternals) {
    let identity = key(1);
    let names = names.iter().map(ToString::to_string).collect();
    let node = NodeId::from(identity.key_id());
    (identity, NodeExternals { version: 1, node, seq: 1, issued_at: NOW, names })
}

struct Applicant {
    identity: SigningKey,
    transport: SigningKey,
    name: String,
    issued_at: Timestamp,
}

impl Default for Applicant {
    fn default() -> Self {
        Self { identity: key(1), transport: key(2), name: "host-a".into(), issued_at: NOW }
    }
}

impl Applicant {
    fn keys(&self) -> NodeKeys {
        NodeKeys {
            version: 1,
            node: NodeId::from(self.identity.key_id()),
            seq: 1,
            issued_at: self.issued_at,
            suites: 1,
            post_quantum: 0,
            compromised: false,
            cur: EpochKey { epoch: 1, key: PublicKey([8; 32]), since: self.issued_at },
            next: None,
            prev: None,
            accept_until: None,
        }
    }

    fn request(&self) -> JoinRequest {
        self.request_with(sign(&self.keys(), &MESH, &[&self.identity]).to_bytes())
    }

    fn request_with(&self, keys: Vec<u8>) -> JoinRequest {
        JoinRequest {
            version: 1,
            mesh: MESH,
            org: OrgId([3; 32]),
            name: self.name.clone(),
            identity: self.identity.public(),
            transport: self.transport.public(),
            issued_at: self.issued_at,
            keys,
        }
    }

    fn envelope(&self) -> Vec<u8> {
        self.signed(&self.request())
    }

    fn envelope_with(&self, keys: Vec<u8>) -> Vec<u8> {
        self.signed(&self.request_with(keys))
    }

    fn signed(&self, record: &impl Record) -> Vec<u8> {
        sign(record, &MESH, &[&self.identity, &self.transport]).to_bytes()
    }
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed([byte; 32])
}

fn farewell() -> (SigningKey, NodeLeave) {
    let identity = key(1);
    let node = NodeId::from(identity.key_id());
    (identity, NodeLeave { version: 1, node, issued_at: NOW })
}

fn refusal(envelope: &[u8], mesh: &MeshId) -> RequestRefusal {
    verify_request(envelope, mesh, NOW).expect_err("the request must be refused")
}
