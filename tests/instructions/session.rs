//! Sealing, opening and the replay window.

use std::sync::Arc;
use std::time::Duration;

use meshd_tunnel::{
    Activity, OVERHEAD, PeerId, RxSession, SessionKeys, SessionSpec, Suite, TunnelId, TxSession, pair,
};

use crate::measured::measured;
use crate::{Case, NONE, OPEN, SEAL};

/// Packets of a train: what fits one send of 64 KiB.
pub const TRAIN: usize = 45;
/// Bytes of a packet that fills the tunnel's MTU.
pub const PACKET_LEN: usize = 1420;
pub const NOW: Duration = Duration::from_secs(1_000);

pub const CASES: [Case; 6] = [
    Case {
        name: "seal-train-wg",
        units: 45,
        unit: "segment",
        limit: 150,
        run: || seal_train(Suite::Wg),
        pause: SEAL,
    },
    Case {
        name: "seal-train-aes",
        units: 45,
        unit: "segment",
        limit: 150,
        run: || seal_train(Suite::Aes),
        pause: SEAL,
    },
    Case {
        name: "open-train-wg",
        units: 45,
        unit: "segment",
        limit: 150,
        run: || open_train(Suite::Wg),
        pause: OPEN,
    },
    Case {
        name: "open-train-aes",
        units: 45,
        unit: "segment",
        limit: 150,
        run: || open_train(Suite::Aes),
        pause: OPEN,
    },
    Case {
        name: "replay-in-order",
        units: 45,
        unit: "packet",
        limit: 30,
        run: || replay(|at| at),
        pause: NONE,
    },
    Case {
        name: "replay-reordered",
        units: 45,
        unit: "packet",
        limit: 40,
        run: || replay(|at| at ^ 3),
        pause: NONE,
    },
];

/// One direction of a session.
pub fn direction(suite: Suite) -> (TxSession, RxSession) {
    let end = |index, peer_index| {
        let keys = SessionKeys { send: [3; 32].into(), receive: [3; 32].into() };
        let spec = SessionSpec {
            suite,
            index,
            peer_index,
            is_initiator: true,
            born: NOW,
            activity: Arc::new(Activity::new()),
            tunnel: TunnelId(1),
            peer: PeerId(1),
        };
        pair(keys, spec)
    };
    (end(1, 2).0, end(2, 1).1)
}

/// Seals packets of full size into one train.
pub fn seal_all(tx: &TxSession, train: &mut [u8]) {
    let packet = [0x45; PACKET_LEN];
    let mut reservation = tx.reserve(NOW, TRAIN as u32).expect("usable");
    for message in train.chunks_exact_mut(OVERHEAD + PACKET_LEN) {
        reservation.seal(&packet, 0, message).expect("sealed");
    }
    tx.activity().note_sent(NOW, true);
    assert!(!tx.wants_renewal(NOW));
}

fn seal_train(suite: Suite) {
    let (tx, _) = direction(suite);
    let mut train = vec![0; TRAIN * (OVERHEAD + PACKET_LEN)];
    measured(|| seal_all(&tx, &mut train));
}

fn open_train(suite: Suite) {
    let (tx, rx) = direction(suite);
    let mut train = vec![0; TRAIN * (OVERHEAD + PACKET_LEN)];
    let open = |train: &mut [u8]| {
        let (mut counters, mut fresh) = ([0; TRAIN], [false; TRAIN]);
        for (message, counter) in train.chunks_exact_mut(OVERHEAD + PACKET_LEN).zip(&mut counters) {
            *counter = rx.open(message).expect("opened").counter;
        }
        rx.accept(&counters, &mut fresh);
        rx.activity().note_received(NOW, true);
        assert!(fresh.iter().all(|fresh| *fresh) && rx.is_usable(NOW) && !rx.wants_renewal(NOW));
    };
    seal_all(&tx, &mut train);
    rx.accept(&[1 << 10], &mut [false]);
    measured(|| open(&mut train));
}

fn replay(order: fn(u64) -> u64) {
    let (_, rx) = direction(Suite::Wg);
    let mut fresh = [false; TRAIN];
    let train = |from: u64| -> [u64; TRAIN] { std::array::from_fn(|at| from + order(at as u64)) };
    // Past the first counters, for which a window is shorter.
    rx.accept(&train(1 << 20), &mut fresh);
    let counters = train((1 << 20) + 64);
    measured(|| rx.accept(&counters, &mut fresh));
    assert!(fresh.iter().all(|fresh| *fresh));
}
