//! What an asker gets, bytes in and bytes out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::answer::{Transport, answer};
use super::{Draft, Suffix, Zone};

const V4: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 1, 0, 0, 0, 1);
const WEB: Ipv4Addr = Ipv4Addr::new(10, 91, 8, 7);
const SERIAL: u32 = 77;

#[test]
fn nodes_and_endpoints_have_their_addresses() {
    let zone = zone();
    assert_eq!(texts(&ask(&zone, "a.clinic.mesh.internal", RecordType::A)), [V4.to_string()]);
    assert_eq!(texts(&ask(&zone, "a.clinic.mesh.internal", RecordType::AAAA)), [V6.to_string()]);
    assert_eq!(texts(&ask(&zone, "web.shop.clinic.mesh.internal", RecordType::A)), [WEB.to_string()]);
    let both = texts(&ask(&zone, "a.clinic.mesh.internal", RecordType::ANY));
    assert_eq!(both, [V4.to_string(), V6.to_string()]);
    let reply = ask(&zone, "a.clinic.mesh.internal", RecordType::A);
    assert!(reply.metadata.authoritative && !reply.metadata.recursion_available);
    assert!(reply.answers.iter().all(|record| record.ttl == 5), "names follow what they name");
}

#[test]
fn capitals_do_not_matter_and_come_back_as_they_were_asked() {
    let reply = ask(&zone(), "A.cLiNiC.Mesh.Internal", RecordType::A);
    assert_eq!(texts(&reply), [V4.to_string()]);
    let owner = reply.answers.first().map(|record| record.name.to_ascii());
    assert_eq!(owner.as_deref(), Some("A.cLiNiC.Mesh.Internal."));
}

#[test]
fn an_unknown_name_of_the_zone_is_denied_at_once_and_briefly() {
    for unknown in
        ["b.clinic.mesh.internal", "x.a.clinic.mesh.internal", "uva.mesh.internal", "linic.mesh.internal"]
    {
        let reply = ask(&zone(), unknown, RecordType::A);
        assert_eq!(reply.response_code, ResponseCode::NXDomain, "{unknown}");
        assert_denial(&reply, "mesh.internal.");
    }
}

#[test]
fn a_name_without_the_wanted_type_exists() {
    for (name, kind) in [
        ("web.shop.clinic.mesh.internal", RecordType::AAAA),
        ("a.clinic.mesh.internal", RecordType::TXT),
        // Names with other names below them.
        ("shop.clinic.mesh.internal", RecordType::A),
        ("clinic.mesh.internal", RecordType::A),
        ("mesh.internal", RecordType::A),
    ] {
        let reply = ask(&zone(), name, kind);
        assert_eq!((reply.response_code, reply.answers.len()), (ResponseCode::NoError, 0), "{name}");
        assert_denial(&reply, "mesh.internal.");
    }
}

#[test]
fn what_is_not_of_the_mesh_is_refused() {
    for (name, kind) in [
        ("example.com", RecordType::A),
        ("internal", RecordType::SOA),
        ("notmesh.internal", RecordType::A),
        (".", RecordType::NS),
        ("1.0.92.10.in-addr.arpa", RecordType::PTR),
        ("10.in-addr.arpa", RecordType::PTR),
        ("arpa", RecordType::PTR),
        ("a.clinic.mesh.internal", RecordType::AXFR),
    ] {
        let reply = ask(&zone(), name, kind);
        assert_eq!(reply.response_code, ResponseCode::Refused, "{name}");
        assert!(!reply.metadata.authoritative && reply.answers.is_empty() && reply.authorities.is_empty());
    }
    let mut query = Query::query(name("version.bind"), RecordType::TXT);
    query.set_query_class(DNSClass::CH);
    assert_eq!(exchange(&zone(), &asking(query)).response_code, ResponseCode::Refused);
    assert_eq!(
        ask(&Zone::of_nobody(), "mesh.internal", RecordType::SOA).response_code,
        ResponseCode::Refused
    );
}

#[test]
fn addresses_of_the_mesh_have_names() {
    let zone = zone();
    for (address, named) in [
        (IpAddr::from(V4), "a.clinic.mesh.internal."),
        (IpAddr::from(V6), "a.clinic.mesh.internal."),
        (IpAddr::from(WEB), "web.shop.clinic.mesh.internal."),
    ] {
        let asked = Name::from(address).to_ascii();
        assert_eq!(texts(&ask(&zone, &asked, RecordType::PTR)), [named], "{asked}");
    }
    for (unknown, apex) in [
        (IpAddr::from([10, 91, 0, 99]), "91.10.in-addr.arpa."),
        (IpAddr::from([10, 93, 17, 99]), "17.93.10.in-addr.arpa."),
        ("fd12:3456:789a::99".parse().expect("address"), "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa."),
    ] {
        let reply = ask(&zone, &Name::from(unknown).to_ascii(), RecordType::PTR);
        assert_eq!(reply.response_code, ResponseCode::NXDomain, "{unknown}");
        assert_denial(&reply, apex);
    }
    let above = ask(&zone, "0.91.10.in-addr.arpa", RecordType::PTR);
    assert_eq!(above.response_code, ResponseCode::NoError, "there are names below it");
    for odd in ["01.0.91.10.in-addr.arpa", "+1.0.91.10.in-addr.arpa", "x.0.91.10.in-addr.arpa"] {
        assert_eq!(ask(&zone, odd, RecordType::PTR).response_code, ResponseCode::Refused, "{odd}");
    }
}

#[test]
fn each_zone_says_who_answers_for_it() {
    let zone = zone();
    for apex in ["mesh.internal", "91.10.in-addr.arpa"] {
        let reply = ask(&zone, apex, RecordType::SOA);
        let Some(RData::SOA(soa)) = reply.answers.first().map(|record| &record.data) else {
            panic!("{apex}: {reply:?}")
        };
        assert_eq!((soa.serial, soa.minimum), (SERIAL, 5));
        assert_eq!(texts(&ask(&zone, apex, RecordType::NS)), ["ns.mesh.internal."]);
    }
    assert_eq!(texts(&ask(&zone, "ns.mesh.internal", RecordType::A)), [V4.to_string()]);
}

#[test]
fn who_has_a_name_or_an_address_first_keeps_it() {
    let mut draft = draft();
    draft.name("a.clinic", [IpAddr::from([10, 91, 0, 66])]);
    draft.name("thief.clinic", [IpAddr::from(V4), IpAddr::from([10, 91, 0, 67])]);
    let zone = draft.finish(SERIAL);
    assert_eq!(texts(&ask(&zone, "a.clinic.mesh.internal", RecordType::A)), [V4.to_string()]);
    let pointer = ask(&zone, &Name::from(V4).to_ascii(), RecordType::PTR);
    assert_eq!(texts(&pointer), ["a.clinic.mesh.internal."]);
}

#[test]
fn a_zone_tells_what_it_calls_an_address_and_whether_it_would_change() {
    let zone = zone();
    assert_eq!(zone.name_of(V4.into()).as_deref(), Some("a.clinic.mesh.internal"));
    assert!(zone.is_called(V4.into(), "a.clinic") && zone.is_called(WEB.into(), "web.shop.clinic"));
    for other in ["a", "a.clinic.mesh", "b.clinic", ""] {
        assert!(!zone.is_called(V4.into(), other), "{other}");
    }
    assert!(draft().is_said_by(&zone));
    let mut more = draft();
    more.name("b.clinic", [IpAddr::from([10, 91, 0, 2])]);
    assert!(!more.is_said_by(&zone));
    assert!(!draft().is_said_by(&Zone::of_nobody()));
}

#[test]
fn endpoints_of_this_node_are_known_by_address_and_block() {
    let mut draft = draft();
    for own in ["10.91.8.7/32", "10.91.9.0/26"] {
        draft.own(own.parse().expect("a network"));
    }
    let zone = draft.finish(SERIAL);
    for (address, is_own) in
        [("10.91.8.7", true), ("10.91.9.63", true), ("10.91.8.8", false), ("10.91.9.64", false)]
    {
        assert_eq!(zone.is_own_endpoint(address.parse().expect("an address")), is_own, "{address}");
    }
}

#[test]
fn extensions_are_answered_in_the_version_that_is_known() {
    let mut asked = asking(Query::query(name("a.clinic.mesh.internal"), RecordType::A));
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    asked.set_edns(edns.clone());
    let reply = exchange(&zone(), &asked);
    assert_eq!(reply.edns.as_ref().map(Edns::max_payload), Some(1232));
    assert_eq!(texts(&reply), [V4.to_string()]);
    edns.set_version(1);
    asked.set_edns(edns);
    let reply = exchange(&zone(), &asked);
    // Two codes have this number; it says "bad version" here.
    assert_eq!((u16::from(reply.response_code), reply.answers.len()), (16, 0));
    assert!(ask(&zone(), "a.clinic.mesh.internal", RecordType::A).edns.is_none(), "unasked");
}

#[test]
fn what_is_no_query_gets_a_reason_or_nothing() {
    let zone = zone();
    let query = asking(Query::query(name("a.clinic.mesh.internal"), RecordType::A));
    assert_eq!(
        answer(&zone, &query.clone().into_response().to_vec().expect("encodes"), Transport::Udp),
        None
    );
    assert_eq!(answer(&zone, &[0; 11], Transport::Udp), None);

    let mut update = query.clone();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(exchange(&zone, &update).response_code, ResponseCode::NotImp);
    let mut two = query.clone();
    two.add_query(query.queries.first().expect("a query").clone());
    assert_eq!(exchange(&zone, &two).response_code, ResponseCode::FormErr);
    let mut cut = query.to_vec().expect("encodes");
    cut.truncate(20);
    let reply = answer(&zone, &cut, Transport::Udp).expect("an answer");
    let reply = Message::from_vec(&reply).expect("decodes");
    assert_eq!((reply.id, reply.response_code), (query.id, ResponseCode::FormErr));
    // Twelve bytes that promise as many questions as can be promised.
    let greedy = [0, 7, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let reply =
        Message::from_vec(&answer(&zone, &greedy, Transport::Udp).expect("an answer")).expect("decodes");
    assert_eq!((reply.id, reply.response_code), (7, ResponseCode::FormErr));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check_answer(&bytes);
    }

    #[test]
    fn queries_with_any_byte_changed_are_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        extended in any::<bool>(),
        kind in any::<u16>(),
    ) {
        let mut asked = asking(Query::query(name("web.shop.clinic.mesh.internal"), RecordType::from(kind)));
        if extended {
            asked.set_edns(Edns::new());
        }
        let mut bytes = asked.to_vec().expect("encodes");
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        check_answer(&bytes);
    }
}

/// An answer, if there is one, is readable, to this query, and no lever: hardly longer than what was asked.
fn check_answer(bytes: &[u8]) {
    let Some(reply) = answer(&zone(), bytes, Transport::Udp) else { return };
    assert!(reply.len() <= 512, "{}", reply.len());
    let read = Message::from_vec(&reply).expect("an answer is readable");
    assert_eq!(read.id.to_be_bytes(), bytes[..2]);
    assert!(read.response_code != ResponseCode::ServFail);
}

fn suffix() -> Suffix {
    "mesh.internal".parse().expect("a suffix")
}

fn draft() -> Draft {
    let prefixes = ["10.91.0.0/16", "10.93.16.0/20", "fd12:3456:789a::/48"];
    let prefixes = prefixes.map(|prefix| prefix.parse().expect("a prefix")).to_vec();
    let mut draft = Draft::new(&suffix(), (V4, V6), prefixes);
    draft.name("a.clinic", [IpAddr::from(V4), IpAddr::from(V6)]);
    draft.name("web.shop.clinic", [IpAddr::from(WEB)]);
    draft
}

fn zone() -> Zone {
    draft().finish(SERIAL)
}

fn name(text: &str) -> Name {
    let labels = text.split('.').filter(|label| !label.is_empty());
    Name::from_labels(labels.map(str::as_bytes)).expect("a name")
}

fn asking(query: Query) -> Message {
    let mut message = Message::query();
    message.add_query(query);
    message
}

fn ask(zone: &Zone, text: &str, kind: RecordType) -> Message {
    exchange(zone, &asking(Query::query(name(text), kind)))
}

fn exchange(zone: &Zone, asked: &Message) -> Message {
    let bytes = asked.to_vec().expect("encodes");
    let reply = answer(zone, &bytes, Transport::Udp).expect("an answer");
    let reply = Message::from_vec(&reply).expect("decodes");
    assert_eq!(reply.id, asked.id);
    reply
}

fn texts(reply: &Message) -> Vec<String> {
    assert_eq!(reply.response_code, ResponseCode::NoError, "{reply:?}");
    reply.answers.iter().map(|record| record.data.to_string()).collect()
}

fn assert_denial(reply: &Message, apex: &str) {
    assert!(reply.metadata.authoritative && reply.answers.is_empty(), "{reply:?}");
    let authority = reply.authorities.first().expect("who says so");
    assert_eq!((authority.name.to_ascii().as_str(), authority.ttl), (apex, 5));
    assert_eq!(authority.record_type(), RecordType::SOA);
}
