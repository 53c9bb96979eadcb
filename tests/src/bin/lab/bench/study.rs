//! What the study of node-to-node communication measured: secure sum over three hosts, and what delays it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mesh_lab::report::Row;
use mesh_lab::{Host, Lab, Mesh, secure_sum, wait};

/// Runs of the secure sum, as in the study.
const RUNS: usize = 10;
/// Far above every target: a benchmark reports a bad number rather than to give up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs the secure sum, asks for absent addresses, and lets a fourth host join.
pub fn measure() -> Result<Vec<Row>> {
    let lab = Lab::new("bench-study")?;
    let [a, b, c, d] = lab.hosts(["a", "b", "c", "d"])?;
    let mut mesh = lab.mesh("study", &[&a, &b, &c])?;
    mesh.everyone_reaches_all()?;

    let mut sums: Vec<f64> = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let start = Instant::now();
        secure_sum::on_mesh(&mesh, &[1, 2, 3])?;
        sums.push(start.elapsed().as_secs_f64());
    }
    sums.sort_by(f64::total_cmp);
    let median = (sums[RUNS / 2 - 1] + sums[RUNS / 2]) / 2.0;
    let (absent4, absent6) = absent_s_max(&mesh, &a)?;

    let daemon = d.meshd("")?;
    let start = Instant::now();
    mesh.join(&d, daemon)?;
    for host in [&a, &b, &c, &d] {
        wait::until(DEADLINE, "everyone sees four", || host.peers().is_ok_and(|peers| peers.len() == 3))?;
    }
    let visible = start.elapsed().as_secs_f64();
    Ok(vec![
        Row::at_most("secure sum over three hosts, median of 10 runs", median, "s", 0.3),
        Row::at_most("absent IPv4 address, slowest of 10 answers", absent4, "s", 0.05),
        Row::at_most("absent IPv6 address, slowest of 10 answers", absent6, "s", 0.05),
        Row::at_most("newcomer visible on all members, from the join on", visible, "s", 2.0),
    ])
}

/// Slowest answers of addresses that nobody has, the start of `ping` included.
fn absent_s_max(mesh: &Mesh<'_>, from: &Host) -> Result<(f64, f64)> {
    let steward = mesh.steward()?;
    let absent4 = std::net::Ipv4Addr::from(u32::from(steward.addr4) + 100).to_string();
    let absent6 = std::net::Ipv6Addr::from(u128::from(steward.addr6) ^ 1).to_string();
    let slowest = |target: &str| -> Result<f64> {
        let mut slowest = 0.0_f64;
        for _ in 0..RUNS {
            let start = Instant::now();
            let output = from.run(&["ping", "-n", "-c", "1", "-W", "10", target])?;
            slowest = slowest.max(start.elapsed().as_secs_f64());
            let unreachable = output.stdout.to_lowercase().contains("unreachable");
            unreachable
                .then_some(())
                .with_context(|| format!("{target} was not answered: {}", output.stdout))?;
        }
        Ok(slowest)
    };
    Ok((slowest(&absent4)?, slowest(&absent6)?))
}
