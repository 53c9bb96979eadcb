//! How fast a log is audited, and how fast its steward appends to it.

mod append;
mod watched;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use mesh_lab::report::Row;
use mesh_lab::target_dir;

use super::instructions;
use watched::Watched;

/// Longest audit of a million leaves, on two cores.
const MILLION_S: f64 = 60.0;
const CORES: f64 = 2.0;
const PEAK_MIB: f64 = 512.0;

/// How large the log is.
#[derive(Debug, Args)]
pub struct Options {
    /// audit: leaves of the log; 20000 gives a quick look.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(5_000..=4_000_000))]
    leaves: u64,
    /// audit: seconds in which nodes have their keys logged.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..))]
    appending: u64,
}

/// Measures audits of a log as a thousand nodes fill it, and of its bundle; then what a steward appends.
pub fn measure(options: &Options) -> Result<Vec<Row>> {
    let mut rows = verify(options)?;
    rows.extend(append::measure(options.appending)?);
    Ok(rows)
}

fn verify(options: &Options) -> Result<Vec<Row>> {
    let made = Made::new(options.leaves)?;
    let dir = made.dir.to_string_lossy();
    let of_directory = Watched::run(&["audit", "verify", "--log", &dir, "--mesh", &made.mesh])?;
    let file = made.dir.with_extension("bundle");
    let bundle = file.to_string_lossy();
    if file.exists() {
        fs::remove_file(&file).with_context(|| format!("remove {bundle}"))?;
    }
    Watched::run(&["audit", "bundle", "--log", &dir, "--mesh", &made.mesh, "--out", &bundle])?;
    let of_bundle = Watched::run(&["audit", "verify-bundle", &bundle, "--mesh", &made.mesh])?;
    fs::remove_file(&file).with_context(|| format!("remove {bundle}"))?;
    drop(made);
    let mut rows = rows("directory", options.leaves, &of_directory);
    rows.extend(self::rows("bundle", options.leaves, &of_bundle));
    Ok(rows)
}

fn rows(what: &str, leaves: u64, watched: &Watched) -> Vec<Row> {
    let limit_s = MILLION_S * leaves as f64 / 1e6;
    let name = |number: &str| format!("{leaves} leaves of a {what}: {number}");
    vec![
        Row::at_most(&name("verified in"), watched.wall_s, "s", limit_s),
        Row::at_least(&name("verified each second"), leaves as f64 / watched.wall_s, "1/s", 1e6 / MILLION_S),
        Row::at_most(&name("processor time"), watched.processor_s, "s", limit_s * CORES),
        Row::at_most(&name("memory at its peak"), watched.peak_mib, "MiB", PEAK_MIB),
        Row::at_most(&name("exit code, 0 is clean"), f64::from(watched.code), "", 0.0),
    ]
}

/// A log that was made for this; removed when dropped.
struct Made {
    dir: PathBuf,
    mesh: String,
}

impl Made {
    fn new(leaves: u64) -> Result<Self> {
        let line = ["build", "--package", "meshd-audit", "--bench", "rotated"];
        let program = instructions::build(&line, "bench")?;
        let dir = target_dir()?.join("bench").join("audit-log");
        remove(&dir)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let output = Command::new(&program)
            .arg(&dir)
            .args([leaves.to_string(), now.to_string()])
            .stderr(Stdio::inherit())
            .output()
            .context("make a log")?;
        if !output.status.success() {
            bail!("{program} ended with {}", output.status);
        }
        let mesh = String::from_utf8(output.stdout).context("read the id of the mesh")?.trim().to_owned();
        Ok(Self { dir, mesh })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.dir) {
            eprintln!("{error:#}");
        }
    }
}

fn remove(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    Ok(())
}
