//! Tunnels of which one end only answers.

use std::time::Duration;

use meshd_tunnel::TunnelId;

use crate::world::World;

const S: fn(u64) -> Duration = Duration::from_secs;

/// Says whether the first node calls.
fn set_calling(world: &mut World, tunnel: TunnelId, is_calling: bool) {
    let now = world.now;
    world.nodes[0].engine.set_calling(now, tunnel, is_calling);
    world.nodes[0].act(now);
    world.collect();
}

#[test]
fn an_end_that_does_not_call_starts_no_handshake_and_keeps_nothing_alive() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    set_calling(&mut world, a, false);
    let (begun, sent) = (world.begun_at(0).len(), world.sent(0, 4));
    world.nodes[1].engine.retire(b);
    // What it has is sent as ever; that nothing comes back makes it call nobody.
    world.send(0, a, b"alone");
    world.run_for(S(600));
    assert_eq!(world.begun_at(0).len(), begun);
    assert_eq!(world.sent(0, 4), sent + 1, "the packet, and no keepalive");
    let now = world.now;
    world.nodes[0].engine.want_session(now, a);
    world.nodes[0].engine.path_found(now, a);
    world.nodes[0].engine.keepalive(now, a);
    world.run_for(S(100));
    assert_eq!(world.begun_at(0).len(), begun);
}

#[test]
fn an_end_that_does_not_call_answers() {
    let (mut world, a, b) = World::pair();
    set_calling(&mut world, a, false);
    world.send(1, b, b"hello");
    world.run_for(S(1));
    assert_eq!(world.nodes[0].received.len(), 1);
    world.exchange(a, b);
    set_calling(&mut world, a, true);
    world.run_for(S(600));
    world.send(0, a, b"first again");
    world.run_for(S(1));
    assert_eq!(world.nodes[1].received.len(), 2, "it calls again when it is told to");
}

#[test]
fn an_attempt_ends_when_an_end_stops_to_call() {
    let (mut world, a, _) = World::pair();
    world.impairment.loss_percent = 100;
    world.send(0, a, b"first");
    world.run_for(S(12));
    let begun = world.begun_at(0).len();
    assert!(begun > 1, "it tries again and again");
    set_calling(&mut world, a, false);
    world.run_for(S(200));
    assert_eq!(world.begun_at(0).len(), begun);
    assert!(world.nodes[0].events.is_empty(), "nobody gave up: {:?}", world.nodes[0].events);
    let status = world.nodes[0].engine.status(a).expect("a tunnel");
    assert_eq!(status.attempts_since, None);
}
