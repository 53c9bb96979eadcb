//! Docker 28 beside the one that Debian installs: its own test run, on demand.
//!
//! The programs are those of Debian's next release, unpacked and not installed. `runc` is the installed one: a newer
//! one needs a newer C library.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use mesh_lab::DOCKER_ROOT_VARIABLE;

use crate::{cargo, debian};

/// What the test run is called.
pub const NAME: &str = "docker-28";

const PACKAGES: [&str; 3] = ["docker.io", "docker-cli", "containerd"];

/// Tests with real containers of Docker.
const TESTS: [&str; 3] = ["docker", "docker_network", "containers"];

/// Runs these tests; false if one fails.
pub fn run() -> Result<bool> {
    let root = install()?;
    let root = root.to_str().context("the path of the repository is no text")?;
    let mut line = vec!["nextest", "run", "--release", "--jobs", "2", "-p", "mesh-lab", "--no-fail-fast"];
    line.extend(TESTS.iter().flat_map(|test| ["--test", test]));
    Ok(cargo::shown(&line, &[(DOCKER_ROOT_VARIABLE, root)])?.succeeded)
}

/// Gives the root of the programs. Fetches them where they are missing: 60 MB, once.
fn install() -> Result<PathBuf> {
    let dir = mesh_lab::repository()?.join("target/lab-peers").join(NAME);
    let root = dir.join("root");
    if root.join("usr/sbin/dockerd").exists() {
        return Ok(root);
    }
    // Whole or not at all: it gets its name when it is complete.
    let new = dir.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("remove {}", new.display()))?;
    }
    debian::unpack(&PACKAGES, &new)?;
    fs::rename(&new, &dir).with_context(|| format!("name {}", dir.display()))?;
    Ok(root)
}
