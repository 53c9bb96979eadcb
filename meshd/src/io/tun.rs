//! The overlay device: packets of this host, one or a train of them per read and write.

mod group;
mod open;
#[cfg(test)]
mod tests;
mod trial;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

pub use group::{READ_LEN_MAX, Trains, TunGroup, TunQueue};

/// An open TUN device; the link vanishes with it.
#[derive(Debug)]
pub struct Tun {
    file: File,
}

/// Says why the overlay device could not be created.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// The kernel has no TUN driver, or the container was not given it.
    #[error("no /dev/net/tun: load the kernel module tun, or pass the device to the container")]
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
        open::check_name(name)?;
        Ok(Self { file: open::create(name, 0)? })
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
