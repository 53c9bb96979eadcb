//! meshd: two hosts, two commands each.

use std::process::Command;

use anyhow::{Context, Result};
use mesh_lab::{Host, Lab};
use nix::unistd::Pid;

use super::{Found, Running};
use crate::bench::tunnel::link::Pair;

/// The program built from this tree.
pub fn find() -> Result<Found> {
    let path = mesh_lab::program("meshd")?;
    let output = Command::new(&path).arg("--version").output().context("start meshd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.trim().trim_start_matches("meshd ").to_owned();
    Ok(Found { path, version: format!("{version} {}", commit()?) })
}

/// Creates a mesh on the near host, and lets the far one join; the suites are as in a configuration.
pub fn start<'lab>(lab: &Lab, suites: &str, pair: &'lab Pair) -> Result<Running<'lab>> {
    let mesh = lab.mesh_with("bench", &pair.hosts(), &format!("[tunnel]\nsuites = {suites}\n"))?;
    let far = mesh.members.last().context("find the far member")?;
    let mut running = Running::of_kernel(&far.addr4.to_string());
    running.processes = pair.hosts().into_iter().flat_map(daemons).collect();
    running._mesh = Some(mesh);
    Ok(running)
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
