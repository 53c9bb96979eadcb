//! meshd: two hosts, two commands each.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, Lab};
use nix::unistd::Pid;

use super::{Found, Running};
use crate::bench::tunnel::link::Pair;

/// The program built from this tree, if it knows the suite.
pub fn find(suite: &str) -> Result<Found> {
    let path = mesh_lab::program("meshd")?;
    let output = Command::new(&path).arg("--version").output().context("start meshd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().trim_start_matches("meshd ").to_owned();
    let version = format!("{version} {}", commit()?);
    ensure!(suite == "wg" || knows_suites(&path)?, "this meshd has no suite {suite}");
    Ok(Found { path, version })
}

/// Creates a mesh on the near host, and lets the far one join.
pub fn start<'lab>(found: &Found, lab: &Lab, suite: &str, pair: &'lab Pair) -> Result<Running<'lab>> {
    let config = if knows_suites(&found.path)? { config(suite) } else { String::new() };
    let mesh = lab.mesh_with("bench", &pair.hosts(), &config)?;
    let far = mesh.members.last().context("find the far member")?;
    let mut running = Running::of_kernel(&far.addr4.to_string());
    running.processes = pair.hosts().into_iter().flat_map(daemons).collect();
    running._mesh = Some(mesh);
    Ok(running)
}

fn config(suite: &str) -> String {
    // A host that speaks AES still has to speak WireGuard's suite with those that don't.
    let suites = if suite == "aes" { "[\"aes\", \"wg\"]" } else { "[\"wg\"]" };
    format!("[tunnel]\nsuites = {suites}\n")
}

/// Whether this meshd can be told its suites.
fn knows_suites(meshd: &Path) -> Result<bool> {
    let file = mesh_lab::target_dir()?.join("bench-suites.toml");
    fs::write(&file, config("aes")).with_context(|| format!("write {}", file.display()))?;
    let output = Command::new(meshd).args(["check-config", "--config"]).arg(&file).output();
    fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    Ok(output.context("start meshd")?.status.success())
}

/// The commit that is measured.
fn commit() -> Result<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    Ok(String::from_utf8_lossy(&output.context("start git")?.stdout).trim().to_owned())
}

/// The daemon of a host, which is the one process in its namespace at this time.
fn daemons(host: &Host) -> Vec<Pid> {
    host.namespace().processes()
}
