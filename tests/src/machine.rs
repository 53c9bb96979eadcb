//! What a host needs beside its network namespace to run container runtimes: its own view of the file system and of
//! control groups.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use std::{fs, str};

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;
use crate::namespace::Namespace;
use crate::process::Process;
use crate::wait;

/// Makes the machine; it ends as a process that only holds the namespaces.
const BOOT: &str = include_str!("machine/boot.sh");

/// Leads a command into the machine.
const ENTER: &str = include_str!("machine/enter.sh");

/// The program that the holder becomes when all is made.
const HOLDER: &str = "sleep";

/// Time that a few dozen mounts may take.
const BOOT_DEADLINE: Duration = Duration::from_secs(20);

/// Namespaces for mounts and control groups; all that runs inside is killed when dropped.
///
/// `/run`, `/etc`, `/opt` and `/var/lib` are its own. What it changes there lies in the directory of its host, and
/// outlives a reboot except for `/run`.
#[derive(Debug)]
pub(crate) struct Machine {
    cgroup: Cgroup,
    holder: Process,
    enter: PathBuf,
}

impl Machine {
    /// Makes it for a host with this directory and namespace.
    pub(crate) fn boot(dir: &Path, namespace: &Namespace, log: &Path) -> Result<Self> {
        let cgroup = Cgroup::create(namespace.name())?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "slave", "sh", "-eu", "-c", BOOT, "boot"]);
        command.arg(dir).arg(cgroup.name()).arg(HOLDER);
        let holder = Process::start(command, namespace, log)?;
        let enter = dir.join("enter");
        let script = format!("group={} holder={}\n{ENTER}", cgroup.name(), holder.pid());
        fs::write(&enter, script).with_context(|| format!("write {}", enter.display()))?;
        let mut machine = Self { cgroup, holder, enter };
        let is_up = wait::until_some(BOOT_DEADLINE, "the machine is up", || {
            let program = fs::read(format!("/proc/{}/comm", machine.holder.pid())).unwrap_or_default();
            let is_up = str::from_utf8(&program).is_ok_and(|name| name.trim_end() == HOLDER);
            (is_up || machine.holder.ended().is_some()).then_some(is_up)
        })?;
        if !is_up {
            bail!("the machine did not come up:\n{}", fs::read_to_string(log).unwrap_or_default());
        }
        Ok(machine)
    }

    /// The same command, carried out inside.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.arg("-eu").arg(&self.enter);
        // Entering a mount namespace leads to its root.
        inside.arg(command.get_current_dir().unwrap_or(Path::new("/")));
        inside.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// Where a file of its own is found from outside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.pid()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let removed = self.cgroup.remove().context("end a machine");
        if let Err(error) = removed {
            eprintln!("{error:#}");
        }
    }
}
