//! What a segment looks like that continues the one before it.

use crate::ip::{V4_HEADER_LEN, V6_HEADER_LEN};
use crate::upper::tcp::{self, PSH};
use crate::upper::{bytes, udp};

use super::mask::mask;
use super::segment::Segment;

/// Bytes that are compared: all headers of TCP over IPv6 with a time stamp, and a rest.
pub(super) const LEN: usize = 80;
const WORDS: usize = LEN / 8;

// What a segment cannot foretell of the next one. Unlike what super-packets have in common, lengths are not free.
const V4_TCP: [u64; WORDS] = mask(&[[4, 6], [10, 12], [24, 28], [36, 40]], V4_HEADER_LEN + tcp::FLAGS_AT);
const V4_UDP: [u64; WORDS] = mask(&[[4, 6], [10, 12], [26, 28]], usize::MAX);
const V6_TCP: [u64; WORDS] = mask(&[[44, 48], [56, 60]], V6_HEADER_LEN + tcp::FLAGS_AT);
const V6_UDP: [u64; WORDS] = mask(&[[46, 48]], usize::MAX);

/// The headers of the full segment that continues an item, in the form that is compared quickest.
///
/// It says of a packet what [`Segment::read`] and [`Segment::is_followed_by`] would, if it says yes.
#[derive(Debug)]
pub(super) struct Sequel {
    /// The item that it continues.
    pub(super) item: u16,
    /// Length of the packet.
    pub(super) len: usize,
    pub(super) header_len: usize,
    is_tcp: bool,
    is_v6: bool,
    headers: [u64; WORDS],
    mask: [u64; WORDS],
}

impl Sequel {
    /// What may continue an item that begins with `first`; none where that is asked in another way: headers too
    /// long to be compared like this, or packets as short as headers.
    pub(super) fn new(item: u16, head: &Segment, first: &[u8]) -> Option<Self> {
        let header_len = usize::from(head.header_len);
        let headers = words(first.first_chunk()?);
        let mut mask = match (head.is_v6, head.is_tcp) {
            (false, true) => V4_TCP,
            (false, false) => V4_UDP,
            (true, true) => V6_TCP,
            (true, false) => V6_UDP,
        };
        // The payload behind the headers is free.
        let payload_len = LEN.checked_sub(header_len)?;
        let (payload, rest) = (payload_len / 8, payload_len % 8);
        mask[WORDS - payload..].fill(0);
        if rest > 0 {
            let mut kept = [0xff; 8];
            kept[8 - rest..].fill(0);
            mask[WORDS - payload - 1] &= u64::from_ne_bytes(kept);
        }
        let Segment { is_tcp, is_v6, .. } = *head;
        Some(Self { item, len: first.len(), header_len, is_tcp, is_v6, headers, mask })
    }

    /// Compares the first bytes of a packet of the right length. If it continues the item, whose next sequence number
    /// is given: whether it asks to be handed over at once.
    #[inline]
    pub(super) fn push_of(&self, packet: &[u8; LEN], sequence: u32) -> Option<bool> {
        let pairs = words(packet).into_iter().zip(self.headers).zip(self.mask);
        let difference =
            pairs.fold(0, |difference, ((word, header), mask)| difference | (word ^ header) & mask);
        let upper: [u8; tcp::HEADER_LEN] = if self.is_v6 {
            bytes::<V6_HEADER_LEN, _, _>(packet)
        } else {
            bytes::<V4_HEADER_LEN, _, _>(packet)
        };
        let (is_next, push) = if self.is_tcp {
            let is_next = bytes::<{ tcp::SEQUENCE_AT }, _, _>(&upper) == sequence.to_be_bytes();
            (is_next, upper[tcp::FLAGS_AT] & PSH != 0)
        } else {
            // A datagram without a checksum would get one.
            (bytes::<{ udp::CHECKSUM_AT }, _, _>(&upper) != [0, 0], false)
        };
        (difference == 0 && is_next).then_some(push)
    }
}

#[inline(always)]
fn words(bytes: &[u8; LEN]) -> [u64; WORDS] {
    std::array::from_fn(|at| {
        let word = bytes[at * 8..].first_chunk();
        u64::from_ne_bytes(*word.expect("the length is that of as many words"))
    })
}
