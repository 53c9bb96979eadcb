//! A file that says whether meshd has been told all that the agent knows.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use meshd_api::{Client, GetReady};

use crate::cli::Ready;

/// The file, as the agent keeps it; gone when dropped.
#[derive(Debug)]
pub struct ReadyFile {
    path: PathBuf,
}

impl ReadyFile {
    /// Takes a file of an earlier agent away.
    pub fn new(path: PathBuf) -> Result<Self> {
        let ready = Self { path };
        ready.set(false)?;
        Ok(ready)
    }

    /// Says whether meshd knows all.
    pub fn set(&self, is_ready: bool) -> Result<()> {
        let done = if is_ready { fs::write(&self.path, []) } else { fs::remove_file(&self.path) };
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound && !is_ready => Ok(()),
            done => done.with_context(|| format!("change {}", self.path.display())),
        }
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if let Err(error) = self.set(false) {
            tracing::warn!("failed to {error:#}");
        }
    }
}

/// Succeeds if the file is there and meshd can attach pods.
pub async fn check(options: &Ready) -> Result<()> {
    let path = &options.ready_file;
    if !path.try_exists().with_context(|| format!("look at {}", path.display()))? {
        bail!("be ready: meshd has not been told all policies, {} is not there", path.display());
    }
    let answer = Client::new(&options.socket).call(&GetReady {}).await.context("ask meshd")?.body;
    if !answer.can_attach {
        bail!("be ready: meshd can't attach pods: {}", answer.detail.unwrap_or_default());
    }
    Ok(())
}
