//! Roots, genesis and delegations that break a rule.

use meshd_trust::{Accepted, Floor, Roster, SigningKey, sign};
use meshd_wire::record::{MeshGenesis, OrgRoot, Prefix, StewardDelegation};
use meshd_wire::{Envelope, MeshId, RecordId};

use crate::fixture::{DAY_S, NO_MESH, NOW, TestMesh, ago, assert_new, assert_refused, key, root_record};

/// The second root of the first organisation, with other keys.
fn second_root(mesh: &TestMesh, keys: &[&SigningKey], threshold: u8) -> OrgRoot {
    let mut root = root_record("org 0", 2, keys, threshold);
    root.prev = Some(RecordId(mesh.orgs[0].id.0));
    root
}

fn signed(root: &OrgRoot, keys: &[&SigningKey]) -> Vec<u8> {
    sign(root, &NO_MESH, keys).to_bytes()
}

#[test]
fn a_root_of_a_stranger_is_refused() {
    let mesh = TestMesh::new(1);
    let stranger = key("stranger", 0);
    let root = root_record("stranger", 1, &[&stranger], 1);
    assert_refused(&mut mesh.founded(), &signed(&root, &[&stranger]), NOW, "unknown-org");
    assert_refused(&mut mesh.roster(), &signed(&root, &[&stranger]), NOW, "missing-parent");
}

#[test]
fn a_founders_root_without_its_signature_is_refused() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.roster();
    assert_refused(&mut roster, &mesh.genesis_envelope.to_bytes(), NOW, "missing-parent");
    let stranger = key("stranger", 0);
    assert_refused(&mut roster, &signed(&mesh.orgs[0].root, &[&stranger]), NOW, "unknown-signer");
    assert_refused(&mut roster, &signed(&mesh.orgs[0].root, &[]), NOW, "too-few-signers");
    assert_new(&mut roster, &mesh.orgs[0].root_envelope.to_bytes(), NOW);
}

#[test]
fn a_newer_root_needs_the_old_and_the_new_threshold() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let old = &mesh.orgs[0].root_key;
    let (a, b, stranger) = (key("a", 0), key("b", 0), key("stranger", 0));
    let root = second_root(&mesh, &[&a, &b], 2);
    assert_refused(&mut roster, &signed(&root, &[old]), NOW, "too-few-signers");
    assert_refused(&mut roster, &signed(&root, &[&a, &b]), NOW, "too-few-signers");
    assert_refused(&mut roster, &signed(&root, &[old, &a]), NOW, "too-few-signers");
    assert_refused(&mut roster, &signed(&root, &[old, &a, &b, &stranger]), NOW, "unknown-signer");
    assert_new(&mut roster, &signed(&root, &[old, &a, &b]), NOW);
    assert_eq!(roster.org(&mesh.orgs[0].id).map(|org| org.root_version()), Some(2));
    // Another second root is refused for ever, whoever signs it.
    let other = second_root(&mesh, &[&a], 1);
    assert_refused(&mut roster, &signed(&other, &[old, &a]), NOW, "equivocation");
}

#[test]
fn one_key_counts_once_towards_a_threshold() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let (old, a) = (&mesh.orgs[0].root_key, key("a", 0));
    let mut root = second_root(&mesh, &[&a], 2);
    root.keys = vec![a.public(), a.public()];
    assert_refused(&mut roster, &signed(&root, &[old, &a]), NOW, "invalid");
}

#[test]
fn malformed_roots_are_refused() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let (old, a) = (&mesh.orgs[0].root_key, key("a", 0));
    let good = second_root(&mesh, &[&a], 1);
    type Change = fn(&mut OrgRoot);
    let cases: [(Change, &str); 7] = [
        (|root| root.threshold = 0, "invalid"),
        (|root| root.threshold = 2, "invalid"),
        (|root| root.name = "\u{1b}[31m".into(), "invalid"),
        (|root| root.root_version = 3, "invalid"),
        (|root| root.prev = None, "invalid"),
        (|root| root.prev = Some(RecordId([3; 32])), "missing-parent"),
        (|root| root.not_after = NOW.plus(5 * 366 * DAY_S), "invalid"),
    ];
    for (change, reason) in cases {
        let mut root = good.clone();
        change(&mut root);
        assert_refused(&mut roster, &signed(&root, &[old, &a]), NOW, reason);
    }
    assert_new(&mut roster, &signed(&good, &[old, &a]), NOW);
}

#[test]
fn a_genesis_of_another_mesh_is_refused() {
    let mesh = TestMesh::new(1);
    let other = TestMesh::with_terms(1, |genesis| genesis.nonce = [6; 16]);
    assert_refused(&mut mesh.founded(), &other.genesis_envelope.to_bytes(), NOW, "other-mesh");
}

#[test]
fn a_genesis_of_another_mesh_does_not_say_whose_roots_to_expect() {
    let mesh = TestMesh::new(1);
    let other = TestMesh::with_terms(1, |genesis| genesis.agreement.members[0].org.0[0] ^= 1);
    let foreign = other.genesis_envelope.to_bytes();
    let mut roster = mesh.roster();
    assert_refused(&mut roster, &foreign, NOW, "other-mesh");
    assert_eq!(roster.accept_all(&mesh.chain(), NOW), []);
    let mut mixed = vec![foreign];
    mixed.extend(mesh.chain());
    let refused = mesh.roster().accept_all(&mixed, NOW);
    assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0], "{refused:?}");
}

#[test]
fn a_genesis_needs_every_founder() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.roster();
    let roots: Vec<_> = mesh.orgs.iter().map(|org| org.root_envelope.to_bytes()).collect();
    let one = sign(&mesh.genesis, &NO_MESH, &[&mesh.orgs[0].root_key]).to_bytes();
    let three =
        sign(&mesh.genesis, &NO_MESH, &[&mesh.orgs[0].root_key, &mesh.orgs[1].root_key, &key("stranger", 0)]);
    assert_refused(&mut roster, &one, NOW, "missing-parent");
    assert_eq!(roster.accept_all(&roots, NOW), []);
    assert_refused(&mut roster, &one, NOW, "too-few-signers");
    assert_refused(&mut roster, &three.to_bytes(), NOW, "unknown-signer");
    assert!(roster.genesis().is_none() && roster.chain().is_empty());
    assert_refused(&mut roster, &mesh.by_root(0, &mesh.delegation(0)), NOW, "missing-parent");
    // What is not proven is not kept, and what is kept can be read again.
    assert!(Roster::from_bytes(&roster.to_bytes(), mesh.id, NOW).is_ok());
    assert_new(&mut roster, &mesh.genesis_envelope.to_bytes(), NOW);
}

#[test]
fn a_genesis_that_contradicts_itself_is_refused() {
    type Change = fn(&mut MeshGenesis);
    let cases: [(Change, &str); 9] = [
        (|genesis| genesis.agreement.members.clear(), "invalid"),
        (|genesis| genesis.agreement.members.reverse(), "invalid"),
        (|genesis| genesis.agreement.members[1].subnet6 = genesis.agreement.members[0].subnet6, "invalid"),
        (|genesis| genesis.agreement.members[1].prefix4 = Prefix::v4([10, 0, 0, 0].into(), 8), "invalid"),
        (|genesis| genesis.agreement.members[1].prefix4.len = 0, "invalid"),
        (|genesis| genesis.agreement.agreement_version = 2, "invalid"),
        (|genesis| genesis.agreement.freshness_soft_s = 90_000, "invalid"),
        (|genesis| genesis.agreement.key_age_max_s = 0, "invalid"),
        (|genesis| genesis.name = String::new(), "invalid"),
    ];
    for (change, reason) in cases {
        let mesh = TestMesh::with_terms(2, change);
        assert_refused(&mut mesh.roster(), &mesh.genesis_envelope.to_bytes(), NOW, reason);
    }
    let early = TestMesh::with_terms(1, |genesis| genesis.agreement.not_before = NOW.plus(DAY_S));
    assert_refused(&mut early.roster(), &early.genesis_envelope.to_bytes(), NOW, "future");
}

#[test]
fn only_the_root_delegates() {
    let mesh = TestMesh::new(2);
    let mut roster = mesh.founded();
    let mut delegation = mesh.delegation(0);
    delegation.serial = 2;
    assert_refused(&mut roster, &mesh.by_steward(0, &delegation), NOW, "unknown-signer");
    assert_refused(&mut roster, &mesh.by_root(1, &delegation), NOW, "unknown-signer");
    let mut forged = sign(&delegation, &mesh.id, &[&mesh.orgs[0].root_key]);
    let right = forged.signatures()[0];
    let other = sign(&mesh.delegation(0), &mesh.id, &[&mesh.orgs[0].root_key]).signatures()[0];
    forged.sign_with(other);
    assert_refused(&mut roster, &forged.to_bytes(), NOW, "bad-signature");
    forged.sign_with(right);
    assert_new(&mut roster, &forged.to_bytes(), NOW);
}

#[test]
fn a_signature_for_another_mesh_does_not_count() {
    let mesh = TestMesh::new(1);
    let mut delegation = mesh.delegation(0);
    delegation.serial = 2;
    let elsewhere = sign(&delegation, &MeshId([1; 32]), &[&mesh.orgs[0].root_key]).to_bytes();
    assert_refused(&mut mesh.founded(), &elsewhere, NOW, "bad-signature");
}

#[test]
fn delegations_that_break_a_rule_are_refused() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    type Change = fn(&mut StewardDelegation);
    let cases: [(Change, &str); 8] = [
        (|steward| steward.serial = 1, "equivocation"),
        (|steward| steward.root_version = 2, "missing-parent"),
        (|steward| steward.not_before = NOW.plus(DAY_S), "future"),
        (|steward| steward.not_after = ago(1), "expired"),
        (|steward| steward.not_after = steward.not_before.plus(91 * DAY_S), "invalid"),
        (|steward| std::mem::swap(&mut steward.not_before, &mut steward.not_after), "invalid"),
        (|steward| steward.label_namespace = "UPPER".into(), "invalid"),
        (|steward| steward.org.0[0] ^= 1, "unknown-org"),
    ];
    for (change, reason) in cases {
        let mut delegation = mesh.delegation(0);
        delegation.serial = 2;
        delegation.tls_key = key("tls", 9).public();
        change(&mut delegation);
        assert_refused(&mut roster, &mesh.by_root(0, &delegation), NOW, reason);
    }
}

#[test]
fn a_replaced_root_appoints_no_steward() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    let (old, a, b) = (&mesh.orgs[0].root_key, key("a", 0), key("b", 0));
    let root = second_root(&mesh, &[&a, &b], 2);
    assert_new(&mut roster, &signed(&root, &[old, &a, &b]), NOW);
    let mut delegation = mesh.delegation(0);
    delegation.serial = 2;
    assert_refused(&mut roster, &mesh.by_root(0, &delegation), NOW, "stale");
    delegation.root_version = 2;
    assert_refused(&mut roster, &mesh.by_root(0, &delegation), NOW, "unknown-signer");
    let half = sign(&delegation, &mesh.id, &[&a]).to_bytes();
    assert_refused(&mut roster, &half, NOW, "too-few-signers");
    assert_new(&mut roster, &sign(&delegation, &mesh.id, &[&a, &b]).to_bytes(), NOW);
}

#[test]
fn an_expired_root_appoints_no_steward() {
    let mesh = TestMesh::new(1);
    let late = NOW.plus(366 * DAY_S);
    let mut delegation = mesh.delegation(0);
    delegation.serial = 2;
    (delegation.not_before, delegation.not_after) = (late, late.plus(DAY_S));
    assert_refused(&mut mesh.founded(), &mesh.by_root(0, &delegation), late, "expired");
}

#[test]
fn nothing_below_the_tokens_floor_is_believed() {
    let mesh = TestMesh::new(1);
    let org = Some(mesh.orgs[0].id);
    let mut roster = Roster::new(mesh.id, Floor { org, root_version_min: 2, agreement_version_min: 1 });
    let reasons: Vec<_> =
        roster.accept_all(&mesh.chain(), NOW).into_iter().map(|(_, refusal)| refusal.reason()).collect();
    assert_eq!(reasons, ["below-floor", "unknown-signer"]);
    let mut roster = Roster::new(mesh.id, Floor { org, root_version_min: 1, agreement_version_min: 2 });
    assert_refused(&mut roster, &mesh.genesis_envelope.to_bytes(), NOW, "below-floor");
    let mut roster = Roster::new(mesh.id, Floor { org, root_version_min: 1, agreement_version_min: 1 });
    assert_eq!(roster.accept_all(&mesh.chain(), NOW), []);
    let mut state = mesh.state(0, 2, NOW);
    state.agreement_version = 0;
    assert_refused(&mut roster, &mesh.by_steward(0, &state), NOW, "below-floor");
}

#[test]
fn garbage_is_refused_and_strangers_kinds_are_bounded() {
    let mesh = TestMesh::new(1);
    let mut roster = mesh.founded();
    assert_refused(&mut roster, &[], NOW, "malformed");
    assert_refused(&mut roster, &[0xff; 40], NOW, "malformed");
    assert_refused(&mut roster, &vec![0; 70_000], NOW, "too-large");
    for number in 0..100u8 {
        // [1, 200, h'<number>', []]
        let unknown = [0x84, 0x01, 0x18, 200, 0x42, 0x18, number | 0x80, 0x80];
        assert!(Envelope::from_bytes(&unknown).is_ok());
        assert_eq!(roster.accept(&unknown, NOW), Ok(Accepted::Opaque));
    }
    assert_eq!(roster.opaque().count(), 16);
    assert!(roster.opaque().all(|bytes| bytes.len() == 8));
}

#[test]
fn a_later_version_of_a_kind_is_never_acted_upon() {
    let mesh = TestMesh::new(1);
    let mut cert = mesh.cert(0, 1);
    cert.version = 2;
    let mut roster = mesh.founded();
    assert_eq!(roster.accept(&mesh.by_steward(0, &cert), NOW), Ok(Accepted::Opaque));
    assert_eq!(roster.nodes().count(), 0);
}
