//! Places where a peer may be, found while a node looks for it.

use std::time::Duration;

use meshd_tunnel::{Refused, TunnelId};

use crate::node::{Node, config};
use crate::world::{Impairment, START, World};

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

/// Tells the first node of a place.
fn find_place(world: &mut World, tunnel: TunnelId) {
    let now = world.now;
    world.nodes[0].engine.path_found(now, tunnel);
    world.nodes[0].act(now);
    world.collect();
}

#[test]
fn a_response_on_its_way_counts_though_a_place_is_found_meanwhile() {
    let (mut world, a, b) = World::pair();
    world.impairment = Impairment::delay(MS(50));
    world.send(0, a, b"first");
    world.run_for(MS(75));
    find_place(&mut world, a);
    assert_eq!((world.sent(0, 1), world.begun_at(0).len()), (2, 1), "the same bytes went to the new place");
    world.run_for(MS(80));
    assert_eq!(world.nodes[1].received.len(), 1, "{:?}", world.nodes[0].refused);
    world.run_for(S(1));
    assert_eq!(world.begun_at(0).len(), 1);
    assert_eq!(world.nodes[1].refused, [Refused::HandshakeReplay], "the copy");
    world.exchange(a, b);
}

#[test]
fn places_that_come_and_go_bring_few_initiations() {
    let (mut world, a, _) = World::pair();
    world.impairment.loss_percent = 100;
    for _ in 0..2_000 {
        find_place(&mut world, a);
        world.run_for(MS(10));
    }
    let begun = world.begun_at(0);
    assert!(begun.windows(2).all(|pair| pair[1] - pair[0] >= S(5)), "{begun:?}");
    // Four initiations, two copies at once, and one a second.
    let sent = world.sent(0, 1);
    assert!((10..=28).contains(&sent), "{sent} datagrams in 20 s");
}

#[test]
fn a_place_found_long_after_the_last_initiation_is_tried_at_once() {
    let (mut world, a, _) = World::pair();
    world.impairment.loss_percent = 100;
    world.send(0, a, b"first");
    world.run_until("many initiations", S(60), |world| world.begun_at(0).len() == 8);
    world.run_for(S(2));
    world.impairment = Impairment::NONE;
    find_place(&mut world, a);
    world.run_for(MS(100));
    assert_eq!((world.nodes[1].received.len(), world.begun_at(0).len()), (1, 8));
}

#[test]
fn a_place_found_at_the_end_of_an_attempt_is_not_given_up_with_the_others() {
    let (mut world, a, _) = World::pair();
    world.impairment.loss_percent = 100;
    world.send(0, a, b"first");
    world.run_for(MS(89_900));
    find_place(&mut world, a);
    world.run_for(S(4));
    world.impairment = Impairment::NONE;
    world.run_for(MS(5_700));
    assert_eq!((world.established(0), world.established(1)), (1, 1), "{:?}", world.nodes[0].events);
}

#[test]
fn places_of_a_peer_that_waits_for_its_turn_do_not_move_the_turn() {
    let long_ago = START - S(100);
    let mut slow = config(long_ago);
    slow.initiations_per_s_max = 1;
    let nodes = vec![Node::with_config(1, slow), Node::new(2, long_ago), Node::new(3, long_ago)];
    let mut world = World::new(nodes);
    let (first, _) = world.join(0, 1, |spec| spec);
    let (second, _) = world.join(0, 2, |spec| spec);
    world.send(0, first, b"first");
    world.send(0, second, b"second");
    for _ in 0..10 {
        find_place(&mut world, second);
    }
    world.run_for(MS(1_100));
    assert_eq!((world.nodes[1].received.len(), world.nodes[2].received.len()), (1, 1));
}
