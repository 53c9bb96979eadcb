//! What is run once meshd knows the policies: it makes the node ready for pods.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process;
use tokio::time::timeout;
use tracing::info;

/// Time the command gets; it is run again if that was too short.
const TIME_MAX: Duration = Duration::from_secs(60);

/// A command that must succeed once.
#[derive(Debug)]
pub struct Command {
    words: Vec<OsString>,
}

impl Command {
    /// A program and its arguments, or nothing.
    pub fn new(words: Vec<OsString>) -> Self {
        Self { words }
    }

    /// Runs it, unless it succeeded before.
    pub async fn run(&mut self) -> Result<()> {
        let Some((program, arguments)) = self.words.split_first() else { return Ok(()) };
        let shown = program.display().to_string();
        let mut command = process::Command::new(program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let ended = timeout(TIME_MAX, command.status()).await;
        let status = ended
            .with_context(|| format!("run {shown} within {} s", TIME_MAX.as_secs()))?
            .with_context(|| format!("run {shown}"))?;
        if !status.success() {
            bail!("run {shown}: {status}");
        }
        info!("{shown} has succeeded");
        self.words.clear();
        Ok(())
    }
}
