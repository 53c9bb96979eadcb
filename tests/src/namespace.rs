//! A network namespace.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{os, wait};

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

/// Time that killed processes get to disappear; a process in the middle of a disk write takes longest.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A network namespace with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Creates the namespace with its loopback up.
    pub fn create(name: &str) -> Result<Self> {
        let namespace = Self::named(name);
        run(Command::new("ip").args(["netns", "add", name]), None)?;
        // Links would otherwise not carry IPv6 until an address is known to be unique, after a second.
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        }
        namespace.ip("link set lo up\n")?;
        Ok(namespace)
    }

    /// Names a namespace that exists already.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned() }
    }

    /// Lists the namespaces whose names start with `prefix`.
    pub fn all(prefix: &str) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(NAMES) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names.iter().map(|name| Self::named(name)).collect()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    /// Runs lines of `ip`, without the word `ip` itself.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.ip_batch(&["-n", &self.name], lines)
    }

    /// Runs lines of `ip -6`, for what names no address that tells the family.
    pub fn ip6(&self, lines: &str) -> Result<()> {
        self.ip_batch(&["-6", "-n", &self.name], lines)
    }

    fn ip_batch(&self, options: &[&str], lines: &str) -> Result<()> {
        run(Command::new("ip").args(options).args(["-batch", "-"]), Some(lines))
            .with_context(|| format!("configure {}:\n{lines}", self.name))
    }

    /// Loads rules of nft.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        os::enter_before_exec(&mut command, Some(self.open()?));
        run(&mut command, Some(rules)).with_context(|| format!("load into {}:\n{rules}", self.name))
    }

    /// Sets a kernel setting below `/proc/sys/net`, such as `ipv4/ip_forward`.
    pub fn sysctl(&self, setting: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(setting);
        self.run(|| fs::write(&path, value))?.with_context(|| format!("set {setting} in {}", self.name))
    }

    /// Runs a closure on a thread inside the namespace; sockets it opens stay inside for ever.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let namespace = self.open()?;
        let inside = move || -> Result<T> {
            setns(&namespace, CloneFlags::CLONE_NEWNET).context("enter a network namespace")?;
            Ok(work())
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Opens the namespace, for `setns`.
    pub fn open(&self) -> Result<File> {
        File::open(self.path()).with_context(|| format!("open the network namespace {}", self.name))
    }

    /// Lists the processes inside.
    pub fn processes(&self) -> Vec<Pid> {
        let Ok(own) = fs::metadata(self.path()) else { return Vec::new() };
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let inside = pids.filter(|pid| {
            fs::metadata(format!("/proc/{pid}/ns/net"))
                .is_ok_and(|net| net.ino() == own.ino() && net.dev() == own.dev())
        });
        inside.map(Pid::from_raw).collect()
    }

    /// Kills what runs inside, and waits until it is gone.
    pub fn kill_processes(&self) -> Result<()> {
        wait::until(KILL_DEADLINE, &format!("the processes in {} are gone", self.name), || {
            let alive = self.processes();
            for pid in &alive {
                // It may have gone by itself; the next round tells.
                let _gone = kill(*pid, Signal::SIGKILL);
            }
            alive.is_empty()
        })
    }

    /// Kills what runs inside and removes the namespace, with its links, addresses and rules.
    pub fn remove(&self) -> Result<()> {
        if !self.exists() {
            return Ok(());
        }
        self.kill_processes()?;
        run(Command::new("ip").args(["netns", "del", &self.name]), None)
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }
}

/// Runs a short command that must succeed.
fn run(command: &mut Command, stdin: Option<&str>) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).with_context(|| format!("write to {program}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("wait for {program}"))?;
    if !output.status.success() {
        bail!("{program} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
