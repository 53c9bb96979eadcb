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
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use meshd_core::path::canonical;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

pub use group::UdpGroup;
pub use socket::{GroupSocket, SEGMENTS_MAX, TRAIN_LEN_MAX, segments_max};

/// Kernel buffer of each direction: 25 ms of 1 Gbit/s, so that a busy moment loses nothing.
const SOCKET_BUFFER_LEN: usize = 4 << 20;

/// A UDP socket on the wildcard address: it goes on working when the host's addresses change.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    port: u16,
    dual_stack: bool,
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
    /// Opens the port (0: any free one) for both families, or for IPv4 alone where the kernel has no IPv6.
    pub fn bind(port: u16) -> Result<Self, BindError> {
        let (socket, dual_stack) = match bind_family(Domain::IPV6, port) {
            Ok(socket) => (socket, true),
            Err(error) if no_ipv6(&error) => {
                tracing::info!("no ipv6 in the kernel: the tunnel uses ipv4 alone");
                (bind_family(Domain::IPV4, port).map_err(|source| bind_error(port, source))?, false)
            }
            Err(source) => return Err(bind_error(port, source)),
        };
        enlarge_buffers(&socket);
        let socket = UdpSocket::from(socket);
        let port = socket.local_addr().map_err(|source| bind_error(port, source))?.port();
        Ok(Self { socket, port, dual_stack })
    }

    /// The port it is bound to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Receives one datagram, if there is one, and tells its source in canonical form.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        match self.socket.recv_from(buffer) {
            Ok((len, source)) => Ok(Some((len, canonical(source)))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends one datagram. A full socket buffer is an error like any other: nothing waits here.
    pub fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = match to {
            SocketAddr::V4(v4) if self.dual_stack => {
                SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
            }
            other => other,
        };
        self.socket.send_to(datagram, to).map(|_| ())
    }
}

impl AsFd for Udp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn bind_family(domain: Domain, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    let wildcard = if domain == Domain::IPV6 {
        socket.set_only_v6(false)?;
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(wildcard, port).into())?;
    Ok(socket)
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

/// Without CAP_NET_ADMIN the system's limit applies; the socket works with less.
fn enlarge_buffers(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER_LEN).is_err()
        && let Err(error) = socket.set_recv_buffer_size(SOCKET_BUFFER_LEN)
    {
        tracing::warn!(%error, "receive buffer not enlarged");
    }
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER_LEN).is_err()
        && let Err(error) = socket.set_send_buffer_size(SOCKET_BUFFER_LEN)
    {
        tracing::warn!(%error, "send buffer not enlarged");
    }
}
