//! Network namespaces of others: found by path, verified, entered.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};

/// File system of namespaces.
const NSFS: FsType = FsType(0x6e73_6673);
/// The calling thread's own.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace that is not ours.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    path: String,
}

/// Says why a path is not the network namespace that was meant, or could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// There is no such file, or it must not be opened.
    #[error("open network namespace {path}")]
    Open {
        /// The path.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file is something else.
    #[error("{path} is no network namespace")]
    Kind {
        /// The path.
        path: String,
    },
    /// It is the namespace in which the daemon lives.
    #[error("{path} is the host's own network namespace")]
    Own {
        /// The path.
        path: String,
    },
    /// Another namespace is mounted at the path now, or for us.
    #[error(
        "{path} is another network namespace than the caller's: {found_dev}:{found_ino}, not {dev}:{ino}"
    )]
    Other {
        /// The path.
        path: String,
        /// Device number the caller saw.
        dev: u64,
        /// Inode the caller saw.
        ino: u64,
        /// Device number found.
        found_dev: u64,
        /// Inode found.
        found_ino: u64,
    },
    /// The kernel or the system's limits did not let us in.
    #[error("enter network namespace {path}")]
    Enter {
        /// The path.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Namespace {
    /// Opens the namespace at `path` if it is the one with this device number and inode.
    pub fn open(path: &str, dev: u64, ino: u64) -> Result<Self, NamespaceError> {
        let failed = |source| NamespaceError::Open { path: path.to_owned(), source };
        // To open a file of another kind could wait or set something off, so it is only looked at first.
        let seen = File::options().read(true).custom_flags(libc::O_PATH).open(path).map_err(failed)?;
        let system = fstatfs(&seen).map_err(|error| failed(error.into()))?;
        if system.filesystem_type() != NSFS {
            return Err(NamespaceError::Kind { path: path.to_owned() });
        }
        let found = seen.metadata().map_err(failed)?;
        if (found.dev(), found.ino()) != (dev, ino) {
            let (found_dev, found_ino) = (found.dev(), found.ino());
            return Err(NamespaceError::Other { path: path.to_owned(), dev, ino, found_dev, found_ino });
        }
        let own = Path::new(OWN).metadata().map_err(failed)?;
        if (own.dev(), own.ino()) == (dev, ino) {
            return Err(NamespaceError::Own { path: path.to_owned() });
        }
        let file = File::open(format!("/proc/thread-self/fd/{}", seen.as_raw_fd())).map_err(failed)?;
        if kind_of(file.as_fd()).map_err(failed)? != CloneFlags::CLONE_NEWNET {
            return Err(NamespaceError::Kind { path: path.to_owned() });
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// Runs `act` inside, on a thread of its own: the caller's thread stays where it is, whatever happens.
    pub fn run<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        let failed = |source| NamespaceError::Enter { path: self.path.clone(), source };
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(act())
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, inside)?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
        .map_err(failed)
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

/// Which kind of namespace a file of their file system is.
#[expect(unsafe_code, reason = "no crate offers this request of the kernel")]
fn kind_of(file: BorrowedFd<'_>) -> io::Result<CloneFlags> {
    // SAFETY: NS_GET_NSTYPE takes no argument and writes nothing; the descriptor is open for the whole call.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
    if kind < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(CloneFlags::from_bits_retain(kind))
}
