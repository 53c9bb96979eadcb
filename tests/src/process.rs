//! Processes of a lab: inside a namespace, in a group of their own, gone when their handle is.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::namespace::Namespace;
use crate::{os, wait};

/// A running process; killed with its group when dropped.
///
/// It dies with the thread that started it, so it must be started on a thread that outlives it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts a command inside a namespace; its output goes to a file.
    pub fn start(mut command: Command, namespace: &Namespace, log: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("open {}", log.display()))?;
        let copy = file.try_clone().with_context(|| format!("open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(copy).stderr(file);
        Self::spawn(command, Some(namespace))
    }

    pub(crate) fn spawn(mut command: Command, namespace: Option<&Namespace>) -> Result<Self> {
        os::enter_before_exec(&mut command, namespace.map(Namespace::open).transpose()?);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name, child, ended: None })
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal to it and to what it started.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        killpg(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("{} ended", self.name);
        wait::until_some(deadline, &what, || self.ended())
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended().is_none() {
            self.signal(Signal::SIGKILL)?;
            self.ended = Some(self.child.wait().with_context(|| format!("wait for {}", self.name))?);
        }
        Ok(())
    }

    /// Asks it to stop in order, and waits until it has.
    pub fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        self.wait(deadline)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("{error:#}");
        }
    }
}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// How it ended; 128 and the signal's number if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The output of a command that must have succeeded.
    pub fn ok(self) -> Result<String> {
        let Self { command, code, stdout, stderr } = self;
        if code != 0 {
            bail!("`{command}` ended with {code}: {}", format!("{stdout}{stderr}").trim());
        }
        Ok(stdout)
    }
}

/// Runs a command to its end; kills it at the deadline.
pub fn run<S: AsRef<OsStr>>(line: &[S], namespace: Option<&Namespace>, deadline: Duration) -> Result<Output> {
    let (program, arguments) = line.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    run_command(command, namespace, deadline)
}

/// Runs a prepared command to its end; kills it at the deadline.
pub fn run_command(
    mut command: Command,
    namespace: Option<&Namespace>,
    deadline: Duration,
) -> Result<Output> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(command, namespace)?;
    let stdout = process.child.stdout.take().map(read_all);
    let stderr = process.child.stderr.take().map(read_all);
    let status = process.wait(deadline);
    // Closes the pipes also if something it started still holds them.
    let _gone = process.signal(Signal::SIGKILL);
    process.kill()?;
    let collect = |reader: Option<thread::JoinHandle<String>>| match reader {
        Some(reader) => reader.join().map_err(|_| anyhow!("a reader of `{text}` panicked")),
        None => Ok(String::new()),
    };
    let (stdout, stderr) = (collect(stdout)?, collect(stderr)?);
    let status = status.with_context(|| format!("run `{text}`, which said: {}{}", stdout, stderr))?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(Output { command: text, code, stdout, stderr })
}

fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is still worth showing.
        let _partial = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
