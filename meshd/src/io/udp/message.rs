//! The raw calls: `sendmmsg` and `recvmmsg` over arrays on the stack, and the ancillary data of both.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use socket2::SockAddr;

use crate::io::seam::ReceiveMeta;

/// Bytes of ancillary data: two numbers with their headers, and one to spare.
const ANCILLARY_LEN: usize = 72;
/// Length of the header of one piece of ancillary data; pieces are aligned like a word.
const HEADER_LEN: usize = size_of::<libc::cmsghdr>();
const WORD_LEN: usize = size_of::<usize>();
/// Length of the longest socket address that IP has.
const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// What goes or comes beside a datagram: a list of numbers, each with the level and kind of a socket option.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Ancillary {
    bytes: [u8; ANCILLARY_LEN],
    len: usize,
}

/// A socket address as the kernel writes it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Name([u8; NAME_LEN]);

impl Ancillary {
    pub(super) const EMPTY: Self = Self { bytes: [0; ANCILLARY_LEN], len: 0 };

    /// Adds one piece. More than fit are left out, which no caller comes near.
    pub(super) fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let end = self.len + HEADER_LEN + data.len().next_multiple_of(WORD_LEN);
        let Some(piece) = self.bytes.get_mut(self.len..end) else { return };
        let parts: [&[u8]; 4] =
            [&(HEADER_LEN + data.len()).to_ne_bytes(), &level.to_ne_bytes(), &kind.to_ne_bytes(), data];
        for (to, from) in piece.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        self.len = end;
    }

    /// Reads the first piece of this level and kind as a number of up to four bytes.
    fn number(&self, level: libc::c_int, kind: libc::c_int) -> Option<u32> {
        let mut rest = self.bytes.get(..self.len)?;
        loop {
            let len = usize::from_ne_bytes(*rest.first_chunk()?);
            let header = rest.get(WORD_LEN..HEADER_LEN)?;
            let data = rest.get(HEADER_LEN..len)?;
            if header.get(..4)? == level.to_ne_bytes() && header.get(4..8)? == kind.to_ne_bytes() {
                return match *data {
                    [byte] => Some(byte.into()),
                    [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
                    [a, b, c, d, ..] => Some(u32::from_ne_bytes([a, b, c, d])),
                    _ => None,
                };
            }
            rest = rest.get(len.next_multiple_of(WORD_LEN)..)?;
        }
    }
}

impl Name {
    /// The address in canonical form; one that is not of the Internet is unspecified.
    fn address(&self) -> SocketAddr {
        let [f0, f1, p0, p1, rest @ ..] = self.0;
        let port = u16::from_be_bytes([p0, p1]);
        match (libc::c_int::from(u16::from_ne_bytes([f0, f1])), rest) {
            (libc::AF_INET, [a, b, c, d, ..]) => SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)),
            (libc::AF_INET6, [_, _, _, _, ip @ .., s0, s1, s2, s3]) => {
                let scope = u32::from_ne_bytes([s0, s1, s2, s3]);
                meshd_core::path::canonical(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into())
            }
            _ => ReceiveMeta::default().source,
        }
    }
}

/// Sends up to `N` datagrams, each of two parts, to one place. Returns how many the kernel took: at least one.
#[expect(unsafe_code, reason = "sendmmsg has no safe binding without allocation")]
pub(super) fn send<'a, const N: usize>(
    socket: BorrowedFd<'_>,
    datagrams: impl Iterator<Item = [IoSlice<'a>; 2]>,
    to: &SockAddr,
    ancillary: &Ancillary,
) -> io::Result<usize> {
    let mut parts = [[IoSlice::new(&[]); 2]; N];
    let mut count = 0;
    for (part, datagram) in parts.iter_mut().zip(datagrams) {
        *part = datagram;
        count += 1;
    }
    let mut messages = [empty_message(); N];
    for (message, parts) in messages.iter_mut().zip(&parts).take(count) {
        let header = &mut message.msg_hdr;
        header.msg_name = to.as_ptr().cast_mut().cast();
        header.msg_namelen = to.len();
        header.msg_iov = parts.as_ptr().cast_mut().cast();
        header.msg_iovlen = if parts[1].is_empty() { 1 } else { 2 };
        if ancillary.len > 0 {
            header.msg_control = ancillary.bytes.as_ptr().cast_mut().cast();
            header.msg_controllen = ancillary.len as _;
        }
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the first `count` messages are initialised above and point at `to`, `parts` and `ancillary`, which
    // outlive the call; the payload is borrowed for `'a`, which does too. The kernel reads all of them and
    // writes only the lengths inside `messages`, which is exclusively borrowed. `IoSlice` is `iovec` by its own
    // guarantee, and two of them in an array are adjacent.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count as _, flags as _) };
    Ok(Errno::result(sent)?.unsigned_abs() as usize)
}

/// Receives up to `N` datagrams or trains of them into equal parts of `slab`, without waiting.
#[expect(unsafe_code, reason = "recvmmsg has no safe binding without allocation")]
pub(super) fn receive<const N: usize>(
    socket: BorrowedFd<'_>,
    slab: &mut [u8],
    metas: &mut [ReceiveMeta],
) -> io::Result<usize> {
    let part_len = slab.len().checked_div(metas.len()).unwrap_or(0);
    if part_len == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let count = metas.len().min(N);
    let mut rest = slab.chunks_exact_mut(part_len);
    let mut parts: [IoSliceMut<'_>; N] =
        std::array::from_fn(|_| IoSliceMut::new(rest.next().unwrap_or_default()));
    let mut names = [Name([0; NAME_LEN]); N];
    let mut ancillaries = [Ancillary::EMPTY; N];
    let mut messages = [empty_message(); N];
    let filled = messages.iter_mut().zip(&mut parts).zip(&mut names).zip(&mut ancillaries).take(count);
    for (((message, part), name), ancillary) in filled {
        let header = &mut message.msg_hdr;
        header.msg_name = name.0.as_mut_ptr().cast();
        header.msg_namelen = NAME_LEN as _;
        header.msg_iov = std::ptr::from_mut(part).cast();
        header.msg_iovlen = 1;
        header.msg_control = ancillary.bytes.as_mut_ptr().cast();
        header.msg_controllen = ANCILLARY_LEN as _;
    }
    // SAFETY: the first `count` messages are initialised above. Each points at its own name, its own ancillary
    // data and its own part of `slab` with their true lengths; all are exclusively borrowed here and outlive
    // the call, and the kernel writes no further than those lengths. `IoSliceMut` is `iovec` by its own
    // guarantee. No deadline is given.
    let received = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            count as _,
            libc::MSG_DONTWAIT as _,
            std::ptr::null_mut(),
        )
    };
    let received = Errno::result(received)?.unsigned_abs() as usize;
    let results = metas.iter_mut().zip(&messages).zip(&names).zip(&mut ancillaries).take(received);
    for (((meta, message), name), ancillary) in results {
        ancillary.len = message.msg_hdr.msg_controllen as _;
        *meta = describe(message, name, ancillary);
    }
    Ok(received)
}

fn describe(message: &libc::mmsghdr, name: &Name, ancillary: &Ancillary) -> ReceiveMeta {
    let len = message.msg_len as usize;
    let stride = ancillary.number(libc::SOL_UDP, libc::UDP_GRO).map_or(len, |stride| stride as usize);
    let class = ancillary
        .number(libc::IPPROTO_IP, libc::IP_TOS)
        .or_else(|| ancillary.number(libc::IPPROTO_IPV6, libc::IPV6_TCLASS))
        .unwrap_or(0);
    ReceiveMeta {
        len,
        stride: stride.max(1),
        source: name.address(),
        ecn: (class & 3) as u8,
        truncated: message.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
    }
}

#[expect(unsafe_code, reason = "some C libraries give the header private padding, so no literal can make it")]
const fn empty_message() -> libc::mmsghdr {
    // SAFETY: all fields are numbers and raw pointers, for which zero is a valid value.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancillary_data_is_read_as_it_was_written() {
        let mut ancillary = Ancillary::EMPTY;
        assert_eq!(ancillary.number(libc::SOL_UDP, libc::UDP_GRO), None);
        ancillary.push(libc::SOL_UDP, libc::UDP_SEGMENT, &1452u16.to_ne_bytes());
        ancillary.push(libc::IPPROTO_IP, libc::IP_TOS, &[2]);
        ancillary.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &1u32.to_ne_bytes());
        assert_eq!(ancillary.len, ANCILLARY_LEN);
        assert_eq!(ancillary.number(libc::SOL_UDP, libc::UDP_SEGMENT), Some(1452));
        assert_eq!(ancillary.number(libc::IPPROTO_IP, libc::IP_TOS), Some(2));
        assert_eq!(ancillary.number(libc::IPPROTO_IPV6, libc::IPV6_TCLASS), Some(1));
        assert_eq!(ancillary.number(libc::IPPROTO_IPV6, libc::IP_TOS), None);
        ancillary.push(libc::IPPROTO_IP, libc::IP_TTL, &[9]);
        assert_eq!(ancillary.number(libc::IPPROTO_IP, libc::IP_TTL), None, "no room, no harm");
    }

    #[test]
    fn ancillary_data_that_lies_about_its_length_ends_the_search() {
        for len in [0usize, 1, HEADER_LEN, HEADER_LEN + 1000, usize::MAX] {
            let mut ancillary = Ancillary::EMPTY;
            ancillary.push(libc::IPPROTO_IP, libc::IP_TOS, &[2]);
            for (to, from) in ancillary.bytes.iter_mut().zip(len.to_ne_bytes()) {
                *to = from;
            }
            assert_eq!(ancillary.number(libc::IPPROTO_IP, libc::IP_TOS), None, "{len}");
            assert_eq!(ancillary.number(libc::SOL_UDP, libc::UDP_GRO), None, "{len}");
        }
    }

    #[test]
    fn addresses_are_read_in_canonical_form() {
        for (written, read) in [
            ("192.0.2.7:51820", "192.0.2.7:51820"),
            ("[::ffff:192.0.2.7]:51820", "192.0.2.7:51820"),
            ("[2001:db8::7]:51820", "[2001:db8::7]:51820"),
            ("[fe80::7%3]:1", "[fe80::7%3]:1"),
        ] {
            let written = SockAddr::from(written.parse::<SocketAddr>().unwrap());
            let mut name = Name([0; NAME_LEN]);
            // SAFETY: `as_ptr` points at `len` initialised bytes.
            #[expect(unsafe_code, reason = "the address as the kernel would write it")]
            let bytes =
                unsafe { std::slice::from_raw_parts(written.as_ptr().cast::<u8>(), written.len() as usize) };
            name.0[..bytes.len()].copy_from_slice(bytes);
            assert_eq!(name.address(), read.parse().unwrap());
        }
        assert_eq!(Name([0xff; NAME_LEN]).address(), ReceiveMeta::default().source);
    }
}
