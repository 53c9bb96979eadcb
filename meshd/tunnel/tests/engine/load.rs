//! What a node does while many want something of it, and what others do to reach it then.

use std::time::Duration;

use meshd_tunnel::{Precedence, Refused, Suite, TunnelEvent, Via};

use crate::node::{Node, address, config};
use crate::world::{Impairment, START, World};

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

/// Lets a network that loses everything pass what is sent from now on.
fn mend(world: &mut World) {
    world.impairment = Impairment::NONE;
}

#[test]
fn a_first_contact_whose_initiation_is_lost_takes_a_second_more() {
    let (mut world, a, _) = World::pair();
    world.impairment.loss_percent = 100;
    world.send(0, a, b"first");
    world.run_for(MS(500));
    mend(&mut world);
    world.run_for(S(1));
    assert_eq!(world.nodes[1].received.len(), 1);
    assert_eq!((world.sent(0, 1), world.begun_at(0).len(), world.sent(1, 2)), (2, 1, 1), "a copy was sent");
}

#[test]
fn a_first_contact_whose_response_is_lost_takes_a_second_more() {
    let (mut world, a, _) = World::pair();
    world.impairment.delay_min = MS(10);
    world.impairment.delay_max = MS(10);
    world.send(0, a, b"first");
    world.run_until("the response is sent", S(1), |world| world.sent(1, 2) == 1);
    world.in_flight.clear();
    world.run_for(MS(1_500));
    assert_eq!(world.nodes[1].received.len(), 1);
    assert_eq!((world.begun_at(0).len(), world.sent(1, 2)), (1, 2), "the same response came again");
    assert_eq!(world.nodes[1].engine.indices_len(), 1, "and offers the same session");
}

#[test]
fn an_answer_is_sent_again_twice_at_most_and_never_once_its_session_is_in_use() {
    let (mut world, a, b) = World::pair();
    let source = world.nodes[0].address;
    world.send(0, a, b"first");
    let initiation = world.last_sent(0, 1);
    world.in_flight.clear();
    let hear = |world: &mut World, at: Duration| {
        world.now = START + at;
        world.inject(1, source, &initiation);
        world.in_flight.clear();
        world.sent(1, 2)
    };
    assert_eq!(hear(&mut world, MS(1)), 1);
    assert_eq!(hear(&mut world, MS(300)), 1, "copies that took several ways");
    assert_eq!(hear(&mut world, MS(700)), 2);
    assert_eq!(hear(&mut world, MS(900)), 2, "too soon after the second");
    assert_eq!(hear(&mut world, MS(1_300)), 3);
    assert_eq!(hear(&mut world, MS(9_000)), 3, "whoever replays it gets no more");

    world.exchange(a, b);
    let (initiation, sent) = (world.last_sent(0, 1), world.sent(1, 2));
    world.now += S(2);
    world.inject(1, source, &initiation);
    assert_eq!(world.sent(1, 2), sent, "its session is in use");
}

#[test]
fn a_renewal_is_in_no_hurry() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    world.run_for(S(121));
    world.impairment.loss_percent = 100;
    let before = world.sent(0, 1);
    world.send(0, a, b"data");
    world.run_for(MS(4_900));
    assert_eq!(world.sent(0, 1) - before, 1, "there is a session: nobody waits");
}

#[test]
fn copies_never_take_the_turn_of_an_initiation() {
    const PEERS: u32 = 1_000;
    let mut config = config(START - S(100));
    config.initiations_per_s_max = 250;
    let mut node = Node::with_config(1, config);
    let tunnels: Vec<_> = (0..PEERS)
        .map(|peer| {
            let mut key = [0x55; 32];
            key[..4].copy_from_slice(&peer.to_le_bytes());
            node.add(START, Node::spec(key), address(peer))
        })
        .collect();
    for tunnel in tunnels {
        node.engine.want_session(START, tunnel);
    }
    let mut called = std::collections::BTreeSet::new();
    while let Some(next) = node.engine.next_timeout().filter(|next| *next <= START + S(4)) {
        node.on_timeout(next);
        called.extend(node.outbox.drain(..).map(|(to, _)| to));
    }
    assert_eq!(called.len(), PEERS as usize, "all were called in the four seconds that they need");
}

#[test]
fn a_flooded_node_is_reached_though_each_message_is_lost_once() {
    let (mut world, a, _) = World::pair();
    world.nodes[1].queue_depth = 1_000;
    world.impairment.loss_percent = 100;
    world.send(0, a, b"first");
    world.run_for(MS(500));
    mend(&mut world);
    let cookie = world.run_until("a cookie", MS(1_400), |world| world.sent(1, 3) == 1);
    world.impairment.loss_percent = 100;
    // Neither the cookie nor what the second copy brings is lost; the initiation after it is.
    world.run_for(MS(500));
    mend(&mut world);
    world.run_until("the packet", S(5) - MS(1_000) - cookie, |world| world.nodes[1].received.len() == 1);
}

#[test]
fn cookies_that_prove_nothing_bring_few_initiations() {
    let (mut world, a, _) = World::pair();
    let (source, victim) = (world.nodes[0].address, world.nodes[1].address);
    world.impairment.loss_percent = 100;
    world.nodes[1].queue_depth = 1_000;
    world.send(0, a, b"first");
    let (mut heard, mut host) = (0, 66);
    let end = world.now + MS(4_900);
    while world.now < end {
        let initiations: Vec<_> = world.log.iter().filter(|sent| sent.from == source).cloned().collect();
        for initiation in &initiations[heard..] {
            // Somebody on the way makes sure that each cookie is for another address.
            host += 1;
            world.nodes[1].receive(world.now, address(host), &initiation.bytes);
            for (_, cookie) in std::mem::take(&mut world.nodes[1].outbox) {
                world.inject(0, victim, &cookie);
            }
        }
        heard = initiations.len();
        world.run_for(MS(10));
    }
    assert_eq!(world.begun_at(0).len(), 4, "the first, and one for each of three cookies");
}

#[test]
fn whoever_is_no_stranger_goes_first() {
    let (mut world, a, _) = World::pair();
    let (ours, theirs) = (world.nodes[0].address, world.nodes[1].address);
    let rank = |world: &mut World, node: usize, source, message: &[u8]| {
        let now = world.now;
        world.nodes[node].engine.precedence(now, Via { path: 0, source }, message)
    };
    world.nodes[1].queue_depth = 1_000;
    world.impairment = Impairment::delay(MS(20));
    world.send(0, a, b"first");
    let unproven = world.last_sent(0, 1);
    assert_eq!(rank(&mut world, 1, ours, &unproven), Precedence::Last);
    world.run_for(MS(25));
    let cookie = world.last_sent(1, 3);
    assert_eq!(rank(&mut world, 0, theirs, &cookie), Precedence::Awaited);
    world.run_until("a proven initiation", S(1), |world| world.begun_at(0).len() == 2);
    let proven = world.last_sent(0, 1);
    assert_eq!(rank(&mut world, 1, ours, &proven), Precedence::Proven);
    assert_eq!(rank(&mut world, 1, address(66), &proven), Precedence::Last, "it is another's");
    world.run_until("a response", S(1), |world| world.sent(1, 2) == 1);
    let response = world.last_sent(1, 2);
    assert_eq!(rank(&mut world, 0, theirs, &response), Precedence::Awaited);
    world.run_for(S(1));
    assert_eq!(rank(&mut world, 0, theirs, &response), Precedence::Last, "nobody waits for it any more");
    for garbage in [&[][..], &[1], &[1; 148], &[3; 64]] {
        assert_eq!(rank(&mut world, 0, theirs, garbage), Precedence::Last);
    }
}

#[test]
fn under_load_a_second_answer_to_an_initiation_must_be_proven() {
    let (mut world, a, b) = World::pair();
    world.nodes[0].queue_depth = 1_000;
    world.impairment = Impairment::delay(MS(50));
    world.send(0, a, b"first");
    world.run_for(MS(60));
    let (theirs, truth) = (world.nodes[1].address, world.last_sent(1, 2));
    // Somebody on the way was quicker, and its answer costs a look.
    let mut forged = truth.clone();
    forged[20] ^= 1;
    crate::node::with_mac1(world.nodes[0].public, &mut forged);
    for _ in 0..100 {
        world.inject(0, theirs, &forged);
    }
    let looks = world.nodes[0].refused.iter().filter(|refused| **refused == Refused::BadHandshake).count();
    assert_eq!((looks, world.sent(0, 3)), (1, 99), "one look, then cookies");
    world.inject(0, theirs, &truth);
    assert_eq!(world.nodes[0].refused.last(), Some(&Refused::RateLimited));
    assert!(world.nodes[0].tx.is_empty());

    // The peer has its cookie now: whatever is forged, its next answer counts.
    world.run_until("the next initiation", S(6), |world| world.begun_at(0).len() == 2);
    world.run_for(MS(60));
    let truth = world.last_sent(1, 2);
    let mut forged = truth.clone();
    forged[20] ^= 1;
    crate::node::with_mac1(world.nodes[0].public, &mut forged);
    world.inject(0, theirs, &forged);
    world.inject(0, theirs, &truth);
    assert!(!world.nodes[0].tx.is_empty(), "{:?}", world.nodes[0].refused.last());
    world.exchange(a, b);
}

#[test]
fn a_copy_is_heard_by_a_node_that_has_learnt_of_its_sender_meanwhile() {
    for knows_another_suite in [false, true] {
        let mut world = World::new(vec![Node::new(1, START - S(100)), Node::new(2, START - S(100))]);
        let ends = [0, 1].map(|node| (world.nodes[node].public, world.nodes[node].address));
        let a = world.nodes[0].add(START, Node::spec(ends[1].0), ends[1].1);
        if knows_another_suite {
            let mut spec = Node::spec(ends[0].0);
            spec.suite = Suite::Aes;
            world.nodes[1].add(START, spec, ends[0].1);
        }
        world.send(0, a, b"first");
        world.run_for(MS(500));
        let refused = if knows_another_suite { Refused::SuiteMismatch } else { Refused::NoPeer };
        assert_eq!(world.nodes[1].refused, [refused]);
        world.nodes[1].add(world.now, Node::spec(ends[0].0), ends[0].1);
        world.run_for(S(1));
        assert_eq!(world.nodes[1].received.len(), 1);
        assert!(matches!(world.nodes[1].events[..], [(_, TunnelEvent::Established { .. })]));
    }
}
