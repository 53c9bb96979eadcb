//! Logs of a lab: kept and named if the lab failed, removed otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build;

/// Last lines of a log that a failed start shows.
const LINES_SHOWN: usize = 12;

/// The log directory of one lab.
#[derive(Debug)]
pub struct Logs {
    dir: PathBuf,
}

impl Logs {
    pub(crate) fn new(lab: &str, id: &str) -> Result<Self> {
        let dir = build::target_dir()?.join("lab-logs").join(lab).join(id);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// Its path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The log directory of one host.
    pub(crate) fn of_host(&self, host: &str) -> Result<PathBuf> {
        let dir = self.dir.join(host);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir)
    }

    /// Leaves the logs and says where they are.
    pub(crate) fn keep(&self) {
        eprintln!("logs of this lab: {}", self.dir.display());
    }

    pub(crate) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))?;
        // Only works once the directory of the lab's name is empty, and need not work.
        if let Some(parent) = self.dir.parent() {
            let _other_runs = fs::remove_dir(parent);
        }
        Ok(())
    }
}

/// The last lines of a log, for messages.
pub(crate) fn end(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LINES_SHOWN)..).unwrap_or_default().join("\n")
}
