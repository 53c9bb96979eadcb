//! The tunnel's UDP sockets: each for both address families, not bound to any address.

mod group;
mod message;
mod option;
mod refusals;
mod socket;
mod steer;
#[cfg(test)]
mod tests;

use std::io;

use socket2::Socket;

pub use group::{UdpGroup, UdpTally};
pub use socket::{GroupSocket, SEGMENTS_MAX, TRAIN_LEN_MAX, segments_max};

/// The tunnel's port, held to see that it can be had.
#[derive(Debug)]
pub struct Udp {
    _socket: Socket,
}

/// Says why the socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program has the port.
    #[error("udp port {port} is taken by another program")]
    PortTaken {
        /// The port.
        port: u16,
    },
    /// The process may not use the port.
    #[error("no permission to use udp port {port}: ports below 1024 need CAP_NET_BIND_SERVICE")]
    NotPermitted {
        /// The port.
        port: u16,
    },
    /// Anything else.
    #[error("open udp port {port}")]
    Io {
        /// The port.
        port: u16,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Udp {
    /// Takes the port as a [`UdpGroup`] would; 0 is any free one.
    pub fn bind(port: u16) -> Result<Self, BindError> {
        group::open_first(port)
            .map(|(socket, _)| Self { _socket: socket })
            .map_err(|source| bind_error(port, source))
    }
}

/// Whether the kernel has no IPv6 at all, or has it switched off for every device.
fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL | libc::EPROTONOSUPPORT))
}

fn bind_error(port: u16, source: io::Error) -> BindError {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => BindError::PortTaken { port },
        Some(libc::EACCES | libc::EPERM) => BindError::NotPermitted { port },
        _ => BindError::Io { port, source },
    }
}
