use std::net::{Ipv4Addr, Ipv6Addr};

use meshd_wire::Kind;

use super::*;
use crate::key::verify_signature;

const NOW: Timestamp = Timestamp(1_800_000_000);
const MESH: MeshId = MeshId([5; 32]);

#[test]
fn a_root_is_signed_by_all_its_keys_and_names_its_organisation() {
    let (a, b) = (key(1), key(2));
    let (org, envelope) = org_root("acme", &[&a, &b], 2, NOW).unwrap();
    let root: OrgRoot = envelope.record().unwrap();
    assert_eq!(envelope.record_id(&MESH), Some(RecordId(org.0)), "its id does not depend on a mesh");
    assert!(root.keys.is_sorted());
    assert!(root.keys.iter().all(|key| verify_signature(&envelope, &MESH, key)));
    assert_eq!((root.root_version, root.threshold, root.prev), (1, 2, None));
    assert_eq!(root.not_after, NOW.plus(ROOT_LIFE_S));
    assert_eq!(org_root("acme", &[&b, &a], 2, NOW).unwrap().0, org, "the order of keys does not matter");
}

#[test]
fn roots_that_can_not_work_are_not_made() {
    let a = key(1);
    assert_eq!(org_root("acme", &[], 1, NOW), Err(FoundingError::RootKeys));
    assert_eq!(org_root("acme", &[&a, &a], 1, NOW), Err(FoundingError::RootKeys));
    let threshold = |threshold| Err(FoundingError::Threshold { threshold, keys: 1 });
    assert_eq!(org_root("acme", &[&a], 0, NOW), threshold(0));
    assert_eq!(org_root("acme", &[&a], 2, NOW), threshold(2));
    let many: Vec<SigningKey> = (0..=32).map(key).collect();
    let many: Vec<&SigningKey> = many.iter().collect();
    assert_eq!(org_root("acme", &many, 1, NOW), Err(FoundingError::RootKeys));
    assert!(org_root("acme", &many[1..], 1, NOW).is_ok());
}

#[test]
fn names_have_few_characters() {
    let a = key(1);
    let longest = "x".repeat(63);
    for name in ["a", "acme-2", &longest] {
        assert!(org_root(name, &[&a], 1, NOW).is_ok(), "{name}");
        assert!(genesis(&FoundingTerms { name: name.into(), ..terms() }).is_ok(), "{name}");
    }
    let longer = "x".repeat(64);
    for name in ["", "Acme", "a b", "a.b", "ä", "a/b", "a\n", &longer] {
        let refused = FoundingError::Name(name.into());
        assert_eq!(org_root(name, &[&a], 1, NOW), Err(refused.clone()), "{name}");
        assert_eq!(genesis(&FoundingTerms { name: name.into(), ..terms() }), Err(refused), "{name}");
    }
}

#[test]
fn a_genesis_sorts_its_members_and_has_the_defaults() {
    let drafted = genesis(&terms()).unwrap();
    let agreement = &drafted.agreement;
    assert!(agreement.members.is_sorted_by_key(|member| member.org));
    assert_eq!((agreement.number, agreement.agreement_version), (0, 1));
    assert_eq!(agreement.freshness_soft_s, 900);
    assert_eq!(agreement.freshness_hard_s, 86_400);
    assert_eq!(agreement.key_age_max_s, 172_800);
    let mut reversed = terms();
    reversed.founders.reverse();
    assert_eq!(genesis(&reversed), Ok(drafted), "the order of founders does not matter");
}

#[test]
fn the_mesh_id_follows_from_the_content_alone() {
    let drafted = genesis(&terms()).unwrap();
    let mut envelope = Envelope::new(&drafted);
    let before = mesh_id(&drafted);
    assert_eq!(sign_genesis(&mut envelope, &key(1)), Ok(before));
    assert_eq!(sign_genesis(&mut envelope, &key(2)), Ok(before));
    assert_eq!(envelope.record_id(&MESH), Some(RecordId(before.0)));
    assert!([1, 2].into_iter().all(|byte| verify_signature(&envelope, &before, &key(byte).public())));
    let other = genesis(&FoundingTerms { nonce: [1; 16], ..terms() }).unwrap();
    assert_ne!(mesh_id(&other), before);
}

#[test]
fn overlapping_prefixes_are_refused() {
    let overlapping = [("10.91.0.0", 16, "10.91.128.0", 17), ("10.91.0.0", 17, "10.0.0.0", 8)];
    for (first, first_len, second, second_len) in overlapping {
        let founders = vec![founder(1, first, first_len, 0), founder(2, second, second_len, 1)];
        let refused = genesis(&FoundingTerms { founders, ..terms() });
        assert_eq!(refused, Err(FoundingError::Overlap(OrgId([1; 32]), OrgId([2; 32]))));
    }
    let founders = vec![founder(1, "10.91.0.0", 16, 0), founder(2, "10.91.0.0", 16, 1)];
    assert!(matches!(genesis(&FoundingTerms { founders, ..terms() }), Err(FoundingError::Overlap(..))));
    let founders = vec![founder(1, "10.91.0.0", 17, 0), founder(2, "10.91.128.0", 17, 1)];
    assert!(genesis(&FoundingTerms { founders, ..terms() }).is_ok(), "neighbours do not overlap");
}

#[test]
fn equal_subnets_and_repeated_founders_are_refused() {
    let founders = vec![founder(1, "10.91.0.0", 17, 3), founder(2, "10.91.128.0", 17, 3)];
    let refused = genesis(&FoundingTerms { founders, ..terms() });
    assert_eq!(refused, Err(FoundingError::Subnet6(OrgId([1; 32]), OrgId([2; 32]))));
    let founders = vec![founder(1, "10.91.0.0", 17, 0), founder(1, "10.91.128.0", 17, 1)];
    let refused = genesis(&FoundingTerms { founders, ..terms() });
    assert_eq!(refused, Err(FoundingError::FounderTwice(OrgId([1; 32]))));
}

#[test]
fn prefixes_that_can_not_be_an_organisations_are_refused() {
    let wrong = [
        Prefix::v4(Ipv4Addr::new(10, 91, 0, 1), 16),
        Prefix::v4(Ipv4Addr::new(10, 0, 0, 0), 7),
        Prefix::v4(Ipv4Addr::new(10, 91, 0, 0), 31),
        Prefix::v4(Ipv4Addr::new(10, 91, 0, 0), 33),
        Prefix::v4(Ipv4Addr::UNSPECIFIED, 0),
        Prefix { addr: Ipv6Addr::LOCALHOST.octets().to_vec(), len: 128 },
        Prefix { addr: vec![10, 91], len: 16 },
    ];
    for prefix4 in wrong {
        let founders = vec![Founder { org: OrgId([1; 32]), prefix4: prefix4.clone(), subnet6: 0 }];
        let refused = genesis(&FoundingTerms { founders, ..terms() });
        assert_eq!(refused, Err(FoundingError::Prefix(OrgId([1; 32]))), "{prefix4:?}");
    }
}

#[test]
fn a_mesh_has_founders_but_not_too_many() {
    let with = |founders| genesis(&FoundingTerms { founders, ..terms() });
    assert_eq!(with(vec![]), Err(FoundingError::Founders));
    let many = |count: u8| (0..count).map(|byte| founder(byte, &format!("10.{byte}.0.0"), 16, byte.into()));
    assert!(with(many(64).collect()).is_ok());
    assert_eq!(with(many(65).collect()), Err(FoundingError::Founders));
}

#[test]
fn a_draft_of_another_is_checked_before_it_is_signed() {
    let good = genesis(&terms()).unwrap();
    let mut unsorted = good.clone();
    unsorted.agreement.members.reverse();
    let mut numbered = good.clone();
    numbered.agreement.number = 1;
    let mut later = good.clone();
    later.agreement.agreement_version = 2;
    let mut soft = good.clone();
    soft.agreement.freshness_soft_s = soft.agreement.freshness_hard_s + 1;
    let mut never = good.clone();
    never.agreement.freshness_soft_s = 0;
    let mut keyless = good.clone();
    keyless.agreement.key_age_max_s = 0;
    let mut over = good.clone();
    over.agreement.not_after = over.agreement.not_before;
    let mut quantum = good.clone();
    quantum.agreement.post_quantum = 2;
    let wrong = [
        (unsorted, FoundingError::Unsorted),
        (numbered, FoundingError::NotFirst),
        (later, FoundingError::NotFirst),
        (soft, FoundingError::Limits),
        (never, FoundingError::Limits),
        (keyless, FoundingError::Limits),
        (over, FoundingError::Limits),
        (quantum, FoundingError::Limits),
    ];
    for (draft, expected) in wrong {
        let mut envelope = Envelope::new(&draft);
        assert_eq!(sign_genesis(&mut envelope, &key(1)), Err(expected));
        assert!(envelope.signatures().is_empty(), "a refused draft stays unsigned");
    }
}

#[test]
fn only_a_genesis_is_signed_as_genesis() {
    let (_, mut envelope) = org_root("acme", &[&key(1)], 1, NOW).unwrap();
    let refused = sign_genesis(&mut envelope, &key(2));
    assert!(matches!(refused, Err(FoundingError::NotGenesis(DecodeError::WrongKind { .. }))));
    assert_eq!(envelope.signatures().len(), 1);
}

#[test]
fn a_delegation_is_signed_by_the_root_for_one_mesh() {
    let root = key(1);
    let envelope = delegate(&delegation_terms(), &MESH, &[&root]).unwrap();
    let made: StewardDelegation = envelope.record().unwrap();
    assert_eq!(envelope.kind(), Some(Kind::StewardDelegation));
    assert!(verify_signature(&envelope, &MESH, &root.public()));
    assert!(!verify_signature(&envelope, &MeshId([6; 32]), &root.public()));
    assert_eq!((made.not_before, made.not_after), (NOW, NOW.plus(DELEGATION_LIFE_S)));
    assert_eq!(made.record_key, delegation_terms().keys.record);
    assert_eq!(made.tls_key, delegation_terms().keys.tls);
}

#[test]
fn a_steward_needs_four_different_keys() {
    let keys = delegation_terms().keys;
    let wrong = [
        StewardPublicKeys { log: keys.record, ..keys },
        StewardPublicKeys { tls: keys.witness, ..keys },
        StewardPublicKeys { record: PublicKey([0; 32]), ..keys },
    ];
    for keys in wrong {
        let refused = delegate(&DelegationTerms { keys, ..delegation_terms() }, &MESH, &[&key(1)]);
        assert_eq!(refused, Err(FoundingError::StewardKeys));
    }
}

fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed([byte; 32])
}

fn founder(byte: u8, addr: &str, len: u8, subnet6: u16) -> Founder {
    Founder { org: OrgId([byte; 32]), prefix4: Prefix::v4(addr.parse().unwrap(), len), subnet6 }
}

fn terms() -> FoundingTerms {
    FoundingTerms {
        name: "mesh".into(),
        nonce: [0; 16],
        lab: false,
        founders: vec![founder(2, "10.91.0.0", 17, 0), founder(1, "10.91.128.0", 17, 1)],
        now: NOW,
    }
}

fn delegation_terms() -> DelegationTerms {
    let [record, log, witness, tls] = [11, 12, 13, 14].map(|byte| key(byte).public());
    DelegationTerms {
        org: OrgId([1; 32]),
        root_version: 1,
        serial: 1,
        keys: StewardPublicKeys { record, log, witness, tls },
        roles: Roles::ALL,
        now: NOW,
    }
}
