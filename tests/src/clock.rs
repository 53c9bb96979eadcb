//! Another time of day for one process, by Debian's libfaketime.

use std::fs;
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

/// The time of day of one process, set as often as wanted while it runs.
#[derive(Debug)]
pub struct MovableClock {
    file: PathBuf,
}

impl MovableClock {
    /// Gives a command a clock whose offset stands in a file.
    pub fn new(command: &mut Command, file: PathBuf) -> Result<Self> {
        let clock = Self { file };
        clock.set("+0")?;
        shift(command, "+0")?;
        command
            .env_remove("FAKETIME")
            .env("FAKETIME_TIMESTAMP_FILE", &clock.file)
            .env("FAKETIME_NO_CACHE", "1");
        Ok(clock)
    }

    /// Sets it off by an offset such as `+10y`.
    pub fn set(&self, offset: &str) -> Result<()> {
        // Replaced as a whole: whoever reads meanwhile finds one of the two.
        let new = self.file.with_extension("new");
        fs::write(&new, offset).and_then(|()| fs::rename(&new, &self.file)).context("set the clock")
    }
}

fn library() -> Result<PathBuf> {
    let places = fs::read_dir("/usr/lib").context("list /usr/lib")?.flatten().map(|entry| entry.path());
    let mut found = places.map(|dir| dir.join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().context("find libfaketime: install the Debian package faketime")
}
