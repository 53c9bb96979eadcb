//! Two tunnels, and what an attacker between them can do.

use std::net::IpAddr;
use std::time::Duration;

use meshd_tunnel::vertical_slice::{
    Admitted, LocalKey, Opened, Refused, Sealed, Ticked, Tunnel, TunnelIndex,
};
use proptest::prelude::*;
use zeroize::Zeroizing;

const MTU: u16 = 1420;
const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const START: Duration = Duration::from_secs(1);

#[test]
fn a_packet_waits_for_the_handshake_and_arrives() {
    let (mut a, mut b) = pair();
    let packet = ipv4(100);
    let mut out = buffer();
    let Ok(Sealed::Staged { initiation, dropped: false }) = a.tunnel.seal(&packet, &mut out, START) else {
        panic!("a first packet starts a handshake");
    };
    let initiation = initiation.to_vec();
    assert!(matches!(a.tunnel.seal(&packet, &mut buffer(), START), Ok(Sealed::Waiting { dropped: false })));

    assert_eq!(b.local.admit(&initiation, SOURCE, &mut buffer()), Ok(Admitted::Initiation(a.local.public())));
    let response = reply(b.open(&initiation));
    assert!(!b.tunnel.has_session(), "an initiation alone proves nothing");
    assert_eq!(a.local.admit(&response, SOURCE, &mut buffer()), Ok(Admitted::Indexed(a.tunnel.index())));
    let keepalive = reply(a.open(&response));
    assert!(a.tunnel.wants_flush());
    assert_eq!(b.open(&keepalive).unwrap(), Outcome::Keepalive);
    for _ in 0..2 {
        let datagram = a.tunnel.flush(&mut out, START).expect("a packet waited").to_vec();
        assert_eq!(b.open(&datagram).unwrap(), Outcome::Packet(packet.clone()));
    }
    assert!(a.tunnel.flush(&mut out, START).is_none());
}

#[test]
fn lengths_are_padded_but_never_beyond_the_mtu() {
    let (mut a, mut b) = connected();
    for (len, sealed_len) in [(20, 32 + 32), (100, 112 + 32), (1420, 1420 + 32), (1409, 1420 + 32)] {
        let packet = ipv4(len);
        let datagram = a.seal(&packet);
        assert_eq!(datagram.len(), sealed_len, "packet of {len} bytes");
        assert_eq!(b.open(&datagram).unwrap(), Outcome::Packet(packet));
    }
}

#[test]
fn a_datagram_is_accepted_once() {
    let (mut a, mut b) = connected();
    let datagram = a.seal(&ipv4(64));
    assert!(b.open(&datagram).is_ok());
    assert_eq!(b.open(&datagram), Err(Refused::Replay));
}

#[test]
fn a_changed_datagram_is_refused() {
    let (mut a, mut b) = connected();
    let datagram = a.seal(&ipv4(64));
    for at in 16..datagram.len() {
        let mut changed = datagram.clone();
        changed[at] ^= 1;
        assert_eq!(b.open(&changed), Err(Refused::BadTag), "byte {at}");
    }
    assert!(b.open(&datagram).is_ok());
}

#[test]
fn a_counter_at_the_end_of_its_range_is_refused_before_the_engine() {
    let (mut a, mut b) = connected();
    let mut datagram = a.seal(&ipv4(64));
    datagram[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(b.open(&datagram), Err(Refused::Replay));
}

#[test]
fn an_initiation_is_answered_once() {
    let (mut a, mut b) = pair();
    let initiation = a.tunnel.initiate(&mut buffer(), START).unwrap().to_vec();
    assert!(b.open(&initiation).is_ok());
    assert_eq!(b.open(&initiation), Err(Refused::HandshakeReplay));
}

#[test]
fn both_sides_may_call_at_once() {
    let (mut a, mut b) = pair();
    let from_a = a.tunnel.initiate(&mut buffer(), START).unwrap().to_vec();
    let from_b = b.tunnel.initiate(&mut buffer(), START).unwrap().to_vec();
    let response_a = reply(a.open(&from_b));
    let response_b = reply(b.open(&from_a));
    let keepalive_a = reply(a.open(&response_b));
    let keepalive_b = reply(b.open(&response_a));
    assert_eq!(a.open(&keepalive_b).unwrap(), Outcome::Keepalive);
    assert_eq!(b.open(&keepalive_a).unwrap(), Outcome::Keepalive);
    for _ in 0..3 {
        let packet = ipv4(64);
        let datagram = a.seal(&packet);
        assert_eq!(b.open(&datagram).unwrap(), Outcome::Packet(packet.clone()));
        let datagram = b.seal(&packet);
        assert_eq!(a.open(&datagram).unwrap(), Outcome::Packet(packet));
    }
}

#[test]
fn a_flood_of_initiations_is_asked_for_a_cookie_and_its_holder_gets_through() {
    let (mut a, b) = pair();
    let mut out = buffer();
    let initiation = a.tunnel.initiate(&mut out, START).unwrap().to_vec();
    let challenge = (0..1000)
        .find_map(|_| match b.local.admit(&initiation, SOURCE, &mut out) {
            Ok(Admitted::Challenge(len)) => Some(out[..len].to_vec()),
            _ => None,
        })
        .expect("a flood is challenged");
    assert_eq!(a.local.admit(&challenge, SOURCE, &mut out), Ok(Admitted::Indexed(a.tunnel.index())));
    assert_eq!(a.open(&challenge).unwrap(), Outcome::Cookie);
    let initiation = a.tunnel.initiate(&mut out, START).unwrap().to_vec();
    let admitted = b.local.admit(&initiation, SOURCE, &mut out);
    assert_eq!(admitted, Ok(Admitted::Initiation(a.local.public())));
}

#[test]
fn an_initiation_for_another_host_is_refused_cheaply() {
    let (mut a, _) = pair();
    let stranger = LocalKey::new(&Zeroizing::new([9; 32]));
    let initiation = a.tunnel.initiate(&mut buffer(), START).unwrap().to_vec();
    assert_eq!(stranger.admit(&initiation, SOURCE, &mut buffer()), Err(Refused::BadHandshake));
}

#[test]
fn packets_for_an_absent_peer_take_bounded_room() {
    let (mut a, _) = pair();
    let packet = ipv4(1400);
    let mut dropped = 0;
    for _ in 0..1000 {
        match a.tunnel.seal(&packet, &mut buffer(), START).unwrap() {
            Sealed::Staged { dropped: true, .. } | Sealed::Waiting { dropped: true } => dropped += 1,
            _ => {}
        }
    }
    let kept = a.tunnel.discard_staged();
    assert_eq!(kept + dropped, 1000);
    assert!(kept <= 64, "{kept}");
}

#[test]
fn retries_slow_down_after_giving_up() {
    let (mut a, _) = pair();
    a.tunnel.initiate(&mut buffer(), START).unwrap();
    let at = |s: u64| START + Duration::from_secs(s);
    assert!(!a.tunnel.initiation_is_due(at(4)));
    assert!(a.tunnel.initiation_is_due(at(5)));
    assert!(!a.tunnel.has_given_up(at(89)));
    assert!(matches!(a.tunnel.tick(&mut buffer(), at(91)), Ok(Ticked::Initiation(_))));
    assert!(a.tunnel.has_given_up(at(91)));
    assert!(!a.tunnel.initiation_is_due(at(91 + 24)));
    assert!(a.tunnel.initiation_is_due(at(91 + 30)));
}

#[test]
fn a_session_is_renewed_and_kept_alive_by_time() {
    let (mut a, mut b) = connected();
    let quiet = START + Duration::from_secs(26);
    let mut out = buffer();
    let Ok(Ticked::Keepalive(keepalive)) = a.tunnel.tick(&mut out, quiet) else { panic!("keepalive is due") };
    assert_eq!(b.open(keepalive).unwrap(), Outcome::Keepalive);
    assert_eq!(a.tunnel.tick(&mut out, quiet), Ok(Ticked::Idle));
    let old = START + Duration::from_secs(136);
    assert!(matches!(a.tunnel.tick(&mut out, old), Ok(Ticked::Initiation(_))));
}

#[test]
fn small_buffers_are_refused_without_a_panic() {
    let (mut a, mut b) = connected();
    let datagram = a.seal(&ipv4(200));
    for len in 0..147 {
        let mut out = vec![0; len];
        assert_eq!(a.tunnel.seal(&ipv4(100), &mut out, START), Err(Refused::TooLong));
        assert_eq!(a.tunnel.tick(&mut out, START), Err(Refused::TooLong));
        assert_eq!(a.tunnel.initiate(&mut out, START), Err(Refused::TooLong));
        assert_eq!(b.tunnel.open(&datagram, SOURCE, &mut out, START), Err(Refused::TooLong));
    }
}

proptest! {
    #[test]
    fn no_datagram_panics(kind in 0u8..6, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (_, mut b) = connected();
        let mut datagram = vec![kind, 0, 0, 0];
        datagram.extend(body);
        for len in [datagram.len(), 148, 92, 64, 32, 3] {
            let mut datagram = datagram.clone();
            datagram.resize(len, 0xaa);
            let _ = b.local.admit(&datagram, SOURCE, &mut buffer());
            prop_assert!(b.open(&datagram).is_err());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Packet(Vec<u8>),
    Keepalive,
    Reply(Vec<u8>),
    Cookie,
}

struct Side {
    local: LocalKey,
    tunnel: Tunnel,
}

impl Side {
    fn new(local: u8, peer: u8, index: u32) -> Self {
        let key = |seed: u8| LocalKey::new(&Zeroizing::new([seed; 32]));
        let local = key(local);
        let tunnel = Tunnel::new(&local, &key(peer).public(), TunnelIndex::from_random(index), MTU);
        Self { local, tunnel }
    }

    fn open(&mut self, datagram: &[u8]) -> Result<Outcome, Refused> {
        let mut out = buffer();
        self.tunnel.open(datagram, SOURCE, &mut out, START).map(|opened| match opened {
            Opened::Packet(packet) => Outcome::Packet(packet.to_vec()),
            Opened::Keepalive => Outcome::Keepalive,
            Opened::Response(reply) | Opened::Established(reply) => Outcome::Reply(reply.to_vec()),
            Opened::Cookie => Outcome::Cookie,
        })
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        match self.tunnel.seal(packet, &mut buffer(), START) {
            Ok(Sealed::Datagram(datagram)) => datagram.to_vec(),
            other => panic!("no session: {other:?}"),
        }
    }
}

fn pair() -> (Side, Side) {
    (Side::new(1, 2, 0xa0a0a0), Side::new(2, 1, 0xb0b0b0))
}

fn connected() -> (Side, Side) {
    let (mut a, mut b) = pair();
    let initiation = a.tunnel.initiate(&mut buffer(), START).unwrap().to_vec();
    let response = reply(b.open(&initiation));
    let keepalive = reply(a.open(&response));
    assert_eq!(b.open(&keepalive).unwrap(), Outcome::Keepalive);
    (a, b)
}

fn reply(outcome: Result<Outcome, Refused>) -> Vec<u8> {
    match outcome {
        Ok(Outcome::Reply(reply)) => reply,
        other => panic!("no reply: {other:?}"),
    }
}

fn buffer() -> Vec<u8> {
    vec![0; 2048]
}

fn ipv4(len: u16) -> Vec<u8> {
    let mut packet = vec![0x42; usize::from(len)];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet
}
