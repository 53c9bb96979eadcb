//! Data planes with several threads each way, over real devices and sockets. Needs root and /dev/net/tun.

mod star;

use std::collections::BTreeSet;
use std::time::Duration;

use super::shards_on;
use crate::dataplane::Event;
use star::{FLOWS, Flow, Star};

/// Datagrams that each flow carries before a test goes on.
const SOME: usize = 150;

/// What a thread may hold when it ends: the datagrams of one call.
const HELD_MAX: usize = 256;

#[test]
fn there_is_one_thread_each_way_for_every_two_processors() {
    let defaults = [1, 2, 3, 4, 6, 8, 16, 32, 64, 512].map(|cores| shards_on(cores, None));
    assert_eq!(defaults, [1, 1, 1, 2, 2, 4, 8, 16, 16, 16]);
    let wanted = [0, 1, 2, 3, 4, 7, 16, 1000].map(|wanted| shards_on(2, Some(wanted)));
    assert_eq!(wanted, [1, 1, 2, 2, 4, 4, 16, 16]);
}

#[test]
fn two_threads_each_way_share_the_flows() {
    assert_flows_are_shared(2);
}

#[test]
fn four_threads_each_way_share_the_flows() {
    assert_flows_are_shared(4);
}

fn assert_flows_are_shared(shards: usize) {
    // A peer's packets come through one thread, so it takes as many peers as threads.
    let Some(mut star) = Star::start(shards, shards) else { return };
    star.send_and_receive();
    star.wait_for_more(SOME);
    star.ping_all();
    star.restart_last_spoke();
    star.ping_all();
    star.wait_for_more(SOME);

    let all: BTreeSet<usize> = (0..shards).collect();
    let ended = star.end();
    let carriers = |flows: &[Flow]| -> BTreeSet<usize> {
        flows.iter().flat_map(|flow| flow.carriers.iter().copied()).collect()
    };
    let (outbound, inbound): (Vec<Flow>, Vec<Flow>) = ended.into_iter().partition(|flow| flow.is_outbound);
    assert_eq!((carriers(&outbound), carriers(&inbound)), (all.clone(), all));
    // The peer that was restarted could not receive meanwhile.
    for flow in outbound.iter().chain(&inbound).filter(|flow| flow.spoke + 1 < shards) {
        assert_eq!(flow.carriers.len(), 1, "{flow:?} stays with one thread");
        assert!(flow.is_in_order() && flow.lost() == 0, "{flow:?} lost {}", flow.lost());
    }
    assert_eq!(star.hub_counter("thread-restarted"), 0);
}

#[test]
fn a_sending_thread_that_dies_is_replaced_and_other_flows_lose_nothing() {
    assert_death_is_survived("meshd-tx", |star| star.kill_sender());
}

#[test]
fn a_receiving_thread_that_dies_is_replaced_and_other_flows_lose_nothing() {
    assert_death_is_survived("meshd-rx", |star| star.kill_receiver());
}

fn assert_death_is_survived(name: &'static str, kill: fn(&Star)) {
    let Some(mut star) = Star::start(2, 2) else { return };
    let mut events = star.hub_events();
    star.send_and_receive();
    star.wait_for_more(SOME);
    kill(&star);
    star.wait_for("the thread to start again", |star| star.hub_counter("thread-restarted") == 1);
    star.wait_for_more(SOME);
    let victim = star.broken();
    let ended = star.end();

    let told = std::iter::from_fn(|| events.try_recv().ok()).any(|event| {
        assert!(!matches!(event, Event::ThreadEnded { .. }), "{event:?}");
        event == Event::ThreadRestarted { thread: name }
    });
    assert!(told);
    let (hurt, others): (Vec<Flow>, Vec<Flow>) = ended
        .into_iter()
        .partition(|flow| flow.is_outbound == victim.is_outbound && flow.carriers.contains(&victim.queue));
    assert!(!hurt.is_empty() && others.len() > FLOWS, "{} and {} flows", hurt.len(), others.len());
    for flow in &others {
        assert!(flow.is_in_order() && flow.lost() == 0, "{flow:?} lost {}", flow.lost());
    }
    for flow in &hurt {
        assert!(flow.is_in_order() && flow.has_last(), "{flow:?} goes on");
        assert!(flow.carriers.len() == 1, "{flow:?} stays with its thread");
    }
    let lost: usize = hurt.iter().map(Flow::lost).sum();
    assert!(lost <= HELD_MAX, "{lost} datagrams were lost");
    let longest = |flows: &[Flow]| flows.iter().map(Flow::longest_gap).max().unwrap_or(Duration::ZERO);
    eprintln!(
        "{name} died: {lost} datagrams of {} flows lost, longest pause {:?}; of the other flows {:?}",
        hurt.len(),
        longest(&hurt),
        longest(&others)
    );
}
