//! The overlay device: packets of this host, one or a train of them per read and write.

mod group;
mod open;
#[cfg(test)]
mod tests;
mod trial;

use std::fs::File;
use std::io;

pub use group::{READ_LEN_MAX, Trains, TunGroup, TunQueue};

/// The overlay device, held to see that it can be had.
#[derive(Debug)]
pub struct Tun {
    _file: File,
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
    /// Makes the device as a [`TunGroup`] would; it vanishes with the value.
    pub fn create(name: &str) -> Result<Self, TunError> {
        open::check_name(name)?;
        Ok(Self { _file: open::create(name, 0)? })
    }
}
