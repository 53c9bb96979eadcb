//! Everybody wants another key at once.

use std::time::Duration;

use super::super::super::{Bounds, Lengths, Periods};
use super::faults::Fault;
use super::plan::{Plan, Rates};
use super::queue::{End, Event, MINUTE, Ms, SECOND};
use super::simulation::Simulation;

const NODES: usize = 1_000;
/// What each node is asked for, within a minute.
const ROTATIONS_EACH: u32 = 10;
/// Records of one rotation that a mesh writes into its registries, at most.
const PUTS_EACH: u64 = 10;
const ASKED: Ms = MINUTE;
const LOGGED_AFTER: Ms = 30 * SECOND;

/// Lengths of a lab, so that ten rotations of a node fit into a minute; the log is as slow as ever.
fn plan() -> Plan {
    let s = Duration::from_secs;
    let lengths = Lengths {
        lead: s(5),
        wait: s(5) / 2,
        overlap: s(5),
        silence: s(1),
        settling: s(1),
        ..Lengths::for_period(s(3_600), Bounds::Lab)
    };
    Plan {
        seed: 1,
        nodes: NODES,
        orgs: 4,
        registries: 2,
        periods: Periods::new(lengths, Bounds::Lab).unwrap(),
        faulty: 0,
        calm: 0,
        loss_ppm: 0,
        repeat_ppm: 20_000,
        slow_ppm: 0,
        registry_only_ppm: 0,
        rates: Rates::default(),
    }
}

/// A mesh at rest that is asked for ten thousand rotations, and what it has written so far.
fn asked() -> (Simulation, u64, Ms) {
    let mut mesh = Simulation::new(plan());
    let begin = mesh.queue.now + 2 * MINUTE;
    mesh.run_until(begin);
    let puts = puts(&mesh);
    for n in 0..NODES {
        let first = mesh.dice.within(0..ASKED / Ms::from(ROTATIONS_EACH));
        for round in 0..ROTATIONS_EACH {
            let at = first + Ms::from(round) * ASKED / Ms::from(ROTATIONS_EACH);
            mesh.queue.after(at, Event::Fault(Fault::Rotate { node: n as u16 }));
        }
    }
    (mesh, puts, begin)
}

fn is_unbroken(mesh: &Simulation) {
    if let Some(breach) = &mesh.breach {
        panic!("{breach}");
    }
}

fn puts(mesh: &Simulation) -> u64 {
    mesh.registries.iter().map(|registry| registry.puts).sum()
}

/// The rotations of the nodes that are there, all of which the log has.
fn rotated(mesh: &Simulation) -> u64 {
    let there = mesh.stations.iter().filter(|station| station.is_up);
    let rotated = there.map(|station| {
        assert!(station.unlogged.is_empty(), "the log has not heard of {:?}", station.unlogged);
        let epochs = station.machine.current().epoch.0 - 1;
        assert!(epochs >= ROTATIONS_EACH, "{epochs} rotations");
        u64::from(epochs)
    });
    rotated.sum()
}

#[test]
fn ten_thousand_rotations_in_a_minute_are_logged_half_a_minute_later() {
    let (mut mesh, before, begin) = asked();
    mesh.run_until(begin + ASKED + LOGGED_AFTER);
    is_unbroken(&mesh);
    let rotations = rotated(&mesh);
    let puts = puts(&mesh) - before;
    println!("{rotations} rotations, {puts} registry writes, {} events", mesh.queue.happened);
    assert!(puts <= PUTS_EACH * rotations, "{puts} registry writes for {rotations} rotations");
}

#[test]
fn a_storm_in_which_every_second_node_is_revoked_holds_up_none_of_the_others() {
    let (mut mesh, _, begin) = asked();
    mesh.run_until(begin + ASKED / 2);
    for n in (0..NODES).step_by(2) {
        mesh.revoke(n as u16);
    }
    mesh.run_until(begin + ASKED + LOGGED_AFTER);
    is_unbroken(&mesh);
    assert!(rotated(&mesh) >= u64::from(ROTATIONS_EACH) * NODES as u64 / 2);
}

impl Simulation {
    /// Takes a node from the mesh: all peers drop it in one step, and do not wait for it.
    fn revoke(&mut self, node: u16) {
        self.station(node).is_up = false;
        self.refresh(node);
        for link in 0..self.station(node).links.len() {
            let end = End { node, link: link as u8 };
            let peer = self.link(end).peer;
            self.excuse(end);
            let link = self.link_mut(peer);
            link.peer_epochs = None;
            link.sessions.clear();
            link.is_connected = false;
            self.tell_connected(peer.node);
        }
    }
}
