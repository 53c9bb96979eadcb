//! Changes to the IP header of a packet in passing: congestion marks and hop limits.
//!
//! The packet was parsed before; a slice too short for its header is left alone.

use std::net::IpAddr;

use meshd_core::checksum;
pub(super) use meshd_core::ip::ecn;

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// Carries the congestion mark of the outer header over to the packet (RFC 6040 section 4.2). False: the packet
/// must be dropped, because it was marked and its sender would not see the mark.
#[must_use]
pub(super) fn decapsulate_ecn(packet: &mut [u8], outer: u8) -> bool {
    if outer == NOT_ECT || outer == ECT_0 {
        return true;
    }
    let Some(inner) = ecn(packet) else { return true };
    match (inner, outer) {
        (NOT_ECT, CE) => return false,
        (ECT_0 | ECT_1, CE) => set_ecn(packet, CE),
        (ECT_0, ECT_1) => set_ecn(packet, ECT_1),
        _ => {}
    }
    true
}

/// Takes one hop from the packet; false if it had none left.
#[must_use]
pub(super) fn take_hop(packet: &mut [u8], destination: IpAddr) -> bool {
    let at = match destination {
        IpAddr::V4(_) => 8,
        IpAddr::V6(_) => 7,
    };
    let Some(hops) = packet.get(at).copied().filter(|hops| *hops > 1) else { return false };
    replace(packet, at, hops - 1);
    true
}

fn set_ecn(packet: &mut [u8], ecn: u8) {
    let (Some(first), Some(second)) = (packet.first().copied(), packet.get(1).copied()) else { return };
    let marked = if first >> 4 == 4 { second & !3 | ecn } else { second & !0x30 | ecn << 4 };
    replace(packet, 1, marked);
}

/// Replaces a byte of the header and corrects the checksum of IPv4.
fn replace(packet: &mut [u8], at: usize, value: u8) {
    const CHECKSUM_AT: usize = 10;
    let is_v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let word = |packet: &[u8], at: usize| packet.get(at..).and_then(|rest| rest.first_chunk::<2>()).copied();
    let before = word(packet, at & !1);
    let Some(byte) = packet.get_mut(at) else { return };
    *byte = value;
    if let (true, Some(before), Some(after)) = (is_v4, before, word(packet, at & !1))
        && let Some(sum) = packet.get_mut(CHECKSUM_AT..).and_then(|rest| rest.first_chunk_mut::<2>())
    {
        *sum = checksum::replaced(*sum, u16::from_be_bytes(before), u16::from_be_bytes(after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshd_core::checksum::Sum;
    use proptest::prelude::*;

    fn v4(tos: u8, ttl: u8, id: u16) -> [u8; 20] {
        let mut packet = [0; 20];
        (packet[0], packet[1], packet[3], packet[8], packet[9]) = (0x45, tos, 20, ttl, 17);
        packet[4..6].copy_from_slice(&id.to_be_bytes());
        let sum = Sum::of(&packet).finish();
        packet[10..12].copy_from_slice(&sum);
        packet
    }

    fn v6(class: u8) -> [u8; 40] {
        let mut packet = [0; 40];
        (packet[0], packet[1], packet[7]) = (0x60 | class >> 4, class << 4 | 0x0a, 64);
        packet
    }

    #[test]
    fn marks_are_carried_over_as_rfc_6040_says() {
        // Rows: inner mark. Columns: outer mark 0, ECT(1), ECT(0), CE.
        let table = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (ECT_0, [Some(ECT_0), Some(ECT_1), Some(ECT_0), Some(CE)]),
            (CE, [Some(CE); 4]),
        ];
        for (inner, row) in table {
            for (outer, expected) in row.into_iter().enumerate() {
                let (mut four, mut six) = (v4(0xb8 | inner, 64, 7), v6(0xb8 | inner));
                assert_eq!(decapsulate_ecn(&mut four, outer as u8), expected.is_some());
                assert_eq!(decapsulate_ecn(&mut six, outer as u8), expected.is_some());
                if let Some(expected) = expected {
                    assert_eq!(four, v4(0xb8 | expected, 64, 7), "{inner} in {outer}");
                    assert_eq!(six, v6(0xb8 | expected), "{inner} in {outer}");
                }
            }
        }
    }

    #[test]
    fn the_last_hop_is_not_taken() {
        let (four, six) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let mut packet = v4(0, 2, 7);
        assert!(take_hop(&mut packet, four) && !take_hop(&mut packet, four));
        let mut packet = v6(0);
        assert!(take_hop(&mut packet, six));
        assert_eq!(packet[7], 63);
        assert!(!take_hop(&mut [0x60], six) && !take_hop(&mut [], four));
    }

    proptest! {
        #[test]
        fn the_checksum_stays_correct(tos: u8, ttl in 2u8.., id: u16) {
            let mut packet = v4(tos, ttl, id);
            let _ = decapsulate_ecn(&mut packet, CE);
            prop_assert!(take_hop(&mut packet, "10.0.0.1".parse().unwrap()));
            prop_assert_eq!(Sum::of(&packet).finish(), [0, 0]);
        }
    }
}
