//! A minute of much more traffic than the link can carry.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mesh_lab::report::Row;
use mesh_lab::{LINK, Lab, wait};

use super::traffic;

/// What the link carries during the overload; iperf3 offers well above ten times as much.
const RATE: &str = "100mbit";

/// Length of the overload.
const SECONDS: u32 = 60;

/// Length of the flows before it and after it.
const FLOW_SECONDS: u32 = 3;

/// Time between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Far above the target: a benchmark reports a bad number rather than to give up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Narrows the link of one member, and has it send as fast as it can.
pub fn measure() -> Result<Vec<Row>> {
    let lab = Lab::new("bench-overload")?;
    let [near, far] = lab.hosts(["near", "far"])?;
    let mesh = lab.mesh("overloaded", &[&near, &far])?;
    mesh.everyone_reaches_all()?;
    let target = mesh.member("far")?.addr4.to_string();
    let _iperf = traffic::Server::start(&far, &target)?;
    let rss = || -> Result<u64> {
        let sizes = mesh.members.iter().map(|member| member.daemon.rss_kib()).collect::<Result<Vec<_>>>()?;
        sizes.into_iter().max().context("a mesh has members")
    };
    let calm = traffic::mbit_s(&near, &target, FLOW_SECONDS)?;
    let before = rss()?;

    near.run(&[
        "tc", "qdisc", "add", "dev", LINK, "root", "tbf", "rate", RATE, "burst", "256k", "latency", "50ms",
    ])?
    .ok()?;
    let seconds = SECONDS.to_string();
    let line =
        ["iperf3", "-J", "-c", &target, "-u", "-b", "0", "-l", "1372", "-P", "2", "-t", &seconds, "-i", "0"];
    let mut load = near.start(&line)?;
    let mut largest = before;
    let start = Instant::now();
    while load.ended().is_none() && start.elapsed() < Duration::from_secs(u64::from(SECONDS)) {
        largest = largest.max(rss()?);
        std::thread::sleep(LOOK_EVERY);
    }
    near.run(&["tc", "qdisc", "del", "dev", LINK, "root"])?.ok()?;
    let end = Instant::now();
    wait::until(DEADLINE, "an echo comes back", || near.pings(&target, 1).unwrap_or(false))?;
    let echo = end.elapsed().as_secs_f64();
    load.wait(DEADLINE)?;
    let times =
        times_offered(&std::fs::read_to_string(near.log("iperf3")).context("read what iperf3 sent")?)?;
    let again = traffic::mbit_s(&near, &target, FLOW_SECONDS)?;
    largest = largest.max(rss()?);
    let growth = (largest as f64 / before as f64 - 1.0) * 100.0;
    Ok(vec![
        Row::at_least("offered, times of what came through", times, "times", 10.0),
        Row::at_most("growth of the larger daemon's RSS in a minute of overload", growth, "%", 20.0),
        Row::at_most("first echo after the overload", echo, "s", 2.0),
        Row::at_least("throughput afterwards, share of that before", again / calm * 100.0, "%", 80.0),
    ])
}

/// How many times what came through iperf3 sent.
fn times_offered(log: &str) -> Result<f64> {
    // A warning about the length of datagrams may stand before it.
    let json = log.find('{').and_then(|start| log.get(start..)).unwrap_or_default();
    let result: serde_json::Value = serde_json::from_str(json).context("read the result of iperf3")?;
    let bytes = |end: &str| result.pointer(&format!("/end/{end}/bytes")).and_then(serde_json::Value::as_f64);
    let sent = bytes("sum_sent").context("find what iperf3 sent")?;
    let received = bytes("sum_received").context("find what iperf3 received")?;
    Ok(sent / received.max(1.0))
}
