//! Socket options that are numbers.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// An option of a socket: its level and its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number(pub libc::c_int, pub libc::c_int);

impl Number {
    pub(super) const RECEIVE_TOS: Self = Self(libc::IPPROTO_IP, libc::IP_RECVTOS);
    pub(super) const RECEIVE_CLASS: Self = Self(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS);
    pub(super) const TOS: Self = Self(libc::IPPROTO_IP, libc::IP_TOS);
    pub(super) const CLASS: Self = Self(libc::IPPROTO_IPV6, libc::IPV6_TCLASS);
    pub(super) const MTU_DISCOVER_V4: Self = Self(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
    pub(super) const MTU_DISCOVER_V6: Self = Self(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER);
    pub(super) const MTU_V6: Self = Self(libc::IPPROTO_IPV6, libc::IPV6_MTU);
    pub(super) const SEGMENT: Self = Self(libc::SOL_UDP, libc::UDP_SEGMENT);
    pub(super) const GRO: Self = Self(libc::SOL_UDP, libc::UDP_GRO);

    #[expect(unsafe_code, reason = "some of these options have no safe binding")]
    pub(super) fn set(self, socket: &impl AsFd, value: libc::c_int) -> io::Result<()> {
        let Self(level, name) = self;
        // SAFETY: the descriptor is open for the whole call, and the kernel reads exactly the `c_int` it is
        // given the address and the size of.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                level,
                name,
                std::ptr::from_ref(&value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        Errno::result(result).map(|_| ()).map_err(io::Error::from)
    }
}

/// Datagrams that found the socket's buffer full, modulo 2^32.
#[expect(unsafe_code, reason = "SO_MEMINFO has no safe binding")]
pub(super) fn overflows(socket: &impl AsFd) -> io::Result<u32> {
    /// Position of the drops among the numbers of `SO_MEMINFO`, of which they are the last.
    const DROPS: usize = 8;
    let mut numbers = [0u32; DROPS + 1];
    let mut len = size_of_val(&numbers) as libc::socklen_t;
    // SAFETY: the descriptor is open for the whole call, and the kernel writes at most `len` bytes, the true
    // length of the exclusively borrowed array, whose elements are valid for any bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            numbers.as_mut_ptr().cast(),
            &mut len,
        )
    };
    Errno::result(result)?;
    let [.., drops] = numbers;
    Ok(drops)
}
