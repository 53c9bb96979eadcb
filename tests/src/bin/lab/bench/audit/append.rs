//! How fast a steward appends what many nodes say at once, and how long each waits for its proof.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use mesh_lab::report::Row;
use mesh_lab::{Host, Lab};
use serde_json::Value;

use super::super::instructions;
use super::super::statistics::percentile;

/// Hosts that nodes speak from, and nodes of each: a steward serves 384 connections at once, 256 of them from one
/// host, and one that has answered eight requests is replaced by another.
const HOSTS: [&str; 2] = ["b", "c"];
const NODES: usize = 175;
/// Time that all of them get to join.
const JOINING: Duration = Duration::from_secs(300);

/// What is wanted.
const LEAVES_PER_S: f64 = 1_000.0;
const PROOF_MS: f64 = 5_000.0;

/// Lets nodes speak for some seconds, and audits what the steward has made of it.
pub fn measure(seconds: u64) -> Result<Vec<Row>> {
    let program = instructions::build(&["build", "--package", "meshd", "--bench", "statements"], "bench")?;
    let lab = Lab::new("bench-append")?;
    let a = lab.host("a")?;
    let hosts = lab.hosts(HOSTS)?;
    let mesh = lab.mesh("clinics", &[&a])?;
    for host in &hosts {
        let tokens: Vec<String> = (0..NODES).map(|_| mesh.token()).collect::<Result<_>>()?;
        fs::write(host.dir().join("tokens"), tokens.join("\n")).context("write the tokens")?;
    }
    let speak = |host: &Host| -> Result<Vec<Proven>> {
        let script = format!("exec {program} {seconds} <{}", host.dir().join("tokens").display());
        let said = host.run_within(JOINING + Duration::from_secs(seconds), &["sh", "-c", &script])?;
        eprint!("{}", said.stderr);
        let said = said.ok()?;
        said.lines().map(|line| proven(line).with_context(|| format!("read `{line}`"))).collect()
    };
    let each: Vec<Vec<Proven>> = thread::scope(|scope| {
        let running: Vec<_> = hosts.iter().map(|host| scope.spawn(|| speak(host))).collect();
        let ended =
            running.into_iter().map(|one| one.join().map_err(|_| anyhow!("a host's thread panicked"))?);
        ended.collect::<Result<_>>()
    })?;
    // What counts is the time in which all hosts speak.
    let first = |all: &Vec<Proven>| all.iter().map(|one| one.at_s).reduce(f64::min);
    let last = |all: &Vec<Proven>| all.iter().map(|one| one.at_s).reduce(f64::max);
    let from = each.iter().filter_map(first).reduce(f64::max).context("nothing was proven")?;
    let to = each.iter().filter_map(last).reduce(f64::min).context("nothing was proven")?;
    let proven: Vec<&Proven> = each.iter().flatten().collect();
    let within = proven.iter().filter(|one| (from..=to).contains(&one.at_s)).count();
    let rate = within as f64 / (to - from);
    let waited: Vec<f64> = proven.iter().map(|one| one.waited_ms).collect();
    let quantile = |share| percentile(&waited, share).context("nothing was proven");

    let dir = a.audit_log();
    let audit = a.ctl(&["audit", "verify", "--log", &dir.to_string_lossy()])?;
    let leaves = audit.json.pointer("/logs/0/leaves").and_then(Value::as_u64).context("leaves")?;
    Ok(vec![
        Row::at_least("leaves appended, with their proofs", rate, "1/s", LEAVES_PER_S),
        Row::at_most("wait of a node for its proof, median", quantile(0.5)?, "ms", PROOF_MS),
        Row::at_most("wait of a node for its proof, p99", quantile(0.99)?, "ms", PROOF_MS),
        Row::at_least("leaves in the log", leaves as f64, "", proven.len() as f64),
        Row::at_most("exit code of its audit, 0 is clean", f64::from(audit.code), "", 0.0),
    ])
}

/// A leaf that a node has a proof of.
struct Proven {
    /// Since 1970.
    at_s: f64,
    waited_ms: f64,
}

fn proven(line: &str) -> Option<Proven> {
    let (at, waited) = line.split_once(' ')?;
    Some(Proven { at_s: at.parse().ok()?, waited_ms: waited.parse().ok()? })
}
