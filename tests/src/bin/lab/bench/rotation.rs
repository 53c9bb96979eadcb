//! Traffic while every key is replaced every two seconds, and the time until a revoked node is cut off.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use mesh_lab::report::Row;
use mesh_lab::{Etcd, Host, Lab, wait};
use serde_json::Value;

use super::statistics::{median, percentile};

/// Keys are replaced every two seconds.
const STORM: &str = "[keys]\nperiod_s = 2\n";
/// Time from one echo request of a host to the next.
const ECHO_EVERY_S: &str = "0.001";
const ECHOES_PER_S: u64 = 1000;
/// Traffic without any rotation, to compare with.
const QUIET_S: u64 = 30;
/// Nodes that are revoked one after the other.
const REVOKED: [&str; 8] = ["b", "c", "d", "e", "f", "g", "h", "i"];
const DEADLINE: Duration = Duration::from_secs(60);

/// How long the storm is.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds of traffic under rotation; the full storm has 600.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    storm: u64,
    /// Percent of the packets that each way between two hosts loses.
    #[arg(long, default_value_t = 0, value_name = "PERCENT", value_parser = clap::value_parser!(u16).range(0..=50))]
    loss: u16,
}

impl Options {
    /// Share of echo requests that the network itself leaves without an answer.
    fn expected_loss(&self) -> f64 {
        let arrives = 1.0 - f64::from(self.loss) / 100.0;
        1.0 - arrives * arrives
    }
}

/// Measures a quiet mesh, a storm, and revocations.
pub fn measure(options: &Options) -> Result<Vec<Row>> {
    let quiet = traffic("", QUIET_S, options.loss)?;
    let storm = traffic(STORM, options.storm, options.loss)?;
    let cut = revocations(Registry::There)?;
    let alone = revocations(Registry::Gone)?;
    let extra = storm.lost() as f64 / storm.sent as f64 - options.expected_loss();
    let growth = tail_ms(&storm.rtts_ms)? - tail_ms(&quiet.rtts_ms)?;
    let share = 0.99;
    Ok(vec![
        Row::at_least("rotations of all nodes", storm.rotations as f64, "", (options.storm / 2) as f64),
        Row::at_least("echo requests during the storm", storm.sent as f64, "", 1e6),
        match options.loss {
            0 => Row::at_most("echo requests without an answer", storm.lost() as f64, "", 0.0),
            _ => Row::at_most("lost beyond what the network loses", extra * 100.0, "% of all", 0.1),
        },
        Row::at_least("one TCP connection through all of it", storm.tcp_s, "s", options.storm as f64 * 0.99),
        Row::at_most("growth of the round trip, p99.9", growth, "ms", 10.0),
        Row::at_most("leaves that the audit finds fault with", storm.findings as f64, "", 0.0),
        Row::at_least("leaves in the log", storm.leaves as f64, "", storm.rotations as f64),
        Row::at_most("last packet of a revoked node, median", median(&cut).context("cuts")?, "ms", 300.0),
        Row::at_most(
            "last packet of a revoked node, p99",
            percentile(&cut, share).context("cuts")?,
            "ms",
            2000.0,
        ),
        Row::at_most(
            "last packet of a revoked node while the registry is gone, p99",
            percentile(&alone, share).context("cuts")?,
            "ms",
            5000.0,
        ),
    ])
}

/// What three hosts saw.
struct Traffic {
    sent: u64,
    rtts_ms: Vec<f64>,
    /// How long the connection carried bytes.
    tcp_s: f64,
    rotations: u64,
    leaves: u64,
    findings: u64,
}

impl Traffic {
    fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.rtts_ms.len() as u64)
    }
}

/// Echo requests from each of three hosts to the next, and one TCP connection beside them.
fn traffic(config: &str, seconds: u64, loss: u16) -> Result<Traffic> {
    let lab = Lab::new("bench-rotation")?;
    let [a, b, c] = lab.hosts(["a", "b", "c"])?;
    let mesh = lab.mesh_with("clinics", &[&a, &b, &c], config)?;
    mesh.everyone_reaches_all()?;
    for (from, to) in [(&a, &b), (&a, &c), (&b, &c)] {
        lab.internet().lose(from.number(), to.number(), loss * 10)?;
    }
    let addr = |name: &str| Ok::<_, anyhow::Error>(mesh.member(name)?.addr4.to_string());
    let (at_a, at_b, at_c) = (addr("a")?, addr("b")?, addr("c")?);
    let _server = b.start(&["iperf3", "--server", "--bind", &at_b])?;
    wait::until(DEADLINE, "iperf3 listens", || {
        b.run(&["ss", "-lnt"]).is_ok_and(|listening| listening.stdout.contains(":5201"))
    })?;
    // A rotation adds one to the number of a node.
    let before: u64 = a.epochs()?.values().sum();
    let count = (seconds * ECHOES_PER_S).to_string();
    let echo = |host: &Host, target: &str| {
        host.start(&["ping", "-n", "-i", ECHO_EVERY_S, "-c", &count, "-W", "10", target])
    };
    let mut echoes = [echo(&a, &at_c)?, echo(&b, &at_a)?, echo(&c, &at_b)?];
    let time = seconds.to_string();
    let limit = Duration::from_secs(seconds * 3 + 60);
    // A tenth of a gigabit: the machine has other things to do.
    let line = ["iperf3", "--client", &at_b, "--time", &time, "--bitrate", "100M", "--json"];
    let flow = a.run_within(limit, &line)?;
    let flow: Value = serde_json::from_str(&flow.ok()?).context("read what iperf3 measured")?;
    let tcp_s = flow.pointer("/end/sum_received/seconds").and_then(Value::as_f64);
    let mut rtts_ms = Vec::new();
    for (host, echo) in [&a, &b, &c].into_iter().zip(&mut echoes) {
        echo.wait(limit)?;
        let log = fs::read_to_string(host.log("ping"))?;
        rtts_ms.extend(
            log.lines()
                .filter_map(|line| line.split_once(" time=")?.1.split(' ').next()?.parse::<f64>().ok()),
        );
    }
    let rotations = a.epochs()?.values().sum::<u64>() - before;
    let dir = a.audit_log();
    let audit = a.ctl(&["audit", "verify", "--log", &dir.to_string_lossy()])?;
    let log = audit.json.pointer("/logs/0").context("one log")?;
    let leaves = log.pointer("/leaves").and_then(Value::as_u64).context("leaves")?;
    let findings = log.pointer("/findings").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    Ok(Traffic {
        sent: 3 * seconds * ECHOES_PER_S,
        rtts_ms,
        tcp_s: tcp_s.unwrap_or(0.0),
        rotations,
        leaves,
        findings,
    })
}

/// Whether records can travel by a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registry {
    There,
    Gone,
}

/// Time from `meshctl revoke` to the last answer that two members got of the revoked node, in milliseconds.
fn revocations(registry: Registry) -> Result<Vec<f64>> {
    let lab = Lab::new("bench-revocation")?;
    let [store, a, w] = lab.hosts(["store", "a", "w"])?;
    let etcd = Etcd::start(&store)?;
    let revoked = lab.hosts(REVOKED)?;
    let mut hosts = vec![&a, &w];
    hosts.extend(&revoked);
    let mesh = lab.mesh_with("clinics", &hosts, &etcd.config())?;
    mesh.everyone_reaches_all()?;
    let _etcd = (registry == Registry::There).then_some(etcd);
    let mut times = Vec::new();
    for host in &revoked {
        let target = mesh.member(host.name())?.addr4.to_string();
        let echo = |from: &Host| from.start(&["ping", "-n", "-D", "-i", "0.01", &target]);
        let mut echoes = [echo(&a)?, echo(&w)?];
        let is_answered =
            |from: &Host| fs::read_to_string(from.log("ping")).is_ok_and(|log| last_answer(&log).is_some());
        wait::until(DEADLINE, "both are answered", || is_answered(&a) && is_answered(&w))?;
        let asked = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        a.ctl(&["revoke", host.name()])?.ok()?;
        std::thread::sleep(Duration::from_secs(5));
        for (from, echo) in [&a, &w].into_iter().zip(&mut echoes) {
            echo.kill()?;
            let log = fs::read_to_string(from.log("ping"))?;
            let last = last_answer(&log).context("it was answered before")?;
            times.push((last - asked).max(0.0) * 1e3);
            fs::remove_file(from.log("ping"))?;
        }
    }
    ensure!(!times.is_empty(), "nobody was revoked");
    Ok(times)
}

/// When the last answer came, as `ping -D` prints it.
fn last_answer(log: &str) -> Option<f64> {
    let line = log.lines().rev().find(|line| line.contains(" time="))?;
    line.strip_prefix('[')?.split_once(']')?.0.parse().ok()
}

fn tail_ms(rtts_ms: &[f64]) -> Result<f64> {
    percentile(rtts_ms, 0.999).context("no echo request was answered")
}
