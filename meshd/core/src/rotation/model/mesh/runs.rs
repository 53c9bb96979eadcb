//! Many days of many meshes, each of them a seed's.

use super::plan::Plan;
use super::simulation::Simulation;

/// Nodes of a mesh.
const NODES: usize = 1_000;
/// Days that are played, unless the environment names more.
const SEEDS: u64 = 100;
/// Names more: `MESHD_SIMULATED_SEEDS=1000`.
const SEEDS_VARIABLE: &str = "MESHD_SIMULATED_SEEDS";
/// Names one alone, as a failure does: `MESHD_SIMULATED_SEED=7`.
const SEED_VARIABLE: &str = "MESHD_SIMULATED_SEED";
/// Tests that share the seeds, so that none of them takes minutes.
const PARTS: u64 = 4;

#[expect(clippy::disallowed_methods, reason = "how much is tried is asked for from outside")]
fn asked(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Plays every fourth seed.
fn play(part: u64) {
    let seeds = match asked(SEED_VARIABLE) {
        Some(seed) => seed..seed + 1,
        None => 0..asked(SEEDS_VARIABLE).unwrap_or(SEEDS),
    };
    for seed in seeds.filter(|seed| seed % PARTS == part) {
        let mut mesh = Simulation::new(Plan::day(seed, NODES));
        mesh.run();
        println!("seed {seed}: {} events, {:?}", mesh.queue.happened, mesh.tally);
        if let Some(breach) = &mesh.breach {
            panic!("{SEED_VARIABLE}={seed} breaks it again: {breach}\n{:?}", mesh.plan);
        }
        assert!(mesh.tally.rotations > 0 && mesh.tally.packets > 0, "nothing was tried");
    }
}

#[test]
fn a_mesh_keeps_its_tunnels_through_days_of_faults_1() {
    play(0);
}

#[test]
fn a_mesh_keeps_its_tunnels_through_days_of_faults_2() {
    play(1);
}

#[test]
fn a_mesh_keeps_its_tunnels_through_days_of_faults_3() {
    play(2);
}

#[test]
fn a_mesh_keeps_its_tunnels_through_days_of_faults_4() {
    play(3);
}
