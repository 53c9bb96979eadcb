//! Sessions as data threads use them: what is sealed is opened once, what was touched is refused.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use meshd_tunnel::{
    Activity, HEADER_LEN, KEEPALIVE_LEN, OVERHEAD, PeerId, Refused, RxSession, SealError, SessionKeys,
    SessionSpec, Suite, TunnelId, TxSession, Unusable, padding, pair,
};
use zeroize::Zeroizing;

const BORN: Duration = Duration::from_secs(1_000);

/// The two ends of one session: the initiator's halves, then the responder's.
struct Ends {
    initiator: (TxSession, RxSession),
    responder: (TxSession, RxSession),
}

fn ends(suite: Suite) -> Ends {
    let (to_responder, to_initiator) = ([1; 32], [2; 32]);
    let end = |send, receive, index, peer_index, is_initiator| {
        let keys = SessionKeys { send: Zeroizing::new(send), receive: Zeroizing::new(receive) };
        let spec = SessionSpec {
            suite,
            index,
            peer_index,
            is_initiator,
            born: BORN,
            activity: Arc::new(Activity::new()),
            tunnel: TunnelId(7),
            peer: PeerId(8),
        };
        pair(keys, spec)
    };
    Ends {
        initiator: end(to_responder, to_initiator, 0x1111_1111, 0x2222_2222, true),
        responder: end(to_initiator, to_responder, 0x2222_2222, 0x1111_1111, false),
    }
}

fn seal(tx: &TxSession, packet: &[u8], padding: usize) -> Vec<u8> {
    let mut message = vec![0xee; OVERHEAD + packet.len() + padding];
    let mut reservation = tx.reserve(BORN, 1).expect("usable");
    let len = reservation.seal(packet, padding, &mut message).expect("sealed");
    assert_eq!(len, message.len());
    message
}

fn accept(rx: &RxSession, counter: u64) -> bool {
    let mut fresh = [false];
    rx.accept(&[counter], &mut fresh);
    fresh[0]
}

/// A message that a session took in: how often its window accepts it tells whether something moved it.
fn window_is_unmoved(tx: &TxSession, rx: &RxSession) -> bool {
    let mut oldest = seal(tx, b"first", 0);
    rx.open(&mut oldest).is_ok_and(|opened| opened.counter < 1 << 20 && accept(rx, 0))
}

#[test]
fn packets_of_every_length_arrive_in_both_directions() {
    for suite in Suite::ALL {
        let ends = ends(suite);
        let directions = [(&ends.initiator.0, &ends.responder.1), (&ends.responder.0, &ends.initiator.1)];
        for (tx, rx) in directions {
            for len in (0..300).chain([1280, 1420, 8920, 65_535]) {
                let packet: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
                for padding in [0, 3, 16] {
                    let mut message = seal(tx, &packet, padding);
                    let opened = rx.open(&mut message).expect("opened");
                    let plaintext = &message[opened.plaintext];
                    assert_eq!(plaintext[..packet.len()], packet, "{suite:?}, {len} bytes");
                    assert_eq!(plaintext[packet.len()..], vec![0; padding], "{suite:?}, {len} bytes");
                }
            }
        }
    }
}

#[test]
fn a_message_has_the_header_that_wireguard_specifies() {
    for suite in Suite::ALL {
        let ends = ends(suite);
        for counter in 0..3_u64 {
            let message = seal(&ends.initiator.0, b"packet", 0);
            assert_eq!(message[..4], [4, 0, 0, 0]);
            assert_eq!(message[4..8], 0x2222_2222_u32.to_le_bytes());
            assert_eq!(message[8..HEADER_LEN], counter.to_le_bytes(), "{suite:?}: little-endian on the wire");
        }
    }
}

#[test]
fn an_output_longer_than_the_message_keeps_its_end() {
    let ends = ends(Suite::Aes);
    let mut out = [0xaa; 100];
    let mut reservation = ends.initiator.0.reserve(BORN, 1).expect("usable");
    assert_eq!(reservation.seal(b"ten bytes.", 6, &mut out), Ok(48));
    assert_eq!(out[48..], [0xaa; 52]);
}

#[test]
fn a_message_cut_at_any_length_is_refused_and_moves_no_window() {
    for suite in Suite::ALL {
        let ends = ends(suite);
        let message = seal(&ends.initiator.0, &[0x45; 60], 4);
        for len in 0..message.len() {
            let expected = if len < KEEPALIVE_LEN { Refused::TooShort } else { Refused::BadTag };
            assert_eq!(
                ends.responder.1.open(&mut message[..len].to_vec()),
                Err(expected),
                "{suite:?}, {len}"
            );
        }
        assert!(window_is_unmoved(&ends.initiator.0, &ends.responder.1), "{suite:?}");
    }
}

#[test]
fn a_message_that_grew_is_refused() {
    for suite in Suite::ALL {
        let ends = ends(suite);
        for extra in [1, 15, 16, 17] {
            let mut message = seal(&ends.initiator.0, &[0x45; 60], 4);
            message.resize(message.len() + extra, 0);
            assert_eq!(ends.responder.1.open(&mut message), Err(Refused::BadTag), "{suite:?}, {extra}");
        }
    }
}

#[test]
fn a_bit_flipped_anywhere_is_refused_for_the_right_reason_and_moves_no_window() {
    for suite in Suite::ALL {
        let ends = ends(suite);
        let message = seal(&ends.initiator.0, &[0x45; 60], 4);
        for at in 0..message.len() {
            for bit in 0..8 {
                let mut flipped = message.clone();
                flipped[at] ^= 1 << bit;
                let counter = u64::from_le_bytes(flipped[8..HEADER_LEN].try_into().expect("eight bytes"));
                let expected = match at {
                    0..4 => Refused::NotTunnel,
                    4..8 => Refused::UnknownIndex,
                    8..HEADER_LEN if counter >= suite.reject_after_messages() => Refused::CounterTooHigh,
                    _ => Refused::BadTag,
                };
                assert_eq!(
                    ends.responder.1.open(&mut flipped),
                    Err(expected),
                    "{suite:?}, byte {at} bit {bit}"
                );
            }
        }
        assert!(window_is_unmoved(&ends.initiator.0, &ends.responder.1), "{suite:?}");
    }
}

#[test]
fn a_message_of_the_other_direction_or_the_other_suite_is_refused() {
    let (wg, aes) = (ends(Suite::Wg), ends(Suite::Aes));
    let mut reflected = seal(&wg.initiator.0, b"packet", 0);
    assert_eq!(wg.initiator.1.open(&mut reflected), Err(Refused::UnknownIndex));
    let mut reflected = seal(&wg.initiator.0, b"packet", 0);
    reflected[4..8].copy_from_slice(&0x1111_1111_u32.to_le_bytes());
    assert_eq!(wg.initiator.1.open(&mut reflected), Err(Refused::BadTag));
    let mut other = seal(&wg.initiator.0, b"packet", 0);
    assert_eq!(aes.responder.1.open(&mut other), Err(Refused::BadTag));
}

#[test]
fn bug07_a_forged_high_counter_does_not_move_the_window() {
    for suite in Suite::ALL {
        let ends = ends(suite);
        let mut first = seal(&ends.initiator.0, b"first", 0);
        let mut forged = first.clone();
        forged[8..HEADER_LEN].copy_from_slice(&(suite.reject_after_messages() - 1).to_le_bytes());
        assert_eq!(ends.responder.1.open(&mut forged), Err(Refused::BadTag), "{suite:?}");
        let opened = ends.responder.1.open(&mut first).expect("opened");
        assert!(accept(&ends.responder.1, opened.counter), "{suite:?}");
    }
}

#[test]
fn bug07_sixteen_thousand_packets_that_arrive_backwards_are_all_accepted_once() {
    const PACKETS: usize = 16_384;
    for suite in Suite::ALL {
        let ends = ends(suite);
        let messages: Vec<Vec<u8>> = (0..PACKETS).map(|_| seal(&ends.initiator.0, b"", 0)).collect();
        for (expected, round) in [(true, "first"), (false, "second")] {
            for train in messages.rchunks(64) {
                let counters: Vec<u64> = train
                    .iter()
                    .rev()
                    .map(|message| ends.responder.1.open(&mut message.clone()).expect("opened").counter)
                    .collect();
                let mut fresh = vec![!expected; counters.len()];
                ends.responder.1.accept(&counters, &mut fresh);
                assert_eq!(fresh, vec![expected; counters.len()], "{suite:?}, {round} round");
            }
        }
    }
}

#[test]
fn a_copy_within_one_train_is_accepted_once() {
    let ends = ends(Suite::Wg);
    let mut fresh = [false; 5];
    ends.responder.1.accept(&[3, 3, 1, 2, 1], &mut fresh);
    assert_eq!(fresh, [true, false, true, true, false]);
}

#[test]
fn what_lies_behind_the_window_is_refused_without_the_cipher() {
    let ends = ends(Suite::Aes);
    let mut old = seal(&ends.initiator.0, b"old", 0);
    let mut second = seal(&ends.initiator.0, b"second", 0);
    assert!(accept(&ends.responder.1, 16_384));
    old[20] ^= 1;
    assert_eq!(ends.responder.1.open(&mut old), Err(Refused::Replay));
    assert!(ends.responder.1.open(&mut second).is_ok());
}

#[test]
fn threads_that_receive_the_same_messages_accept_each_once() {
    const THREADS: usize = 4;
    // All of them within one window: a thread that falls behind still knows what the others took.
    const TRAINS: u64 = 300;
    let ends = ends(Suite::Aes);
    let (rx, barrier) = (&ends.responder.1, Barrier::new(THREADS));
    let accepted: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    let trains = (0..TRAINS).map(|train| {
                        let counters: Vec<u64> = (train * 45..train * 45 + 45).collect();
                        let mut fresh = [false; 45];
                        rx.accept(&counters, &mut fresh);
                        fresh.iter().filter(|fresh| **fresh).count()
                    });
                    trains.sum::<usize>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(accepted, (TRAINS * 45) as usize);
}

#[test]
fn a_session_is_usable_until_it_is_180_seconds_old() {
    let ends = ends(Suite::Wg);
    let (young, old) = (BORN + Duration::from_millis(179_999), BORN + Duration::from_secs(180));
    let (tx, rx) = &ends.initiator;
    assert!(tx.is_usable(young) && rx.is_usable(young));
    assert!(tx.reserve(young, 1).is_ok());
    assert!(!tx.is_usable(old) && !rx.is_usable(old));
    assert_eq!(tx.reserve(old, 1).map(|_| ()), Err(Unusable::Expired));
}

#[test]
fn a_clock_that_stands_before_the_birth_of_a_session_finds_it_young() {
    let ends = ends(Suite::Wg);
    assert!(ends.initiator.0.reserve(Duration::ZERO, 1).is_ok());
}

#[test]
fn only_the_initiator_asks_for_a_new_session_by_age_and_each_half_asks_once() {
    let ends = ends(Suite::Wg);
    let at = |seconds| BORN + Duration::from_secs(seconds);
    assert!(!ends.initiator.0.wants_renewal(at(119)));
    assert!(ends.initiator.0.wants_renewal(at(120)));
    assert!(!ends.initiator.0.wants_renewal(at(121)));
    assert!(!ends.initiator.1.wants_renewal(at(164)));
    assert!(ends.initiator.1.wants_renewal(at(165)));
    assert!(!ends.initiator.1.wants_renewal(at(166)));
    assert!(!ends.responder.0.wants_renewal(at(179)));
    assert!(!ends.responder.1.wants_renewal(at(179)));
}

#[test]
fn the_first_use_is_confirmed_once_also_between_threads() {
    const THREADS: usize = 4;
    for _ in 0..200 {
        let ends = ends(Suite::Wg);
        let (rx, barrier) = (&ends.responder.1, Barrier::new(THREADS));
        let confirmed: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        usize::from(rx.confirm_first_use())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(confirmed, 1);
        assert!(!rx.confirm_first_use());
    }
}

#[test]
fn a_used_up_reservation_seals_nothing() {
    let ends = ends(Suite::Wg);
    let mut message = [0; KEEPALIVE_LEN];
    let mut reservation = ends.initiator.0.reserve(BORN, 2).expect("usable");
    assert_eq!(reservation.seal(&[], 0, &mut message), Ok(KEEPALIVE_LEN));
    assert_eq!(reservation.remaining(), 1);
    assert_eq!(reservation.seal(&[], 0, &mut message), Ok(KEEPALIVE_LEN));
    assert_eq!(reservation.seal(&[], 0, &mut message), Err(SealError::ReservationUsedUp));
    let mut none = ends.initiator.0.reserve(BORN, 0).expect("usable");
    assert_eq!(none.seal(&[], 0, &mut message), Err(SealError::ReservationUsedUp));
}

#[test]
fn an_output_that_is_too_short_costs_no_counter() {
    let ends = ends(Suite::Wg);
    let mut reservation = ends.initiator.0.reserve(BORN, 1).expect("usable");
    assert_eq!(reservation.seal(b"x", 0, &mut [0; KEEPALIVE_LEN]), Err(SealError::OutputTooShort));
    assert_eq!(reservation.seal(b"x", 65, &mut [0; 200]), Err(SealError::PaddingTooLong));
    assert_eq!(reservation.remaining(), 1);
}

#[test]
fn padding_hides_the_length_but_never_passes_the_mtu() {
    assert_eq!(padding(0, 1420), 0, "a keepalive stays empty");
    assert_eq!(padding(1, 1420), 63);
    assert_eq!(padding(40, 1420), 24, "acknowledgements of both IP versions share a length");
    assert_eq!(padding(52, 1420), 12);
    assert_eq!(padding(64, 1420), 0);
    assert_eq!(padding(65, 1420), 15);
    assert_eq!(padding(1408, 1420), 0);
    assert_eq!(padding(1409, 1420), 11);
    assert_eq!(padding(1420, 1420), 0);
    assert_eq!(padding(1500, 1420), 0, "longer than the path: the caller's affair");
    for len in 0..2000 {
        assert!(padding(len, usize::MAX) < 64, "{len}");
    }
}

#[test]
fn a_session_prints_without_its_keys() {
    let ends = ends(Suite::Aes);
    let printed = format!("{:?} {:?}", ends.initiator.0, ends.initiator.1);
    assert!(!printed.contains("1, 1, 1") && !printed.contains("2, 2, 2"), "{printed}");
}
