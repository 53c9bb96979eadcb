//! Copies of directories, to go back to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What a directory was.
#[derive(Debug)]
pub struct Backup {
    of: PathBuf,
    copy: PathBuf,
}

impl Backup {
    /// Copies a directory to a place that does not exist yet.
    pub fn take(of: PathBuf, copy: PathBuf) -> Result<Self> {
        copy_dir(&of, &copy)?;
        Ok(Self { of, copy })
    }

    /// Puts the copy in the place of the directory, with all that came there since.
    pub fn restore(&self) -> Result<()> {
        fs::remove_dir_all(&self.of).with_context(|| format!("empty {}", self.of.display()))?;
        copy_dir(&self.copy, &self.of)
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("create {}", to.display()))?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy_dir(&path, &to)? } else { fs::copy(&path, &to).map(drop)? }
    }
    Ok(())
}
