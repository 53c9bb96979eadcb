//! Packets that wait for a session, and what must not wait for them.

use super::*;
use crate::dataplane::staged::PACKETS_MAX;

/// Packets that others stage while some leave: more than may leave in one go.
const MORE: usize = 8 * PACKETS_MAX;

#[test]
fn while_nothing_waits_no_counter_is_used_and_no_session_called_for() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    near.wire.take();
    let before = near.next_counter();
    near.tunnels.flush_staged(ID, NOW);
    near.tunnels.heard(ID, place(2), NOW);
    let sent = near.wire.take().len() as u64;
    assert_eq!(near.next_counter(), before + sent + 1, "{sent} datagrams left");

    let old = NOW + S(200);
    near.tunnels.flush_staged(ID, old);
    near.tunnels.heard(ID, place(1), old);
    near.tunnels.pump(old);
    assert!(near.called().is_empty(), "nobody has anything to send");
    near.peer().staged().push(b"waits", &shared.0.staged_total);
    near.tunnels.flush_staged(ID, old);
    near.tunnels.pump(old);
    assert!(!near.called().is_empty());
}

#[test]
fn what_a_session_takes_no_more_waits_for_the_next() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    for packet in [b"one", b"two"] {
        near.peer().staged().push(packet, &shared.0.staged_total);
    }
    near.wire.take();
    near.tunnels.flush_staged(ID, NOW + S(200));
    near.tunnels.pump(NOW + S(200));
    assert_eq!(near.called(), [place(1)]);
    assert_eq!(near.peer().staged().discard(&shared.0.staged_total), 2);
}

#[test]
fn whoever_goes_on_sending_does_not_keep_the_thread_from_other_work() {
    let shared: &'static (Shared, Arc<Wire>) = Box::leak(Box::new(Near::shared()));
    let mut near = Near::connected(shared);
    let peer = Arc::clone(&near.tunnels.tracked[&ID].peer);
    let mut pairs = (0..MORE / 2).map(|_| [vec![0; 128], vec![0; 256]]);
    let mut stage_pair = move || {
        for packet in pairs.next().into_iter().flatten() {
            stage(&shared.0, &peer, &packet);
        }
    };
    stage_pair();
    stage_pair();
    near.wire.take();
    // A packet longer than the one before ends a train, so pairs leave one by one.
    near.wire.set_meanwhile(move |_| stage_pair());
    near.tunnels.flush_staged(ID, NOW);
    assert_eq!(near.wire.take().len(), PACKETS_MAX);
    assert!(!near.peer().staged().is_empty());

    near.wire.set_meanwhile(|_| {});
    near.tunnels.read_notes(NOW);
    assert!(near.peer().staged().is_empty(), "what came meanwhile has a note of its own");
}

#[test]
fn what_waited_leaves_before_others_learn_how_to_send() {
    const LEN: usize = 1008;
    let shared = Near::shared();
    let mut near = Near::new(&shared, 1, 2);
    near.finds(&[place(1)], NOW);
    let peer = Arc::clone(&near.tunnels.tracked[&ID].peer);
    peer.staged().push(&[0; LEN], &shared.0.staged_total);
    let may_be_overtaken: Arc<Mutex<Vec<bool>>> = Arc::default();
    let seen = Arc::clone(&may_be_overtaken);
    near.wire.set_meanwhile(move |train| {
        if train.len() == LEN + OVERHEAD {
            seen.lock().unwrap_or_else(PoisonError::into_inner).push(peer.way().is_some());
        }
    });
    near.connects();
    assert_eq!(*may_be_overtaken.lock().unwrap_or_else(PoisonError::into_inner), [false]);
    assert!(near.peer().way().is_some());
}

#[test]
fn a_handshake_goes_by_the_other_socket_while_fragments_fill_its_own() {
    let wire = Arc::new(Wire::default());
    let shared = (Near::shared_on(wire.clone(), Arc::new(Full)), wire);
    let mut near = Near::new(&shared, 1, 2);
    near.finds(&[place(1)], NOW);
    near.tunnels.call(ID, NOW);
    near.tunnels.pump(NOW);
    assert_eq!(near.called(), [place(1)]);
    assert!(shared.0.counters.all().iter().all(|(_, count)| *count == 0));
}

impl Near<'_> {
    /// The counter of a message that is sealed now.
    fn next_counter(&self) -> u64 {
        let way = self.peer().way();
        let mut sealed = [0; OVERHEAD];
        let mut reservation = way.as_ref().expect("a way").session.reserve(NOW, 1).expect("a counter");
        reservation.seal(&[], 0, &mut sealed).expect("sealed");
        u64::from_le_bytes(sealed[8..16].try_into().expect("eight bytes"))
    }
}

/// A socket that has no room.
struct Full;

impl DatagramSocket for Full {
    fn send(&self, _: &[u8], _: usize, _: SocketAddr, _: u8) -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn receive(&self, _: &mut [u8], _: &mut [ReceiveMeta]) -> io::Result<usize> {
        Ok(0)
    }
}
