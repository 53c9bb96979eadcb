//! A control group for what runs on a host, in every hierarchy of this machine.
//!
//! The process of a container lives in a network namespace of its own, so the host's namespace does not name it. Its
//! control group does: it stands below that of its host, whoever made it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// Where hierarchies are mounted: each controller in a directory of its own (v1), or all of them right here (v2).
const HIERARCHIES: &str = "/sys/fs/cgroup";

/// Group of the host's own processes, below that of the host: v2 wants processes in leaves alone.
const LEAF: &str = "host";

/// Time that killed processes get to disappear, and their groups with them.
const REMOVE_DEADLINE: Duration = Duration::from_secs(10);

/// A control group of one host, with all groups below it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    name: String,
}

impl Cgroup {
    /// Makes the group and its leaf.
    pub(crate) fn create(name: &str) -> Result<Self> {
        let group = Self { name: name.to_owned() };
        for hierarchy in hierarchies()? {
            let mut parent = hierarchy;
            for part in [name, LEAF] {
                let dir = parent.join(part);
                make(&parent, &dir).with_context(|| format!("make the control group {}", dir.display()))?;
                parent = dir;
            }
        }
        Ok(group)
    }

    /// Lists the groups whose names start with `prefix`.
    pub(crate) fn all(prefix: &str) -> Vec<Self> {
        let names = hierarchies().unwrap_or_default().into_iter().flat_map(|dir| children(&dir));
        let names = names.filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned()));
        let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|name| Self { name }).collect()
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Kills what runs in it or below, and removes it.
    pub(crate) fn remove(&self) -> Result<()> {
        let what = format!("the control group {} is empty and gone", self.name);
        wait::until(REMOVE_DEADLINE, &what, || {
            let dirs = self.dirs();
            let processes: Vec<Pid> = dirs.iter().flat_map(|dir| processes(dir)).collect();
            for pid in &processes {
                // It may have gone by itself; the next round tells.
                let _gone = kill(*pid, Signal::SIGKILL);
            }
            // The kernel keeps a group until the last of its processes has left in all respects.
            processes.is_empty() && dirs.iter().all(|dir| remove_tree(dir).is_ok())
        })
    }

    fn dirs(&self) -> Vec<PathBuf> {
        let dirs = hierarchies().unwrap_or_default().into_iter().map(|dir| dir.join(&self.name));
        dirs.filter(|dir| dir.exists()).collect()
    }
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(HIERARCHIES);
    let is_group = |dir: &PathBuf| dir.join("cgroup.procs").exists();
    if is_group(&root.to_owned()) {
        return Ok(vec![root.to_owned()]);
    }
    let found: Vec<PathBuf> = children(root).into_iter().filter(is_group).collect();
    anyhow::ensure!(!found.is_empty(), "no control groups are mounted below {HIERARCHIES}");
    Ok(found)
}

fn make(parent: &Path, dir: &Path) -> io::Result<()> {
    fs::create_dir(dir)?;
    // Without these two, v1 lets no process in.
    for setting in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read(parent.join(setting)) {
            fs::write(dir.join(setting), value)?;
        }
    }
    Ok(())
}

/// Processes of a group and of all below it.
fn processes(dir: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    // 0 stands for a process that is not to be seen from here, and for the caller in `kill`.
    let own = text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw);
    own.chain(children(dir).iter().flat_map(|child| processes(child))).collect()
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    for child in children(dir) {
        remove_tree(&child)?;
    }
    fs::remove_dir(dir)
}

/// Directories below one, without those that are only other names.
fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.map(|entry| entry.path()).collect()
}
