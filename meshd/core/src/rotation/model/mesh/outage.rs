//! No registry for half a day.

use std::time::Duration;

use super::super::super::{Bounds, Lengths, Periods};
use super::plan::{Plan, Rates};
use super::queue::{HOUR, MINUTE, Ms};
use super::simulation::Simulation;

const NODES: usize = 1_000;
const AWAY: Ms = 12 * HOUR;

/// Keys live an hour, one message in twenty is lost, and every link has a control channel.
fn plan() -> Plan {
    let lengths = Lengths::for_period(Duration::from_secs(3_600), Bounds::Real);
    Plan {
        seed: 1,
        nodes: NODES,
        orgs: 4,
        registries: 2,
        periods: Periods::new(lengths, Bounds::Real).unwrap(),
        faulty: 0,
        calm: 0,
        loss_ppm: 50_000,
        repeat_ppm: 20_000,
        slow_ppm: 10_000,
        registry_only_ppm: 0,
        rates: Rates::default(),
    }
}

#[test]
fn half_a_day_without_a_registry_costs_no_tunnel_and_no_packet() {
    let mut mesh = Simulation::new(plan());
    let begin = mesh.queue.now + 10 * MINUTE;
    mesh.run_until(begin);
    let excused = mesh.tally.excuses;
    for registry in &mut mesh.registries {
        registry.place.outages += 1;
        registry.puts = 0;
    }
    mesh.refresh_all();
    let before = mesh.tally.rotations;
    mesh.run_until(begin + AWAY);
    if let Some(breach) = &mesh.breach {
        panic!("{breach}");
    }
    let rotations = mesh.tally.rotations - before;
    println!("{rotations} rotations, {} packets", mesh.tally.packets);
    // Each a little before its hour is over.
    assert!(rotations >= 12 * NODES as u64, "{rotations} rotations");
    assert!(mesh.registries.iter().all(|registry| registry.puts == 0), "a registry was there");
    assert_eq!(mesh.tally.excuses, excused, "no link was cut");
    assert!(mesh.stations.iter().all(|station| { station.links.iter().all(|link| link.is_connected) }));
}
