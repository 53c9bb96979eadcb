//! Packets that wait for a session.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Packets of one peer that wait: WireGuard's own number is of that order.
pub(super) const PACKETS_MAX: usize = 64;
/// Bytes of them: 64 full packets of a common MTU.
const PEER_BYTES_MAX: usize = 96 * 1024;
/// Bytes of all peers together: a host that talks to thousands of absent peers keeps its memory.
const TOTAL_BYTES_MAX: usize = 16 << 20;

/// A bounded queue that loses its oldest packets first.
#[derive(Debug, Default)]
pub(super) struct Staged {
    packets: VecDeque<Box<[u8]>>,
    bytes: usize,
}

/// Bytes staged for all peers.
#[derive(Debug, Default)]
pub(super) struct StagedTotal(AtomicUsize);

impl Staged {
    /// Keeps a copy of the packet; returns how many packets were lost for it.
    pub(super) fn push(&mut self, packet: &[u8], total: &StagedTotal) -> usize {
        if packet.len() > PEER_BYTES_MAX || total.0.load(Ordering::Relaxed) > TOTAL_BYTES_MAX {
            return 1;
        }
        let mut lost = 0;
        while self.packets.len() >= PACKETS_MAX || self.bytes + packet.len() > PEER_BYTES_MAX {
            self.pop(total);
            lost += 1;
        }
        self.packets.push_back(packet.into());
        self.bytes += packet.len();
        total.0.fetch_add(packet.len(), Ordering::Relaxed);
        lost
    }

    /// Takes the oldest packet.
    pub(super) fn pop(&mut self, total: &StagedTotal) -> Option<Box<[u8]>> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len();
        total.0.fetch_sub(packet.len(), Ordering::Relaxed);
        Some(packet)
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Drops everything; returns how many packets that were.
    pub(super) fn discard(&mut self, total: &StagedTotal) -> usize {
        let mut discarded = 0;
        while self.pop(total).is_some() {
            discarded += 1;
        }
        // A peer that fell silent keeps no memory for packets it may never get.
        self.packets = VecDeque::new();
        discarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_packets_are_lost_first() {
        let (mut staged, total) = (Staged::default(), StagedTotal::default());
        for number in 0..=PACKETS_MAX {
            let lost = staged.push(&[number as u8], &total);
            assert_eq!(lost, usize::from(number == PACKETS_MAX));
        }
        assert_eq!(staged.pop(&total).as_deref(), Some(&[1][..]));
        assert_eq!(staged.discard(&total), PACKETS_MAX - 1);
        assert_eq!(total.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn bytes_are_bounded_for_one_peer_and_for_all() {
        let (mut staged, total) = (Staged::default(), StagedTotal::default());
        let half = vec![0; PEER_BYTES_MAX / 2];
        assert_eq!([(); 3].map(|()| staged.push(&half, &total)), [0, 0, 1]);
        assert_eq!(staged.push(&vec![0; PEER_BYTES_MAX + 1], &total), 1);

        total.0.store(TOTAL_BYTES_MAX + 1, Ordering::Relaxed);
        assert_eq!(Staged::default().push(&[1], &total), 1);
    }
}
