//! The overlay device: packets of this host, one read or write each.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;

const CLONE_DEVICE: &str = "/dev/net/tun";

/// An open TUN device; the link vanishes with it.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

/// Says why the overlay device could not be created.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The kernel has no TUN driver, or the container was not given it.
    #[error("no {CLONE_DEVICE}: load the kernel module tun, or pass the device to the container")]
    NoDriver(#[source] io::Error),
    /// The process lacks the capability.
    #[error("no permission to create a network device: CAP_NET_ADMIN is needed")]
    NotPermitted(#[source] io::Error),
    /// A link of that name exists and is not ours to take.
    #[error("device name {name} is taken by another program")]
    NameTaken {
        /// Name of the link.
        name: String,
    },
    /// No link can have that name.
    #[error("{name:?} is not a device name: 1 to 15 bytes, no slash, no space")]
    BadName {
        /// The name.
        name: String,
    },
    /// Anything else.
    #[error("create device {name}")]
    Io {
        /// Name of the link.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Tun {
    /// Creates the device. A persistent one of the same name that nobody holds is a leftover and replaced.
    pub fn create(name: &str) -> Result<Self, TunError> {
        let valid = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':' && byte != b'%';
        let bounded = !name.is_empty() && name.len() < libc::IFNAMSIZ && name != "." && name != "..";
        if !bounded || !name.bytes().all(valid) {
            return Err(TunError::BadName { name: name.to_owned() });
        }
        if nix::net::if_::if_nametoindex(name).is_ok() {
            let leftover = attach(name)?;
            set_persistent(&leftover, false)
                .map_err(|source| TunError::Io { name: name.to_owned(), source })?;
        }
        let file = attach(name)?;
        Ok(Self { file })
    }

    /// Reads one packet, if there is one.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(len) => Ok(Some(len)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Hands one packet to the host.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write(packet).map(|_| ())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn attach(name: &str) -> Result<File, TunError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(CLONE_DEVICE)
        .map_err(|source| match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TunError::NoDriver(source),
            Some(libc::EPERM | libc::EACCES) => TunError::NotPermitted(source),
            _ => TunError::Io { name: name.to_owned(), source },
        })?;
    set_interface(&file, name).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => TunError::NotPermitted(source),
        // Busy: held by a process. Invalid: a link of another kind.
        Some(libc::EBUSY | libc::EINVAL | libc::EEXIST) => TunError::NameTaken { name: name.to_owned() },
        _ => TunError::Io { name: name.to_owned(), source },
    })?;
    Ok(file)
}

#[expect(unsafe_code, reason = "TUNSETIFF has no safe binding")]
fn set_interface(file: &File, name: &str) -> io::Result<()> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short,
        },
    };
    // The last byte stays zero: the kernel reads the name up to it.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: the descriptor is open for the whole call, and the kernel reads and writes at most one
    // `ifreq`, which lives on this stack frame and is exclusively borrowed.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    Errno::result(result).map(|_| ()).map_err(io::Error::from)
}

#[expect(unsafe_code, reason = "TUNSETPERSIST has no safe binding")]
fn set_persistent(file: &File, persistent: bool) -> io::Result<()> {
    // SAFETY: the descriptor is open for the whole call; the argument is passed by value, not as a pointer.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETPERSIST, libc::c_int::from(persistent)) };
    Errno::result(result).map(|_| ()).map_err(io::Error::from)
}
