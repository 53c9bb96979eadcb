//! What the data threads need of the two ends of the packet path. Tests put fakes behind these traits.

use meshd_core::coalesce::CoalesceSwitches;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};

/// A queue of packets from and to this host. Every packet follows a virtio-net header of ten bytes and may be
/// a train: up to 64 KiB that its header tells how to cut.
pub trait PacketDevice: Send + Sync {
    /// Reads one packet with its header; `None` if there is none now.
    ///
    /// A buffer shorter than [`READ_LEN_MAX`](super::READ_LEN_MAX) may cut a packet off unnoticed.
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>>;

    /// Hands one packet to the host; the first slice starts with its header.
    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<()>;

    /// Which trains the host takes now. It can change after a failed write, so it is asked per burst.
    fn coalescing(&self) -> CoalesceSwitches;
}

/// A UDP socket that sends and receives trains. It never blocks.
pub trait DatagramSocket: Send + Sync {
    /// Sends `train`, cut into datagrams of `segment` bytes of which the last may be shorter, with `ecn` in the
    /// outer header.
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) means that nothing was sent and the call can be repeated once
    /// the socket is writable. After any other error what was not sent is lost; the caller counts it.
    ///
    /// A train of more than [`SEGMENTS_MAX`](super::SEGMENTS_MAX) datagrams or
    /// [`TRAIN_LEN_MAX`](super::TRAIN_LEN_MAX) bytes is [`InvalidInput`](io::ErrorKind::InvalidInput), without
    /// asking the kernel.
    fn send(&self, train: &[u8], segment: usize, to: SocketAddr, ecn: u8) -> io::Result<()>;

    /// Receives into `slab`, cut into as many equal parts as there are `metas`, and tells how many parts hold
    /// something; zero if there is nothing now.
    fn receive(&self, slab: &mut [u8], metas: &mut [ReceiveMeta]) -> io::Result<usize>;
}

/// What one part of a slab holds after [`DatagramSocket::receive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceiveMeta {
    /// Bytes received.
    pub len: usize,
    /// Bytes of each datagram but the last, which may be shorter. Never zero.
    pub stride: usize,
    /// Sender, in canonical form.
    pub source: SocketAddr,
    /// Congestion mark of the outer header.
    pub ecn: u8,
    /// Whether the part was too short. Its last datagram is damaged, its stride may be wrong: drop and count it.
    pub truncated: bool,
}

impl Default for ReceiveMeta {
    fn default() -> Self {
        Self {
            len: 0,
            stride: 1,
            source: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            ecn: 0,
            truncated: false,
        }
    }
}
