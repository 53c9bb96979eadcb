//! A lab's claim on its names, and the clean-up of labs whose process is gone.
//!
//! `/run/mesh-lab/ID/lock` is locked for as long as the process of the lab lives: the kernel drops the lock with the
//! process, however it ends. Every namespace and control group of the lab is called `ml-ID-…`, so that the directory
//! alone tells what has to be removed. Labs never wait for each other.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::cgroup::Cgroup;
use crate::namespace::Namespace;

/// Where claims are kept; `/run` does not outlive a reboot, as namespaces do not.
pub const CLAIMS: &str = "/run/mesh-lab";

/// Attempts to find a free id; with 2^32 of them a second one is rare.
const ID_ATTEMPTS_MAX: usize = 16;

/// Labs of this process. Held while one of them is removed, so that a signal and a drop do not remove it at once.
static LIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A lab's claim on its names.
#[derive(Debug)]
pub struct Claim {
    id: String,
    dir: PathBuf,
    // Held for its lock alone.
    _lock: Flock<File>,
}

impl Claim {
    /// Removes what dead labs left, then claims a fresh id.
    pub fn new() -> Result<Self> {
        static SIGNALS: Once = Once::new();
        let mut installed = Ok(());
        SIGNALS.call_once(|| installed = remove_on_signal());
        installed?;
        fs::create_dir_all(CLAIMS).with_context(|| format!("create {CLAIMS}"))?;
        sweep()?;
        for _ in 0..ID_ATTEMPTS_MAX {
            let id = random_id()?;
            if let Some(claim) = Self::try_id(id)? {
                live().insert(claim.id.clone());
                return Ok(claim);
            }
        }
        bail!("found no free lab id in {CLAIMS}")
    }

    fn try_id(id: String) -> Result<Option<Self>> {
        let dir = Path::new(CLAIMS).join(&id);
        match fs::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("create {}", dir.display())),
        }
        let path = dir.join("lock");
        // Between these lines a sweep may take the empty directory for a dead lab's: then another id is taken.
        let Ok(file) = OpenOptions::new().write(true).create_new(true).open(&path) else { return Ok(None) };
        let Ok(mut lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(None) };
        let still_there = match (fs::metadata(&path), lock.metadata()) {
            (Ok(named), Ok(held)) => named.ino() == held.ino(),
            _ => false,
        };
        if !still_there {
            return Ok(None);
        }
        writeln!(lock, "{}", std::process::id()).context("write the lock file")?;
        Ok(Some(Self { id, dir, _lock: lock }))
    }

    /// The id: eight hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A directory that is removed with the lab.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Name of one of the lab's namespaces.
    pub fn namespace(&self, name: &str) -> String {
        format!("{}{name}", prefix(&self.id))
    }

    /// Removes all that the lab made.
    pub fn release(&self) -> Result<()> {
        let mut live = live();
        if live.remove(&self.id) { remove(&self.id) } else { Ok(()) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            eprintln!("lab {}: not all was removed: {error:#}", self.id);
        }
    }
}

/// Removes what labs of dead processes left, and returns their ids.
pub fn sweep() -> Result<Vec<String>> {
    let entries = match fs::read_dir(CLAIMS) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {CLAIMS}")),
    };
    let mut swept = Vec::new();
    for entry in entries.flatten() {
        let Ok(id) = entry.file_name().into_string() else { continue };
        let Ok(file) = File::open(entry.path().join("lock")) else {
            // A lab that is just being claimed, or one whose removal was interrupted at the very end.
            let _claimed = fs::remove_dir(entry.path());
            continue;
        };
        let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        remove(&id)?;
        swept.push(id);
    }
    Ok(swept)
}

/// Names what is there of a lab: nothing, once it is removed.
pub fn remains(id: &str) -> Vec<String> {
    let prefix = prefix(id);
    let dir = Path::new(CLAIMS).join(id);
    let cgroups = Cgroup::all(&prefix).into_iter().map(|cgroup| format!("control group {}", cgroup.name()));
    let namespaces = Namespace::all(&prefix).into_iter();
    let namespaces = namespaces.map(|namespace| format!("namespace {}", namespace.name()));
    let mounts = mounts_below(&dir).into_iter().map(|mount| format!("mount {}", mount.display()));
    let dir = dir.exists().then(|| format!("directory {}", dir.display()));
    cgroups.chain(namespaces).chain(mounts).chain(dir).collect()
}

fn remove(id: &str) -> Result<()> {
    for cgroup in Cgroup::all(&prefix(id)) {
        cgroup.remove()?;
    }
    for namespace in Namespace::all(&prefix(id)) {
        namespace.remove()?;
    }
    let dir = Path::new(CLAIMS).join(id);
    for mount in mounts_below(&dir) {
        let status = Command::new("umount").arg("--lazy").arg(&mount).status().context("start umount")?;
        if !status.success() {
            bail!("umount {} ended with {status}", mount.display());
        }
    }
    match fs::remove_dir_all(&dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("remove {}", dir.display())),
    }
}

fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

fn remove_on_signal() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listen for signals")?;
    let wait = move || {
        for signal in signals.forever() {
            // Never given back: no lab may start or be removed any more.
            let live = live();
            for id in live.iter() {
                if let Err(error) = remove(id) {
                    eprintln!("lab {id}: not all was removed: {error:#}");
                }
            }
            if let Err(error) = emulate_default_handler(signal) {
                eprintln!("end by signal {signal}: {error}");
                std::process::exit(1);
            }
        }
    };
    thread::Builder::new().name("lab-signals".to_owned()).spawn(wait).context("start the signal thread")?;
    Ok(())
}

fn live() -> MutexGuard<'static, BTreeSet<String>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prefix(id: &str) -> String {
    format!("ml-{id}-")
}

fn random_id() -> Result<String> {
    let mut bytes = [0; 4];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("draw a lab id")?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}
