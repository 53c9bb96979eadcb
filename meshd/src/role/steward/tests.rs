use meshd_trust::Standing;
use meshd_wire::enrol::{EnrolReply, EnrolRequest, Refused};
use meshd_wire::record::{Label, NodeCert, OrgState, Revocations};
use meshd_wire::token::TokenSecret;
use meshd_wire::{Envelope, PublicKey, TokenId};
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::decide::DAY_S;
use super::fixture::{EXPORTER, Home, NOW, cert_of, copy_of, quarter_hour, refusal_of, secrets};
use super::*;

#[test]
fn admitted_nodes_verify_and_get_addresses_in_order() {
    let mut home = Home::found(1, 16);
    for (number, last) in [(1, 1), (2, 2), (3, 3)] {
        let answer = home.admit(&secrets(number), &format!("node-{number}"));
        let mut roster = home.roster(NOW);
        for record in &answer.publish {
            roster.accept(record, NOW).expect("verifies");
        }
        let node = secrets(number).node();
        assert_eq!(roster.standing(&node, NOW), Standing::InForce);
        assert_eq!(roster.node(&node).expect("node").cert().ipv4().octets(), [10, 91, 0, last]);
    }
}

#[test]
fn a_token_admits_one_host_and_no_second_one() {
    let mut home = Home::found(1, 16);
    let token = home.invite();
    assert_eq!(refusal_of(&home.enrol(&token, &secrets(1), "one", NOW)), None);
    assert_eq!(refusal_of(&home.enrol(&token, &secrets(2), "two", NOW)), Some(Refused::TokenUsed));
}

#[test]
fn of_two_hundred_hosts_with_one_token_one_is_admitted() {
    let mut home = Home::found(1, 16);
    let token = home.invite();
    let outcomes: Vec<_> = (0..200)
        .map(|number| refusal_of(&home.enrol(&token, &secrets(number), &format!("n{number}"), NOW)))
        .collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_none()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Some(Refused::TokenUsed)).count(), 199);
}

#[test]
fn a_lost_reply_can_be_asked_for_again_by_the_same_host_only() {
    let mut home = Home::found(1, 16);
    let token = home.invite();
    let first = home.enrol(&token, &secrets(1), "one", NOW);
    let again = home.enrol(&token, &secrets(1), "one", NOW.plus(3600));
    assert_eq!(cert_of(&first), cert_of(&again));

    let half = mixed_secrets();
    let other = home.enrol(&token, &half, "one", NOW);
    assert_eq!(refusal_of(&other), Some(Refused::TokenUsed), "same identity, other transport key");
}

#[test]
fn tokens_that_are_wrong_or_late_are_told_apart() {
    let mut home = Home::found(1, 16);
    let token = home.invite();
    let mut guessed = token.clone();
    guessed.secret = TokenSecret([0; 16]);
    assert_eq!(refusal_of(&home.enrol(&guessed, &secrets(1), "one", NOW)), Some(Refused::TokenUnknown));
    let mut renamed = token.clone();
    renamed.id = TokenId([0; 8]);
    assert_eq!(refusal_of(&home.enrol(&renamed, &secrets(1), "one", NOW)), Some(Refused::TokenUnknown));
    let late = NOW.plus(15 * 60 + 1);
    assert_eq!(refusal_of(&home.enrol(&token, &secrets(1), "one", late)), Some(Refused::TokenExpired));
    let other_mesh = Home::found(2, 16).invite();
    assert_eq!(refusal_of(&home.enrol(&other_mesh, &secrets(1), "one", NOW)), Some(Refused::TokenUnknown));
    assert_eq!(refusal_of(&home.enrol(&token, &secrets(1), "one", NOW)), None, "the token is still good");
}

#[test]
fn a_request_on_another_connection_or_of_another_key_is_refused() {
    let mut home = Home::found(1, 16);
    let token = home.invite();
    let request = home.request(&secrets(1), "one", NOW);
    let key = join::token_key(&token.secret, &token.mesh, &token.id);
    let mac = join::proof(&key, &request, &EXPORTER);
    let call = EnrolRequest::Enrol { token: token.id, request, mac };
    let own = secrets(1).transport().public();
    let elsewhere = home.steward.answer(&own, &[0; 32], &call, NOW);
    assert_eq!(refusal_of(&elsewhere), Some(Refused::TokenUnknown));
    let thief = home.steward.answer(&secrets(2).transport().public(), &EXPORTER, &call, NOW);
    assert_eq!(refusal_of(&thief), Some(Refused::Malformed));
    assert_eq!(refusal_of(&home.steward.answer(&own, &EXPORTER, &call, NOW)), None);
}

#[test]
fn requests_for_another_mesh_or_from_another_time_are_refused() {
    let (mut home, other) = (Home::found(1, 16), Home::found(2, 16));
    let foreign = other.request(&secrets(1), "one", NOW);
    assert_eq!(refusal_of(&home.steward.admit(&foreign, None, &[], NOW)), Some(Refused::WrongMesh));
    let early = home.request(&secrets(1), "one", NOW.plus(DAY_S));
    assert_eq!(refusal_of(&home.steward.admit(&early, None, &[], NOW)), Some(Refused::Clock));
    let asked = EnrolRequest::Chain { mesh: other.mesh };
    let answer = home.steward.answer(&PublicKey([0; 32]), &EXPORTER, &asked, NOW);
    assert_eq!(refusal_of(&answer), Some(Refused::WrongMesh));
}

#[test]
fn names_are_unique_and_free_again_after_a_farewell() {
    let mut home = Home::found(1, 16);
    cert_of(&home.admit(&secrets(1), "same"));
    assert_eq!(refusal_of(&home.admit(&secrets(2), "same")), Some(Refused::NameTaken));
    leave(&mut home, 1, NOW);
    cert_of(&home.admit(&secrets(2), "same"));
}

#[test]
fn addresses_run_out_and_rest_before_they_return() {
    let mut home = Home::found(1, 30);
    let first: NodeCert = record(&cert_of(&home.admit(&secrets(1), "one")));
    cert_of(&home.admit(&secrets(2), "two"));
    assert_eq!(refusal_of(&home.admit(&secrets(3), "three")), Some(Refused::NoAddress));
    leave(&mut home, 1, NOW);
    let at = |home: &mut Home, now| {
        let request = home.request(&secrets(3), "three", now);
        home.steward.admit(&request, None, &[], now)
    };
    assert_eq!(refusal_of(&at(&mut home, NOW.plus(7 * DAY_S))), Some(Refused::NoAddress));
    let later: NodeCert = record(&cert_of(&at(&mut home, NOW.plus(7 * DAY_S + 1))));
    assert_eq!(later.addr4, first.addr4);
}

#[test]
fn the_scope_of_a_token_overrules_the_host() {
    let mut home = Home::found(1, 16);
    let labels = vec![Label { key: "role".into(), value: "db".into() }];
    let spec = InviteSpec { name: Some("wanted".into()), labels: labels.clone(), ..quarter_hour() };
    let token = home.invite_at(&spec, &[SocketAddr::from(([192, 0, 2, 1], 1))]);
    let cert: NodeCert = record(&cert_of(&home.enrol(&token, &secrets(1), "other", NOW)));
    assert_eq!((cert.name.as_str(), cert.labels), ("wanted", labels));
}

#[test]
fn invitations_that_nobody_could_use_are_not_made() {
    let mut home = Home::found(1, 16);
    let hints = [SocketAddr::from(([192, 0, 2, 1], 1))];
    let random = Zeroizing::new([1; 24]);
    let mut made = |spec: InviteSpec, hints: &[SocketAddr]| {
        home.steward.invite(&spec, hints, NOW, &random).map(|token| token.not_after)
    };
    for ttl_s in [0, DAY_S + 1, u64::MAX] {
        let refused = made(InviteSpec { ttl_s, ..quarter_hour() }, &hints);
        assert!(matches!(refused, Err(InviteError::Ttl)), "{ttl_s}");
    }
    let bad_name = InviteSpec { name: Some("No".into()), ..quarter_hour() };
    assert!(matches!(made(bad_name, &hints), Err(InviteError::Name(_))));
    let bad_label = Label { key: String::new(), value: String::new() };
    let bad_labels = InviteSpec { labels: vec![bad_label], ..quarter_hour() };
    assert!(matches!(made(bad_labels, &hints), Err(InviteError::Labels)));
    assert!(matches!(made(quarter_hour(), &[]), Err(InviteError::NoHint)));
    assert_eq!(made(quarter_hour(), &hints).expect("token"), NOW.plus(900));
}

#[test]
fn renewal_keeps_name_and_address_and_needs_the_node_itself() {
    let mut home = Home::found(1, 16);
    let first: NodeCert = record(&cert_of(&home.admit(&secrets(1), "one")));
    let later = NOW.plus(4 * DAY_S);
    let request = EnrolRequest::Renew { request: home.request(&secrets(1), "ignored", later) };
    let own = secrets(1).transport().public();
    let stranger = home.steward.answer(&PublicKey([9; 32]), &EXPORTER, &request, later);
    assert_eq!(refusal_of(&stranger), Some(Refused::NotMember));
    let second: NodeCert = record(&cert_of(&home.steward.answer(&own, &EXPORTER, &request, later)));
    assert_eq!((second.name, second.addr4), (first.name, first.addr4));
    assert!(second.serial > first.serial && second.not_after > first.not_after);

    let unknown = EnrolRequest::Renew { request: home.request(&secrets(2), "two", later) };
    let answer = home.steward.answer(&secrets(2).transport().public(), &EXPORTER, &unknown, later);
    assert_eq!(refusal_of(&answer), Some(Refused::NotMember));
}

#[test]
fn renewals_in_a_row_give_the_same_certificate() {
    let mut home = Home::found(1, 16);
    let first = cert_of(&home.admit(&secrets(1), "one"));
    let request = EnrolRequest::Renew { request: home.request(&secrets(1), "one", NOW) };
    let own = secrets(1).transport().public();
    assert_eq!(cert_of(&home.steward.answer(&own, &EXPORTER, &request, NOW)), first);
}

#[test]
fn a_farewell_revokes_the_node_for_everyone() {
    let mut home = Home::found(1, 16);
    let admitted = home.admit(&secrets(1), "one");
    let mut roster = home.roster(NOW);
    for record in &admitted.publish {
        roster.accept(record, NOW).expect("verifies");
    }
    let answer = leave(&mut home, 1, NOW.plus(1));
    assert_eq!(answer.reply, EnrolReply::Done);
    for record in &answer.publish {
        roster.accept(record, NOW.plus(1)).expect("verifies");
    }
    assert_eq!(roster.standing(&secrets(1).node(), NOW.plus(1)), Standing::Revoked);
    assert_eq!(refusal_of(&home.admit(&secrets(1), "one")), Some(Refused::NotMember));
    let again = leave(&mut home, 1, NOW.plus(2));
    assert_eq!((again.reply, again.publish.len()), (EnrolReply::Done, 0));
}

#[test]
fn an_introduction_is_passed_on_only_if_it_proves_the_peer_itself() {
    let mut home = Home::found(1, 24);
    let (member, other) = (secrets(1), secrets(2));
    let publish = home.admit(&member, "a").publish;
    let introduce = |home: &mut Home, peer: PublicKey, records: &[Vec<u8>]| {
        let records = records.iter().cloned().map(minicbor::bytes::ByteVec::from).collect();
        home.steward.answer(&peer, &EXPORTER, &EnrolRequest::Introduce { records }, NOW)
    };
    let records = [home.steward.chain(), publish.clone()].concat();
    let told = introduce(&mut home, member.transport().public(), &records);
    assert_eq!(told.reply, EnrolReply::Done);
    assert!(publish.iter().all(|record| told.publish.contains(record)));

    let junk = vec![vec![0x80]; 4000];
    for (peer, records) in [
        (other.transport().public(), &records[..]),
        (other.transport().public(), &junk[..]),
        (member.transport().public(), &home.steward.chain()[..]),
        (member.transport().public(), &[]),
    ] {
        let told = introduce(&mut home, peer, records);
        assert!(refusal_of(&told).is_some(), "{:?}", told.reply);
        assert_eq!(told.publish, Vec::<Vec<u8>>::new());
    }
    let told = introduce(&mut home, member.transport().public(), &[&records[..], &junk[..20]].concat());
    assert_eq!(told.reply, EnrolReply::Done);
    assert!(!told.publish.contains(&junk[0]), "what proves nothing is not passed on");
}

#[test]
fn a_book_from_a_backup_does_not_bring_revoked_nodes_back() {
    let mut home = Home::found(1, 24);
    for number in [1, 2] {
        assert_eq!(refusal_of(&home.admit(&secrets(number), &format!("n{number}"))), None);
    }
    let backup = copy_of(&home.dir.path().join("steward"));
    let farewell = leave(&mut home, 1, NOW.plus(60));
    home.steward = Steward::open(backup.path()).expect("opens");
    home.steward.merge(&farewell.publish, NOW.plus(120)).expect("merges");

    let again = home.request(&secrets(1), "n1", NOW.plus(120));
    let renewed = EnrolRequest::Renew { request: again };
    let answer = home.steward.answer(&secrets(1).transport().public(), &EXPORTER, &renewed, NOW.plus(120));
    assert_eq!(refusal_of(&answer), Some(Refused::NotMember));
    let next: Revocations = record(&leave(&mut home, 2, NOW.plus(180)).publish[0]);
    assert!(next.nodes.contains(&secrets(1).node()) && next.nodes.contains(&secrets(2).node()));
}

#[test]
fn revocations_never_outgrow_a_record() {
    let mut home = Home::found(1, 24);
    let cert: NodeCert = record(&cert_of(&home.admit(&secrets(1), "a")));
    let fill = |home: &Home, many: usize| {
        let written = home.steward.book.write(|page| {
            for number in 0..many {
                let mut cert = cert.clone();
                cert.node.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
                page.put_node(&entry::Admitted { cert, envelope: Vec::new(), revoked_at: Some(NOW) })?;
            }
            Ok::<_, BookError>(())
        });
        written.expect("writes");
    };
    fill(&home, issue::REVOKED_MAX - 1);
    let answer = leave(&mut home, 1, NOW);
    assert_eq!(answer.reply, EnrolReply::Done);
    let mut roster = home.roster(NOW);
    assert!(roster.accept(&answer.publish[0], NOW).is_ok(), "everybody can read it");

    assert_eq!(refusal_of(&home.admit(&secrets(2), "b")), None);
    assert_eq!(refusal_of(&leave(&mut home, 2, NOW)), Some(Refused::Unavailable));
    let state = home.steward.state(NOW.plus(60)).expect("signs");
    assert!(roster.accept(&state, NOW.plus(60)).is_ok());
    assert_eq!(roster.org(&home.org).expect("member").state_age(NOW.plus(60)), Some(0));
}

#[test]
fn a_clock_that_jumped_ahead_does_not_empty_the_book() {
    let mut home = Home::found(1, 24);
    assert_eq!(refusal_of(&home.admit(&secrets(1), "a")), None);
    let mut dir = copy_of(&home.dir.path().join("steward"));
    for at in [60, 60 * DAY_S, 3650 * DAY_S, 120] {
        home.steward = Steward::open(dir.path()).expect("opens");
        home.steward.state(NOW.plus(at)).expect("signs");
        dir = copy_of(dir.path());
    }
    let renewed = EnrolRequest::Renew { request: home.request(&secrets(1), "a", NOW.plus(120)) };
    let answer = home.steward.answer(&secrets(1).transport().public(), &EXPORTER, &renewed, NOW.plus(120));
    assert_eq!(refusal_of(&answer), None);
}

#[test]
fn nobody_says_farewell_for_another() {
    let mut home = Home::found(1, 16);
    cert_of(&home.admit(&secrets(1), "one"));
    let forged = meshd_wire::record::NodeLeave { version: 1, node: secrets(1).node(), issued_at: NOW };
    let leave = meshd_trust::sign(&forged, &home.mesh, &[&secrets(2).identity()]).to_bytes();
    let answer = home.steward.answer(&PublicKey([0; 32]), &EXPORTER, &EnrolRequest::Leave { leave }, NOW);
    assert_eq!(refusal_of(&answer), Some(Refused::Malformed));
    let leave = secrets(3).sign_leave(&home.mesh, NOW).to_bytes();
    let answer = home.steward.answer(&PublicKey([0; 32]), &EXPORTER, &EnrolRequest::Leave { leave }, NOW);
    assert_eq!(refusal_of(&answer), Some(Refused::NotMember));
}

#[test]
fn states_only_grow_whatever_the_clock_does() {
    let mut home = Home::found(1, 16);
    let first: OrgState = record(&home.steward.state(NOW.plus(120)).expect("state"));
    let second: OrgState = record(&home.steward.state(NOW).expect("state"));
    assert!(second.seq > first.seq);
}

#[test]
fn the_chain_is_fresh_whenever_it_is_told() {
    let mut home = Home::found(1, 16);
    let asked = EnrolRequest::Chain { mesh: home.mesh };
    for now in [NOW, NOW.plus(30), NOW.plus(3 * 3600)] {
        let answer = home.steward.answer(&PublicKey([0; 32]), &EXPORTER, &asked, now);
        let EnrolReply::Chain { records, .. } = answer.reply else { panic!("no chain") };
        let mut roster = Roster::new(home.mesh, Floor::of_org(home.org));
        let records: Vec<Vec<u8>> = records.into_iter().map(Vec::from).collect();
        assert_eq!(roster.accept_all(&records, now), []);
        let age = roster.org(&home.org).expect("organisation").state_age(now);
        assert!(age.is_some_and(|age| age < STATE_INTERVAL_S), "{age:?}");
    }
}

#[test]
fn records_of_another_mesh_and_of_nodes_stay_out_of_the_chain() {
    let (mut home, other) = (Home::found(1, 16), Home::found(2, 16));
    let admitted = home.admit(&secrets(1), "one");
    let before = home.steward.chain();
    let foreign = other.steward.chain();
    home.steward.merge(&foreign, NOW).expect("merged");
    home.steward.merge(&[cert_of(&admitted), vec![0xff; 9], Vec::new()], NOW).expect("merged");
    assert_eq!(home.steward.chain(), before);
    home.steward.merge(&before, NOW).expect("merged");
    assert_eq!(home.steward.chain(), before);
}

#[test]
fn what_was_answered_survives_a_kill() {
    let mut home = Home::found(1, 16);
    let (used, open) = (home.invite(), home.invite());
    let before = cert_of(&home.enrol(&used, &secrets(1), "one", NOW));
    let state: OrgState = record(&home.steward.state(NOW).expect("state"));

    // A copy taken while the book is open is what a kill leaves behind.
    let copy = copy_of(&home.dir.path().join("steward"));
    let keys = home.steward.public_keys();
    home.steward = Steward::open(copy.path()).expect("opens");

    assert_eq!(home.steward.public_keys(), keys);
    assert_eq!(cert_of(&home.enrol(&used, &secrets(1), "one", NOW)), before);
    assert_eq!(refusal_of(&home.enrol(&used, &secrets(2), "two", NOW)), Some(Refused::TokenUsed));
    let second: NodeCert = record(&cert_of(&home.enrol(&open, &secrets(2), "two", NOW)));
    assert_eq!(second.ipv4().octets(), [10, 91, 0, 2]);
    assert!(second.serial > record::<NodeCert>(&before).serial);
    assert!(record::<OrgState>(&home.steward.state(NOW).expect("state")).seq > state.seq);
}

#[test]
fn keys_are_made_once_and_found_again() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("steward");
    assert!(matches!(Steward::open(&path), Err(StewardError::Missing)));
    let keys = Steward::create(&path, StewardSeeds::new(&[7; 128])).expect("made").public_keys();
    let again = Steward::create(&path, StewardSeeds::new(&[8; 128]));
    assert!(matches!(again, Err(StewardError::Exists)));
    assert_eq!(Steward::open(&path).expect("opens").public_keys(), keys);
}

#[test]
fn the_book_and_the_keys_are_private() {
    use std::os::unix::fs::MetadataExt;
    let home = Home::found(1, 16);
    let path = home.dir.path().join("steward");
    assert_eq!(std::fs::metadata(&path).expect("directory").mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(path).expect("list") {
        let entry = entry.expect("entry");
        let mode = if entry.path().is_dir() { 0o700 } else { 0o600 };
        assert_eq!(entry.metadata().expect("metadata").mode() & 0o777, mode, "{:?}", entry.file_name());
    }
}

#[test]
fn the_secret_of_a_token_is_nowhere_in_the_book() {
    let mut home = Home::found(1, 16);
    let token = home.invite();
    let bytes = std::fs::read(home.dir.path().join("steward/book.redb")).expect("book");
    assert!(!bytes.windows(16).any(|window| window == token.secret.0));
}

#[test]
fn a_steward_without_a_mesh_admits_nobody() {
    let dir = tempfile::tempdir().expect("directory");
    let seeds = StewardSeeds::new(&[7; 128]);
    let mut steward = Steward::create(&dir.path().join("steward"), seeds).expect("made");
    let home = Home::found(1, 16);
    let request = home.request(&secrets(1), "one", NOW);
    assert_eq!(refusal_of(&steward.admit(&request, None, &[], NOW)), Some(Refused::Unavailable));
    let roster = home.roster(NOW);
    assert!(matches!(steward.adopt(&roster, &home.org), Err(AdoptError::NoDelegation)));
    let nobody = OrgId([0; 32]);
    assert!(matches!(steward.adopt(&roster, &nobody), Err(AdoptError::NotMember(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_is_refused_and_changes_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..512),
        mac in any::<[u8; 32]>(),
        flip in any::<prop::sample::Index>(),
    ) {
        let mut home = Home::found(1, 16);
        let token = home.invite();
        let mut bent = home.request(&secrets(1), "one", NOW);
        let at = flip.index(bent.len());
        bent[at] ^= 1;
        let cut = bent[..at].to_vec();
        let mut garbage = vec![EnrolRequest::Leave { leave: bytes.clone() }];
        for request in [bytes, bent, cut] {
            garbage.push(EnrolRequest::Enrol { token: token.id, request: request.clone(), mac });
            garbage.push(EnrolRequest::Renew { request });
        }
        let own = secrets(1).transport().public();
        for request in &garbage {
            let answer = home.steward.answer(&own, &EXPORTER, request, NOW);
            prop_assert!(refusal_of(&answer).is_some());
            prop_assert_eq!(answer.publish, Vec::<Vec<u8>>::new());
        }
        prop_assert_eq!(refusal_of(&home.enrol(&token, &secrets(1), "one", NOW)), None);
    }
}

fn leave(home: &mut Home, number: u16, now: Timestamp) -> Answer {
    let leave = secrets(number).sign_leave(&home.mesh, now).to_bytes();
    let own = secrets(number).transport().public();
    home.steward.answer(&own, &EXPORTER, &EnrolRequest::Leave { leave }, now)
}

/// The identity of host 1 with the transport key of host 2.
fn mixed_secrets() -> crate::membership::NodeSecrets {
    let mut random = [0; crate::membership::NodeSecrets::RANDOM_LEN];
    random[..32].copy_from_slice(&*secrets(1).identity().seed());
    random[32..64].copy_from_slice(&*secrets(2).transport().seed());
    crate::membership::NodeSecrets::new(&random)
}

fn record<R: meshd_wire::Record>(envelope: &[u8]) -> R {
    Envelope::from_bytes(envelope).expect("envelope").record().expect("record")
}
