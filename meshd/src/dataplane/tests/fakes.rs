//! The two ends of the packet path without a kernel, and packets for them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use meshd_core::checksum::Sum;
use meshd_core::coalesce::CoalesceSwitches;

use super::{ELSEWHERE, MSS, OTHER, OWN, SEGMENTS};
use crate::io::{DatagramSocket, PacketDevice, ReceiveMeta};

/// A device that reads the same packet `left` times, and counts.
pub(super) struct FakeDevice {
    pub(super) packet: Vec<u8>,
    pub(super) left: AtomicUsize,
    pub(super) calls: AtomicUsize,
    pub(super) written: AtomicUsize,
    pub(super) panics: AtomicBool,
}

impl FakeDevice {
    pub(super) fn reading(packet: Vec<u8>) -> Self {
        Self {
            packet,
            left: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
        }
    }
}

impl PacketDevice for FakeDevice {
    // Calls of their own, as of a kernel: `cargo lab bench instructions` counts what the threads do between them.
    #[inline(never)]
    fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Ok(None);
        }
        self.left.store(left - 1, Ordering::Relaxed);
        if self.panics.swap(false, Ordering::Relaxed) {
            std::panic::resume_unwind(Box::new("a fault"));
        }
        buffer[..self.packet.len()].copy_from_slice(&self.packet);
        Ok(Some(self.packet.len()))
    }

    #[inline(never)]
    fn write(&self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        self.written.fetch_add(len - 10, Ordering::Relaxed);
        Ok(())
    }

    fn coalescing(&self) -> CoalesceSwitches {
        CoalesceSwitches { tcp: true, udp: true }
    }
}

/// A socket that keeps the last train sent, and receives what it was given.
pub(super) struct FakeSocket {
    pub(super) calls: AtomicUsize,
    pub(super) last: Mutex<Vec<u8>>,
    /// Congestion mark of what is given from now on.
    pub(super) ecn: AtomicU8,
    incoming: Mutex<VecDeque<Part>>,
}

/// What one part of a slab is filled with.
struct Part {
    bytes: Vec<u8>,
    stride: usize,
    ecn: u8,
}

impl Default for FakeSocket {
    fn default() -> Self {
        let last = Mutex::new(Vec::with_capacity(1 << 16));
        let incoming = Mutex::new(VecDeque::with_capacity(64));
        Self { calls: AtomicUsize::new(0), last, incoming, ecn: AtomicU8::new(0) }
    }
}

impl FakeSocket {
    /// Has a train to receive, cut into datagrams of `stride` bytes.
    pub(super) fn give(&self, bytes: Vec<u8>, stride: usize) {
        let part = Part { bytes, stride, ecn: self.ecn.load(Ordering::Relaxed) };
        self.incoming.lock().unwrap().push_back(part);
    }
}

impl DatagramSocket for FakeSocket {
    fn send(&self, train: &[u8], _: usize, to: SocketAddr, _: u8) -> io::Result<()> {
        assert_eq!(to, ELSEWHERE);
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().unwrap();
        last.clear();
        last.extend_from_slice(train);
        Ok(())
    }

    fn receive(&self, slab: &mut [u8], metas: &mut [ReceiveMeta]) -> io::Result<usize> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut incoming = self.incoming.lock().unwrap();
        let part_len = slab.len() / metas.len();
        let mut received = 0;
        for (part, meta) in slab.chunks_mut(part_len).zip(metas) {
            // The queue is the test's; what it frees is no allocation of the path.
            let Some(Part { bytes, stride, ecn }) = incoming.pop_front() else { break };
            part[..bytes.len()].copy_from_slice(&bytes);
            *meta = ReceiveMeta { len: bytes.len(), stride, source: ELSEWHERE, ecn, truncated: false };
            received += 1;
        }
        Ok(received)
    }
}

impl DatagramSocket for Arc<FakeSocket> {
    fn send(&self, train: &[u8], segment: usize, to: SocketAddr, ecn: u8) -> io::Result<()> {
        (**self).send(train, segment, to, ecn)
    }

    fn receive(&self, slab: &mut [u8], metas: &mut [ReceiveMeta]) -> io::Result<usize> {
        (**self).receive(slab, metas)
    }
}

/// A UDP packet.
pub(super) fn packet(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut udp = vec![0x1f, 0x90, 0x1f, 0x91];
    udp.extend(((payload.len() + 8) as u16).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    ip(source, destination, 17, &udp)
}

/// A TCP segment whose checksum its sender completed.
pub(super) fn tcp(source: Ipv4Addr, destination: Ipv4Addr, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut tcp = vec![0x1f, 0x90, 0x1f, 0x91];
    tcp.extend(seq.to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    tcp.extend(payload);
    let mut pseudo = [source.octets(), destination.octets()].concat();
    pseudo.extend([0, 6]);
    pseudo.extend((tcp.len() as u16).to_be_bytes());
    pseudo.extend(&tcp);
    let sum = Sum::of(&pseudo).finish();
    tcp[16..18].copy_from_slice(&sum);
    ip(source, destination, 6, &tcp)
}

pub(super) fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(((payload.len() + 20) as u16).to_be_bytes());
    packet.extend([0, 7, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum = Sum::of(&packet).finish();
    packet[10..12].copy_from_slice(&sum);
    packet.extend(payload);
    packet
}

/// What the device reads: a header and a TCP super-packet to the peer.
pub(super) fn super_packet() -> Vec<u8> {
    let payload: Vec<u8> = (0..SEGMENTS * MSS).map(|at| at as u8).collect();
    let mut packet = tcp(OWN, OTHER, 7, &payload);
    // The sum of the pseudo header alone, as the kernel leaves it.
    let mut pseudo = [OWN.octets(), OTHER.octets()].concat();
    pseudo.extend([0, 6]);
    pseudo.extend(((packet.len() - 20) as u16).to_be_bytes());
    let [high, low] = Sum::of(&pseudo).finish();
    packet[36..38].copy_from_slice(&[!high, !low]);
    let mut read = vec![1, 1];
    for number in [40u16, MSS as u16, 20, 16] {
        read.extend(number.to_ne_bytes());
    }
    read.extend(packet);
    read
}
