//! Packets from inside the overlay: parsed within their bounds, answered with packets that parse.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use meshd_core::echo::{self, EchoId};
use meshd_core::unreachable::{Unreachable, V4_LEN_MAX, V6_LEN_MAX};
use meshd_core::{IpPacket, RouteTable};
use meshd_fuzz::seed;

const OVERLAY: [&str; 2] = ["10.91.0.0/16", "fd00:1:2::/48"];

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Ok(packet) = IpPacket::parse(bytes) else { return };
    assert!(packet.bytes().len() <= bytes.len());
    assert!(packet.payload().len() < packet.bytes().len());
    if let Some((_, payload)) = echo::reply(&packet) {
        assert!(payload.len() < packet.payload().len());
    }
    let overlay = OVERLAY.map(|net| net.parse().expect("a prefix"));
    let mut routes = RouteTable::default();
    for (owner, net) in overlay.into_iter().enumerate() {
        assert!(routes.claim(net, owner));
    }
    let inside = overlay.iter().any(|net| net.contains(&packet.source()));
    assert_eq!(routes.check_source(packet.source(), |_| true).is_ok(), inside);

    let mut unreachable = Unreachable::new(overlay.to_vec(), Duration::ZERO);
    if let Ok(answer) = unreachable.answer(&packet, Duration::ZERO) {
        let answer_packet = IpPacket::parse(&answer).expect("an answer is a packet");
        assert_eq!(answer_packet.bytes().len(), answer.len());
        assert_eq!(answer_packet.destination(), packet.source());
        assert!(answer.len() <= if packet.source().is_ipv4() { V4_LEN_MAX } else { V6_LEN_MAX });
        assert!(unreachable.answer(&answer_packet, Duration::ZERO).is_err(), "an error answers an error");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let echo = EchoId { id: 1, sequence: 2 };
    let mut seeds = Vec::new();
    for (source, destination, header_len, reply) in
        [("10.91.0.1", "10.91.0.2", 20, 0), ("fd00:1:2::1", "fd00:1:2::2", 40, 129)]
    {
        let source = source.parse().expect("an address");
        let destination = destination.parse().expect("an address");
        let request = echo::request(source, destination, echo, b"payload").expect("a request");
        let mut answered = request.clone();
        answered[header_len] = reply;
        seeds.push(request);
        seeds.push(answered);
    }
    // IPv6 with a hop-by-hop, a routing and a fragment header before the rest.
    let mut extended = seeds[2].clone();
    extended[5] += 24;
    extended[6] = 0;
    extended.splice(40..40, [43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 58, 0, 0, 1, 0, 0, 0, 9]);
    seeds.push(extended);
    seeds
}
