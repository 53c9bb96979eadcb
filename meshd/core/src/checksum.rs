//! The Internet checksum (RFC 1071).

use std::net::Ipv6Addr;

/// One's complement sum of `data` in 16-bit words, unfolded, added to `sum`.
pub fn add(mut sum: u64, data: &[u8]) -> u64 {
    let mut words = data.chunks_exact(2);
    for word in &mut words {
        sum = sum.wrapping_add(u64::from(u16::from_be_bytes([word[0], word[1]])));
    }
    if let [last] = words.remainder() {
        sum = sum.wrapping_add(u64::from(u16::from_be_bytes([*last, 0])));
    }
    sum
}

/// Folds a sum to its complement, ready for the header field.
pub fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sum of the IPv6 pseudo header (RFC 8200 section 8.1).
pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, len: usize, next_header: u8) -> u64 {
    let sum = add(add(0, &source.octets()), &destination.octets());
    sum.wrapping_add(len as u64).wrapping_add(u64::from(next_header))
}
