//! Data messages: nothing opens that the peer did not seal, and nothing is accepted twice.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use meshd_fuzz::edit::Script;
use meshd_fuzz::seed;
use meshd_tunnel::{
    Activity, OVERHEAD, PADDING, PeerId, RxSession, SessionKeys, SessionSpec, Suite, TunnelId, TxSession,
    pair,
};
use zeroize::Zeroizing;

const NOW: Duration = Duration::from_secs(1);
const RAW: usize = 0;
const EDITED: usize = 1;
const CHOICES: usize = 4;
const PACKET: [u8; 60] = [0x45; 60];

thread_local! {
    static SUITES: RefCell<[(TxSession, RxSession); 2]> = RefCell::new(Suite::ALL.map(ends));
}

/// The sending half of one end and the receiving half of the other.
fn ends(suite: Suite) -> (TxSession, RxSession) {
    let end = |send, receive, index, peer_index, is_initiator| {
        let keys = SessionKeys { send: Zeroizing::new(send), receive: Zeroizing::new(receive) };
        let (activity, tunnel, peer) = (Arc::new(Activity::new()), TunnelId(0), PeerId(0));
        let spec = SessionSpec { suite, index, peer_index, is_initiator, born: NOW, activity, tunnel, peer };
        pair(keys, spec)
    };
    let (tx, _) = end([1; 32], [2; 32], 3, 4, true);
    let (_, rx) = end([2; 32], [1; 32], 4, 3, false);
    (tx, rx)
}

fuzz_target!(init: seed::write(seeds()), |bytes: &[u8]| check(bytes));

fn check(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let choice = usize::from(*choice) % CHOICES;
    SUITES.with_borrow(|suites| {
        let (tx, rx) = &suites[choice / 2];
        if choice % 2 == RAW {
            let opened = rx.open(&mut rest.to_vec());
            assert!(opened.is_err(), "a message that nobody sealed opened: {opened:?}");
            return;
        }
        let honest = sealed(tx, rest.len() % (PADDING + 1));
        let mut edited = honest.clone();
        Script::new(rest).edit(&mut edited);
        let same = edited == honest;
        match rx.open(&mut edited) {
            Ok(opened) => {
                assert!(same, "an edited message opened");
                assert_eq!(edited[opened.plaintext][..PACKET.len()], PACKET);
                let mut fresh = [false; 2];
                rx.accept(&[opened.counter; 2], &mut fresh);
                assert_eq!(fresh, [true, false], "a message counts once");
            }
            Err(refused) => assert!(!same, "an honest message was refused: {refused}"),
        }
    });
}

fn sealed(tx: &TxSession, padding: usize) -> Vec<u8> {
    let mut message = vec![0; OVERHEAD + PACKET.len() + padding];
    let mut counters = tx.reserve(NOW, 1).expect("far from any limit");
    counters.seal(&PACKET, padding, &mut message).expect("it fits");
    message
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for suite in [0, 2] {
        for len in [0, 15, 16, 31, 32, 112] {
            let mut message = vec![0; len];
            if let Some(kind) = message.first_mut() {
                *kind = 4;
            }
            seeds.push(seed::chosen(suite + RAW, &message));
        }
        seeds.push(seed::chosen(suite + EDITED, &[]));
        for at in [0, 4, 8, 15, 20, 100] {
            seeds.push(seed::chosen(suite + EDITED, &[0, 0, at, 1]));
        }
        seeds.push(seed::chosen(suite + EDITED, &[2, 0, 40]));
    }
    seeds
}
