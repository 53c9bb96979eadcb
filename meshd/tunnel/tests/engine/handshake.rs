//! Handshakes on a good network.

use std::time::Duration;

use meshd_tunnel::{Refused, Suite, TunnelEvent};

use crate::node::Node;
use crate::world::{Impairment, START, World, kinds};

const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn a_packet_starts_a_handshake_and_arrives_after_it_in_every_suite_with_and_without_psk() {
    for (suite, psk) in kinds() {
        let (mut world, a, _) = World::pair_with(|mut spec| {
            (spec.suite, spec.psk) = (suite, psk.clone());
            spec
        });
        world.send(0, a, b"first");
        world.run_for(S(1));
        assert_eq!(world.nodes[1].received.len(), 1, "{suite:?}");
        assert_eq!(world.nodes[1].received[0].1, b"first");
        assert_eq!((world.sent(0, 1), world.sent(1, 2)), (1, 1));
        assert_eq!((world.established(0), world.established(1)), (1, 1));
    }
}

#[test]
fn the_responder_sends_nothing_before_it_has_heard_the_initiator() {
    let (mut world, a, b) = World::pair();
    world.send(0, a, b"first");
    world.run_for(Duration::from_millis(15));
    world.send(1, b, b"early");
    assert_eq!((world.sent(1, 2), world.sent(1, 4)), (1, 0));
    world.run_for(S(1));
    assert_eq!(world.nodes[0].received.len(), 1);
    assert_eq!(world.sent(1, 1), 0, "the session under way is waited for");
}

#[test]
fn both_ends_may_start_at_once_and_everything_arrives() {
    let (mut world, a, b) = World::pair();
    world.send(0, a, b"left");
    world.send(1, b, b"right");
    world.run_for(S(1));
    for _ in 0..10 {
        world.exchange(a, b);
    }
    assert_eq!((world.nodes[0].received.len(), world.nodes[1].received.len()), (11, 11));
    assert!(world.nodes[0].rx.len() <= 2 && world.nodes[1].rx.len() <= 2);
}

#[test]
fn tunnels_of_different_suites_or_psks_never_share_a_session() {
    let suites = |left, right| (Suite::ALL[left], Suite::ALL[right]);
    for (left, right) in [suites(0, 1), suites(1, 0)] {
        let mut world = World::new(vec![Node::new(1, START - S(100)), Node::new(2, START - S(100))]);
        let (to, from) = (world.nodes[1].public, world.nodes[0].public);
        let (at, back) = (world.nodes[1].address, world.nodes[0].address);
        let mut spec = Node::spec(to);
        spec.suite = left;
        let a = world.nodes[0].add(START, spec, at);
        let mut spec = Node::spec(from);
        spec.suite = right;
        world.nodes[1].add(START, spec, back);
        world.send(0, a, b"lost");
        world.run_for(S(1));
        assert_eq!(world.nodes[1].refused, [Refused::SuiteMismatch]);
        assert!(world.nodes[1].rx.is_empty());
    }
}

#[test]
fn retiring_a_tunnel_leaves_nothing_behind() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    world.nodes[0].retire(START, a);
    let node = &world.nodes[0];
    assert!(node.rx.is_empty() && node.tx.is_empty());
    assert_eq!((node.engine.indices_len(), node.engine.next_timeout()), (0, None));
    world.run_for(S(1000));
    assert_eq!(world.nodes[1].engine.indices_len(), 0, "the other end wipes its keys");
}

#[test]
fn keys_that_nobody_renews_are_wiped_after_nine_minutes() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    world.run_for(S(600));
    for node in &world.nodes {
        assert!(node.rx.is_empty() && node.tx.is_empty());
        let last = node.events.last().expect("an event");
        assert!(matches!(last.1, TunnelEvent::Expired { .. }));
        assert!(last.0 - START >= S(540) && last.0 - START < S(541));
    }
}

#[test]
fn persistent_keepalives_go_on_without_traffic() {
    let (mut world, a, _) = World::pair_with(|mut spec| {
        spec.keepalive = Some(S(25));
        spec
    });
    world.run_for(S(100));
    assert_eq!(world.log.len(), 0, "nobody has called");
    world.send(0, a, b"first");
    world.run_for(S(100));
    assert!(world.established(0) >= 1 && world.established(1) >= 1);
    let kept = world.sent(0, 4).max(world.sent(1, 4));
    assert!((3..=6).contains(&kept), "{kept} keepalives in 100 s");
}

#[test]
fn a_place_just_learned_is_tried_at_once() {
    let (mut world, a, _) = World::pair();
    world.impairment.loss_percent = 100;
    world.send(0, a, b"first");
    world.run_for(S(1));
    world.impairment = Impairment::NONE;
    let now = world.now;
    world.nodes[0].engine.path_found(now, a);
    world.nodes[0].act(now);
    world.collect();
    world.run_for(S(1));
    assert!(world.established(0) >= 1 && world.established(1) >= 1);
}

#[test]
fn the_clock_to_persist_is_that_of_the_last_initiation() {
    let (mut world, a, b) = World::pair();
    let before = world.nodes[0].engine.clock();
    world.exchange(a, b);
    assert!(world.nodes[0].engine.clock() > before);
}

/// Sends packets both ways every five milliseconds, and expects all of them to arrive.
fn stream_both_ways(
    world: &mut World,
    (a, b): (meshd_tunnel::TunnelId, meshd_tunnel::TunnelId),
    time: Duration,
) {
    world.run_for(Duration::from_millis(50));
    let (start, before) = (world.now, [0, 1].map(|node| world.nodes[node].received.len()));
    let mut sent = 0;
    while world.now < start + time {
        world.send(0, a, b"left");
        world.send(1, b, b"right");
        sent += 1;
        world.run_for(Duration::from_millis(5));
    }
    world.run_for(S(1));
    for (node, before) in before.into_iter().enumerate() {
        let got = world.nodes[node].received.len() - before;
        assert_eq!(got, sent, "to {node}: {:?}", world.nodes[node].refused);
    }
}

#[test]
fn nothing_is_lost_when_sessions_that_both_ends_began_are_renewed() {
    // Either both ends renew at once, or one of them a little before the other.
    for apart in [0, 50, 2_000] {
        let (mut world, a, b) = World::pair();
        world.impairment = Impairment::delay(Duration::from_millis(40));
        world.send(0, a, b"left");
        world.send(1, b, b"right");
        world.run_for(Duration::from_millis(200));
        assert_eq!((world.sent(0, 1), world.sent(1, 1)), (1, 1), "both began");
        world.run_for(S(119));
        world.send(0, a, b"left");
        world.run_for(S(1));
        for _ in 0..apart / 10 {
            world.send(0, a, b"left");
            world.run_for(Duration::from_millis(10));
        }
        stream_both_ways(&mut world, (a, b), S(260));
    }
}
