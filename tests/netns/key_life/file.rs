//! The file in which a node keeps its tunnel keys, as far as a test has to know it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use mesh_lab::Host;
use mesh_lab::memory::Secret;

/// Magic, generation and checksum before the content.
const HEADER_LEN: usize = 48;

/// How far a rotation is, as far as the disk knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Steady,
    /// A key was destroyed last, and the log is to be told.
    Destroyed,
    Prepared,
    Proving,
    Committed,
    Replaced,
}

/// The step that is on a host's disk, with the number of the write.
pub fn step(host: &Host) -> Result<(u64, Step)> {
    let bytes = fs::read(host.state_dir().join("keys.a"))?;
    let generation = bytes.get(8..16).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let mut at = Cursor(bytes.get(HEADER_LEN..).context("a content")?);
    ensure!(at.head()? == (4, 7), "an array of seven");
    for field in ["format", "sequence", "greatest epoch"] {
        ensure!(at.head()?.0 == 0, "{field}");
    }
    ensure!(at.head()? == (4, 2), "the key in use");
    ensure!((at.head()?.0, at.head()?.0) == (0, 0), "epoch and date");
    ensure!(at.head()? == (4, 2), "a step");
    let (_, number) = at.head()?;
    let step = match number {
        0 => {
            at.head()?;
            // CBOR's null is simple value 22.
            if at.head()? == (7, 22) { Step::Steady } else { Step::Destroyed }
        }
        1 => Step::Prepared,
        2 => Step::Proving,
        3 => Step::Committed,
        _ => Step::Replaced,
    };
    Ok((generation.context("a generation")?, step))
}

/// Everything of 32 bytes in a host's file of keys: private keys, and the node's id.
pub fn secrets(host: &Host) -> Result<HashSet<Secret>> {
    let bytes = fs::read(host.state_dir().join("keys.a"))?;
    let content = bytes.get(HEADER_LEN..).context("a content")?;
    let starts = content.windows(2).enumerate().filter(|(_, head)| *head == [0x58, 32]);
    Ok(starts.filter_map(|(at, _)| content.get(at + 2..)?.first_chunk().copied()).collect())
}

/// Those of the secrets that stand in any file below a directory.
pub fn secrets_below(dir: &Path, secrets: &HashSet<Secret>) -> Result<HashSet<Secret>> {
    let mut found = HashSet::new();
    for entry in fs::read_dir(dir)?.flatten() {
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            found.extend(secrets_below(&path, secrets)?);
        } else if let Ok(bytes) = fs::read(&path) {
            // A file may be replaced meanwhile.
            found.extend(mesh_lab::memory::secrets_within(&bytes, secrets));
        }
    }
    Ok(found)
}

/// Reads heads of CBOR items (RFC 8949, section 3).
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Major type and argument of the next item.
    fn head(&mut self) -> Result<(u8, u64)> {
        let (first, rest) = self.0.split_first().context("an item")?;
        let len = match first & 31 {
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => 0,
        };
        let (argument, rest) = rest.split_at_checked(len).context("an argument")?;
        self.0 = rest;
        let value = argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        Ok((first >> 5, if len == 0 { u64::from(first & 31) } else { value }))
    }
}
