//! Traffic through a tunnel: iperf3 for bulk, ping for latency.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mesh_lab::wait;
use serde_json::Value;

use super::link::Pair;
use super::machine;
use crate::bench::traffic::Server;

/// Time a run gets beyond its length until it counts as failed.
const RUN_GRACE: Duration = Duration::from_secs(8);

/// Time a tunnel gets until its first packet comes through.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// Echo requests of an idle measurement, and the seconds between them.
const IDLE_PINGS: (&str, &str) = ("300", "0.005");

/// Echo requests each second beside a bulk flow.
const BUSY_PINGS_PER_S: u32 = 200;

/// Answers that come while the bulk flow still starts.
const BUSY_PINGS_SKIPPED: usize = 40;

/// What one run of TCP reached and cost.
#[derive(Debug, Clone, Copy)]
pub struct Tcp {
    /// Payload received.
    pub mbit_s: f64,
    /// Work of the whole machine, both ends, their TCP and iperf3 included.
    pub cpu_s_per_gb: f64,
    /// Payload received.
    pub bytes: f64,
}

/// What came through of as many UDP datagrams as iperf3 can send.
#[derive(Debug, Clone, Copy)]
pub struct Udp {
    /// Payload received.
    pub mbit_s: f64,
    /// Datagrams received each second, in thousands.
    pub kpps: f64,
}

/// Answers to echo requests.
#[derive(Debug, Default)]
pub struct Echoes {
    /// Round-trip times in milliseconds.
    pub times_ms: Vec<f64>,
    /// Requests that had no answer.
    pub lost: usize,
}

impl Echoes {
    /// Adds those of another run.
    pub fn extend(&mut self, other: Self) {
        self.times_ms.extend(other.times_ms);
        self.lost += other.lost;
    }

    /// Share of requests without an answer, in a hundred.
    pub fn lost_percent(&self) -> f64 {
        self.lost as f64 / (self.times_ms.len() + self.lost).max(1) as f64 * 100.0
    }
}

/// A listening iperf3 behind a tunnel, and the way to it.
#[derive(Debug)]
pub struct Iperf<'lab> {
    pair: &'lab Pair,
    target: String,
    server: RefCell<Server>,
}

impl<'lab> Iperf<'lab> {
    /// Listens on the far host; the target is its address inside the tunnel.
    pub fn start(pair: &'lab Pair, target: &str) -> Result<Self> {
        let server = RefCell::new(Server::start(&pair.far, target)?);
        Ok(Self { pair, target: target.to_owned(), server })
    }

    /// One run of TCP.
    pub fn tcp(&self, streams: u32, reverse: bool, seconds: u32) -> Result<Tcp> {
        let streams = streams.to_string();
        let mut arguments = vec!["-P", &streams];
        arguments.extend(reverse.then_some("-R"));
        let cpu = machine::Cpu::now()?;
        let end = self.run(&arguments, seconds)?;
        let spent = cpu.spent()?;
        let bytes = number(&end, "/sum_received/bytes")?;
        let mbit_s = number(&end, "/sum_received/bits_per_second")? / 1e6;
        Ok(Tcp { mbit_s, cpu_s_per_gb: spent / (bytes / 1e9), bytes })
    }

    /// One run of UDP with datagrams of this payload, as fast as iperf3 sends.
    pub fn udp(&self, payload: u32, seconds: u32) -> Result<Udp> {
        let length = payload.to_string();
        let end = self.run(&["-u", "-b", "0", "-l", &length], seconds)?;
        let mbit_s = number(&end, "/sum_received/bits_per_second")? / 1e6;
        Ok(Udp { mbit_s, kpps: mbit_s * 1e3 / f64::from(payload * 8) })
    }

    /// Echoes beside one TCP stream.
    pub fn pings_beside_bulk(&self, seconds: u32) -> Result<Echoes> {
        let count = (seconds * BUSY_PINGS_PER_S).to_string();
        let interval = format!("{:.4}", 1.0 / f64::from(BUSY_PINGS_PER_S));
        let length = (seconds + 2).to_string();
        let mut line = vec!["iperf3"];
        line.extend(self.arguments(&length));
        let mut bulk = self.pair.near.start(&line)?;
        let answers = ping(self.pair, &self.target, &count, &interval);
        let ended = bulk.wait(Duration::from_secs(u64::from(seconds) + 2) + RUN_GRACE);
        self.revive_if(answers.is_err() || !ended.is_ok_and(|status| status.success()))?;
        let mut answers = answers?;
        answers.times_ms.drain(..BUSY_PINGS_SKIPPED.min(answers.times_ms.len()));
        Ok(answers)
    }

    /// Echoes of a tunnel that does nothing else.
    pub fn pings_idle(&self) -> Result<Echoes> {
        ping(self.pair, &self.target, IDLE_PINGS.0, IDLE_PINGS.1)
    }

    fn run(&self, arguments: &[&str], seconds: u32) -> Result<Value> {
        let length = seconds.to_string();
        let mut line = vec!["iperf3", "-J"];
        line.extend(self.arguments(&length));
        line.extend(arguments);
        let deadline = Duration::from_secs(seconds.into()) + RUN_GRACE;
        let reply = self.pair.near.run_within(deadline, &line).and_then(|output| {
            let reply: Value = serde_json::from_str(&output.stdout).context("read what iperf3 measured")?;
            let error = reply.get("error").and_then(Value::as_str).map(str::to_owned);
            error.map_or(Ok(reply), |error| bail!("iperf3 says: {error}"))
        });
        self.revive_if(reply.is_err())?;
        reply?.get_mut("end").map(Value::take).context("find the end of an iperf3 run")
    }

    fn arguments<'a>(&'a self, length: &'a str) -> [&'a str; 8] {
        ["-c", &self.target, "-t", length, "-i", "0", "--connect-timeout", "3000"]
    }

    /// A server whose client vanished stays busy with it.
    fn revive_if(&self, failed: bool) -> Result<()> {
        if failed {
            self.server.borrow_mut().restart(&self.pair.far, &self.target)?;
        }
        Ok(())
    }
}

/// Milliseconds until the first echo comes back from the far end of a tunnel.
pub fn connect_ms(pair: &Pair, target: &str) -> Result<f64> {
    let start = Instant::now();
    let line = ["ping", "-n", "-q", "-c", "1", "-i", "0.01", "-w", "1", target];
    // Some systems answer that there is no way yet, which ends ping at once.
    wait::until(CONNECT_DEADLINE, "an echo comes back from the far end", || {
        pair.near.run(&line).is_ok_and(|output| output.code == 0)
    })?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn ping(pair: &Pair, target: &str, count: &str, interval: &str) -> Result<Echoes> {
    let output = pair.near.run(&["ping", "-n", "-c", count, "-i", interval, "-W", "1", target])?;
    let times = output.stdout.lines().filter_map(|line| {
        let (_, rest) = line.split_once("time=")?;
        rest.split(' ').next()?.parse::<f64>().ok()
    });
    let times_ms: Vec<f64> = times.collect();
    ensure!(!times_ms.is_empty(), "no echo came back: {}{}", output.stdout, output.stderr);
    let sent: usize = count.parse().context("read a count")?;
    Ok(Echoes { lost: sent.saturating_sub(times_ms.len()), times_ms })
}

fn number(value: &Value, pointer: &str) -> Result<f64> {
    value
        .pointer(pointer)
        .and_then(Value::as_f64)
        .with_context(|| format!("find {pointer} in an iperf3 result"))
}
