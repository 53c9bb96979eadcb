//! A capture of everything that crosses a link, and a search in it.

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
        Self::begin(host, LINK, &[], LINK)
    }

    /// Captures on a link in another network namespace of a host, under a name.
    pub fn start_inside(host: &Host, name: &str, namespace: &str, link: &str) -> Result<Self> {
        Self::begin(host, name, &["nsenter", &format!("--net={namespace}")], link)
    }

    fn begin(host: &Host, name: &str, inside: &[&str], link: &str) -> Result<Self> {
        let file = host.dir().join(format!("{name}.pcap"));
        let log = host.log(inside.first().unwrap_or(&"tcpdump"));
        let listening = || fs::read_to_string(&log).unwrap_or_default().matches("listening on").count();
        let before = listening();
        let path = file.to_string_lossy();
        let line = ["tcpdump", "-Z", "root", "-n", "-U", "--immediate-mode", "-i", link, "-w", &path];
        let tcpdump = host.start(&[inside, &line].concat())?;
        wait::until(TCPDUMP_DEADLINE, "tcpdump listens", || listening() > before)?;
        Ok(Self { tcpdump, file })
    }

    /// What was captured until now.
    pub fn so_far(&self) -> Result<Captured> {
        let bytes = fs::read(&self.file).with_context(|| format!("read {}", self.file.display()))?;
        Ok(Captured { bytes })
    }

    /// Ends the capture.
    pub fn finish(mut self) -> Result<Captured> {
        self.tcpdump.signal(Signal::SIGINT)?;
        self.tcpdump.wait(TCPDUMP_DEADLINE)?;
        self.so_far()
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
