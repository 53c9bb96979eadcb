//! What tests run of a Debian to come, beside this one's.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use mesh_lab::Containerd;

use crate::debian;

/// Its first line of versions that asks plugins for their status is 2.
const CONTAINERD_MAJOR_MIN: u32 = 2;

/// Fetches and unpacks containerd where it is missing: half a minute, once.
pub fn install_containerd() -> Result<()> {
    let dir = Containerd::later_dir()?;
    if dir.exists() {
        return Ok(());
    }
    // Whole or not at all: it gets its name when it is complete.
    let new = dir.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new).with_context(|| format!("remove {}", new.display()))?;
    }
    // Plugins that know the status come with the runtime that asks for it.
    debian::unpack(&["containerd", "containernetworking-plugins"], &new)?;
    let version = debian::run(Command::new(new.join("root/usr/bin/containerd")).arg("--version"))?;
    let major =
        version.split_whitespace().filter_map(|word| word.split('.').next()?.parse::<u32>().ok()).next();
    ensure!(major >= Some(CONTAINERD_MAJOR_MIN), "this is no containerd {CONTAINERD_MAJOR_MIN}: {version}");
    fs::rename(new.join("root"), &dir).with_context(|| format!("name {}", dir.display()))?;
    fs::remove_dir_all(&new).with_context(|| format!("remove {}", new.display()))
}
