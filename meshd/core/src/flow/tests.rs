use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::ways::{Ways, Words};
use super::*;
use crate::echo::{self, EchoId};
use crate::fixture::{Recipe, noise};
use crate::ip::{v4_header, v6_header};
use crate::too_big::TooBig;
use crate::unreachable::Unreachable;

const NOW: Duration = Duration::from_secs(100);
const PEER: u32 = 7;

/// Allows flows to some ports, and counts how often it is asked.
#[derive(Debug, Default)]
struct Ports {
    allowed: BTreeSet<u16>,
    asked: AtomicUsize,
}

impl Ports {
    fn new(allowed: &[u16]) -> Self {
        Self { allowed: allowed.iter().copied().collect(), asked: AtomicUsize::new(0) }
    }

    fn decide(&self, flow: &Flow) -> Verdict {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.allowed.contains(&flow.key.destination_port) { Verdict::Allow } else { Verdict::Deny }
    }

    fn rules(&self) -> impl Fn(&Flow) -> Verdict {
        |flow| self.decide(flow)
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

/// The caches of a host's two threads.
fn threads() -> [FlowCache; 2] {
    let table = Arc::new(FlowTable::new(1));
    [FlowCache::new(2, Arc::clone(&table)), FlowCache::new(3, table)]
}

fn flow(source_port: u16, destination_port: u16) -> Flow {
    let key = FlowKey {
        source: [1; 16],
        destination: [2; 16],
        source_port,
        destination_port,
        protocol: PROTO_TCP,
        is_v6: true,
    };
    Flow { key, direction: Direction::Out, peer: PEER, fragment: None }
}

fn piece(flow: Flow, id: u32, first: bool) -> Flow {
    let (source_port, destination_port) =
        if first { (flow.key.source_port, flow.key.destination_port) } else { (0, 0) };
    let key = FlowKey { source_port, destination_port, ..flow.key };
    Flow { key, fragment: Some(Fragment { id, first }), ..flow }
}

fn key(packet: &[u8]) -> FlowKey {
    FlowKey::of(&IpPacket::parse(packet).unwrap()).unwrap()
}

#[test]
fn the_rules_are_asked_once_for_each_flow() {
    let [mut cache, _] = threads();
    let filter = Ports::new(&[443]);
    for _ in 0..3 {
        for source_port in 0..1000 {
            assert_eq!(cache.verdict(&flow(source_port, 443), NOW, 1, filter.rules()), Verdict::Allow);
            assert_eq!(cache.verdict(&flow(source_port, 22), NOW, 1, filter.rules()), Verdict::Deny);
        }
    }
    assert_eq!(filter.asked(), 2000);
}

#[test]
fn a_new_generation_cuts_established_flows() {
    let [mut cache, _] = threads();
    let (open, shut) = (Ports::new(&[443]), Ports::new(&[]));
    assert_eq!(cache.verdict(&flow(1, 443), NOW, 1, open.rules()), Verdict::Allow);
    assert_eq!(cache.verdict(&flow(1, 443), NOW, 2, shut.rules()), Verdict::Deny);
    assert_eq!(cache.verdict(&flow(1, 443), NOW, 3, open.rules()), Verdict::Allow);
}

#[test]
fn answers_pass_on_the_permission_of_the_flow_they_answer() {
    let [mut out, mut inward] = threads();
    let filter = Ports::new(&[443]);
    let request = flow(1, 443);
    let reply = request.reversed();
    assert_eq!(inward.verdict(&reply, NOW, 1, filter.rules()), Verdict::Deny, "nothing was asked yet");
    assert_eq!(out.verdict(&request, NOW, 1, filter.rules()), Verdict::Allow);
    assert_eq!(inward.verdict(&reply, NOW, 1, filter.rules()), Verdict::Allow, "though it was denied before");
    assert_eq!(inward.verdict(&Flow { peer: PEER + 1, ..reply }, NOW, 1, filter.rules()), Verdict::Deny);
    // The same packet the other way through the tunnel answers nothing.
    let mirrored = Flow { direction: Direction::Out, ..reply };
    assert_eq!(out.verdict(&mirrored, NOW, 1, filter.rules()), Verdict::Deny);
}

#[test]
fn answers_go_on_under_new_rules_that_still_allow_the_flow() {
    let [mut out, mut inward] = threads();
    let request = flow(1, 443);
    assert_eq!(out.verdict(&request, NOW, 1, Ports::new(&[443]).rules()), Verdict::Allow);
    // A download: the side that began says nothing as long as nothing comes.
    assert_eq!(inward.verdict(&request.reversed(), NOW, 2, Ports::new(&[80, 443]).rules()), Verdict::Allow);
    assert_eq!(inward.verdict(&request.reversed(), NOW, 3, Ports::new(&[80]).rules()), Verdict::Deny);
    assert_eq!(
        inward.verdict(&request.reversed(), NOW, 4, Ports::new(&[443]).rules()),
        Verdict::Deny,
        "it ended"
    );
}

#[test]
fn the_flows_of_two_peers_are_two() {
    let [mut cache, _] = threads();
    let only_peer = |flow: &Flow| if flow.peer == PEER { Verdict::Allow } else { Verdict::Deny };
    assert_eq!(cache.verdict(&flow(1, 2), NOW, 1, only_peer), Verdict::Allow);
    assert_eq!(cache.verdict(&Flow { peer: PEER + 1, ..flow(1, 2) }, NOW, 1, only_peer), Verdict::Deny);
}

#[test]
fn what_meets_no_cache_is_answered_if_the_rules_let_it_begin() {
    let table = Arc::new(FlowTable::new(1));
    let mut inward = FlowCache::new(2, Arc::clone(&table));
    let filter = Ports::new(&[443]);
    for (port, verdict) in [(443, Verdict::Allow), (22, Verdict::Deny)] {
        assert_eq!(table.begin(&flow(1, port), 1, filter.rules()), verdict);
        assert_eq!(inward.verdict(&flow(1, port).reversed(), NOW, 1, filter.rules()), verdict);
    }
}

#[test]
fn a_flood_of_refused_flows_pushes_out_no_permission() {
    let [mut cache, _] = threads();
    let filter = Ports::new(&[443]);
    for source_port in 0..1000 {
        cache.verdict(&flow(source_port, 443), NOW, 1, filter.rules());
    }
    for flood in 0..200_000u32 {
        let refused = Flow { peer: PEER + 1 + flood, ..flow(flood as u16, 22) };
        assert_eq!(cache.verdict(&refused, NOW, 1, filter.rules()), Verdict::Deny);
    }
    filter.asked();
    for source_port in 0..1000 {
        assert_eq!(cache.verdict(&flow(source_port, 443), NOW, 1, filter.rules()), Verdict::Allow);
    }
    assert_eq!(filter.asked(), 0);
}

#[test]
fn permissions_of_an_old_generation_make_room() {
    let [mut cache, _] = threads();
    let filter = Ports::new(&[443]);
    for peer in 0..100_000 {
        cache.verdict(&Flow { peer, ..flow(1, 443) }, NOW, 1, filter.rules());
    }
    filter.asked();
    for _ in 0..3 {
        cache.verdict(&flow(9, 22), NOW, 2, filter.rules());
        cache.verdict(&flow(1, 443), NOW, 2, filter.rules());
    }
    assert_eq!(filter.asked(), 2, "a refusal is remembered too");
}

#[test]
fn the_verdict_on_the_first_piece_is_that_of_the_others_for_a_second() {
    let [mut cache, mut other_thread] = threads();
    let filter = Ports::new(&[443]);
    let later = piece(flow(1, 443), 5, false);
    assert_eq!(cache.verdict(&later, NOW, 1, filter.rules()), Verdict::Deny, "no first piece yet");
    assert_eq!(cache.verdict(&piece(flow(1, 443), 5, true), NOW, 1, filter.rules()), Verdict::Allow);
    let in_time = NOW + Duration::from_millis(999);
    assert_eq!(cache.verdict(&later, in_time, 1, filter.rules()), Verdict::Allow);
    assert_eq!(cache.verdict(&later, NOW + Duration::from_secs(1), 1, filter.rules()), Verdict::Deny);
    assert_eq!(cache.verdict(&later, in_time, 2, filter.rules()), Verdict::Deny, "under other rules");
    assert_eq!(cache.verdict(&piece(flow(1, 443), 6, false), in_time, 1, filter.rules()), Verdict::Deny);
    assert_eq!(cache.verdict(&Flow { peer: 1, ..later }, in_time, 1, filter.rules()), Verdict::Deny);
    assert_eq!(other_thread.verdict(&later, in_time, 1, filter.rules()), Verdict::Deny);
}

#[test]
fn the_pieces_of_a_refused_packet_are_refused() {
    let [mut cache, _] = threads();
    let filter = Ports::new(&[443]);
    assert_eq!(cache.verdict(&piece(flow(1, 443), 5, true), NOW, 1, filter.rules()), Verdict::Allow);
    // The same identification again, but to another port.
    assert_eq!(cache.verdict(&piece(flow(1, 22), 5, true), NOW, 1, filter.rules()), Verdict::Deny);
    assert_eq!(cache.verdict(&piece(flow(1, 22), 5, false), NOW, 1, filter.rules()), Verdict::Deny);
}

#[test]
fn a_verdict_on_one_protocol_says_nothing_of_another() {
    let only_tcp_over_v6 = |flow: &Flow| {
        if flow.key.protocol == PROTO_TCP && flow.key.is_v6 { Verdict::Allow } else { Verdict::Deny }
    };
    let [mut cache, _] = threads();
    let tcp = flow(1, 2);
    let udp = Flow { key: FlowKey { protocol: PROTO_UDP, ..tcp.key }, ..tcp };
    let mapped = Flow { key: FlowKey { is_v6: false, ..tcp.key }, ..tcp };
    assert_eq!(cache.verdict(&tcp, NOW, 1, only_tcp_over_v6), Verdict::Allow);
    assert_eq!(cache.verdict(&udp, NOW, 1, only_tcp_over_v6), Verdict::Deny);
    assert_eq!(cache.verdict(&mapped, NOW, 1, only_tcp_over_v6), Verdict::Deny);
}

#[test]
fn the_rules_are_asked_once_for_all_threads_on_a_flow_that_goes_on() {
    let table = Arc::new(FlowTable::new(1));
    let [mut out, mut inward, mut third] = [2, 3, 4].map(|seed| FlowCache::new(seed, Arc::clone(&table)));
    let filter = Ports::new(&[443]);
    out.verdict(&flow(1, 443), NOW, 1, filter.rules());
    filter.asked();
    assert_eq!(inward.verdict(&flow(1, 443).reversed(), NOW, 2, filter.rules()), Verdict::Allow);
    assert_eq!(filter.asked(), 2, "on the answer, and on what it answers");
    assert_eq!(third.verdict(&flow(1, 443).reversed(), NOW, 2, filter.rules()), Verdict::Allow);
    assert_eq!(filter.asked(), 1, "on the answer");
}

#[test]
fn a_full_set_forgets_what_is_unused_and_never_a_permission_for_a_refusal() {
    const WAYS: u16 = 8;
    let is_kept = |value: u64| value == 1;
    let key = |port: u16| Words::of_flow(&flow(port, 1), 1);
    let mut ways = Ways::new(WAYS.into(), 7);
    (0..WAYS).for_each(|port| ways.insert(key(port), 1, is_kept));
    ways.insert(key(100), 0, is_kept);
    assert_eq!(ways.find(&key(100)), None, "a refusal found no place");
    assert!((0..WAYS).all(|port| ways.find(&key(port)).is_some()));
    ways.find(&key(0));
    ways.insert(key(101), 1, is_kept);
    assert!(ways.find(&key(0)).is_some() && ways.find(&key(101)).is_some());
    assert_eq!(ways.find(&key(1)), None, "used least recently");
    ways.insert(key(0), 0, is_kept);
    assert_eq!(ways.find(&key(0)), Some(&mut 0), "what is known is replaced by what is new");
}

#[test]
fn packets_are_told_apart_by_what_their_headers_say() {
    let tcp = key(&Recipe::tcp(false, 1, noise(10)).packet());
    assert_eq!((tcp.source_port, tcp.destination_port, tcp.protocol), (4000, 5000, PROTO_TCP));
    assert_eq!(tcp.source[10..], [0xff, 0xff, 10, 0, 0, 1]);
    let udp = key(&Recipe::udp(true, noise(10)).packet());
    assert_eq!((udp.source, udp.destination, udp.protocol), ([0xfd; 16], [0xfc; 16], PROTO_UDP));
    assert_eq!(udp.reversed().source_port, 5000);
    let mut later = Recipe::udp(false, noise(10)).packet();
    later[7] = 9;
    assert_eq!((key(&later).source_port, key(&later).destination_port), (0, 0));
    let cut = v4_header([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 20, PROTO_UDP);
    assert_eq!(FlowKey::of(&IpPacket::parse(&cut).unwrap()), Err(NoPorts));
}

#[test]
fn an_echo_reply_is_the_reverse_of_its_request() {
    let id = EchoId { id: 77, sequence: 1 };
    for (source, destination, header_len, reply) in
        [("10.0.0.1", "10.0.0.2", 20, 0), ("fd00::1", "fd00::2", 40, 129)]
    {
        let [source, destination]: [IpAddr; 2] =
            [source, destination].map(|address| address.parse().unwrap());
        let request = echo::request(source, destination, id, b"").unwrap();
        let mut answer = echo::request(destination, source, id, b"").unwrap();
        answer[header_len] = reply;
        assert_eq!(key(&answer), key(&request).reversed());
        assert_ne!(key(&echo::request(destination, source, id, b"").unwrap()), key(&request).reversed());
    }
}

#[test]
fn an_icmp_error_between_the_ends_of_a_flow_answers_it() {
    for is_v6 in [false, true] {
        let packet = Recipe::tcp(is_v6, 1, noise(1300)).packet();
        let parsed = IpPacket::parse(&packet).unwrap();
        let too_big = TooBig::new(Vec::new(), NOW).answer(&parsed, 1280, NOW).unwrap();
        let unreachable = Unreachable::new(Vec::new(), NOW).answer(&parsed, NOW).unwrap();
        for mut error in [too_big, unreachable] {
            assert_eq!(key(&error), key(&packet).reversed());
            // From a router in between: a flow of its own.
            let source = if is_v6 { 8..24 } else { 12..16 };
            error[source].fill(9);
            assert_ne!(key(&error), key(&packet).reversed());
            assert!(matches!(key(&error).protocol, PROTO_ICMP | PROTO_ICMPV6));
        }
    }
}

#[test]
fn every_error_that_quotes_a_packet_answers_its_flow_and_a_piece_of_one_does_not() {
    for (is_v6, at, errors, others) in
        [(false, 20, &[3, 11, 12][..], &[4, 5, 13][..]), (true, 40, &[1, 2, 3, 4], &[0, 5, 135])]
    {
        let packet = Recipe::tcp(is_v6, 1, noise(100)).packet();
        let parsed = IpPacket::parse(&packet).unwrap();
        let mut error = Unreachable::new(Vec::new(), NOW).answer(&parsed, NOW).unwrap();
        for kind in errors {
            error[at] = *kind;
            assert_eq!(key(&error), key(&packet).reversed(), "type {kind}");
        }
        for kind in others {
            error[at] = *kind;
            assert_ne!(key(&error), key(&packet).reversed(), "type {kind}");
        }
    }
    let packet = Recipe::tcp(false, 1, noise(100)).packet();
    let mut piece =
        Unreachable::new(Vec::new(), NOW).answer(&IpPacket::parse(&packet).unwrap(), NOW).unwrap();
    piece[6] = 0x20;
    assert_eq!(key(&piece).protocol, PROTO_ICMP);
}

#[test]
fn an_error_of_the_other_version_answers_nothing() {
    let quoted = Recipe::tcp(false, 1, noise(10)).packet();
    let [source, destination] = [[10, 0, 0, 2], [10, 0, 0, 1]].map(|v4| Ipv4Addr::from(v4).to_ipv6_mapped());
    let len = 8 + quoted.len() as u16;
    let mut error = v6_header(source, destination, len, PROTO_ICMPV6).to_vec();
    error.extend([1, 3, 0, 0, 0, 0, 0, 0]);
    error.extend(&quoted);
    let flow = key(&error);
    assert_eq!((flow.source, flow.destination), (key(&quoted).destination, key(&quoted).source));
    assert_eq!(flow.protocol, PROTO_ICMPV6);
}

#[test]
fn every_transport_with_ports_has_its_ports() {
    for protocol in [PROTO_TCP, PROTO_UDP, PROTO_SCTP, PROTO_DCCP, PROTO_UDP_LITE] {
        let mut packet = Recipe::udp(false, noise(10)).packet();
        packet[9] = protocol;
        assert_eq!((key(&packet).source_port, key(&packet).destination_port), (4000, 5000), "{protocol}");
    }
}

proptest! {
    #[test]
    fn the_flow_of_any_packet_has_its_addresses(
        bytes in proptest::collection::vec(any::<u8>(), 20..120),
        first in prop::sample::select(vec![0x45u8, 0x60]),
        protocol in prop::sample::select(vec![1u8, 6, 17, 44, 58]),
    ) {
        let mut bytes = bytes;
        let len = bytes.len() as u16;
        bytes[0] = first;
        if first == 0x45 {
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            bytes[9] = protocol;
        } else {
            bytes[4..6].copy_from_slice(&len.saturating_sub(40).to_be_bytes());
            bytes[6] = protocol;
        }
        if let Ok(packet) = IpPacket::parse(&bytes)
            && let Ok(key) = FlowKey::of(&packet)
        {
            prop_assert_eq!(key.source, octets(packet.source()));
            prop_assert_eq!(key.destination, octets(packet.destination()));
        }
    }

    #[test]
    fn a_cache_never_says_what_the_rules_do_not(
        packets in proptest::collection::vec((0u16..4, 0u16..4, any::<bool>(), any::<bool>()), 1..200),
        allowed in proptest::collection::vec(proptest::collection::btree_set(0u16..4, 0..4), 3),
    ) {
        let filters: Vec<Ports> =
            allowed.into_iter().map(|allowed| Ports { allowed, ..Ports::default() }).collect();
        let [mut out, mut inward] = threads();
        // The definition: what the rules allowed, as long as all rules in force when it was seen since allow it.
        let mut begun = BTreeSet::new();
        let mut generation = 0;
        for (source, destination, is_out, step) in packets {
            generation += u64::from(step);
            let filter = &filters[generation as usize % 3];
            let packet =
                if is_out { flow(source, destination) } else { flow(destination, source).reversed() };
            let cache = if is_out { &mut out } else { &mut inward };
            let verdict = cache.verdict(&packet, NOW, generation, filter.rules());
            let by_rule = filter.decide(&packet) == Verdict::Allow;
            let answers = begun.contains(&(destination, source, !is_out)) && filter.allowed.contains(&source);
            prop_assert_eq!(verdict == Verdict::Allow, by_rule || answers);
            if by_rule {
                begun.insert((source, destination, is_out));
            } else if !answers {
                begun.remove(&(destination, source, !is_out));
            }
        }
    }
}
