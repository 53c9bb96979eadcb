//! meshd on a host.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::host::Host;
use crate::process::{Output, Process, run_command};
use crate::{build, logs, wait};

/// Time a daemon gets until it answers; 33 of them may start on two cores at once.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Time a daemon gets to stop in order, or to refuse its start.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// A running meshd; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    log: PathBuf,
}

impl Host {
    /// Starts meshd with a configuration (TOML, may be empty) and waits until it answers.
    pub fn meshd(&self, config: &str) -> Result<Daemon> {
        self.meshd_from(self.meshd_command(config)?)
    }

    /// Starts meshd by a command line of the test's own and waits until it answers.
    pub fn meshd_from(&self, command: Command) -> Result<Daemon> {
        let log = self.log("meshd");
        let process = Process::start(self.inside(command), self.namespace(), &log)
            .with_context(|| format!("on host {}", self.name()))?;
        let mut daemon = Daemon { process, log };
        let start = Instant::now();
        loop {
            if let Some(status) = daemon.process.ended() {
                bail!("meshd on {} ended with {status}:\n{}", self.name(), daemon.log_end());
            }
            if self.ctl(&["status"])?.code == 0 {
                return Ok(daemon);
            }
            if start.elapsed() > START_DEADLINE {
                bail!("meshd on {} did not answer:\n{}", self.name(), daemon.log_end());
            }
        }
    }

    /// Runs a meshd that is expected to end by itself, and returns what it said.
    pub fn meshd_ends(&self, config: &str) -> Result<Output> {
        run_command(self.inside(self.meshd_command(config)?), Some(self.namespace()), STOP_DEADLINE)
    }

    /// The command line of this host's daemon.
    pub fn meshd_command(&self, config: &str) -> Result<Command> {
        let path = self.dir().join("meshd.toml");
        let mut text = config.to_owned();
        if !config.contains("[node]") {
            text.push_str(&format!("\n[node]\nname = \"{}\"\n", self.name()));
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        let mut command = Command::new(build::program("meshd")?);
        command.args(["run", "--log-level", "info,meshd=debug", "--config"]).arg(path);
        command.arg("--state-dir").arg(self.state_dir()).arg("--socket").arg(self.socket());
        Ok(command)
    }
}

impl Daemon {
    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Stops it in order.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.stop(STOP_DEADLINE)
    }

    /// Halts it in the middle of whatever it does.
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::SIGSTOP)
    }

    /// Lets a halted one go on.
    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::SIGCONT)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Memory that is its own and resident, in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.pid());
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("find VmRSS in {path}"))
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log holds a text.
    pub fn logs(&self, deadline: Duration, text: &str) -> Result<()> {
        wait::until(deadline, &format!("the log holds {text:?}"), || self.log().contains(text))
    }

    fn log_end(&self) -> String {
        logs::end(&self.log)
    }
}
