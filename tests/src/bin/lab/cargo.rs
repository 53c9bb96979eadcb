//! Calls of cargo.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What a call printed on standard error, and whether it succeeded.
pub struct Call {
    /// Whether it ended with 0.
    pub succeeded: bool,
    /// Standard error, which was also shown.
    pub stderr: String,
}

/// Builds the daemon, the command line and the plugins.
pub fn build() -> Result<()> {
    let mut line = vec!["build", "--release", "--jobs", "2"];
    for package in ["meshd", "meshctl", "meshd-cni", "meshd-docker", "meshd-k8s", "mesh-lab"] {
        line.extend(["-p", package]);
    }
    // With its target named, flags are for the program alone and not for what runs while it is built.
    let target = mesh_lab::static_target();
    let plugin = ["build", "--release", "--jobs", "2", "-p", "meshd-cni", "--target", &target];
    if !shown(&line, &[])?.succeeded || !shown(&plugin, &[("RUSTFLAGS", mesh_lab::STATIC_FLAGS)])?.succeeded {
        bail!("the build failed; the compiler's message is above");
    }
    Ok(())
}

/// Runs cargo; what it prints is shown as it comes.
pub fn shown(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Call> {
    let mut child = Command::new("cargo")
        .args(arguments)
        .envs(environment.iter().copied())
        .stderr(Stdio::piped())
        .spawn()
        .context("start cargo")?;
    let mut stderr = String::new();
    let pipe = child.stderr.take().context("read what cargo says")?;
    for line in BufReader::new(pipe).lines() {
        let line = line.context("read what cargo says")?;
        eprintln!("{line}");
        stderr.push_str(&line);
        stderr.push('\n');
    }
    let succeeded = child.wait().context("wait for cargo")?.success();
    Ok(Call { succeeded, stderr })
}

/// Runs cargo quietly and returns what it printed; fails if it fails.
pub fn output(arguments: &[&str]) -> Result<String> {
    let output = Command::new("cargo").args(arguments).output().context("start cargo")?;
    if !output.status.success() {
        bail!("`cargo {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("read what cargo printed")
}

/// Whether cargo has this subcommand.
pub fn has(subcommand: &str) -> bool {
    let status = Command::new("cargo")
        .args([subcommand, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
