//! One socket of a group: trains out and trains in.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use socket2::SockAddr;

use super::message::{self, Ancillary};
use super::refusals::Refusals;
use crate::io::seam::{DatagramSocket, ReceiveMeta};

/// Datagrams of one train, of the 64 that every kernel with trains takes; one is left for the sentinel.
pub const SEGMENTS_MAX: usize = 63;
/// Bytes of one train: less than 64 KiB with the headers of UDP, IPv6 and Ethernet, and the sentinel. A packet takes
/// a little more, but a link that gets more cuts it before it hands it on.
pub const TRAIN_LEN_MAX: usize = 65_535 - 8 - 40 - 14 - 1;

/// The datagram that makes a tail unequal: no message is that short, so the receiver drops it.
const SENTINEL: &[u8] = &[0];
/// Shorter trains go one by one where each would cost a sentinel.
const SENTINEL_SEGMENTS_MIN: usize = 8;
/// Parts filled by one call when the kernel receives trains; beyond, more of them gain nothing.
const RECEIVE_TRAINS_MAX: usize = 4;
/// How long the rest of a train waits for room that its first datagrams found.
const ROOM_WAIT_MS_MAX: u16 = 100;

/// Datagrams of this length that go into one train. A shorter one may still fit behind them.
pub const fn segments_max(segment: usize) -> usize {
    match TRAIN_LEN_MAX.checked_div(segment) {
        Some(fit) if fit < SEGMENTS_MAX => fit,
        Some(_) => SEGMENTS_MAX,
        None => 0,
    }
}

/// One socket of an [`UdpGroup`](super::UdpGroup).
#[derive(Debug)]
pub struct GroupSocket {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) dual_stack: bool,
    pub(super) gso: bool,
    pub(super) never_equal_tail: bool,
    pub(super) refusals: Arc<Refusals>,
}

impl DatagramSocket for GroupSocket {
    fn send(&self, train: &[u8], segment: usize, to: SocketAddr, ecn: u8) -> io::Result<()> {
        let fits = segment > 0
            && (1..=TRAIN_LEN_MAX).contains(&train.len())
            && train.len().div_ceil(segment) <= SEGMENTS_MAX;
        if !fits {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut ancillary = Ancillary::EMPTY;
        if ecn != 0 {
            push_class(&mut ancillary, to, ecn);
        }
        let name = self.name(to);
        if !self.may_go_whole(train.len(), segment, to) {
            return self.send_singly(train, segment, &name, &ancillary);
        }
        match self.send_whole(train, segment, &name, ancillary) {
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                self.refusals.add(to.ip());
                self.send_singly(train, segment, &name, &ancillary)
            }
            // Something about this train: a datagram by itself tells what.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.send_singly(train, segment, &name, &ancillary)
            }
            result => result,
        }
    }

    fn receive(&self, slab: &mut [u8], metas: &mut [ReceiveMeta]) -> io::Result<usize> {
        let received = if metas.len() <= RECEIVE_TRAINS_MAX {
            message::receive::<RECEIVE_TRAINS_MAX>(self.socket.as_fd(), slab, metas)
        } else {
            message::receive::<{ SEGMENTS_MAX + 1 }>(self.socket.as_fd(), slab, metas)
        };
        match received {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(0)
            }
            result => result,
        }
    }
}

impl GroupSocket {
    /// Whether to try one call for all. A single datagram never goes as a train: some kernels refuse one that is
    /// shorter than the segment.
    pub(super) fn may_go_whole(&self, len: usize, segment: usize, to: SocketAddr) -> bool {
        let worth =
            if self.never_equal_tail { len / segment >= SENTINEL_SEGMENTS_MIN } else { len > segment };
        self.gso && worth && !self.refusals.hold(to.ip())
    }

    fn send_whole(
        &self,
        train: &[u8],
        segment: usize,
        to: &SockAddr,
        mut ancillary: Ancillary,
    ) -> io::Result<()> {
        let segment_len = u16::try_from(segment).map_err(|_| io::ErrorKind::InvalidInput)?;
        ancillary.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment_len.to_ne_bytes());
        let has_equal_tail = train.len().is_multiple_of(segment);
        let tail = if self.never_equal_tail && has_equal_tail { SENTINEL } else { &[] };
        let datagram = [IoSlice::new(train), IoSlice::new(tail)];
        message::send::<1>(self.socket.as_fd(), std::iter::once(datagram), to, &ancillary).map(|_| ())
    }

    /// Sends datagram by datagram, as many per call as the kernel takes.
    fn send_singly(
        &self,
        train: &[u8],
        segment: usize,
        to: &SockAddr,
        ancillary: &Ancillary,
    ) -> io::Result<()> {
        let mut rest = train;
        while !rest.is_empty() {
            let datagrams = rest.chunks(segment).map(|datagram| [IoSlice::new(datagram), IoSlice::new(&[])]);
            let sent = if rest.len() <= segment {
                message::send::<1>(self.socket.as_fd(), datagrams, to, ancillary)
            } else {
                message::send::<SEGMENTS_MAX>(self.socket.as_fd(), datagrams, to, ancillary)
            };
            match sent {
                Ok(count) => rest = rest.get(count * segment..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && rest.len() < train.len() => {
                    self.wait_for_room()?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits for room for the rest of a train: a caller who began anew would send its beginning twice.
    #[cold]
    fn wait_for_room(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, ROOM_WAIT_MS_MAX) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            // A signal says nothing of room: the caller finds out.
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn name(&self, to: SocketAddr) -> SockAddr {
        match to {
            SocketAddr::V4(v4) if self.dual_stack => {
                SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port()).into()
            }
            other => other.into(),
        }
    }
}

impl AsFd for GroupSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn push_class(ancillary: &mut Ancillary, to: SocketAddr, ecn: u8) {
    let (level, kind) = match to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TOS),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
    };
    ancillary.push(level, kind, &libc::c_int::from(ecn & 3).to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_is_bounded_by_its_bytes_and_by_its_datagrams() {
        assert_eq!(segments_max(0), 0);
        assert_eq!(segments_max(1452), 45);
        assert_eq!(segments_max(8952), 7);
        assert_eq!(segments_max(32), SEGMENTS_MAX);
        assert_eq!(segments_max(TRAIN_LEN_MAX), 1);
        assert_eq!(segments_max(TRAIN_LEN_MAX + 1), 0);
    }
}
