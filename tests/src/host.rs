//! A host: a network namespace with directories of its own; a machine has a file system and control groups too.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::claim::Claim;
use crate::internet::{self, HostNumber, Internet};
use crate::logs::Logs;
use crate::machine::Machine;
use crate::namespace::Namespace;
use crate::process::{self, Output, Process};

/// Deadline of a command that says nothing else; the slowest is an iperf3 run.
const RUN_DEADLINE: Duration = Duration::from_secs(60);

/// Longest host name; it stands in names of namespaces and files.
const NAME_LEN_MAX: usize = 32;

/// Device of a host's link to the internet.
pub const LINK: &str = "wan0";

/// A host of a lab.
#[derive(Debug)]
pub struct Host {
    name: String,
    number: HostNumber,
    namespace: Namespace,
    machine: Mutex<Option<Machine>>,
    dir: PathBuf,
    logs: PathBuf,
    internet: Arc<Internet>,
}

impl Host {
    pub(crate) fn new(
        name: &str,
        number: HostNumber,
        claim: &Claim,
        logs: &Logs,
        internet: Arc<Internet>,
    ) -> Result<Self> {
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(fits) {
            bail!("a host name has 1 to {NAME_LEN_MAX} small letters, digits and hyphens");
        }
        let dir = claim.dir().join("hosts").join(name);
        for part in ["state", "run"] {
            let path = dir.join(part);
            create_private(&path)?;
        }
        let logs = logs.of_host(name)?;
        let namespace = Namespace::create(&claim.namespace(name))?;
        let machine = Mutex::default();
        let host = Self { name: name.to_owned(), number, namespace, machine, dir, logs, internet };
        host.link()?;
        Ok(host)
    }

    /// Its name in the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in the lab, for conditions of the internet.
    pub fn number(&self) -> HostNumber {
        self.number
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its underlay IPv4 address.
    pub fn addr4(&self) -> Ipv4Addr {
        internet::addr4(self.number).0
    }

    /// Its underlay IPv6 address.
    pub fn addr6(&self) -> Ipv6Addr {
        self.internet.addr6(self.number).0
    }

    /// Where its daemon keeps state; outlives a reboot.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where its steward keeps the audit log.
    pub fn audit_log(&self) -> PathBuf {
        self.state_dir().join("steward/log")
    }

    /// Stands for `/run`.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// A directory for files of a test.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of one of its logs.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// Runs a command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, line: &[S]) -> Result<Output> {
        self.run_within(RUN_DEADLINE, line)
    }

    /// Runs a command to its end; kills it at the deadline.
    pub fn run_within<S: AsRef<OsStr>>(&self, deadline: Duration, line: &[S]) -> Result<Output> {
        process::run_command(self.inside(command(line)?), Some(&self.namespace), deadline)
            .with_context(|| format!("on host {}", self.name))
    }

    /// Starts a command; its output goes to the log of its name.
    pub fn start<S: AsRef<OsStr>>(&self, line: &[S]) -> Result<Process> {
        self.start_with(&[], line)
    }

    /// As [`Host::start`], with variables of its environment.
    pub fn start_with<S: AsRef<OsStr>>(&self, environment: &[(&str, &str)], line: &[S]) -> Result<Process> {
        let mut command = command(line)?;
        command.envs(environment.iter().copied());
        let name = Path::new(command.get_program()).file_name().unwrap_or_default();
        let log = self.log(&name.to_string_lossy());
        Process::start(self.inside(command), &self.namespace, &log)
            .with_context(|| format!("on host {}", self.name))
    }

    /// Where a file of this host is found from outside. An absolute symbolic link in `path` would lead out of it.
    pub fn path(&self, path: &str) -> PathBuf {
        match &*self.machine() {
            Some(machine) => machine.path(path),
            None => PathBuf::from(path),
        }
    }

    /// Sends echo requests; true if each one was answered.
    pub fn pings(&self, target: &str, count: u32) -> Result<bool> {
        let count = count.to_string();
        Ok(self.run(&["ping", "-n", "-q", "-c", &count, "-i", "0.05", "-W", "1", target])?.code == 0)
    }

    /// Pulls the plug and boots again: everything that ran is gone, what was on disk is still there.
    pub fn reboot(&self) -> Result<()> {
        let was_machine = self.machine().take().is_some();
        self.namespace.kill_processes()?;
        // The kernel takes the links of a removed namespace away at its leisure.
        let outer = internet::link_name(self.number);
        self.internet.namespace().ip(&format!("link del {outer}\n"))?;
        self.namespace.remove()?;
        let run = self.run_dir();
        fs::remove_dir_all(&run).with_context(|| format!("empty {}", run.display()))?;
        create_private(&run)?;
        Namespace::create(self.namespace.name())?;
        self.link()?;
        if was_machine { self.boot() } else { Ok(()) }
    }

    /// Makes it a machine: all that runs on it from now on sees a file system and control groups of its own.
    pub(crate) fn boot(&self) -> Result<()> {
        let machine = Machine::boot(&self.dir, &self.namespace, &self.log("machine"))?;
        *self.machine() = Some(machine);
        Ok(())
    }

    /// The same command, carried out inside the machine if the host is one.
    pub(crate) fn inside(&self, command: Command) -> Command {
        match &*self.machine() {
            Some(machine) => machine.inside(&command),
            None => command,
        }
    }

    /// Sets the MTU of both ends of its link.
    pub fn set_mtu(&self, mtu: u16) -> Result<()> {
        self.namespace.ip(&format!("link set {LINK} mtu {mtu}\n"))?;
        self.internet.namespace().ip(&format!("link set {} mtu {mtu}\n", internet::link_name(self.number)))
    }

    /// Takes its link down, as a pulled cable does.
    pub fn unplug(&self) -> Result<()> {
        self.internet.namespace().ip(&format!("link set {} down\n", internet::link_name(self.number)))
    }

    /// Takes its link up again.
    pub fn plug(&self) -> Result<()> {
        let outer = internet::link_name(self.number);
        let (_, gateway6) = self.internet.addr6(self.number);
        // A link that goes down loses its IPv6 addresses.
        self.internet
            .namespace()
            .ip(&format!("link set {outer} up\naddr replace {gateway6}/64 dev {outer} nodad\n"))
    }

    /// Gives it another IPv4 address of the internet, and takes both that it had.
    pub fn move_to(&self, addr: Ipv4Addr) -> Result<()> {
        let (own4, gateway) = internet::addr4(self.number);
        let outer = internet::link_name(self.number);
        self.internet.namespace().ip(&format!("route add {addr}/32 dev {outer}\n"))?;
        self.namespace.ip(&format!(
            "addr add {addr}/32 dev {LINK}\n\
             addr del {own4}/30 dev {LINK}\n\
             addr del {}/64 dev {LINK}\n\
             route add {gateway} dev {LINK} src {addr}\n\
             route replace default via {gateway} src {addr}\n",
            self.addr6()
        ))
    }

    /// Puts its state on a disk of its own with that many bytes.
    pub fn small_disk(&self, bytes: u64) -> Result<()> {
        let size = format!("size={bytes},mode=0700");
        let state = self.state_dir();
        let line = ["mount".as_ref(), "-t".as_ref(), "tmpfs".as_ref(), "-o".as_ref(), size.as_ref()];
        let tail: [&OsStr; 2] = ["lab".as_ref(), state.as_os_str()];
        let line: Vec<&OsStr> = line.into_iter().chain(tail).collect();
        self.run(&line)?.ok().map(drop)
    }

    fn machine(&self) -> MutexGuard<'_, Option<Machine>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self) -> Result<()> {
        let inet = self.internet.namespace();
        let outer = internet::link_name(self.number);
        let (own4, gateway4) = internet::addr4(self.number);
        let (own6, gateway6) = self.internet.addr6(self.number);
        let host = self.namespace.name();
        inet.ip(&format!(
            "link add {outer} type veth peer name {LINK} netns {host}\n\
             addr add {gateway4}/30 dev {outer}\n\
             addr add {gateway6}/64 dev {outer} nodad\n\
             link set {outer} up\n"
        ))?;
        self.namespace.ip(&format!(
            "addr add {own4}/30 dev {LINK}\n\
             addr add {own6}/64 dev {LINK} nodad\n\
             link set {LINK} up\n\
             route add default via {gateway4}\n\
             route add default via {gateway6}\n"
        ))?;
        self.internet.attached(self.number)
    }
}

fn command<S: AsRef<OsStr>>(line: &[S]) -> Result<Command> {
    let (program, arguments) = line.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// A daemon refuses a directory that others may enter.
fn create_private(dir: &Path) -> Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("create {}", dir.display()))
}
