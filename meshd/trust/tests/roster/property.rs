//! What holds for any order of arrival and any damage.

use std::sync::LazyLock;

use meshd_trust::{Accepted, Roster};
use proptest::prelude::{Just, Strategy, any};
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::fixture::{NOW, TestMesh, node_id};

static MESH: LazyLock<TestMesh> = LazyLock::new(|| TestMesh::new(2));
static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(honest_records);

/// Everything two honest organisations say, older versions included.
fn honest_records() -> Vec<Vec<u8>> {
    let mesh = &*MESH;
    let mut records = mesh.chain();
    let revocations = [mesh.revocations(0, 1, &[]), mesh.revocations(0, 2, &[node_id(3)])];
    let state = mesh.naming(mesh.state(0, 2, NOW), &revocations[1]);
    records.push(mesh.by_steward(0, &state));
    records.extend(revocations.iter().map(|one| mesh.by_steward(0, one)));
    for (org, number) in [(0, 1), (1, 2), (0, 4)] {
        records.extend(mesh.node_records(org, number));
        let mut renewed = mesh.cert(org, number);
        renewed.serial += 100;
        // The second node takes over what the first one had.
        if number == 4 {
            renewed.addr4[3] = 200;
        }
        records.push(mesh.by_steward(org, &renewed));
        records.push(mesh.by_node(number, &mesh.keys(number, 2)));
        records.push(mesh.by_node(number, &mesh.paths(number, 2)));
    }
    for (node, endpoint, octet) in [(1, 1, "10.91"), (1, 2, "10.91"), (2, 1, "10.90")] {
        let mut claim = mesh.endpoint(node, endpoint, &[&format!("{octet}.128.{endpoint}")]);
        claim.name = Some(format!("web-{endpoint}"));
        records.push(mesh.by_node(node, &claim));
        (claim.seq, claim.withdrawn) = (2, endpoint == 2);
        records.push(mesh.by_node(node, &claim));
    }
    records.push(mesh.by_node(4, &mesh.endpoint(4, 3, &["10.91.129.0/26"])));
    let mut heir = mesh.cert(0, 5);
    heir.addr4 = mesh.cert(0, 4).addr4;
    records.push(mesh.by_steward(0, &heir));
    records
}

fn after(records: &[Vec<u8>]) -> Roster {
    let mut roster = MESH.roster();
    roster.accept_all(records, NOW);
    roster
}

proptest! {
    #[test]
    fn the_order_of_arrival_does_not_matter(shuffled in Just(RECORDS.clone()).prop_shuffle()) {
        prop_assert_eq!(after(&shuffled).to_bytes(), after(&RECORDS).to_bytes());
    }

    #[test]
    fn arriving_in_two_parts_does_not_matter(
        shuffled in Just(RECORDS.clone()).prop_shuffle(),
        cut in 0..RECORDS.len(),
    ) {
        let mut roster = MESH.roster();
        roster.accept_all(&shuffled[..cut], NOW);
        roster.accept_all(&shuffled, NOW);
        prop_assert_eq!(roster.to_bytes(), after(&RECORDS).to_bytes());
    }

    #[test]
    fn a_damaged_record_is_never_new(which in 0..RECORDS.len(), at in any::<usize>(), flip in 1..=255u8) {
        let mut damaged = RECORDS[which].clone();
        let at = at % damaged.len();
        damaged[at] ^= flip;
        // To a roster that has everything but this record, and to one that has everything.
        let others: Vec<_> =
            RECORDS.iter().enumerate().filter(|(index, _)| *index != which).map(|(_, one)| one.clone()).collect();
        for mut roster in [after(&others), after(&RECORDS)] {
            let before = roster.to_bytes();
            prop_assert!(!matches!(roster.accept(&damaged, NOW), Ok(Accepted::New(_))));
            prop_assert_eq!(roster.to_bytes(), before);
        }
    }

    #[test]
    fn arbitrary_bytes_are_never_new(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut roster = after(&RECORDS);
        prop_assert!(!matches!(roster.accept(&bytes, NOW), Ok(Accepted::New(_))));
        prop_assert!(roster.accept_bundle(&bytes, NOW).is_err());
        prop_assert!(Roster::from_bytes(&bytes, MESH.id, NOW).is_err());
    }
}

#[test]
fn every_byte_of_every_record_matters() {
    for (which, record) in RECORDS.iter().enumerate() {
        let others: Vec<_> = RECORDS
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != which)
            .map(|(_, one)| one.clone())
            .collect();
        let mut roster = after(&others);
        let before = roster.to_bytes();
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 0x01;
            let outcome = roster.accept(&damaged, NOW);
            assert!(!matches!(outcome, Ok(Accepted::New(_))), "record {which}, byte {at}: {outcome:?}");
        }
        assert_eq!(roster.to_bytes(), before, "record {which}");
    }
}
