//! One TCP stream between two hosts.

use std::time::Duration;

use anyhow::{Context, Result};
use mesh_lab::{Host, Process, wait};

/// Time iperf3 gets to listen.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// Time a run gets beyond its length.
const RUN_GRACE: Duration = Duration::from_secs(15);

/// A listening iperf3; ends when dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
}

impl Server {
    /// Listens on an address of a host.
    pub fn start(host: &Host, address: &str) -> Result<Self> {
        Ok(Self { process: listen(host, address)? })
    }

    /// Starts anew: a server whose client vanished stays busy with it.
    pub fn restart(&mut self, host: &Host, address: &str) -> Result<()> {
        self.process.kill()?;
        self.process = listen(host, address)?;
        Ok(())
    }
}

fn listen(host: &Host, address: &str) -> Result<Process> {
    let process = host.start(&["iperf3", "-s", "-B", address])?;
    wait::until(LISTEN_DEADLINE, "iperf3 listens", || {
        host.run(&["ss", "-Hltn", "sport = 5201"]).is_ok_and(|output| output.stdout.contains("5201"))
    })?;
    Ok(process)
}

/// Mbit/s of payload that one TCP stream carries.
pub fn mbit_s(from: &Host, target: &str, seconds: u32) -> Result<f64> {
    let length = seconds.to_string();
    let deadline = Duration::from_secs(seconds.into()) + RUN_GRACE;
    let output =
        from.run_within(deadline, &["iperf3", "-J", "-c", target, "-t", &length, "-i", "0"])?.ok()?;
    let result: serde_json::Value = serde_json::from_str(&output).context("read the result of iperf3")?;
    let rate = result.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64);
    Ok(rate.context("find the rate in a result of iperf3")? / 1e6)
}
