//! The state directory: private to one user, held by one daemon at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

/// Bits of a mode that let others in.
const OTHERS: u32 = 0o077;
/// A daemon that was killed while it started a program leaves the lock to a child that has not become that program yet:
/// so many looks, this far apart, until it has.
const LOOKS: u32 = 40;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Reports a state directory that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// An operation failed.
    #[error("{what} {}", path.display())]
    Io {
        /// Verb of the operation.
        what: &'static str,
        /// File or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read or change it.
    #[error("{} has mode {mode:04o}, but nobody else may have access: chmod {wanted:04o} it", path.display())]
    LooseMode {
        /// File or directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it must have.
        wanted: u32,
    },
    /// Another daemon runs on it.
    #[error("{} is in use by another meshd ({holder})", path.display())]
    Held {
        /// The directory.
        path: PathBuf,
        /// What the lock file says of the holder.
        holder: String,
    },
}

/// An open and locked state directory; the lock ends with this value.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl StateDir {
    /// Makes the directory if needed, checks modes, and takes the lock.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let io = |what| move |source| StateDirError::Io { what, path: path.to_owned(), source };
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create"))?;
        }
        refuse_loose_modes(path)?;
        let lock_path = path.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io("open the lock of"))?;
        let mut holder = String::new();
        Read::by_ref(&mut file).take(256).read_to_string(&mut holder).map_err(io("read the lock of"))?;
        let mut lock = locked(file)
            .ok_or_else(|| StateDirError::Held { path: path.to_owned(), holder: holder.trim().to_owned() })?;
        // Over the old line, and cut afterwards: a file that was cut first may find no room on a full disk.
        let line = format!("pid {}\n", std::process::id());
        let written = lock.rewind().and_then(|()| lock.write_all(line.as_bytes()));
        written.and_then(|()| lock.set_len(line.len() as u64)).map_err(io("write the lock of"))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Path of a file or directory in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Takes the lock, unless another daemon has it.
fn locked(mut file: File) -> Option<Flock<File>> {
    for _ in 0..LOOKS {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((file, _)) => file,
        };
        sleep(LOOK_AGAIN);
    }
    None
}

/// Refuses when the directory, or anything right below it, lets others in.
fn refuse_loose_modes(path: &Path) -> Result<(), StateDirError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| StateDirError::Io { what, path, source }
    };
    refuse_loose_mode(path)?;
    for entry in fs::read_dir(path).map_err(io("list", path))? {
        refuse_loose_mode(&entry.map_err(io("list", path))?.path())?;
    }
    Ok(())
}

fn refuse_loose_mode(path: &Path) -> Result<(), StateDirError> {
    let meta = fs::symlink_metadata(path).map_err(|source| StateDirError::Io {
        what: "look at",
        path: path.to_owned(),
        source,
    })?;
    let mode = meta.mode() & 0o7777;
    let wanted = if meta.is_dir() { 0o700 } else { 0o600 };
    if mode & OTHERS == 0 {
        return Ok(());
    }
    Err(StateDirError::LooseMode { path: path.to_owned(), mode, wanted })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_holds_it() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("state");
        let first = StateDir::open(&path).expect("opens");
        let error = StateDir::open(&path).expect_err("held").to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        StateDir::open(&path).expect("opens again");
    }

    #[test]
    fn loose_modes_are_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("state");
        drop(StateDir::open(&path).expect("opens"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).expect("chmod");
        assert!(matches!(StateDir::open(&path), Err(StateDirError::LooseMode { wanted: 0o700, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("chmod");
        fs::write(path.join("key"), b"").expect("writes");
        fs::set_permissions(path.join("key"), fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(matches!(StateDir::open(&path), Err(StateDirError::LooseMode { wanted: 0o600, .. })));
    }
}
