//! A hostile network and hostile peers: nothing of theirs is delivered, and each attempt is counted once.

use std::net::Ipv4Addr;
use std::time::Instant;

use meshd_tunnel::Suite;

use crate::rig::{
    Chain, Inbox, Ours, PATIENCE, Pair, Relay, Scripted, Side, Talk, external, in_both_suites, key, overlay4,
    overlay6, peer, public, udp4, udp6, v4, v6, wait_for,
};

/// A mesh that ours knows nothing of.
const OTHER_MESH: u8 = 200;

in_both_suites!(
    repeated_data_is_dropped_wherever_it_comes_from,
    repeated_handshakes_change_nothing,
    data_of_another_mesh_on_the_same_host_opens_nothing_here,
);

fn repeated_data_is_dropped_wherever_it_comes_from(suite: Suite) {
    let Some(chain) = Chain::new() else { return };
    let relay = Relay::start(&chain);
    let (ours, theirs) = planes(&chain, suite);
    let ends = ((&chain.left, overlay4(1)), (&chain.right, overlay4(2)));
    let mut talk = Talk::new(ends.1, ends.0);
    talk.wait("the tunnel to carry traffic");
    let drops = (ours.count(), theirs.count());
    for len in 8..108 {
        assert!(talk.round(len, PATIENCE));
    }
    for (to, drops) in [(Side::Left, &drops.0), (Side::Right, &drops.1)] {
        let data = relay.recorded(to.other(), 4);
        assert!(data.len() >= 100);
        // In order, backwards, and from an address that was never heard of.
        data.iter().for_each(|datagram| relay.inject(to, datagram));
        drops.wait("replay", data.len() as u64);
        data.iter().rev().for_each(|datagram| relay.inject(to, datagram));
        drops.wait("replay", 2 * data.len() as u64);
        data.iter().for_each(|datagram| relay.inject_from_elsewhere(to, datagram));
        drops.wait("replay", 3 * data.len() as u64);
    }
    assert!(talk.heard_nothing());
    assert_eq!(ours.stats(2).endpoint, Some(Relay::seen_from(Side::Left)));
    assert_eq!(theirs.stats(1).endpoint, Some(Relay::seen_from(Side::Right)));
    assert!(talk.round(64, PATIENCE));
}

fn repeated_handshakes_change_nothing(suite: Suite) {
    let Some(chain) = Chain::new() else { return };
    let relay = Relay::start(&chain);
    let (ours, theirs) = planes(&chain, suite);
    let ends = ((&chain.left, overlay4(1)), (&chain.right, overlay4(2)));
    let mut talk = Talk::new(ends.0, ends.1);
    talk.wait("the tunnel to carry traffic");
    wait_for("both ends to be up", || ours.stats(2).up && theirs.stats(1).up);

    let initiations = relay.recorded(Side::Left, 1);
    assert!(!initiations.is_empty());
    let responses = relay.recorded(Side::Right, 2).len();
    let drops = theirs.count();
    for round in 1..=5 {
        initiations.iter().for_each(|initiation| relay.inject_from_elsewhere(Side::Right, initiation));
        drops.wait("handshake-replay", round * initiations.len() as u64);
    }
    assert_eq!(relay.recorded(Side::Right, 2).len(), responses, "a replay was answered");
    assert_eq!(theirs.stats(1).endpoint, Some(Relay::seen_from(Side::Right)));

    let drops = ours.count();
    let responses = relay.recorded(Side::Right, 2);
    responses.iter().for_each(|response| relay.inject_from_elsewhere(Side::Left, response));
    wait_for("the responses to be dropped", || {
        drops.drops().iter().map(|(_, count)| count).sum::<u64>() >= responses.len() as u64
    });
    assert_eq!(ours.stats(2).endpoint, Some(Relay::seen_from(Side::Left)));
    assert!(talk.round(64, PATIENCE));
}

#[test]
fn truncated_messages_are_dropped() {
    let Some((pair, ours, mut second)) = scene() else { return };
    let inbox = Inbox::open(&pair.left, overlay4(1));
    let packet = udp4(v4(overlay4(2)), v4(overlay4(1)), inbox.port(), b"the whole message");
    let sealed = second.seal(&packet);
    for len in 0..sealed.len() {
        let drops = ours.count();
        second.send(&sealed[..len]);
        drops.wait(if len < 32 { "too-short" } else { "bad-tag" }, 1);
    }
    let initiation = second.initiation();
    for len in 32..initiation.len() {
        let drops = ours.count();
        second.send(&initiation[..len]);
        drops.wait("not-tunnel", 1);
    }
    second.send(&sealed);
    assert_eq!(inbox.receive(), b"the whole message");
}

#[test]
fn a_flipped_bit_anywhere_in_data_is_noticed() {
    let Some((pair, ours, mut second)) = scene() else { return };
    let inbox = Inbox::open(&pair.left, overlay4(1));
    let packet = udp4(v4(overlay4(2)), v4(overlay4(1)), inbox.port(), b"untouched");
    // A counter of which every other that differs in one bit is new, too.
    let sealed = (0..129).map(|_| second.seal(&packet)).last().expect("some");
    for at in 0..sealed.len() {
        let drops = ours.count();
        for bit in 0..8 {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << bit;
            second.send(&flipped);
        }
        match at {
            0..4 => drops.wait("not-tunnel", 8),
            4..8 => drops.wait("unknown-index", 8),
            _ => drops.wait("bad-tag", 8),
        }
    }
    second.send(&sealed);
    assert_eq!(inbox.receive(), b"untouched");
}

#[test]
fn a_flipped_bit_anywhere_in_a_handshake_is_noticed() {
    let Some((_pair, ours, mut second)) = scene() else { return };
    let initiation = second.initiation();
    // The last 16 bytes prove an address and are read under load only.
    for at in 0..initiation.len() - 16 {
        let drops = ours.count();
        for bit in 0..8 {
            let mut flipped = initiation.clone();
            flipped[at] ^= 1 << bit;
            second.send(&flipped);
        }
        drops.wait(if at < 4 { "not-tunnel" } else { "bad-handshake" }, 8);
    }
    second.call();
}

#[test]
fn an_inner_source_that_is_not_the_sender_s_is_dropped() {
    let Some((pair, ours, mut second)) = scene() else { return };
    ours.set_peers(&[external(2, &[]), external(3, &[])]);
    let (inbox4, inbox6) = (Inbox::open(&pair.left, overlay4(1)), Inbox::open(&pair.left, overlay6(1)));
    let packet4 = |source: &str| udp4(source.parse().unwrap(), v4(overlay4(1)), inbox4.port(), b"x");
    let packet6 = |source: &str| udp6(source.parse().unwrap(), v6(overlay6(1)), inbox6.port(), b"x");
    let sources4 =
        ["10.91.0.3", "10.91.0.1", "10.91.0.77", "192.168.77.1", "127.0.0.1", "0.0.0.0", "224.0.0.1"];
    let sources6 = ["fd5a:1::3", "fd5a:1::1", "fd5a:1::77", "2001:db8:77::1", "::1", "::", "ff02::1"];
    let drops = ours.count();
    for packet in sources4.map(packet4).into_iter().chain(sources6.map(packet6)) {
        let sealed = second.seal(&packet);
        second.send(&sealed);
    }
    drops.wait("bad-source", 14);
    for packet in [packet4("10.91.0.2"), packet6("fd5a:1::2")] {
        let sealed = second.seal(&packet);
        second.send(&sealed);
    }
    assert_eq!((inbox4.receive(), inbox6.receive()), (b"x".to_vec(), b"x".to_vec()));
}

#[test]
fn an_inner_packet_for_somebody_else_is_dropped() {
    let Some((pair, ours, mut second)) = scene() else { return };
    let inbox = Inbox::open(&pair.left, overlay4(1));
    pair.left.set("/proc/sys/net/ipv4/ip_forward", "1");
    let drops = ours.count();
    for destination in [[10, 91, 0, 3], [10, 91, 0, 2], [192, 168, 77, 1], [127, 0, 0, 1], [224, 0, 0, 1]] {
        let packet = udp4(v4(overlay4(2)), Ipv4Addr::from(destination), inbox.port(), b"not for you");
        let sealed = second.seal(&packet);
        second.send(&sealed);
    }
    drops.wait("bad-destination", 5);
}

#[test]
fn an_inner_packet_that_is_no_packet_is_dropped() {
    let Some((pair, ours, mut second)) = scene() else { return };
    let inbox = Inbox::open(&pair.left, overlay4(1));
    let whole = udp4(v4(overlay4(2)), v4(overlay4(1)), inbox.port(), b"a packet");
    let mut longer_than_it_is = whole.clone();
    longer_than_it_is[2..4].copy_from_slice(&1000u16.to_be_bytes());
    let mut shorter_than_a_header = whole.clone();
    shorter_than_a_header[2..4].copy_from_slice(&19u16.to_be_bytes());
    let mut version_5 = whole.clone();
    version_5[0] = 0x55;
    let mut header_of_16 = whole.clone();
    header_of_16[0] = 0x44;
    let mut header_of_60 = whole.clone();
    header_of_60[0] = 0x4f;
    let all = [
        vec![0x45],
        vec![0; 64],
        vec![0xff; 64],
        whole[..19].to_vec(),
        vec![0x60; 39],
        longer_than_it_is,
        shorter_than_a_header,
        version_5,
        header_of_16,
        header_of_60,
    ];
    for packet in all {
        let drops = ours.count();
        let sealed = second.seal(&packet);
        second.send(&sealed);
        drops.wait("not-ip", 1);
    }
    let sealed = second.seal(&whole);
    second.send(&sealed);
    assert_eq!(inbox.receive(), b"a packet");
}

#[test]
fn messages_for_another_mesh_are_dropped() {
    let Some((pair, ours, _second)) = scene() else { return };
    // The same peer key, but the tunnel it opens is one with a node of another mesh.
    let other = public(&key(OTHER_MESH));
    let mut confused = Scripted::with_keys(&pair.right, 9100, key(2), other, None);
    let drops = ours.count();
    for _ in 0..10 {
        let initiation = confused.initiation();
        confused.send(&initiation);
    }
    drops.wait("bad-handshake", 10);
    assert!(confused.datagram(Instant::now()).is_none(), "a message for another mesh was answered");
}

fn data_of_another_mesh_on_the_same_host_opens_nothing_here(suite: Suite) {
    let Some(chain) = Chain::new() else { return };
    let relay = Relay::start(&chain);
    // Two meshes of the same two hosts. What is recorded in one is sent into the other.
    let (ours, theirs) = planes(&chain, suite);
    let mut talk = Talk::new((&chain.left, overlay4(1)), (&chain.right, overlay4(2)));
    talk.wait("the tunnel to carry traffic");
    for len in 8..28 {
        assert!(talk.round(len, PATIENCE));
    }
    let recorded: Vec<Vec<u8>> =
        [1, 2, 4].into_iter().flat_map(|kind| relay.recorded(Side::Left, kind)).collect();
    let data = relay.recorded(Side::Left, 4).len() as u64;
    drop((ours, theirs));

    let other = crate::rig::start_with_key(&chain.right, 2, key(OTHER_MESH));
    other.set_peers(&[external(1, &[])]);
    let drops = other.count();
    recorded.iter().for_each(|datagram| relay.inject(Side::Right, datagram));
    wait_for("all to be dropped", || {
        drops.drops().iter().map(|(_, count)| count).sum::<u64>() >= recorded.len() as u64
    });
    let dropped = drops.drops();
    assert!(dropped.contains(&("unknown-index", data)), "{dropped:?}");
    assert!(talk.heard_nothing());
}

#[test]
fn a_stranger_who_knows_our_key_gets_no_answer() {
    let Some((pair, ours, _second)) = scene() else { return };
    let mut rogue = Scripted::with_keys(&pair.right, 9100, key(66), public(&key(1)), None);
    let drops = ours.count();
    for _ in 0..10 {
        let initiation = rogue.initiation();
        rogue.send(&initiation);
    }
    drops.wait("no-peer", 10);
    assert!(rogue.datagram(Instant::now()).is_none(), "a stranger was answered");
}

#[test]
fn a_removed_peer_becomes_a_stranger() {
    let Some((pair, ours, mut second)) = scene() else { return };
    let inbox = Inbox::open(&pair.left, overlay4(1));
    ours.set_peers(&[]);
    let drops = ours.count();
    let sealed = second.seal(&udp4(v4(overlay4(2)), v4(overlay4(1)), inbox.port(), b"late"));
    second.send(&sealed);
    drops.wait("unknown-index", 1);
    let drops = ours.count();
    let initiation = second.initiation();
    second.send(&initiation);
    drops.wait("no-peer", 1);
}

#[test]
fn guessed_indices_open_nothing() {
    let Some((_pair, ours, second)) = scene() else { return };
    let drops = ours.count();
    for guess in 0..500u32 {
        let mut datagram = vec![4, 0, 0, 0];
        datagram.extend(guess.wrapping_mul(0x9e37_79b1).to_le_bytes());
        datagram.extend([0; 8 + 64]);
        second.send(&datagram);
    }
    wait_for("all to be dropped", || drops.drops().iter().map(|(_, count)| count).sum::<u64>() >= 500);
    let dropped = drops.drops();
    // One of 500 may be the index of the session by chance: that is a bad tag.
    assert!(dropped.iter().all(|(name, _)| ["unknown-index", "bad-tag"].contains(name)), "{dropped:?}");
}

/// Host 1, and host 2 as a scripted peer with a session.
fn scene() -> Option<(Pair, Ours, Scripted)> {
    let pair = Pair::new()?;
    let ours = Ours::start(&pair.left, 1);
    ours.set_peers(&[external(2, &[])]);
    let mut second = Scripted::new(&pair.right, 2);
    second.call();
    ours.wait_up(2);
    Some((pair, ours, second))
}

/// Host 1, which calls, and host 2, with a relay between them.
fn planes(chain: &Chain, suite: Suite) -> (Ours, Ours) {
    let (ours, theirs) = (Ours::start(&chain.left, 1), Ours::start(&chain.right, 2));
    theirs.set_peers(&[peer(suite, 1, &[])]);
    ours.set_peers(&[peer(suite, 2, &[Relay::seen_from(Side::Left)])]);
    (ours, theirs)
}
