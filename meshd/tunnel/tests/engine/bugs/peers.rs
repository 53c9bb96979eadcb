//! Many peers at once.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::node::{Node, address, config};
use crate::world::START;

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;

/// A node with many tunnels to keys that nobody has.
fn node_with_peers(peers: u32, initiations_per_s_max: u32, started: Duration) -> Node {
    let mut config = config(started);
    config.initiations_per_s_max = initiations_per_s_max;
    let mut node = Node::with_config(1, config);
    for peer in 0..peers {
        let mut key = [0x55; 32];
        key[..4].copy_from_slice(&peer.to_le_bytes());
        node.add(started, Node::spec(key), address(peer));
    }
    node
}

/// Lets time pass, and says when each initiation left, copies included.
fn initiations(node: &mut Node, until: Duration) -> Vec<Duration> {
    sent(node, until).into_iter().map(|(at, _)| at).collect()
}

/// Lets time pass, and says when each initiation left for the first time.
fn first_initiations(node: &mut Node, until: Duration) -> Vec<Duration> {
    let mut known = BTreeSet::new();
    let first = sent(node, until).into_iter().filter(|(_, bytes)| known.insert(bytes.clone()));
    first.map(|(at, _)| at).collect()
}

fn sent(node: &mut Node, until: Duration) -> Vec<(Duration, Vec<u8>)> {
    let mut sent = Vec::new();
    while let Some(next) = node.engine.next_timeout().filter(|next| *next <= until) {
        node.on_timeout(next);
        let initiations = node.outbox.drain(..).filter(|(_, bytes)| bytes[0] == 1);
        sent.extend(initiations.map(|(_, bytes)| (next, bytes)));
    }
    sent
}

fn wake_all(node: &mut Node, now: Duration) {
    let tunnels: Vec<_> = node.endpoints.keys().copied().collect();
    for tunnel in tunnels {
        node.engine.want_session(now, tunnel);
    }
    node.act(now);
}

#[test]
fn bug11_retries_of_many_peers_are_spread_over_the_jitter() {
    let mut node = node_with_peers(1_000, 1_000_000, START - S(100));
    wake_all(&mut node, START);
    let sent = initiations(&mut node, START + S(6));
    let retries: Vec<Duration> = sent.iter().map(|at| *at - START).filter(|after| *after >= S(5)).collect();
    assert_eq!(retries.len(), 1_000);
    assert!(retries.iter().all(|after| *after <= S(5) + MS(333 + 2)), "{:?}", retries.last());
    for tenth in 0..10 {
        let range = S(5) + MS(33 * tenth)..S(5) + MS(33 * (tenth + 1));
        let count = retries.iter().filter(|after| range.contains(after)).count();
        assert!((50..=160).contains(&count), "{count} retries in {range:?}");
    }
}

#[test]
fn bug22_a_start_spreads_its_initiations_over_two_seconds() {
    let mut node = node_with_peers(10_000, 1_000_000, START);
    wake_all(&mut node, START);
    let sent = first_initiations(&mut node, START + S(4));
    assert_eq!(sent.len(), 10_000);
    for tenth in 0..10 {
        let range = START + MS(200 * tenth)..START + MS(200 * (tenth + 1));
        let count = sent.iter().filter(|at| range.contains(at)).count();
        assert!((850..=1_150).contains(&count), "{count} initiations in {range:?}");
    }
}

#[test]
fn bug22_the_cap_on_initiations_holds_in_every_second() {
    let mut node = node_with_peers(5_000, 1_000, START);
    wake_all(&mut node, START);
    let sent = initiations(&mut node, START + S(20));
    let peak = sent
        .iter()
        .enumerate()
        .map(|(first, at)| sent[first..].iter().take_while(|other| **other < *at + S(1)).count());
    assert!(peak.max().expect("initiations") <= 1_000);
    assert!(sent.len() >= 19_000, "{} in 20 s: the cap is used, too", sent.len());
}

#[test]
fn bug22_a_few_peers_do_not_wait_for_the_storm_of_others() {
    let mut node = node_with_peers(3, 1_000, START);
    wake_all(&mut node, START);
    let sent = initiations(&mut node, START + MS(10));
    assert_eq!(sent.len(), 3);
}
