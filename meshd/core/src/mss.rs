//! The maximum segment size that a TCP connection begins with (RFC 9293 section 3.7.1).

use crate::checksum;
use crate::upper::tcp::{CHECKSUM_AT, FLAGS_AT, HEADER_LEN as OPTIONS_AT, OFFSET_AT, SYN};

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;

/// Lowers the size that a SYN announces to `mss_max`. Returns whether the segment was changed.
///
/// The checksum must be complete; it is changed with the option.
pub fn clamp(tcp: &mut [u8], mss_max: u16) -> bool {
    let Some(at) = option_at(tcp) else { return false };
    let Some([high, low]) = tcp.get(at..).and_then(|rest| rest.first_chunk::<2>()).copied() else {
        return false;
    };
    let mss = u16::from_be_bytes([high, low]);
    if mss <= mss_max {
        return false;
    }
    let Some(checksum) = tcp.get(CHECKSUM_AT..).and_then(|rest| rest.first_chunk::<2>()).copied() else {
        return false;
    };
    tcp[at..at + 2].copy_from_slice(&mss_max.to_be_bytes());
    // The option may begin at an odd place; then the two numbers under the sum that hold it have swapped halves.
    let swap = |mss: u16| if at % 2 == 0 { mss } else { mss.swap_bytes() };
    let checksum = checksum::replaced(checksum, swap(mss), swap(mss_max));
    tcp[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum);
    true
}

/// Where the number of a SYN's option is.
fn option_at(tcp: &[u8]) -> Option<usize> {
    if tcp.get(FLAGS_AT)? & SYN == 0 {
        return None;
    }
    let header = tcp.get(..usize::from(tcp.get(OFFSET_AT)? >> 4) * 4)?;
    let mut at = OPTIONS_AT;
    loop {
        match (*header.get(at)?, header.get(at + 1)) {
            (OPTION_END, _) => return None,
            (OPTION_NOP, _) => at += 1,
            (OPTION_MSS, Some(4)) => return header.get(at + 2..at + 4).map(|_| at + 2),
            (_, Some(len @ 2..)) => at += usize::from(*len),
            (_, Some(0 | 1) | None) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Sum;
    use proptest::prelude::*;

    /// A SYN with options; its checksum lacks a pseudo header, which changes nothing.
    fn syn(options: &[u8]) -> Vec<u8> {
        let mut tcp = vec![0x12, 0x34, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 0, SYN, 0xff, 0xff, 0, 0, 0, 0];
        tcp.extend(options);
        tcp.resize(tcp.len().next_multiple_of(4), 0);
        tcp[OFFSET_AT] = (tcp.len() as u8 / 4) << 4;
        let checksum = Sum::of(&tcp).finish();
        tcp[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum);
        tcp
    }

    #[test]
    fn a_larger_size_is_lowered_and_the_checksum_holds() {
        for options in
            [&[2, 4, 5, 0xb4][..], &[1, 2, 4, 5, 0xb4], &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 5, 0xb4]]
        {
            let mut tcp = syn(options);
            assert!(clamp(&mut tcp, 1240));
            let at = options.len() - 2 + OPTIONS_AT;
            assert_eq!(tcp[at..at + 2], 1240u16.to_be_bytes());
            assert_eq!(Sum::of(&tcp).finish(), [0, 0]);
            assert!(!clamp(&mut tcp, 1240), "it is low enough now");
        }
    }

    #[test]
    fn what_announces_nothing_stays_as_it_is() {
        let mut ack = syn(&[2, 4, 5, 0xb4]);
        ack[FLAGS_AT] = 0x10;
        for mut tcp in
            [ack, syn(&[]), syn(&[0, 2, 4, 5]), syn(&[1, 1, 1, 2]), syn(&[2, 3, 5, 1]), syn(&[8, 0, 2, 4])]
        {
            let before = tcp.clone();
            assert!(!clamp(&mut tcp, 536));
            assert_eq!(tcp, before);
        }
    }

    #[test]
    fn only_what_is_an_option_is_read() {
        // Behind the end of the options; behind an option that is shorter than itself; behind the header.
        let mut payload = syn(&[]);
        payload.extend([2, 4, 5, 0xb4]);
        for mut tcp in [syn(&[0, 2, 2, 4, 5, 0xb4]), syn(&[3, 1, 2, 4, 5, 0xb4]), payload] {
            let before = tcp.clone();
            assert!(!clamp(&mut tcp, 536));
            assert_eq!(tcp, before);
        }
    }

    proptest! {
        #[test]
        fn no_options_lead_outside(options in proptest::collection::vec(0u8..6, 0..40), mss_max in any::<u16>()) {
            let mut tcp = syn(&options);
            clamp(&mut tcp, mss_max);
            prop_assert!(matches!(Sum::of(&tcp).finish(), [0, 0] | [0xff, 0xff]));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), mss_max in any::<u16>()) {
            let mut bytes = bytes;
            clamp(&mut bytes, mss_max);
        }
    }
}
