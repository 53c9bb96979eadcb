//! Who calls first, and when.

use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;
/// Secrets of a node and its peer: of the two orders, one gives the node the greater key.
const SECRETS: [(u8, u8); 2] = [(1, 2), (2, 1)];

#[test]
fn a_node_that_starts_calls_at_once_whom_it_knows() {
    for (own, far) in SECRETS {
        let shared = Near::shared();
        let mut near = Near::new(&shared, own, far);
        near.tunnels.set_own(vec!["10.91.128.5/32".parse().expect("a prefix")]);
        near.finds(&[place(1)], NOW);
        near.passes(NOW);
        assert_eq!(near.called(), [place(1)], "secret {own}");
    }
}

#[test]
fn of_two_that_hear_of_each_other_later_one_waits_for_the_other() {
    let mut are_first = Vec::new();
    for (own, far) in SECRETS {
        let shared = Near::shared();
        let mut near = Near::new(&shared, own, far);
        near.tunnels.set_peers(Vec::new(), NOW);
        near.finds(&[place(1)], NOW + S(1));
        near.passes(NOW + S(1) + MS(499));
        let is_first = near.called() == [place(1)];
        near.passes(NOW + S(1) + MS(500));
        assert_eq!(near.called().is_empty(), is_first, "secret {own} calls once by then");
        are_first.push(is_first);
    }
    are_first.sort_unstable();
    assert_eq!(are_first, [false, true]);
}

#[test]
fn two_that_start_together_call_once_each_and_hear_each_other() {
    let shared = [Near::shared(), Near::shared()];
    let mut ends = [Near::new(&shared[0], 1, 2), Near::new(&shared[1], 2, 1)];
    let mut talk = Talk::default();
    for (end, other) in ends.iter_mut().zip([place(1), place(0)]) {
        end.finds(&[other], NOW);
        end.says(b"first", NOW);
    }
    for second in 0..10 {
        talk.goes_on(&mut ends, NOW + S(second));
    }
    for end in &mut ends {
        end.says(b"again", NOW + S(10));
    }
    talk.goes_on(&mut ends, NOW + S(10));
    assert_eq!(talk.initiations, [1, 1]);
    assert_eq!(talk.heard, [2, 2]);
    assert!(ends.iter().all(|end| end.peer().is_up()));
}

/// What two ends have sent each other, counted for each.
#[derive(Default)]
struct Talk {
    initiations: [usize; 2],
    heard: [usize; 2],
}

impl Talk {
    /// Lets both do what is due, and answer each other until nothing is under way.
    fn goes_on(&mut self, ends: &mut [Near<'_>; 2], now: Duration) {
        ends.iter_mut().for_each(|end| end.passes(now));
        loop {
            let sent = [0, 1].map(|end| ends[end].wire.take());
            if sent.iter().all(Vec::is_empty) {
                return;
            }
            for (from, datagrams) in sent.into_iter().enumerate() {
                let to = 1 - from;
                for (_, datagram) in datagrams {
                    self.initiations[from] += usize::from(datagram[0] == INITIATION);
                    self.heard[to] += usize::from(ends[to].hears(datagram, place(from as u32), now));
                }
            }
        }
    }
}

impl Near<'_> {
    /// Does what is due by now.
    fn passes(&mut self, now: Duration) {
        self.tunnels.meet_deadlines(now);
        self.tunnels.engine.on_timeout(now);
        self.tunnels.pump(now);
    }

    /// Has a packet for the peer.
    fn says(&mut self, packet: &[u8], now: Duration) {
        stage(self.tunnels.shared, &self.tunnels.tracked[&ID].peer, packet);
        self.tunnels.read_notes(now);
    }

    /// Takes a datagram as all its threads together would; true if a packet was in it.
    fn hears(&mut self, mut datagram: Vec<u8>, source: SocketAddr, now: Duration) -> bool {
        let engine = &mut self.tunnels.engine;
        let mut has_packet = false;
        if datagram[0] == DATA {
            let index = u32::from_le_bytes(datagram[4..8].try_into().expect("an index"));
            let receiving = self.tunnels.shared.sessions.find(index).expect("a session");
            let opened = receiving.session.open(&mut datagram).expect("authentic");
            let plaintext = &datagram[opened.plaintext];
            has_packet = plaintext.starts_with(b"first") || plaintext.starts_with(b"again");
            if receiving.session.confirm_first_use() {
                engine.confirmed(now, index);
            }
            if receiving.session.activity().note_received(now, has_packet) {
                engine.stir(now, receiving.session.tunnel());
            }
            receiving.peer.note_heard(source, now);
        } else {
            engine.on_control(now, Via { path: 0, source }, &datagram, 0);
        }
        self.tunnels.pump(now);
        has_packet
    }
}

/// Type of a data message.
const DATA: u8 = 4;
