//! What anybody may send.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use meshd_tunnel::{Refused, Tai64n};

use crate::node::{Node, address, with_mac1};
use crate::world::{START, World};

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

/// An initiation to node 1 by somebody who knows its public key and is no peer.
fn stranger() -> Vec<u8> {
    let mut stranger = Node::new(77, START - S(100));
    let victim = Node::new(2, START);
    let id = stranger.add(START, Node::spec(victim.public), victim.address);
    stranger.send(START, id, b"let me in");
    stranger.outbox.pop().expect("an initiation").1
}

#[test]
fn bug13_one_attacker_leaves_the_others_free_of_cookies() {
    let (mut world, a, _) = World::pair();
    let (mut attack, attacker) = (stranger(), address(66));
    for number in 0..10_000_u32 {
        attack[4..8].copy_from_slice(&number.to_le_bytes());
        with_mac1(world.nodes[1].public, &mut attack);
        world.nodes[1].receive(START, attacker, &attack);
    }
    let answers = std::mem::take(&mut world.nodes[1].outbox);
    assert!(answers.iter().all(|(to, bytes)| *to == attacker && bytes.len() < attack.len()));
    let tried = world.nodes[1].refused.iter().filter(|refused| **refused == Refused::NoPeer).count();
    assert!(tried <= 100, "{tried} curve operations for one attacker");
    world.send(0, a, b"first");
    world.run_for(S(1));
    assert_eq!(world.nodes[1].received.len(), 1);
    assert_eq!((world.sent(1, 2), world.sent(1, 3)), (1, 0));
}

#[test]
fn bug13_copies_of_an_initiation_cost_their_sender_and_us_nothing() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    let (initiation, source) = (world.last_sent(0, 1), world.nodes[0].address);
    for _ in 0..1_000 {
        world.inject(1, source, &initiation);
    }
    assert!(world.nodes[1].refused.iter().all(|refused| *refused == Refused::HandshakeReplay));
    world.run_for(S(121));
    world.exchange(a, b);
    assert_eq!((world.sent(1, 2), world.sent(1, 3)), (2, 0), "still without a cookie");
}

#[test]
fn bug13_a_spoofed_flood_gets_cookies_alone_and_no_memory_and_ends_by_itself() {
    let mut node = Node::new(2, START);
    node.queue_depth = 1_000;
    let attack = stranger();
    for host in 0..100_000_u32 {
        let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x5000_0000 + host)), 1);
        node.receive(START, source, &attack);
    }
    assert_eq!(node.outbox.len(), 100_000);
    assert!(node.outbox.iter().all(|(_, bytes)| bytes[0] == 3 && bytes.len() == 64));
    assert!(node.refused.iter().all(|refused| *refused == Refused::RateLimited));
    assert_eq!((node.engine.indices_len(), node.engine.next_timeout()), (0, None));
    // There is no peer whose timers could age anything, and still the flood is forgotten.
    (node.queue_depth, node.outbox) = (0, Vec::new());
    node.receive(START + S(2), address(3), &attack);
    assert!(node.outbox.is_empty(), "no cookie after the flood");
    assert_eq!(node.refused.last(), Some(&Refused::NoPeer));
}

#[test]
fn bug13_a_proven_attacker_is_not_heard_for_long() {
    let (mut world, a, _) = World::pair();
    world.nodes[1].queue_depth = 1_000;
    let mut config = crate::node::config(START - S(100));
    config.initiations_per_s_max = 1_000_000;
    let mut stranger = Node::with_config(77, config);
    let (victim, public) = (world.nodes[1].address, world.nodes[1].public);
    for _ in 0..100 {
        let id = stranger.add(START, Node::spec(public), victim);
        stranger.send(START, id, b"let me in");
    }
    for time in [1, 1_000, 1_001].map(Duration::from_millis) {
        stranger.on_timeout(START + time);
        for (_, initiation) in std::mem::take(&mut stranger.outbox) {
            world.nodes[1].receive(START + time, stranger.address, &initiation);
        }
        for (_, answer) in std::mem::take(&mut world.nodes[1].outbox) {
            stranger.receive(START + time, victim, &answer);
        }
    }
    let tried = world.nodes[1].refused.iter().filter(|refused| **refused == Refused::NoPeer).count();
    assert!(tried <= 45, "{tried} curve operations for one proven attacker");
    assert!(tried >= 20, "the attacker did prove its address: {tried}");
    assert_eq!(world.nodes[1].refused.last(), Some(&Refused::TooManyHandshakes));
    world.send(0, a, b"first");
    world.run_for(S(2));
    assert_eq!(world.nodes[1].received.len(), 1, "others prove their address and come in");
}

#[test]
fn bug14_a_cookie_is_for_one_address_and_port() {
    let (mut world, a, _) = World::pair();
    world.nodes[1].queue_depth = 1_000;
    world.send(0, a, b"first");
    world.run_for(Duration::from_millis(30));
    assert_eq!((world.sent(1, 3), world.sent(1, 2)), (1, 0), "loaded");
    let before = world.log.len();
    world.impairment.loss_percent = 100;
    world.run_for(S(1));
    assert_eq!(world.log.len() - before, 1, "one early retry");
    let proven = world.last_sent(0, 1);
    let source = world.nodes[0].address;
    let other_port = SocketAddr::new(source.ip(), source.port() + 1);
    let other_host = SocketAddr::new(address(9).ip(), source.port());
    for elsewhere in [other_port, other_host] {
        world.inject(1, elsewhere, &proven);
        assert_eq!(world.nodes[1].refused.last(), Some(&Refused::RateLimited));
    }
    assert_eq!(world.sent(1, 2), 0);
    world.inject(1, source, &proven);
    assert_eq!(world.sent(1, 2), 1);
}

#[test]
fn bug14_a_cookie_ends_with_its_secret() {
    let (mut world, a, _) = World::pair();
    world.nodes[1].queue_depth = 1_000;
    world.send(0, a, b"first");
    world.run_for(Duration::from_millis(30));
    world.impairment.loss_percent = 100;
    world.run_for(S(1));
    let proven = world.last_sent(0, 1);
    world.run_for(S(120));
    world.inject(1, world.nodes[0].address, &proven);
    assert_eq!(world.sent(1, 2), 0);
}

#[test]
fn bug15_a_cookie_reply_from_anywhere_moves_no_path_and_forged_ones_do_nothing() {
    let (mut world, a, b) = World::pair();
    world.nodes[1].queue_depth = 1_000;
    world.send(0, a, b"first");
    world.run_for(Duration::from_millis(15));
    let reply = world.last_sent(1, 3);
    for at in 4..reply.len() {
        let mut forged = reply.clone();
        forged[at] ^= 1;
        world.inject(0, address(66), &forged);
    }
    assert_eq!(world.nodes[0].refused.len(), 60);
    for _ in 0..3 {
        world.inject(0, address(66), &reply);
    }
    world.run_for(S(1));
    world.exchange(a, b);
    assert!(
        world.log.iter().all(|sent| sent.to != address(66)),
        "something went to where the cookie came from"
    );
}

#[test]
fn bug21_older_initiations_are_refused_and_a_restarted_responder_takes_any() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    let old = world.last_sent(0, 1);
    world.run_for(S(30));
    world.send(0, a, b"unheard");
    world.nodes[1] = Node::new(2, world.now);
    let (key, source) = (world.nodes[0].public, world.nodes[0].address);
    let _ = world.nodes[1].add(world.now, Node::spec(key), source);
    world.run_for(S(20));
    let new = world.last_sent(0, 1);
    assert_ne!(old, new);
    let answered = world.sent(1, 2);
    for replayed in [&old, &new] {
        world.inject(1, source, replayed);
        assert_eq!(world.nodes[1].refused.last(), Some(&Refused::HandshakeReplay));
    }
    assert_eq!(world.sent(1, 2), answered);
    world.nodes[1] = Node::new(2, world.now);
    let _ = world.nodes[1].add(world.now, Node::spec(key), source);
    world.inject(1, source, &old);
    assert_eq!(world.sent(1, 2), answered + 1, "nothing is remembered across a restart");
}

#[test]
fn bug21_a_node_with_a_wrong_clock_is_not_locked_out() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    world.run_for(S(20));
    let used = world.nodes[0].engine.clock();
    // The node restarts and its time of day is in 1970; what counts is the stamp it has kept.
    let mut config = crate::node::config(world.now);
    config.clock_floor = used.max(Tai64n::from_unix(Duration::ZERO));
    let (key, address) = (world.nodes[1].public, world.nodes[1].address);
    world.nodes[0] = Node::with_config(1, config);
    let a = world.nodes[0].add(world.now, Node::spec(key), address);
    world.send(0, a, b"back again");
    world.run_for(S(1));
    assert!(world.nodes[1].received.iter().any(|(_, packet)| packet == b"back again"));
}

#[test]
fn an_attacker_at_the_address_of_a_peer_does_not_lock_it_out() {
    let (mut world, a, _) = World::pair();
    let (victim, public) = (world.nodes[1].address, world.nodes[1].public);
    let mut config = crate::node::config(START - S(100));
    config.initiations_per_s_max = 1_000_000;
    let mut stranger = Node::with_config(77, config);
    // Behind the same translator: one address, another port.
    let shared = SocketAddr::new(world.nodes[0].address.ip(), 1_234);
    for _ in 0..300 {
        let id = stranger.add(START, Node::spec(public), victim);
        stranger.send(START, id, b"let me in");
    }
    for _ in 0..2 {
        stranger.on_timeout(START + MS(1));
    }
    for (_, initiation) in std::mem::take(&mut stranger.outbox) {
        world.nodes[1].receive(START, shared, &initiation);
    }
    for (_, cookie) in std::mem::take(&mut world.nodes[1].outbox) {
        stranger.receive(START + MS(1), victim, &cookie);
    }
    world.run_for(MS(500));
    for step in 1..=6 {
        stranger.on_timeout(world.now + MS(step));
    }
    let mut proven = std::mem::take(&mut stranger.outbox);
    assert!(proven.len() >= 250, "{}", proven.len());
    world.send(0, a, b"first");
    for round in 0..180 {
        let count = if round == 0 { 60 } else { 1 };
        for (_, initiation) in proven.drain(..count) {
            world.nodes[1].receive(world.now, shared, &initiation);
        }
        world.nodes[1].outbox.clear();
        world.run_for(MS(2));
    }
    world.run_for(MS(50));
    assert_eq!(world.nodes[1].received.len(), 1, "{:?}", world.nodes[1].refused.last());
    assert_eq!(world.sent(1, 3), 1, "it had to prove its address");
}
