//! The Internet checksum (RFC 1071).
//!
//! The one's complement sum depends neither on the byte order (section 2 B) nor on the width of the words that are
//! added (section 2 C): words of 64 bits are added in the machine's order, and only [`Sum::finish`] folds them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes that are summed at once, while there are as many: two carry chains, each of which takes half of them. The
/// carry of a chain goes back into its sum, which costs as much as another word.
const BLOCK: usize = 256;

/// A one's complement sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(u64);

impl Sum {
    /// Sum of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::default().with(bytes)
    }

    /// Sum of the IPv4 pseudo header (RFC 9293 section 3.1).
    pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, len: u16, protocol: u8) -> Self {
        Self::of(&source.octets()).with(&destination.octets()).with_number(len).with_number(protocol.into())
    }

    /// Sum of the IPv6 pseudo header (RFC 8200 section 8.1); no packet of ours is longer than 65,535 bytes.
    pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, len: u16, next_header: u8) -> Self {
        Self::of(&source.octets())
            .with(&destination.octets())
            .with_number(len)
            .with_number(next_header.into())
    }

    /// Adds bytes; only the last ones added may be odd in number.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        // Two chains, because one would wait for itself: an addition can begin when the one before it is done.
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let [mut even, mut odd] = [self.0, 0];
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            let (left, right) = words.split_at(BLOCK / 16);
            even = add_chain(even, left);
            odd = add_chain(odd, right);
        }
        let (sum, rest) = Self(even).plus(odd).with_first::<{ BLOCK / 2 }>(rest);
        let (sum, rest) = sum.with_first::<{ BLOCK / 4 }>(rest);
        let (sum, rest) = sum.with_first::<{ BLOCK / 8 }>(rest);
        let (sum, rest) = sum.with_first::<{ BLOCK / 16 }>(rest);
        let (mut sum, mut rest) = sum.with_first::<8>(rest);
        if let Some((half, after)) = rest.split_first_chunk() {
            (sum, rest) = (sum.with_four(*half), after);
        }
        if let Some((pair, after)) = rest.split_first_chunk() {
            (sum, rest) = (sum.plus(u16::from_ne_bytes(*pair).into()), after);
        }
        match rest {
            [odd] => sum.plus(u16::from_ne_bytes([*odd, 0]).into()),
            _ => sum,
        }
    }

    /// Adds four bytes.
    #[must_use]
    #[inline]
    pub fn with_four(self, bytes: [u8; 4]) -> Self {
        self.plus(u32::from_ne_bytes(bytes).into())
    }

    /// Adds a number that stands in the packet as two bytes, the high one first.
    #[must_use]
    #[inline]
    pub fn with_number(self, number: u16) -> Self {
        self.plus(u16::from_ne_bytes(number.to_be_bytes()).into())
    }

    /// Adds another sum, of an even number of bytes.
    #[must_use]
    #[inline]
    pub fn with_sum(self, other: Self) -> Self {
        self.plus(other.0)
    }

    /// The sum of 16 bits, as it stands in a packet.
    #[inline]
    pub fn folded(self) -> [u8; 2] {
        // Both halves of a number plus itself with halves swapped are the sum of the two. The carry of the lower sum
        // goes into the upper one, which is where it belongs.
        let folded = self.0.wrapping_add(self.0.rotate_left(32)) >> 32;
        let folded = folded as u32;
        let folded = folded.wrapping_add(folded.rotate_left(16)) >> 16;
        (folded as u16).to_ne_bytes()
    }

    /// The checksum, as it stands in a packet.
    #[inline]
    pub fn finish(self) -> [u8; 2] {
        self.folded().map(|byte| !byte)
    }

    /// The checksum of an upper layer: never zero, which UDP reads as "none" and which is the same number as 0xffff.
    #[inline]
    pub fn finish_nonzero(self) -> [u8; 2] {
        let checksum = u16::from_ne_bytes(self.finish());
        if checksum == 0 { [0xff, 0xff] } else { checksum.to_ne_bytes() }
    }

    /// Adds the first `N` bytes if there are as many; gives what is left.
    #[inline(always)]
    fn with_first<const N: usize>(self, bytes: &[u8]) -> (Self, &[u8]) {
        match bytes.split_first_chunk::<N>() {
            Some((first, rest)) => (Self(add_chain(self.0, first.as_chunks::<8>().0)), rest),
            None => (self, bytes),
        }
    }

    #[inline]
    fn plus(self, word: u64) -> Self {
        let (sum, carry) = self.0.overflowing_add(word);
        // No overflow: the sum of two words with a carry is at most two below 2^64.
        Self(sum.wrapping_add(carry.into()))
    }
}

/// The checksum after one number under it has changed (RFC 1624).
pub fn replaced(checksum: [u8; 2], old: u16, new: u16) -> [u8; 2] {
    Sum::of(&checksum.map(|byte| !byte)).with_number(!old).with_number(new).finish()
}

/// Adds words with a carry from one to the next, which is one instruction a word.
#[inline(always)]
fn add_chain(mut sum: u64, words: &[[u8; 8]]) -> u64 {
    let mut carry = false;
    for word in words {
        (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
    }
    // No overflow: the chain begins without a carry, so a sum that has one is at most two below 2^64.
    sum.wrapping_add(carry.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word.
    fn naive(bytes: &[u8]) -> [u8; 2] {
        let mut sum = 0u32;
        for word in bytes.chunks(2) {
            sum += u32::from(word[0]) << 8 | word.get(1).copied().map_or(0, u32::from);
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn the_example_of_rfc_1071_is_summed() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::of(&bytes).folded(), [0xdd, 0xf2]);
    }

    #[test]
    fn all_ones_never_lose_a_carry() {
        for len in [1, 2, 7, 8, 127, 128, 129, 1440, 65_535] {
            let bytes = vec![0xff; len];
            assert_eq!(Sum::of(&bytes).finish(), naive(&bytes), "{len} bytes");
            assert_eq!(Sum(u64::MAX).with(&bytes).finish(), naive(&bytes), "{len} bytes and a full sum");
        }
    }

    #[test]
    fn an_upper_layer_checksum_is_never_zero() {
        assert_eq!(Sum::of(&[0xff, 0xff]).finish(), [0, 0]);
        assert_eq!(Sum::of(&[0xff, 0xff]).finish_nonzero(), [0xff, 0xff]);
        assert_eq!(Sum::of(&[0xff, 0xfe]).finish_nonzero(), [0, 1]);
    }

    proptest! {
        #[test]
        fn sums_agree_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(Sum::of(&bytes).finish(), naive(&bytes));
        }

        #[test]
        fn parts_sum_to_the_whole(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0usize..300) {
            let (first, second) = bytes.split_at((at * 2).min(bytes.len() & !1));
            prop_assert_eq!(Sum::of(first).with(second).finish(), naive(&bytes));
            prop_assert_eq!(Sum::of(first).with_sum(Sum::of(second)).finish(), naive(&bytes));
        }

        #[test]
        fn a_changed_number_gives_the_checksum_of_the_changed_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 2..100),
            new in 1u16..,
        ) {
            let old = u16::from_be_bytes([bytes[0], bytes[1]]);
            let checksum = replaced(naive(&bytes), old, new);
            let mut changed = bytes;
            changed[..2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(checksum, naive(&changed));
        }
    }
}
