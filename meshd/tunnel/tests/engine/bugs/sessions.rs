//! How sessions come, live and go.

use std::time::Duration;

use meshd_tunnel::{Psk, Suite, TunnelEvent, Unusable};

use crate::node::{Node, with_mac1};
use crate::world::{Impairment, START, World};

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn bug01_forged_responses_leave_the_handshake_intact() {
    let (mut world, a, b) = World::pair();
    world.send(0, a, b"first");
    let initiation = world.last_sent(0, 1);
    // From another peer's answer to the same bytes: a response that is well-formed and wrong.
    let source = world.nodes[0].address;
    world.nodes[1].receive(START, source, &initiation);
    let true_response = world.nodes[1].outbox.pop().expect("a response").1;
    for at in 12..60 {
        let mut forged = true_response.clone();
        forged[at] ^= 1;
        with_mac1(world.nodes[0].public, &mut forged);
        world.inject(0, world.nodes[1].address, &forged);
    }
    assert_eq!(world.nodes[0].refused.len(), 48);
    assert!(world.nodes[0].tx.is_empty());
    world.inject(0, world.nodes[1].address, &true_response);
    assert!(!world.nodes[0].tx.is_empty(), "the true response came after the forged ones");
    world.exchange(a, b);
}

#[test]
fn bug02_any_number_of_initiations_holds_the_same_few_indices() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    let source = world.nodes[0].address;
    let mut initiator = Node::new(1, START);
    for round in 0..5_000_u32 {
        let now = START + S(10) + MS(21) * round;
        let to = initiator.add(now, Node::spec(world.nodes[1].public), world.nodes[1].address);
        initiator.engine.want_session(now, to);
        initiator.on_timeout(now + S(2));
        let initiation = initiator.outbox.pop().expect("an initiation").1;
        initiator.retire(now, to);
        world.now = now;
        world.nodes[1].receive(now, source, &initiation);
        assert!(world.nodes[1].engine.indices_len() <= 3, "after {round} initiations");
    }
    assert!(world.nodes[1].outbox.len() > 4_900, "most were answered: {:?}", world.nodes[1].refused);
    assert_eq!(initiator.engine.indices_len(), 0);
}

#[test]
fn bug03_attempts_end_after_ninety_seconds_and_new_traffic_restarts_them() {
    let (mut world, a, _) = World::pair();
    world.impairment.loss_percent = 100;
    world.send(0, a, b"lost");
    world.run_for(S(600));
    let sent = world.begun_at(0);
    assert!((17..=19).contains(&sent.len()), "{} initiations", sent.len());
    assert_eq!(world.sent(0, 1), sent.len() + 2, "two copies in a whole attempt");
    assert!(sent.iter().all(|at| *at <= START + S(90)));
    assert!(matches!(world.nodes[0].events[..], [(at, TunnelEvent::GaveUp { .. })] if at == START + S(90)));
    assert!(world.nodes[0].engine.status(a).expect("a tunnel").given_up);
    world.impairment = Impairment::NONE;
    world.send(0, a, b"found");
    world.run_for(S(1));
    assert!(world.nodes[1].received.iter().any(|(_, packet)| packet == b"found"));
    assert!(!world.nodes[0].engine.status(a).expect("a tunnel").given_up);
}

#[test]
fn bug03_a_dead_peer_of_an_old_session_is_given_up_too() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    world.impairment.loss_percent = 100;
    world.send(0, a, b"lost");
    world.run_for(S(15 + 90 + 1));
    let until = world.sent(0, 1);
    world.run_for(S(400));
    assert_eq!(world.sent(0, 1), until);
}

#[test]
fn bug04_only_the_initiator_renews_a_session_in_use() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    for _ in 0..179 {
        world.send(0, a, b"data");
        world.send(1, b, b"data");
        world.run_for(S(1));
    }
    let renewals = &world.sent_at(0, 1)[1..];
    assert_eq!(renewals.len(), 1);
    assert!(renewals[0] - START >= S(119) && renewals[0] - START <= S(122), "{:?}", renewals[0] - START);
    assert_eq!(world.sent(1, 1), 0, "the responder leaves it to the initiator");
}

#[test]
fn bug04_an_initiator_that_only_receives_renews_before_the_end() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    // A keepalive of the initiator would renew it at 120 s. Here both ends believe that one was just sent.
    for _ in 0..3_500 {
        world.send(1, b, b"data");
        world.nodes[0].tx[&a].activity().note_sent(world.now, false);
        world.nodes[1].tx[&b].activity().note_received(world.now, false);
        world.run_for(MS(50));
    }
    let renewals = &world.sent_at(0, 1)[1..];
    assert_eq!(renewals.len(), 1);
    assert!(renewals[0] - START >= S(165) && renewals[0] - START <= S(167), "{:?}", renewals[0] - START);
    assert_eq!(world.sent(1, 1), 0);
    assert_eq!(world.nodes[0].received.len(), 3_501, "nothing was lost on the way");
}

#[test]
fn bug05_silence_after_sending_starts_a_handshake() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    world.run_for(S(30));
    world.impairment.loss_percent = 100;
    let silent_since = world.now;
    world.send(0, a, b"unheard");
    world.run_for(S(20));
    let renewal = world.sent_at(0, 1)[1];
    let after = renewal - silent_since;
    assert!(after >= S(15) && after <= S(15) + MS(334), "after {after:?}");
}

#[test]
fn bug06_a_restarted_peer_is_reached_again_whoever_sends_first() {
    for survivor_sends in [true, false] {
        let (mut world, a, b) = World::pair();
        world.exchange(a, b);
        world.run_for(S(20));
        // The same node with the same key and nothing else left, its clock above what it used before.
        world.nodes[1] = Node::new(2, world.now);
        let (key, address) = (world.nodes[0].public, world.nodes[0].address);
        let b = world.nodes[1].add(world.now, Node::spec(key), address);
        let (from, to, limit) = if survivor_sends { (0, 1, S(17)) } else { (1, 0, S(1)) };
        let start = world.now;
        loop {
            assert!(world.now - start <= limit, "still nothing, survivor sends: {survivor_sends}");
            world.send(from, if survivor_sends { a } else { b }, b"again");
            world.run_for(MS(100));
            if world.nodes[to].received.iter().any(|(_, packet)| packet == b"again") {
                break;
            }
        }
    }
}

#[test]
fn bug07_the_window_holds_16k_packets_and_forgeries_do_not_move_it() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    let first = world.nodes[0].outbox.len();
    for number in 0..16_000_u32 {
        world.nodes[0].send(world.now, a, &number.to_le_bytes());
    }
    let mut train: Vec<Vec<u8>> = world.nodes[0].outbox.drain(first..).map(|(_, bytes)| bytes).collect();
    let mut forged = train[0].clone();
    forged[8..16].copy_from_slice(&(u64::from(u32::MAX)).to_le_bytes());
    world.inject(1, world.nodes[0].address, &forged);
    train.reverse();
    let (before, source) = (world.nodes[1].received.len(), world.nodes[0].address);
    for packet in train.iter().chain(&train) {
        world.nodes[1].receive(world.now, source, packet);
    }
    assert_eq!(world.nodes[1].received.len() - before, 16_000, "each packet once");
}

#[test]
fn bug08_a_key_is_replaced_at_its_first_limit_and_refuses_at_the_second() {
    let (mut world, a, b) = World::pair_with(|mut spec| {
        spec.suite = Suite::Aes;
        spec
    });
    world.exchange(a, b);
    world.run_for(S(10));
    // The responder's side: its own traffic alone wears out the key, so it must act though it did not initiate.
    let worn = world.nodes[1].tx[&b].clone();
    let _used = worn.reserve(world.now, 1 << 25).expect("within the limit");
    world.send(1, b, b"one more");
    world.run_for(S(1));
    assert_eq!(world.sent(1, 1), 1, "a new session is asked for");
    assert_eq!(world.nodes[0].received.len(), 2);
    assert_eq!(worn.reserve(world.now, 1 << 25).map(|_| ()), Err(Unusable::Exhausted));
    world.exchange(a, b);
}

#[test]
fn bug09_counters_go_past_32_bits() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    let tx = world.nodes[0].tx[&a].clone();
    let _used = [(); 2].map(|()| tx.reserve(world.now, u32::MAX).expect("far from any limit").remaining());
    world.exchange(a, b);
    let counter: [u8; 8] = world.last_sent(0, 4)[8..16].try_into().expect("a counter");
    assert!(u64::from_le_bytes(counter) > u64::from(u32::MAX));
}

#[test]
fn bug10_a_handshake_completes_over_two_seconds_of_round_trip() {
    let (mut world, a, _) = World::pair();
    world.impairment = Impairment::delay(S(1));
    world.send(0, a, b"slow");
    world.run_for(S(4));
    assert_eq!(world.nodes[1].received.len(), 1);
    assert_eq!(world.begun_at(0).len(), 1, "no second initiation was needed");
}

#[test]
fn bug12_idle_peers_are_silent() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    world.run_for(S(12));
    let sent = world.log.len();
    let keepalives = world.sent(0, 4) + world.sent(1, 4);
    assert!(keepalives <= 5, "two packets, the confirmation, and a keepalive each at most: {keepalives}");
    world.run_for(S(600));
    assert_eq!(world.log.len(), sent, "{:?}", world.log.last());
}

#[test]
fn bug17_another_psk_is_another_tunnel_and_the_old_one_fails_once_retired() {
    // Whoever began the old session renews it while one end knows the new key and the other does not.
    for initiator in [0, 1] {
        change_psk(initiator);
    }
}

fn change_psk(initiator: usize) {
    let (mut world, old_a, old_b) = World::pair_with(|mut spec| {
        spec.psk = Some(Psk::new([1; 32]));
        spec
    });
    world.send(initiator, [old_a, old_b][initiator], b"start");
    world.run_for(S(1));
    world.exchange(old_a, old_b);
    let change = |world: &mut World, node: usize| {
        let mut spec = Node::spec(world.nodes[1 - node].public);
        spec.psk = Some(Psk::new([2; 32]));
        let (now, address) = (world.now, world.nodes[1 - node].address);
        world.nodes[node].add(now, spec, address)
    };
    let new_a = change(&mut world, 0);
    world.send(0, new_a, b"early");
    for _ in 0..200 {
        let before = world.nodes[0].received.len() + world.nodes[1].received.len();
        world.send(0, old_a, b"old");
        world.send(1, old_b, b"old");
        world.run_for(S(1));
        let arrived = world.nodes[0].received.len() + world.nodes[1].received.len() - before;
        assert_eq!(arrived, 2, "at {:?}, begun by {initiator}", world.now);
    }
    if initiator == 1 {
        assert!(world.sent(1, 1) <= 3, "the renewal of the old session was answered at once");
    }
    let new_b = change(&mut world, 1);
    world.send(0, new_a, b"start");
    world.run_for(S(6));
    world.exchange(new_a, new_b);
    world.exchange(old_a, old_b);
    world.nodes[1].retire(world.now, old_b);
    let refused = world.nodes[1].refused.len();
    world.send(0, old_a, b"too late");
    world.run_for(S(30));
    assert!(!world.nodes[1].received.iter().any(|(_, packet)| packet == b"too late"));
    assert!(world.nodes[1].refused.len() > refused);
    world.exchange(new_a, new_b);
}

#[test]
fn bug20_time_asleep_counts() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    world.run_for(S(20));
    // No timeout runs while the machine sleeps.
    world.now += S(200);
    let status = world.nodes[0].engine.status(a).expect("a tunnel");
    assert!(status.has_session, "the engine has not woken up yet");
    let stale = world.nodes[0].tx[&a].clone();
    assert_eq!(stale.reserve(world.now, 1).map(|_| ()), Err(Unusable::Expired));
    assert!(world.nodes[1].rx.values().all(|rx| !rx.is_usable(world.now)));
    world.send(0, a, b"awake");
    assert!(!world.nodes[0].engine.status(a).expect("a tunnel").has_session);
    world.run_for(S(1));
    assert!(world.nodes[1].received.iter().any(|(_, packet)| packet == b"awake"));
    assert_eq!(world.sent(0, 1), 2, "a new handshake");
}

#[test]
fn a_session_that_comes_as_old_keys_are_wiped_is_kept() {
    let (mut world, a, b) = World::pair();
    world.exchange(a, b);
    // The responder has not heard the initiator on the new session when its old one is 540 s old.
    let born = world.nodes[1].engine.status(b).and_then(|status| status.established_at).expect("a session");
    world.run_for(born + S(540) - MS(15) - world.now);
    world.send(0, a, b"just in time");
    world.run_for(S(1));
    assert!(world.nodes[1].received.iter().any(|(_, packet)| packet == b"just in time"));
    assert_eq!(world.sent(0, 1), 2);
}

#[test]
fn a_renewal_of_one_tunnel_leaves_that_of_another_psk_alone() {
    let (mut world, old_a, old_b) = World::pair_with(|mut spec| {
        spec.psk = Some(Psk::new([1; 32]));
        spec
    });
    let (new_a, new_b) = world.join(0, 1, |mut spec| {
        spec.psk = Some(Psk::new([2; 32]));
        spec
    });
    world.impairment = Impairment::delay(MS(100));
    // The second initiation comes while the session of the first waits for its first packet.
    world.send(0, old_a, b"old");
    world.run_for(MS(50));
    world.send(0, new_a, b"new");
    world.run_for(S(4));
    for (tunnel, packet) in [(old_b, b"old"), (new_b, b"new")] {
        assert!(world.nodes[1].received.contains(&(tunnel, packet.to_vec())), "{packet:?}");
    }
}
