//! Sessions whose counter stands where no test could send it, and whose counters are watched.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{Reservation, SealError, TxSession, Unusable};
use crate::session::{HEADER_LEN, KEEPALIVE_LEN, OVERHEAD, RxSession, SessionKeys, SessionSpec, pair};
use crate::{Activity, PeerId, Refused, Suite, TunnelId};

const NOW: Duration = Duration::from_secs(1_000);

/// One direction of a session whose next counter is `counter`.
fn direction(suite: Suite, counter: u64) -> (TxSession, RxSession) {
    let half = |index, peer_index| {
        let keys = SessionKeys { send: Zeroizing::new([3; 32]), receive: Zeroizing::new([3; 32]) };
        let spec = SessionSpec {
            suite,
            index,
            peer_index,
            is_initiator: false,
            born: NOW,
            activity: Arc::new(Activity::new()),
            tunnel: TunnelId(1),
            peer: PeerId(2),
        };
        pair(keys, spec)
    };
    let ((tx, _), (_, rx)) = (half(10, 20), half(20, 10));
    tx.preset_counter(counter);
    (tx, rx)
}

fn counter_of(message: &[u8]) -> u64 {
    u64::from_le_bytes(message[8..HEADER_LEN].try_into().expect("eight bytes"))
}

#[test]
fn a_session_asks_for_its_successor_once_at_the_rekey_limit() {
    for suite in Suite::ALL {
        let (tx, _) = direction(suite, suite.rekey_after_messages() - 1);
        assert!(!tx.wants_renewal(NOW), "{suite:?}");
        let _ = tx.reserve(NOW, 1).expect("below the limit");
        assert!(tx.wants_renewal(NOW), "{suite:?}, also the end that did not begin the session");
        assert!(!tx.wants_renewal(NOW), "{suite:?}");
    }
}

#[test]
fn the_last_counter_below_the_reject_limit_is_sealed_and_opened_and_the_next_is_refused() {
    for suite in Suite::ALL {
        let last = suite.reject_after_messages() - 1;
        let (tx, rx) = direction(suite, last);
        let mut message = [0; KEEPALIVE_LEN];
        let mut reservation = tx.reserve(NOW, 1).expect("the last one");
        reservation.seal(&[], 0, &mut message).expect("sealed");
        assert_eq!(rx.open(&mut message).expect("opened").counter, last, "{suite:?}");
        for _ in 0..100_000 {
            assert_eq!(tx.reserve(NOW, 1).map(|_| ()), Err(Unusable::Exhausted), "{suite:?}");
        }
        assert_eq!(tx.direction.counter.load(Ordering::Relaxed), last + 1, "refusals move nothing");
    }
}

#[test]
fn a_reservation_that_would_cross_the_reject_limit_gets_nothing() {
    for suite in Suite::ALL {
        let limit = suite.reject_after_messages();
        let (tx, _) = direction(suite, limit - 9);
        assert_eq!(tx.reserve(NOW, 10).map(|_| ()), Err(Unusable::Exhausted), "{suite:?}");
        assert_eq!(tx.reserve(NOW, u32::MAX).map(|_| ()), Err(Unusable::Exhausted), "{suite:?}");
        assert_eq!(tx.reserve(NOW, 9).map(|nine| nine.remaining()), Ok(9), "{suite:?}");
    }
}

#[test]
fn counters_beyond_32_bits_reach_the_other_end() {
    for counter in [u64::from(u32::MAX), u64::from(u32::MAX) + 1, 1 << 59] {
        let (tx, rx) = direction(Suite::Wg, counter);
        let mut message = [0; KEEPALIVE_LEN + 4];
        let mut reservation = tx.reserve(NOW, 1).expect("below the limit");
        reservation.seal(b"four", 0, &mut message).expect("sealed");
        let opened = rx.open(&mut message).expect("opened");
        assert_eq!((opened.counter, &message[opened.plaintext]), (counter, &b"four"[..]));
    }
}

#[test]
fn a_message_from_beyond_the_reject_limit_is_refused_before_the_cipher() {
    for suite in Suite::ALL {
        let (_, rx) = direction(suite, 0);
        for counter in [suite.reject_after_messages(), u64::MAX] {
            let mut message = [0; KEEPALIVE_LEN];
            message[0] = 4;
            message[4] = 20;
            message[8..HEADER_LEN].copy_from_slice(&counter.to_le_bytes());
            assert_eq!(rx.open(&mut message), Err(Refused::CounterTooHigh), "{suite:?} {counter}");
        }
    }
}

#[test]
fn threads_that_race_to_the_limit_share_what_is_left_and_seal_no_counter_twice() {
    const THREADS: u64 = 4;
    const LEFT: u64 = 20_000;
    for suite in Suite::ALL {
        let start = suite.reject_after_messages() - LEFT;
        let (tx, _) = direction(suite, start);
        let (barrier, sealed) = (Barrier::new(THREADS as usize), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (tx, barrier, sealed) = (&tx, &barrier, &sealed);
                scope.spawn(move || {
                    barrier.wait();
                    let mut mine = Vec::new();
                    // Trains of changing length, down to single packets at the limit.
                    let mut train = 1 + thread as u32;
                    while train > 0 {
                        match tx.reserve(NOW, train) {
                            Ok(mut reservation) => {
                                while reservation.remaining() > 0 {
                                    let mut message = [0; KEEPALIVE_LEN];
                                    reservation.seal(&[], 0, &mut message).expect("sealed");
                                    mine.push(counter_of(&message));
                                }
                                train = train % 64 + 1;
                            }
                            Err(unusable) => {
                                assert_eq!(unusable, Unusable::Exhausted);
                                train /= 2;
                            }
                        }
                    }
                    sealed.lock().expect("no panic").append(&mut mine);
                });
            }
        });
        let sealed = sealed.into_inner().expect("no panic");
        let unique: BTreeSet<u64> = sealed.iter().copied().collect();
        assert_eq!(unique.len(), sealed.len(), "{suite:?}: a counter twice");
        assert_eq!(unique, (start..start + LEFT).collect(), "{suite:?}: a counter lost");
    }
}

/// What one of several threads does with its session.
#[derive(Debug, Clone)]
enum Step {
    Reserve { thread: usize, n: u32 },
    Seal { thread: usize, len: usize, padding: usize },
    SealIntoTooShort { thread: usize, missing: usize },
    Drop { thread: usize },
}

const THREADS: usize = 4;

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..THREADS, 0..70_u32).prop_map(|(thread, n)| Step::Reserve { thread, n }),
        8 => (0..THREADS, 0..200_usize, 0..70_usize)
            .prop_map(|(thread, len, padding)| Step::Seal { thread, len, padding }),
        1 => (0..THREADS, 1..OVERHEAD).prop_map(|(thread, missing)| Step::SealIntoTooShort { thread, missing }),
        1 => (0..THREADS).prop_map(|thread| Step::Drop { thread }),
    ]
}

proptest! {
    #[test]
    fn no_interleaving_of_threads_errors_and_retries_seals_a_counter_twice(
        suite in prop_oneof![Just(Suite::Wg), Just(Suite::Aes)],
        left in 0..400_u64,
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let limit = suite.reject_after_messages();
        let (tx, rx) = direction(suite, limit - left);
        let mut held: [Option<Reservation<'_>>; THREADS] = [const { None }; THREADS];
        let mut sealed = BTreeSet::new();
        for step in steps {
            match step {
                Step::Reserve { thread, n } => held[thread] = tx.reserve(NOW, n).ok(),
                Step::Drop { thread } => held[thread] = None,
                Step::Seal { thread, len, padding } => {
                    let Some(reservation) = &mut held[thread] else { continue };
                    let before = reservation.remaining();
                    let mut message = vec![0; OVERHEAD + len + padding];
                    match reservation.seal(&vec![7; len], padding, &mut message) {
                        Ok(_) => {
                            let counter = counter_of(&message);
                            prop_assert!(sealed.insert(counter), "counter {} twice", counter);
                            prop_assert!(counter < limit);
                            prop_assert_eq!(rx.open(&mut message).map(|opened| opened.counter), Ok(counter));
                        }
                        Err(SealError::PaddingTooLong) => prop_assert!(padding > 64),
                        Err(SealError::ReservationUsedUp) => prop_assert_eq!(before, 0),
                        Err(error) => prop_assert!(false, "{}", error),
                    }
                }
                Step::SealIntoTooShort { thread, missing } => {
                    let Some(reservation) = &mut held[thread] else { continue };
                    let sealed = reservation.seal(&[], 0, &mut vec![0; OVERHEAD - missing]);
                    prop_assert_eq!(sealed, Err(SealError::OutputTooShort));
                }
            }
        }
    }
}
