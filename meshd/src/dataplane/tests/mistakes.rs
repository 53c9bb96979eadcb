//! Mistakes of other data planes, by their numbers in `docs/testing.md`.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use meshd_core::coalesce::CoalesceSwitches;
use meshd_core::vnet;
use meshd_tunnel::{PeerId, RxSession, TxSession};

use super::fakes::packet;
use super::{ELSEWHERE, MTU, NOW, Node, OTHER, OWN, SEGMENTS, identity, session};
use crate::dataplane::inbound::Inbound;
use crate::dataplane::notes::Note;
use crate::dataplane::outbound::{Burst, Outbound};
use crate::dataplane::peer::{Peer, Way};
use crate::dataplane::snapshot::{Known, Owner, Snapshot};
use crate::io::{DatagramSocket, PacketDevice, ReceiveMeta};

/// The second peer's overlay address, and where it is.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 4);
const SECOND_PLACE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 4)), 51820);
/// Bytes of an outer datagram's overhead, and of the headers of [`packet`].
const SEALED: usize = 32;
const HEADERS: usize = 28;

#[test]
fn mistake04_packets_leave_in_the_order_they_came_whatever_their_lengths() {
    let node = Node::new();
    let lens = [900, 100, 900, 900, 40, 1300, 100, 100, 1, 1300, 1300, 20];
    let device = Script::reading((0..).zip(lens).map(|(number, len)| packet(OWN, OTHER, &vec![number; len])));
    let socket = Ledger::default();
    let mut outbound = Outbound::new(&node.shared, &device, &socket, None);
    while outbound.burst(NOW) == Burst::More {}
    let numbers: Vec<u8> =
        socket.opened(ELSEWHERE, &node.far_rx).iter().map(|packet| packet[HEADERS]).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn mistake05_every_part_of_the_receive_buffer_holds_the_longest_train() {
    let node = Node::new();
    let (device, socket) = (Script::default(), Ledger::default());
    let single = || Part::of(node.sealed(&packet(OTHER, OWN, b"alone")));
    // As many as one call takes at first; then it takes more parts, of which each has to be as long.
    socket.will_receive(vec![single(), single(), single(), single()]);
    let (train, stride) = node.sealed_train(0);
    assert!(train.len() > 65_000);
    socket.will_receive(vec![Part { stride, ..Part::of(train) }]);
    let mut inbound = Inbound::new(&node.shared, &device, &socket);
    while inbound.burst(NOW) == Burst::More {}
    assert_eq!(node.drops(), Vec::new());
    let rooms = socket.rooms.lock().unwrap();
    assert!(rooms.iter().any(|(parts, _)| *parts > 4), "{rooms:?}");
    assert!(rooms.iter().all(|(_, room)| *room >= 65_535), "{rooms:?}");
}

#[test]
fn mistake10_who_reads_a_packet_sends_it_before_it_waits_for_another() {
    let node = Node::new();
    let device = Script::reading((0..3).map(|number| packet(OWN, OTHER, &[number; 700])));
    let socket = Ledger::default();
    socket.will_receive(vec![Part::of(node.sealed(&packet(OTHER, OWN, b"inwards")))]);
    assert_eq!(Outbound::new(&node.shared, &device, &socket, None).burst(NOW), Burst::Drained);
    assert_eq!(Inbound::new(&node.shared, &device, &socket).burst(NOW), Burst::Drained);
    let (sent, written) = (socket.sent.lock().unwrap(), device.written.lock().unwrap());
    assert_eq!(sent.iter().map(|train| train.bytes.len() / train.segment).sum::<usize>(), 3);
    assert_eq!(written.len(), 1);
    let threads = sent.iter().map(|train| train.thread).chain(written.iter().map(|(thread, _)| *thread));
    assert!(threads.into_iter().all(|thread| thread == thread::current().id()), "a hop to another thread");
}

#[test]
fn mistake11_trains_need_no_lock_that_control_holds_and_wake_its_timers_once() {
    let node = Node::new();
    let device = Script::reading((0..64).map(|number| packet(OWN, OTHER, &[number; 700])));
    let socket = Ledger::default();
    for round in 0..8 {
        let (train, stride) = node.sealed_train(round);
        socket.will_receive(vec![Part { stride, ..Part::of(train) }]);
    }
    let (mut outbound, mut inbound) =
        (Outbound::new(&node.shared, &device, &socket, None), Inbound::new(&node.shared, &device, &socket));
    // A lock that the path took would never be had: control holds it until the last train is through.
    let held = (node.shared.retired.lock().unwrap(), node.peer.staged());
    while outbound.burst(NOW) == Burst::More {}
    while inbound.burst(NOW) == Burst::More {}
    drop(held);
    assert_eq!(node.peer.stats(NOW).rx_packets, 8 * SEGMENTS as u64);
    assert_eq!(node.peer.stats(NOW).tx_packets, 64);
    let notes: Vec<Note> = std::iter::from_fn(|| node.shared.notes.pop()).collect();
    let expected = matches!(notes[..], [Note::Peer(_), Note::Confirmed { .. }]);
    assert!(expected, "{} notes; the peer and the session's first packet are two", notes.len());
}

#[test]
fn mistake13_every_train_goes_to_its_own_peer_though_buffers_are_used_again() {
    let node = Node::new();
    let second = SecondPeer::of(&node);
    let device = Script::reading((0..40).map(|number| {
        let destination = if number % 3 == 0 { SECOND } else { OTHER };
        packet(OWN, destination, &[number; 700])
    }));
    let socket = Ledger::default();
    let mut outbound = Outbound::new(&node.shared, &device, &socket, None);
    while outbound.burst(NOW) == Burst::More {}
    for (place, rx, address, count) in
        [(ELSEWHERE, &node.far_rx, OTHER, 26), (SECOND_PLACE, &second.far_rx, SECOND, 14)]
    {
        let opened = socket.opened(place, rx);
        assert!(opened.iter().all(|packet| packet[16..20] == address.octets()), "{place}");
        assert_eq!(opened.len(), count, "{place}");
    }

    let [first_moved, second_moved] = [7001, 7002].map(|port| SocketAddr::new(ELSEWHERE.ip(), port));
    let from_first = || node.sealed(&packet(OTHER, OWN, b"first"));
    let from_second = || second.sealed(&packet(SECOND, OWN, b"second"));
    socket.will_receive(vec![
        Part { source: first_moved, ..Part::of(from_first()) },
        Part { source: second_moved, ..Part::of(from_second()) },
        Part { source: first_moved, ..Part::of(from_first()) },
        Part { source: second_moved, ..Part::of(from_second()) },
    ]);
    Inbound::new(&node.shared, &device, &socket).burst(NOW);
    assert_eq!(node.drops(), Vec::new());
    assert_eq!(node.peer.take_heard_from(), Some(first_moved));
    assert_eq!(second.peer.take_heard_from(), Some(second_moved));
}

#[test]
fn mistake15_a_receiver_outlives_whatever_arrives() {
    let node = Node::new();
    let (device, socket) = (Script::default(), Ledger::default());
    let data = |len: usize| [&[4, 0, 0, 0][..], &vec![0; len - 4]].concat();
    let initiation = |len: usize| [&[1, 0, 0, 0][..], &vec![0; len - 4]].concat();
    for part in [
        Part::of(Vec::new()),
        Part { is_truncated: true, ..Part::of(data(1500)) },
        Part::of(vec![4]),
        Part::of(data(31)),
        Part::of(data(65_535)),
        Part::of(initiation(149)),
        Part::of(initiation(65_535)),
        Part { stride: 1, ..Part::of(data(64)) },
    ] {
        socket.will_receive(vec![part]);
    }
    for error in [ErrorKind::ConnectionRefused, ErrorKind::HostUnreachable, ErrorKind::InvalidInput] {
        socket.incoming.lock().unwrap().push_back(Err(error));
    }
    socket.will_receive(vec![Part::of(node.sealed(&packet(OTHER, OWN, b"after all")))]);
    let mut inbound = Inbound::new(&node.shared, &device, &socket);
    while !socket.incoming.lock().unwrap().is_empty() {
        assert_ne!(inbound.burst(NOW), Burst::Lost);
    }
    let written = device.written.lock().unwrap();
    assert!(written.len() == 1 && written[0].1.ends_with(b"after all"));
    let mut drops = node.drops();
    drops.sort_unstable();
    let expected = [
        ("bad-handshake", 2),
        ("too-long", 1),
        ("too-short", 1 + 1 + 1 + 64),
        ("udp-receive-failed", 3),
        ("unknown-index", 1),
    ];
    assert_eq!(drops, expected);
}

/// Another peer of a node, somewhere else.
struct SecondPeer {
    peer: Arc<Peer>,
    far_tx: TxSession,
    far_rx: RxSession,
}

impl SecondPeer {
    fn of(node: &Node) -> Self {
        let peer = Arc::new(Peer::new(identity(4), PeerId(2), false));
        let (tx, rx) = session((7, 8), 99, PeerId(2));
        let (far_tx, far_rx) = session((8, 7), 99, PeerId(2));
        node.shared.sessions.insert(Arc::new(rx), Arc::clone(&peer));
        let session = Arc::new(tx);
        peer.set_way(Some(Way { session, endpoint: SECOND_PLACE, mtu: MTU, fragments: false }));
        peer.set_proven(SECOND_PLACE);
        peer.set_up(true);
        let old = node.shared.snapshot.load();
        let mut snapshot = Snapshot {
            generation: old.generation + 1,
            routes: old.routes.clone(),
            by_node: old.by_node.clone(),
        };
        let owner = Owner::Peer(Arc::clone(&peer));
        snapshot.routes.claim(ipnet::IpNet::from(std::net::IpAddr::V4(SECOND)), owner);
        let known = Known { peer: Arc::clone(&peer), v4: Some(SECOND), v6: None };
        snapshot.by_node.insert(peer.identity.node, known);
        node.shared.snapshot.store(Arc::new(snapshot));
        Self { peer, far_tx, far_rx }
    }

    fn sealed(&self, packet: &[u8]) -> Vec<u8> {
        let mut out = vec![0; packet.len() + SEALED];
        self.far_tx.reserve(NOW, 1).unwrap().seal(packet, 0, &mut out).unwrap();
        out
    }
}

/// A device with a list of packets to read, which keeps what it is given and who gave it.
#[derive(Default)]
struct Script {
    packets: Mutex<VecDeque<Vec<u8>>>,
    written: Mutex<Vec<(ThreadId, Vec<u8>)>>,
}

/// A socket that keeps what it sends and who sent it, and receives several parts with one call.
#[derive(Default)]
struct Ledger {
    sent: Mutex<Vec<Train>>,
    incoming: Mutex<VecDeque<Result<Vec<Part>, ErrorKind>>>,
    /// How many parts were offered, and how long each was.
    rooms: Mutex<Vec<(usize, usize)>>,
}

struct Train {
    to: SocketAddr,
    segment: usize,
    bytes: Vec<u8>,
    thread: ThreadId,
}

/// What one part of a slab is to hold.
struct Part {
    bytes: Vec<u8>,
    stride: usize,
    source: SocketAddr,
    is_truncated: bool,
}

impl Script {
    fn reading(packets: impl Iterator<Item = Vec<u8>>) -> Self {
        let packets = packets.map(|packet| [&[0; vnet::LEN][..], &packet].concat()).collect();
        Self { packets: Mutex::new(packets), written: Mutex::default() }
    }
}

impl Ledger {
    fn will_receive(&self, parts: Vec<Part>) {
        self.incoming.lock().unwrap().push_back(Ok(parts));
    }

    /// The packets that went to a place, in their order, opened by who is there.
    fn opened(&self, place: SocketAddr, rx: &RxSession) -> Vec<Vec<u8>> {
        let sent = self.sent.lock().unwrap();
        let here = sent.iter().filter(|train| train.to == place);
        let datagrams = here.flat_map(|train| train.bytes.chunks(train.segment));
        let open = |datagram: &[u8]| {
            let mut datagram = datagram.to_vec();
            let opened = rx.open(&mut datagram).expect("sealed for who is there");
            datagram[opened.plaintext].to_vec()
        };
        datagrams.map(open).collect()
    }
}

impl Part {
    fn of(bytes: Vec<u8>) -> Self {
        Self { stride: bytes.len().max(1), bytes, source: ELSEWHERE, is_truncated: false }
    }
}

impl PacketDevice for Script {
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let packet = self.packets.lock().unwrap().pop_front();
        Ok(packet.map(|packet| {
            buffer[..packet.len()].copy_from_slice(&packet);
            packet.len()
        }))
    }

    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.written.lock().unwrap().push((thread::current().id(), bytes));
        Ok(())
    }

    fn coalescing(&self) -> CoalesceSwitches {
        CoalesceSwitches { tcp: true, udp: true }
    }
}

impl DatagramSocket for Ledger {
    fn send(&self, train: &[u8], segment: usize, to: SocketAddr, _: u8) -> io::Result<()> {
        let thread = thread::current().id();
        self.sent.lock().unwrap().push(Train { to, segment, bytes: train.to_vec(), thread });
        Ok(())
    }

    fn receive(&self, slab: &mut [u8], metas: &mut [ReceiveMeta]) -> io::Result<usize> {
        let room = slab.len() / metas.len();
        self.rooms.lock().unwrap().push((metas.len(), room));
        let Some(parts) = self.incoming.lock().unwrap().pop_front() else { return Ok(0) };
        let parts = parts?;
        for ((at, part), meta) in parts.iter().enumerate().zip(metas) {
            slab[at * room..][..part.bytes.len()].copy_from_slice(&part.bytes);
            *meta = ReceiveMeta {
                len: part.bytes.len(),
                stride: part.stride,
                source: part.source,
                ecn: 0,
                truncated: part.is_truncated,
            };
        }
        Ok(parts.len())
    }
}
