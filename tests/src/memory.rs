//! What the memory of a process holds.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use nix::unistd::Pid;

/// Bytes read at a time.
const CHUNK_LEN: usize = 1 << 20;
/// A secret that is looked for.
pub type Secret = [u8; 32];

/// Those of the secrets that lie anywhere in the writable memory of a process.
pub fn secrets_in(pid: Pid, secrets: &HashSet<Secret>) -> Result<HashSet<Secret>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("read the map of its memory")?;
    let memory = File::open(format!("/proc/{pid}/mem")).context("open its memory")?;
    let by_start = by_start(secrets);
    let mut found = HashSet::new();
    for region in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, end) =
            region.split_once(' ').and_then(|(range, _)| range.split_once('-')).context("a range")?;
        let (mut at, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let mut buffer = vec![0; CHUNK_LEN + size_of::<Secret>()];
        while at < end {
            let len = buffer.len().min(usize::try_from(end - at)?);
            // A region may be gone by now, or be one that can't be read.
            let Ok(read) = memory.read_at(&mut buffer[..len], at) else { break };
            found.extend(secrets_among(&buffer[..read], &by_start));
            at += CHUNK_LEN as u64;
        }
    }
    Ok(found)
}

/// Those of the secrets that stand anywhere in some bytes.
pub fn secrets_within(bytes: &[u8], secrets: &HashSet<Secret>) -> HashSet<Secret> {
    secrets_among(bytes, &by_start(secrets)).collect()
}

fn by_start(secrets: &HashSet<Secret>) -> HashMap<[u8; 8], Secret> {
    secrets.iter().filter_map(|secret| Some((*secret.first_chunk()?, *secret))).collect()
}

fn secrets_among<'a>(
    bytes: &'a [u8],
    by_start: &'a HashMap<[u8; 8], Secret>,
) -> impl Iterator<Item = Secret> + 'a {
    bytes
        .array_windows()
        .filter(|window: &&Secret| {
            window.first_chunk().and_then(|start| by_start.get(start)).is_some_and(|secret| secret == *window)
        })
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_memory_and_in_bytes_and_one_that_is_not_there_is_not() {
        let seed = std::process::id().to_be_bytes();
        let secret = |salt: u8| -> Secret {
            std::array::from_fn(|at| seed[at % 4] ^ salt ^ (at as u8).wrapping_mul(37))
        };
        let held = Box::new(secret(1));
        let secrets = HashSet::from([*held]);
        assert_eq!(secrets_in(Pid::this(), &secrets).unwrap(), secrets);
        let mut bytes = vec![7; 100];
        bytes.extend(*held);
        bytes.push(7);
        assert_eq!(secrets_within(&bytes, &HashSet::from([*held, secret(2)])), secrets);
        assert!(secrets_within(&bytes[..131], &secrets).is_empty());
    }
}
