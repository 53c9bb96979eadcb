//! The program nft, spoken to in JSON.

pub(super) mod words;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use words::FAMILY;

const PROGRAM: &str = "nft";
/// Longest time it takes: a full table is written within a second, and callers wait for twenty.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Runs of it that are known as ours: more than there are before the kernel's word about the first one is read.
const RUNS_MAX: usize = 256;
/// Their process ids, by which the kernel names whoever changed a table.
static RUNS: Mutex<VecDeque<u32>> = Mutex::new(VecDeque::new());
/// Characters of the program's complaint that are passed on; it repeats the whole input.
const COMPLAINT_LEN_MAX: usize = 300;

/// Says why the packet filter could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The program can't be started.
    #[error("run {PROGRAM}, of the package nftables")]
    Run(#[source] io::Error),
    /// It refused.
    #[error("{PROGRAM}: {said}")]
    Refused {
        /// What it said, shortened.
        said: String,
    },
    /// More than the packet filter is given.
    #[error("{weight} rules and addresses, where {max} fit")]
    TooMany {
        /// How many.
        weight: usize,
        /// How many fit.
        max: usize,
    },
    /// More rules for one packet than it can wait for.
    #[error("one packet would meet {met} rules, where {max} are quick enough")]
    TooLong {
        /// How many.
        met: usize,
        /// How many are quick enough.
        max: usize,
    },
    /// It answered with something else than JSON.
    #[error("read the answer of {PROGRAM}")]
    Answer(#[source] serde_json::Error),
}

impl FirewallError {
    /// Whether less could be written.
    pub fn is_too_much(&self) -> bool {
        match self {
            Self::TooMany { .. } | Self::TooLong { .. } => true,
            Self::Run(_) | Self::Refused { .. } | Self::Answer(_) => false,
        }
    }
}

/// Executes commands, all or none.
pub(super) fn run(commands: &[Value]) -> Result<(), FirewallError> {
    if commands.is_empty() {
        return Ok(());
    }
    let input = json!({ "nftables": commands }).to_string();
    said(&["-j", "-f", "-"], &input).map(|_| ())
}

/// A table as the kernel has it; nothing if it isn't there.
pub(super) fn listed(table: &str) -> Result<Vec<Value>, FirewallError> {
    let tables = items(&said(&["-j", "list", "tables", FAMILY], "")?)?;
    if !tables.iter().any(|item| item.pointer("/table/name").is_some_and(|name| name == table)) {
        return Ok(Vec::new());
    }
    items(&said(&["-j", "list", "table", FAMILY, table], "")?)
}

fn items(answer: &[u8]) -> Result<Vec<Value>, FirewallError> {
    let mut answer: Value = serde_json::from_slice(answer).map_err(FirewallError::Answer)?;
    match answer.get_mut("nftables").map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

/// Runs the program in the calling thread's network namespace; returns what it said.
fn said(words: &[&str], input: &str) -> Result<Vec<u8>, FirewallError> {
    let output = ran(PROGRAM, words, input, TIME_MAX).map_err(FirewallError::Run)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said: String =
        String::from_utf8_lossy(&output.stderr).trim().chars().take(COMPLAINT_LEN_MAX).collect();
    Err(FirewallError::Refused { said })
}

/// Whether it was this daemon's run of the program that changed a table.
pub(super) fn is_own_run(id: u32) -> bool {
    RUNS.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
}

/// Runs a program to its end, or until its time is over.
fn ran(program: &str, words: &[&str], input: &str, time_max: Duration) -> io::Result<Output> {
    let mut command = Command::new(program);
    command.args(words).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    {
        // Before it is told what to do.
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        if runs.len() == RUNS_MAX {
            runs.pop_front();
        }
        runs.push_back(child.id());
    }
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // Nothing is ever said here: it closes when the program has closed all that it says things on.
        let (open, ended) = mpsc::channel::<()>();
        let also_open = open.clone();
        let written =
            scope.spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes())));
        let stdout = scope.spawn(move || read(stdout, open));
        let stderr = scope.spawn(move || read(stderr, also_open));
        let is_late = ended.recv_timeout(time_max) == Err(RecvTimeoutError::Timeout);
        if is_late {
            // It may have ended just now.
            drop(child.kill());
        }
        let status = child.wait();
        let (written, stdout, stderr) = (joined(written), joined(stdout), joined(stderr));
        if is_late {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let output = Output { status: status?, stdout: stdout?, stderr: stderr? };
        // It reads all of its input before it says anything; if it died before, its words tell why.
        match written {
            Err(error) if output.status.success() => Err(error),
            _ => Ok(output),
        }
    })
}

/// All that is said; `_open` ends with it.
fn read(from: Option<impl Read>, _open: mpsc::Sender<()>) -> io::Result<Vec<u8>> {
    let mut said = Vec::new();
    from.map_or(Ok(0), |mut from| from.read_to_end(&mut said)).map(|_| said)
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended_and_one_that_does_is_heard() {
        let much = "a word ".repeat(100_000);
        for input in ["", &much] {
            let late = ran("sleep", &["600"], input, Duration::from_millis(100)).expect_err("it hangs");
            assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        }
        let heard = ran("sh", &["-c", "cat; echo no >&2; exit 3"], &much, TIME_MAX).expect("it ends");
        assert_eq!((heard.status.code(), heard.stderr.as_slice()), (Some(3), &b"no\n"[..]));
        assert_eq!(heard.stdout, much.as_bytes());
    }
}
