//! What of a train is judged, though nearly all of it goes the way of its first packet.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meshd_core::flow::{Flow, Verdict};
use meshd_tunnel::PeerId;

use super::fakes::{FakeDevice, tcp};
use super::{MSS, MTU, NOW, Node, OTHER, OWN, SEGMENTS, identity, session};
use crate::dataplane::flows::{FlowFilter, PeerIdentity};
use crate::dataplane::peer::Peer;
use crate::dataplane::shared::Shared;

const HEADERS_LEN: usize = 40;

/// Segments of one connection, as the peer sends them.
fn segments(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|at| tcp(OTHER, OWN, (at * MSS) as u32, &[7; MSS])).collect()
}

/// Has a train of these packets, all of one length, to receive.
fn arrive(node: &Node, packets: &[Vec<u8>]) {
    let train = packets.iter().flat_map(|packet| node.sealed(packet)).collect();
    node.socket.give(train, packets[0].len() + 32);
}

#[test]
fn forged_sources_and_other_destinations_are_refused_and_nobody_else_loses() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let stranger = Ipv4Addr::new(10, 91, 0, 9);
    let mut train = segments(10);
    // Each could be the next segment, but for its addresses.
    train.insert(4, tcp(stranger, OWN, 4 * MSS as u32, &[7; MSS]));
    train.insert(8, tcp(OTHER, stranger, 7 * MSS as u32, &[7; MSS]));
    arrive(&node, &train);
    node.receives_all(&device);
    assert_eq!(node.drops(), [("bad-source", 1), ("bad-destination", 1)]);
    assert_eq!(device.calls.load(Ordering::Relaxed), 1);
    assert_eq!(device.written.load(Ordering::Relaxed), HEADERS_LEN + 10 * MSS);
    assert_eq!(node.peer.bytes()[0], 10 * u64::from(MTU));
}

#[test]
fn another_peer_cannot_continue_a_connection() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let peer = Arc::new(Peer::new(identity(7), PeerId(7), false));
    let (_, rx) = session((8, 7), 99, PeerId(7));
    let (rogue, _) = session((7, 8), 99, PeerId(7));
    node.shared.sessions.insert(Arc::new(rx), peer);
    let train = segments(3);
    arrive(&node, &train[..2]);
    let mut forged = vec![0; train[2].len() + 32];
    rogue.reserve(NOW, 1).unwrap().seal(&train[2], 0, &mut forged).unwrap();
    node.arrives(forged);
    arrive(&node, &train[2..]);
    node.receives_all(&device);
    assert_eq!(node.drops(), [("bad-source", 1)]);
    assert_eq!(device.written.load(Ordering::Relaxed), HEADERS_LEN + 3 * MSS);
}

#[test]
fn a_mark_of_congestion_is_not_lost_between_two_trains() {
    let node = Node::new();
    let device = FakeDevice::reading(Vec::new());
    let train = segments(4);
    arrive(&node, &train[..2]);
    node.socket.ecn.store(3, Ordering::Relaxed);
    arrive(&node, &train[2..]);
    node.receives_all(&device);
    assert_eq!(node.drops(), [("congested", 2)]);
    assert_eq!(device.written.load(Ordering::Relaxed), HEADERS_LEN + 2 * MSS);
}

/// Allows what it is asked first, and is replaced by a filter that allows nothing.
#[derive(Debug)]
struct AllowOnce(&'static Shared);

#[derive(Debug)]
struct AllowNone;

impl FlowFilter for AllowOnce {
    fn decide(&self, _: &Flow, _: &PeerIdentity) -> Verdict {
        self.0.rules.replace(Arc::new(AllowNone));
        Verdict::Allow
    }
}

impl FlowFilter for AllowNone {
    fn decide(&self, _: &Flow, _: &PeerIdentity) -> Verdict {
        Verdict::Deny
    }
}

#[test]
fn rules_that_change_are_asked_again() {
    // The filter lives as long as the rules that own it.
    let node: &'static Node = Box::leak(Box::new(Node::new()));
    let device = FakeDevice::reading(Vec::new());
    node.shared.rules.replace(Arc::new(AllowOnce(&node.shared)));
    arrive(node, &segments(SEGMENTS));
    node.receives_all(&device);
    assert_eq!(node.drops(), [("denied", SEGMENTS as u64 - 1)]);
    assert_eq!(device.written.load(Ordering::Relaxed), MTU as usize);
}
