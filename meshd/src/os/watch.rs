//! Changes of links and addresses, as they happen.

use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netlink::NetlinkError;

/// Links, IPv4 addresses and IPv6 addresses (RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Notifications read at once: a burst becomes one change.
const BURST_MAX: usize = 1024;

/// Tells that links or addresses changed; what they are now is read afresh.
pub struct AddressWatch {
    socket: AsyncFd<Socket>,
}

impl AddressWatch {
    /// Subscribes in the calling thread's network namespace; needs a tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || -> io::Result<AsyncFd<Socket>> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, GROUPS))?;
            socket.set_non_blocking(true)?;
            register(socket)
        };
        open().map(|socket| Self { socket }).map_err(|source| NetlinkError::new("watch addresses", source))
    }

    /// Waits for the next change. Cancel safe.
    pub async fn changed(&self) -> Result<(), NetlinkError> {
        let failed = |source| NetlinkError::new("watch addresses", source);
        loop {
            let mut ready = self.socket.readable().await.map_err(failed)?;
            let mut changed = false;
            for _ in 0..BURST_MAX {
                // The content is of no interest, so a short buffer that truncates is enough.
                let mut buffer = [0u8; 64];
                match ready.try_io(|socket| socket.get_ref().recv(&mut &mut buffer[..], 0)) {
                    Ok(Ok(_)) => changed = true,
                    // Notifications were lost: something did change.
                    Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                    Ok(Err(error)) => return Err(failed(error)),
                    Err(_would_block) => break,
                }
            }
            if changed {
                return Ok(());
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio asks for a promise about the life of the descriptor")]
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor, always returns the same one and closes it when it is dropped,
    // which `AsyncFd` does after it has deregistered it.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)
}
