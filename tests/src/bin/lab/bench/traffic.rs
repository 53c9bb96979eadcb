//! One TCP stream between two hosts, or what runs on them.

use std::time::Duration;

use anyhow::{Context, Result};
use mesh_lab::{Host, Process, wait};

/// Time iperf3 gets to listen.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// Time a run gets beyond its length.
const RUN_GRACE: Duration = Duration::from_secs(15);

/// Where a stream begins or ends: a host, or a network namespace on it.
#[derive(Debug, Clone)]
pub struct Spot<'lab> {
    host: &'lab Host,
    enter: Vec<String>,
}

impl<'lab> Spot<'lab> {
    /// The network namespace of a process on a host.
    pub fn of_process(host: &'lab Host, pid: i32) -> Self {
        Self { host, enter: ["nsenter", "--target", &pid.to_string(), "--net"].map(str::to_owned).into() }
    }

    /// The command line that carries a command out there.
    pub fn line(&self, command: &[&str]) -> Vec<String> {
        self.enter.iter().cloned().chain(command.iter().map(|word| (*word).to_owned())).collect()
    }
}

impl<'lab> From<&'lab Host> for Spot<'lab> {
    fn from(host: &'lab Host) -> Self {
        Self { host, enter: Vec::new() }
    }
}

/// A listening iperf3; ends when dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
}

impl Server {
    /// Listens on an address.
    pub fn start<'lab>(spot: impl Into<Spot<'lab>>, address: &str) -> Result<Self> {
        Ok(Self { process: listen(&spot.into(), address)? })
    }

    /// Starts anew: a server whose client vanished stays busy with it.
    pub fn restart<'lab>(&mut self, spot: impl Into<Spot<'lab>>, address: &str) -> Result<()> {
        self.process.kill()?;
        self.process = listen(&spot.into(), address)?;
        Ok(())
    }
}

fn listen(spot: &Spot<'_>, address: &str) -> Result<Process> {
    let process = spot.host.start(&spot.line(&["iperf3", "-s", "-B", address]))?;
    wait::until(LISTEN_DEADLINE, "iperf3 listens", || {
        spot.host
            .run(&spot.line(&["ss", "-Hltn", "sport = 5201"]))
            .is_ok_and(|output| output.stdout.contains("5201"))
    })?;
    Ok(process)
}

/// Mbit/s of payload that one TCP stream carries.
pub fn mbit_s<'lab>(from: impl Into<Spot<'lab>>, target: &str, seconds: u32) -> Result<f64> {
    let from = from.into();
    let length = seconds.to_string();
    let deadline = Duration::from_secs(seconds.into()) + RUN_GRACE;
    let line = from.line(&["iperf3", "-J", "-c", target, "-t", &length, "-i", "0"]);
    let output = from.host.run_within(deadline, &line)?.ok()?;
    let result: serde_json::Value = serde_json::from_str(&output).context("read the result of iperf3")?;
    let rate = result.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
    Ok(rate.context("find the rate in a result of iperf3")? / 1e6)
}
