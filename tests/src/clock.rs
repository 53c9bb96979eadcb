//! Another time of day for one process, by Debian's libfaketime.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

/// Lets a command read a time of day that is off by an offset such as `-1d`; intervals stay true.
pub fn shift(command: &mut Command, offset: &str) -> Result<()> {
    command.env("LD_PRELOAD", library()?).env("FAKETIME", offset).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    // Shared between processes otherwise, and left behind by a killed one.
    command.env("FAKETIME_DISABLE_SHM", "1");
    Ok(())
}

fn library() -> Result<PathBuf> {
    let places = std::fs::read_dir("/usr/lib").context("list /usr/lib")?.flatten().map(|entry| entry.path());
    let mut found = places.map(|dir| dir.join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().context("find libfaketime: install the Debian package faketime")
}
