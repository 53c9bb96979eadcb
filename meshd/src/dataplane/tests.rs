//! The data threads' work between fakes: what they cost, and what becomes of packets.

mod fakes;
mod heard;
mod mistakes;
mod own;
mod within_a_train;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meshd_core::rotation::Epoch;
use meshd_tunnel::{
    Activity, LocalKey, PeerId, RxSession, SessionKeys, SessionSpec, Suite, Tai64n, TunnelId, TxSession, pair,
};
use meshd_wire::{NodeId, OrgId};
use zeroize::Zeroizing;

use super::events::Event;
use super::inbound::Inbound;
use super::outbound::{Burst, Outbound};
use super::peer::{Peer, Reach, Way};
use super::shared::Shared;
use super::snapshot::{Known, Owner, Snapshot};
use super::supervisor::supervise;
use super::{DataPlaneConfig, OwnKeys, PeerIdentity, Switches};
use crate::io::{DatagramSocket, Waker};
use fakes::{FakeDevice, FakeSocket, ip, packet, super_packet, tcp};

const MTU: u16 = 1420;
const NOW: Duration = Duration::from_secs(100);
const OWN: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 1);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 2);
const ELSEWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 51820);
/// Payload of a full TCP segment.
const MSS: usize = MTU as usize - 40;
const SEGMENTS: usize = 45;
const INDEX: u32 = 0x1234_5678;

#[test]
fn a_train_costs_two_system_calls_and_no_allocation_on_its_way_out() {
    let node = Node::new();
    let device = FakeDevice::reading(super_packet());
    let mut outbound = Outbound::new(&node.shared, &device, &node.socket, None);
    let rounds = 10;
    device.left.store(1, Ordering::Relaxed);
    outbound.burst(NOW);

    node.socket.calls.store(0, Ordering::Relaxed);
    device.calls.store(0, Ordering::Relaxed);
    let allocated = allocation_counter::measure(|| {
        for _ in 0..rounds {
            device.left.store(1, Ordering::Relaxed);
            assert_eq!(outbound.burst(NOW), Burst::Drained);
        }
    });
    assert_eq!(allocated.count_total, 0);
    assert_eq!(node.socket.calls.load(Ordering::Relaxed), rounds);
    // One that found a train and one that found nothing.
    assert_eq!(device.calls.load(Ordering::Relaxed), 2 * rounds);
    let sent = node.socket.last.lock().unwrap();
    assert_eq!(sent.len(), SEGMENTS * (MTU as usize + 32));
}

#[test]
fn a_train_costs_two_system_calls_and_no_allocation_on_its_way_in() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let rounds = 10;
    let mut trains = (0..=rounds).map(|round| node.sealed_train(round)).collect::<Vec<_>>().into_iter();
    let mut arrive = || {
        let (train, stride) = trains.next().unwrap();
        node.socket.give(train, stride);
    };
    let mut inbound = Inbound::new(&node.shared, &device, &node.socket);
    arrive();
    assert_eq!(inbound.burst(NOW), Burst::More);

    node.socket.calls.store(0, Ordering::Relaxed);
    device.calls.store(0, Ordering::Relaxed);
    let allocated = allocation_counter::measure(|| {
        for _ in 0..rounds {
            arrive();
            assert_eq!(inbound.burst(NOW), Burst::More);
        }
    });
    assert_eq!(allocated.count_total, 0);
    assert_eq!(node.socket.calls.load(Ordering::Relaxed), rounds);
    assert_eq!(device.calls.load(Ordering::Relaxed), rounds, "one write for each train");
    assert_eq!(device.written.load(Ordering::Relaxed), (rounds + 1) * (40 + SEGMENTS * MSS));
    assert_eq!(node.drops(), Vec::new());
}

#[test]
fn what_was_sealed_is_opened_as_it_was() {
    let node = Node::new();
    let device = FakeDevice::reading(super_packet());
    device.left.store(1, Ordering::Relaxed);
    Outbound::new(&node.shared, &device, &node.socket, None).burst(NOW);
    let sent = node.socket.last.lock().unwrap().clone();
    let mut payload = Vec::new();
    for datagram in sent.chunks(MTU as usize + 32) {
        let mut datagram = datagram.to_vec();
        let opened = node.far_rx.open(&mut datagram).unwrap();
        let packet = &datagram[opened.plaintext];
        assert_eq!(packet[12..20], [OWN.octets(), OTHER.octets()].concat());
        payload.extend_from_slice(&packet[40..]);
    }
    assert_eq!(payload, super_packet()[50..]);
}

#[test]
fn packets_of_one_length_are_padded_as_each_path_takes_it() {
    let node = Node::new();
    let mut read = vec![0; meshd_core::vnet::LEN];
    read.extend(packet(OWN, OTHER, &[0; 1416 - 28]));
    let device = FakeDevice::reading(read);
    let mut outbound = Outbound::new(&node.shared, &device, &node.socket, None);
    for (mtu, padded_len) in [(MTU, 1420), (MTU + 80, 1424), (MTU, 1420)] {
        let way = node.peer.way().as_ref().map(|way| Way {
            session: Arc::clone(&way.session),
            endpoint: way.endpoint,
            mtu,
            fragments: way.fragments,
        });
        node.peer.set_way(way);
        device.left.store(1, Ordering::Relaxed);
        outbound.burst(NOW);
        assert_eq!(node.socket.last.lock().unwrap().len(), padded_len + 32, "mtu {mtu}");
    }
}

#[test]
fn copies_truncations_and_flipped_bits_are_dropped_and_counted() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let good = node.sealed(&packet(OTHER, OWN, b"once"));
    let mut flipped = node.sealed(&packet(OTHER, OWN, b"flip"));
    flipped[20] ^= 1;
    let mut cut = node.sealed(&packet(OTHER, OWN, b"cut off"));
    cut.pop();
    let stranger = node.sealed(&packet(Ipv4Addr::new(10, 91, 0, 9), OWN, b"forged"));
    let astray = node.sealed(&packet(OTHER, Ipv4Addr::new(10, 91, 0, 9), b"astray"));
    for datagram in [good.clone(), good, flipped, cut, stranger, astray, vec![9; 60], vec![4, 0, 0, 0]] {
        node.arrives(datagram);
    }
    node.receives_all(&device);
    let mut drops = node.drops();
    drops.sort_unstable();
    let expected = [
        ("bad-destination", 1),
        ("bad-source", 1),
        ("bad-tag", 2),
        ("not-tunnel", 1),
        ("replay", 1),
        ("too-short", 1),
    ];
    assert_eq!(drops, expected);
    assert_eq!(device.calls.load(Ordering::Relaxed), 1, "one packet came through");
}

#[test]
fn an_error_in_the_name_of_another_is_refused_also_within_a_known_flow() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let known = packet(OTHER, OWN, b"known");
    let mut quoting = vec![3, 1, 0, 0, 0, 0, 0, 0];
    let mut quoted = packet(OWN, OTHER, b"known");
    quoted.swap(20, 22);
    quoted.swap(21, 23);
    quoting.extend(quoted);
    let forged = ip(Ipv4Addr::new(10, 91, 0, 9), OWN, 1, &quoting);
    let honest = ip(OTHER, OWN, 1, &quoting);
    for packet in [known, forged, honest] {
        node.arrives(node.sealed(&packet));
    }
    node.receives_all(&device);
    assert_eq!(node.drops(), [("bad-source", 1)]);
    assert_eq!(device.calls.load(Ordering::Relaxed), 2);
}

#[test]
fn one_datagram_costs_one_call_to_receive_it() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let mut inbound = Inbound::new(&node.shared, &device, &node.socket);
    node.arrives(node.sealed(&packet(OTHER, OWN, b"alone")));
    assert_eq!(inbound.burst(NOW), Burst::Drained);
    for _ in 0..2 {
        node.arrives(node.sealed(&packet(OTHER, OWN, b"more may follow")));
    }
    assert_eq!(inbound.burst(NOW), Burst::More);
}

#[test]
fn packets_wait_for_a_session_and_bounds_hold() {
    let node = Node::new();
    node.peer.set_way(None);
    let mut single = vec![0; 10];
    single.extend(packet(OWN, OTHER, b"hello"));
    let device = FakeDevice::reading(single);
    let mut outbound = Outbound::new(&node.shared, &device, &node.socket, None);
    device.left.store(100, Ordering::Relaxed);
    while outbound.burst(NOW) == Burst::More {}
    assert_eq!(node.drops(), [("queue-full", 36)]);
    assert_eq!(node.socket.calls.load(Ordering::Relaxed), 0);
    assert!(matches!(node.shared.notes.pop(), Some(super::notes::Note::Peer(_))));
    assert!(node.shared.notes.pop().is_none(), "a wish is noted once");

    node.peer.set_reach(Reach::Absent);
    device.left.store(1, Ordering::Relaxed);
    outbound.burst(NOW);
    assert_eq!(device.written.load(Ordering::Relaxed), 20 + 8 + 33, "the sender is told");
}

#[test]
fn a_plain_wireguard_peer_reaches_the_others_through_this_node() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let phone = Ipv4Addr::new(10, 91, 0, 3);
    let onward = node.add_external(phone);
    let to_phone = node.sealed(&packet(OTHER, phone, b"to the phone"));
    let forged = node.sealed(&packet(phone, OWN, b"not from there"));
    let own = node.sealed(&packet(OTHER, OTHER, b"back"));
    for datagram in [to_phone, forged, own] {
        node.arrives(datagram);
    }
    node.receives_all(&device);
    assert_eq!(node.drops(), [("bad-source", 1), ("bad-destination", 1)]);
    assert_eq!(device.calls.load(Ordering::Relaxed), 0, "nothing is for this host");
    let mut sent = node.socket.last.lock().unwrap().clone();
    let opened = onward.open(&mut sent).unwrap();
    let mut expected = packet(OTHER, phone, b"to the phone");
    assert!(super::header::take_hop(&mut expected, phone.into()));
    assert!(sent[opened.plaintext].starts_with(&expected));
    assert_eq!(node.peer.bytes()[0], expected.len() as u64, "what goes on has come, too");
}

#[test]
fn an_external_that_is_too_far_or_that_nobody_lets_in_is_not_reached() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let phone = Ipv4Addr::new(10, 91, 0, 3);
    let _onward = node.add_external(phone);
    let mut last_hop = packet(OTHER, phone, b"one hop left");
    assert!((0..63).all(|_| super::header::take_hop(&mut last_hop, phone.into())));
    let mut marked = packet(OTHER, OWN, b"no ecn");
    marked[1] = 0;
    node.socket.ecn.store(3, Ordering::Relaxed);
    node.arrives(node.sealed(&marked));
    node.arrives(node.sealed(&last_hop));
    node.socket.ecn.store(0, Ordering::Relaxed);
    node.arrives(node.sealed(&last_hop));
    node.receives_all(&device);
    assert_eq!(node.drops(), [("congested", 2), ("hop-limit", 1)]);
}

#[test]
fn who_sends_too_much_to_an_external_is_told_how_much_it_takes() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let phone = Ipv4Addr::new(10, 91, 0, 3);
    let _onward = node.add_external(phone);
    let long = node.sealed(&packet(OTHER, phone, &[0; 1300]));
    node.arrives(long);
    node.receives_all(&device);

    assert_eq!(node.drops(), [("too-big", 1)]);
    let mut sent = node.socket.last.lock().unwrap().clone();
    let opened = node.far_rx.open(&mut sent).unwrap();
    let answer = meshd_core::IpPacket::parse(&sent[opened.plaintext]).unwrap();
    assert_eq!(answer.destination(), std::net::IpAddr::V4(OTHER));
    // Fragmentation needed, next hop takes 1280 (RFC 1191 section 4).
    assert_eq!((&answer.payload()[..2], &answer.payload()[6..8]), (&[3, 4][..], &1280u16.to_be_bytes()[..]));
}

#[test]
fn a_thread_that_panics_starts_again_and_loses_only_what_it_held() {
    let node = Node::new();
    let mut events = node.shared.events.subscribe();
    let device = FakeDevice::reading(super_packet());
    device.panics.store(true, Ordering::Relaxed);
    device.left.store(3, Ordering::Relaxed);
    supervise(&node.shared, "meshd-tx", || {
        let mut outbound = Outbound::new(&node.shared, &device, &node.socket, None);
        while outbound.burst(NOW) == Burst::More {}
        node.shared.stop();
    });
    assert_eq!(node.socket.calls.load(Ordering::Relaxed), 2, "two of three trains were sent");
    assert_eq!(events.try_recv(), Ok(Event::ThreadRestarted { thread: "meshd-tx" }));
    assert!(events.try_recv().is_err());
    assert_eq!(node.drops(), [("thread-restarted", 1)]);
}

#[test]
fn a_thread_that_panics_on_everything_is_given_up() {
    let node = Node::new();
    let mut events = node.shared.events.subscribe();
    supervise(&node.shared, "meshd-rx", || std::panic::resume_unwind(Box::new("a fault")));
    let mut last = None;
    while let Ok(event) = events.try_recv() {
        last = Some(event);
    }
    assert_eq!(last, Some(Event::ThreadEnded { thread: "meshd-rx" }));
}

/// A node with one peer, its session and its sockets, without threads.
struct Node {
    shared: Shared,
    socket: Arc<FakeSocket>,
    peer: Arc<Peer>,
    far_tx: TxSession,
    far_rx: RxSession,
}

impl Node {
    fn new() -> Self {
        let socket = Arc::new(FakeSocket::default());
        let config = DataPlaneConfig {
            device: String::new(),
            mtu: None,
            udp_port: 0,
            keys: keys(),
            addr4: (OWN, 16),
            addr6: (Ipv6Addr::LOCALHOST, 128),
            mesh_prefixes: Vec::new(),
            shards: None,
            switches: Switches::detect(),
            clock_floor: Tai64n::from_unix(Duration::ZERO),
        };
        let sockets: (Arc<dyn DatagramSocket>, Arc<dyn DatagramSocket>) = (socket.clone(), socket.clone());
        let shared = Shared::new(&config, (MTU, true), sockets, Waker::new().unwrap());
        let peer = Arc::new(Peer::new(identity(2), PeerId(0), false));
        let (tx, rx) = session((1, 2), INDEX, PeerId(0));
        let (far_tx, far_rx) = session((2, 1), INDEX, PeerId(0));
        shared.sessions.insert(Arc::new(rx), Arc::clone(&peer));
        peer.set_way(Some(Way { session: Arc::new(tx), endpoint: ELSEWHERE, mtu: MTU, fragments: false }));
        peer.set_proven(ELSEWHERE);
        peer.set_up(true);
        let routes = shared.own_routes(&[]);
        let mut snapshot = Snapshot { generation: 1, routes, ..Snapshot::default() };
        let owner = Owner::Peer(Arc::clone(&peer));
        snapshot.routes.claim(ipnet::IpNet::from(std::net::IpAddr::V4(OTHER)), owner);
        let known = Known { peer: Arc::clone(&peer), v4: Some(OTHER), v6: None };
        snapshot.by_node.insert(peer.identity.node, known);
        shared.snapshot.store(Arc::new(snapshot));
        Self { shared, socket, peer, far_tx, far_rx }
    }

    /// Adds a plain WireGuard peer; returns what opens packets as that peer would.
    fn add_external(&self, address: Ipv4Addr) -> RxSession {
        let peer = Arc::new(Peer::new(identity(3), PeerId(1), true));
        let (tx, _) = session((5, 6), 77, PeerId(1));
        let (_, far_rx) = session((6, 5), 77, PeerId(1));
        peer.set_way(Some(Way { session: Arc::new(tx), endpoint: ELSEWHERE, mtu: 1280, fragments: false }));
        let old = self.shared.snapshot.load();
        let mut snapshot = Snapshot {
            generation: old.generation + 1,
            routes: old.routes.clone(),
            by_node: old.by_node.clone(),
        };
        let owner = Owner::Peer(Arc::clone(&peer));
        snapshot.routes.claim(ipnet::IpNet::from(std::net::IpAddr::V4(address)), owner);
        snapshot.by_node.insert(peer.identity.node, Known { peer, v4: Some(address), v6: None });
        self.shared.snapshot.store(Arc::new(snapshot));
        far_rx
    }

    /// A datagram as the peer would send it.
    fn sealed(&self, packet: &[u8]) -> Vec<u8> {
        let mut out = vec![0; packet.len() + 32];
        self.far_tx.reserve(NOW, 1).unwrap().seal(packet, 0, &mut out).unwrap();
        out
    }

    /// Has a datagram to receive.
    fn arrives(&self, datagram: Vec<u8>) {
        let len = datagram.len();
        self.socket.give(datagram, len);
    }

    /// Receives what has arrived.
    fn receives_all(&self, device: &FakeDevice) {
        let mut inbound = Inbound::new(&self.shared, device, &*self.socket);
        while inbound.burst(NOW) == Burst::More {}
    }

    /// A train as the peer would send it, and the length of its datagrams.
    fn sealed_train(&self, round: usize) -> (Vec<u8>, usize) {
        let mut train = Vec::new();
        for segment in 0..SEGMENTS {
            let seq = (round * SEGMENTS + segment) * MSS;
            train.extend(self.sealed(&tcp(OTHER, OWN, seq as u32, &[7; MSS])));
        }
        (train, MTU as usize + 32)
    }

    /// All reasons that something was counted for.
    fn drops(&self) -> Vec<(&'static str, u64)> {
        self.shared.counters.all().into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

fn identity(number: u8) -> PeerIdentity {
    PeerIdentity { node: NodeId([number; 32]), org: OrgId([9; 32]) }
}

/// A session without a handshake.
fn session((send, receive): (u8, u8), index: u32, peer: PeerId) -> (TxSession, RxSession) {
    let keys = SessionKeys { send: Zeroizing::new([send; 32]), receive: Zeroizing::new([receive; 32]) };
    let spec = SessionSpec {
        suite: Suite::Aes,
        index,
        peer_index: index,
        is_initiator: true,
        born: NOW,
        activity: Arc::new(Activity::new()),
        tunnel: TunnelId(u64::from(peer.0)),
        peer,
    };
    pair(keys, spec)
}

/// Keys of a node whose engine has no work.
fn keys() -> OwnKeys {
    let local = |private: u8| LocalKey::from_bytes(&Zeroizing::new([private; 32])).unwrap();
    OwnKeys::single(Epoch(1), local(1), local(2))
}
