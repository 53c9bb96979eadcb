//! The program nft, spoken to in JSON.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::ruleset::{FAMILY, TABLE};

const PROGRAM: &str = "nft";
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
    /// It answered with something else than JSON.
    #[error("read the answer of {PROGRAM}")]
    Answer(#[source] serde_json::Error),
}

/// Executes commands, all or none.
pub(super) fn run(commands: &[Value]) -> Result<(), FirewallError> {
    if commands.is_empty() {
        return Ok(());
    }
    let input = json!({ "nftables": commands }).to_string();
    said(&["-j", "-f", "-"], &input).map(|_| ())
}

/// The table as the kernel has it; nothing if it isn't there.
pub(super) fn listed() -> Result<Vec<Value>, FirewallError> {
    let tables = items(&said(&["-j", "list", "tables", FAMILY], "")?)?;
    if !tables.iter().any(|item| item.pointer("/table/name").is_some_and(|name| name == TABLE)) {
        return Ok(Vec::new());
    }
    items(&said(&["-j", "list", "table", FAMILY, TABLE], "")?)
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
    let output = ran(words, input).map_err(FirewallError::Run)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said: String =
        String::from_utf8_lossy(&output.stderr).trim().chars().take(COMPLAINT_LEN_MAX).collect();
    Err(FirewallError::Refused { said })
}

fn ran(words: &[&str], input: &str) -> io::Result<Output> {
    let mut command = Command::new(PROGRAM);
    command.args(words).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    // It reads all of its input before it says anything; if it died before, its words tell why.
    let output = child.wait_with_output()?;
    match written {
        Err(error) if output.status.success() => Err(error),
        _ => Ok(output),
    }
}
