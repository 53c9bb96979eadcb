//! A capture of everything that crosses a host's link, and a search in it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::host::{Host, LINK};
use crate::process::Process;
use crate::wait;

/// Time tcpdump gets to start or to end.
const TCPDUMP_DEADLINE: Duration = Duration::from_secs(10);

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    file: PathBuf,
}

/// What was captured.
#[derive(Debug)]
pub struct Captured {
    bytes: Vec<u8>,
}

impl Capture {
    /// Captures on the link of a host to the internet.
    pub fn start(host: &Host) -> Result<Self> {
        let file = host.dir().join("link.pcap");
        let log = host.log("tcpdump");
        let path = file.to_string_lossy();
        let tcpdump =
            host.start(&["tcpdump", "-Z", "root", "-n", "-U", "--immediate-mode", "-i", LINK, "-w", &path])?;
        wait::until(TCPDUMP_DEADLINE, "tcpdump listens", || {
            fs::read_to_string(&log).is_ok_and(|text| text.contains("listening on"))
        })?;
        Ok(Self { tcpdump, file })
    }

    /// Ends the capture.
    pub fn finish(mut self) -> Result<Captured> {
        self.tcpdump.signal(Signal::SIGINT)?;
        self.tcpdump.wait(TCPDUMP_DEADLINE)?;
        let bytes = fs::read(&self.file).with_context(|| format!("read {}", self.file.display()))?;
        Ok(Captured { bytes })
    }
}

impl Captured {
    /// Whether these bytes stand anywhere in the capture.
    pub fn contains(&self, needle: &[u8]) -> bool {
        let Some((first, rest)) = needle.split_first() else { return true };
        self.bytes.iter().enumerate().any(|(at, byte)| {
            byte == first && self.bytes.get(at + 1..at + 1 + rest.len()).is_some_and(|tail| tail == rest)
        })
    }

    /// Length of the capture file in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was captured, not even the file's header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
