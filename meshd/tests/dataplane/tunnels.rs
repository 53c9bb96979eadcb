//! Changes of keys, ciphers and rules while traffic runs.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshd::dataplane::{AllowAll, FlowFilter, PeerConfig, PeerIdentity, PingError};
use meshd_core::flow::{Direction, Flow, Verdict};
use meshd_tunnel::{Psk, Suite};
use meshd_wire::OrgId;

use crate::rig::*;

/// Lets flows begin in one direction only.
#[derive(Debug)]
struct Only(Direction);

impl FlowFilter for Only {
    fn decide(&self, flow: &Flow, _: &PeerIdentity) -> Verdict {
        if flow.direction == self.0 { Verdict::Allow } else { Verdict::Deny }
    }
}

/// Lets flows with one peer begin, and no others.
#[derive(Debug)]
struct With(PeerIdentity);

impl FlowFilter for With {
    fn decide(&self, _: &Flow, peer: &PeerIdentity) -> Verdict {
        if *peer == self.0 { Verdict::Allow } else { Verdict::Deny }
    }
}

#[test]
fn ciphers_and_keys_change_without_a_gap() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);

    let changes = [(Suite::Wg, None), (Suite::Wg, Some([7; 32])), (Suite::Aes, Some([8; 32]))];
    for (suite, psk) in changes {
        let psk = psk.map(Psk::new);
        a.set_peers(vec![PeerConfig { suite, psk: psk.clone(), ..pair.peer(1) }]);
        assert!(block_on(a.ping(&node_id(1), 8)).is_ok(), "the old tunnel carries on");
        let changed = Instant::now();
        b.set_peers(vec![PeerConfig { suite, psk, ..pair.peer(0) }]);
        assert!(block_on(b.ping(&node_id(0), 8)).is_ok());
        wait_for("the new tunnel", || {
            let age = a.peers()[0].last_handshake;
            // Ages are coarse.
            age.is_some_and(|age| age < changed.elapsed() + Duration::from_millis(2))
        });
        assert!(block_on(a.ping(&node_id(1), 8)).is_ok());
    }
    assert_datagram_arrives(&pair, 1, IpAddr::V4(addr4(1)), IpAddr::V4(addr4(0)), 0);
}

#[test]
fn a_new_filter_cuts_what_runs_and_lets_answers_through() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    let [here, there] = [0, 1].map(|side| {
        let socket = pair.inside(side, || UdpSocket::bind((addr4(side), 7000))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    let send = |from: &UdpSocket, side| from.send_to(b"x", (addr4(side), 7000)).unwrap();
    let arrives = |at: &UdpSocket| at.recv(&mut [0; 8]).unwrap() == 1;
    send(&there, 0);
    assert!(arrives(&here));

    a.set_filter(Arc::new(Only(Direction::Out)));
    send(&there, 0);
    wait_for("the running flow to be cut", || counter(&a, "denied") == 1);
    send(&here, 1);
    assert!(arrives(&there));
    send(&there, 0);
    assert!(arrives(&here), "an answer");

    a.set_filter(Arc::new(Only(Direction::In)));
    let other = pair.inside(0, || UdpSocket::bind((addr4(0), 7001))).unwrap();
    send(&other, 1);
    wait_for("the flow to be refused", || counter(&a, "denied") == 2);
    there.set_nonblocking(true).unwrap();
    assert_eq!(there.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);

    a.set_filter(Arc::new(AllowAll));
    there.set_nonblocking(false).unwrap();
    send(&other, 1);
    assert!(arrives(&there));
}

#[test]
fn a_filter_is_told_who_the_other_end_is() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);
    let other_org = OrgId([8; 32]);
    let known = PeerIdentity { node: node_id(1), org: ORG };
    let [here, there] =
        [0, 1].map(|side| pair.inside(side, || UdpSocket::bind((addr4(side), 7000))).unwrap());
    let send = |from: &UdpSocket, side| from.send_to(b"x", (addr4(side), 7000)).unwrap();

    a.set_filter(Arc::new(With(known)));
    assert_datagram_arrives(&pair, 0, IpAddr::V4(addr4(0)), IpAddr::V4(addr4(1)), 1);
    assert_datagram_arrives(&pair, 1, IpAddr::V4(addr4(1)), IpAddr::V4(addr4(0)), 0);
    assert_eq!(counter(&a, "denied"), 0);

    let strangers = [PeerIdentity { node: node_id(0), ..known }, PeerIdentity { org: other_org, ..known }];
    for (already, stranger) in strangers.into_iter().enumerate() {
        a.set_filter(Arc::new(With(stranger)));
        send(&here, 1);
        send(&there, 0);
        wait_for("both ways to be refused", || counter(&a, "denied") == 2 * (already as u64 + 1));
    }

    // The same node and key under another organisation is another peer, which nothing was allowed yet.
    a.set_filter(Arc::new(With(known)));
    assert_datagram_arrives(&pair, 0, IpAddr::V4(addr4(0)), IpAddr::V4(addr4(1)), 1);
    a.set_peers(vec![PeerConfig { org: other_org, ..pair.peer(1) }]);
    send(&here, 1);
    wait_for("the flow to be refused", || counter(&a, "denied") == 5);
}

#[test]
fn a_ping_needs_leave_to_ask_and_none_for_the_answer() {
    let Some(pair) = Pair::new() else { return };
    let (a, b) = (pair.start(0), pair.start(1));
    a.set_peers(vec![pair.peer(1)]);
    b.set_peers(vec![pair.peer(0)]);
    wait_for("the tunnel to come up", || a.peers()[0].up && b.peers()[0].up);

    a.set_filter(Arc::new(Only(Direction::Out)));
    assert!(block_on(a.ping(&node_id(1), 8)).is_ok());
    a.set_filter(Arc::new(Only(Direction::In)));
    assert_eq!(block_on(a.ping(&node_id(1), 8)), Err(PingError::Denied));
    assert!(block_on(b.ping(&node_id(0), 8)).is_ok());
    assert_eq!(counter(&a, "denied"), 1);
}
