//! Keys that take the place of others while packets flow.

use std::collections::VecDeque;

use super::*;

/// Time between two packets of an end.
const TICK: Duration = Duration::from_millis(10);
/// Time a datagram takes.
const DELAY: Duration = Duration::from_millis(35);

#[test]
fn no_packet_is_lost_when_one_end_replaces_its_key_again_and_again() {
    let shared = [Near::shared(), Near::shared()];
    let mut pair = Rotating::new(&shared);
    for _ in 0..20 {
        pair.rotates(&[0]);
    }
    pair.ends_with([21, 1]);
}

#[test]
fn no_packet_is_lost_when_both_ends_replace_their_keys_at_once() {
    let shared = [Near::shared(), Near::shared()];
    let mut pair = Rotating::new(&shared);
    for _ in 0..20 {
        pair.rotates(&[0, 1]);
    }
    pair.ends_with([21, 21]);
}

#[test]
fn keys_that_handshakes_were_completed_with_are_noted_at_both_ends() {
    let shared = [Near::shared(), Near::shared()];
    let mut pair = Rotating::new(&shared);
    pair.rotates(&[0]);
    let of = |end: usize, epoch: u32| (Epoch(epoch), local_key(secret(end, epoch)).public());
    for (end, (shared, _)) in shared.iter().enumerate() {
        let noted = shared.handshakes.take(pair.now);
        let keys: Vec<_> = noted.iter().map(|one| [one.ends.own, one.ends.theirs]).collect();
        let both = [1, 2].map(|epoch| match end {
            0 => [of(0, epoch), of(1, 1)],
            _ => [of(1, 1), of(0, epoch)],
        });
        assert_eq!(keys, both, "end {end}");
        for one in &noted {
            assert_eq!((one.ends.peer.node, one.ends.suite, one.ends.has_psk), (NODE, Suite::Aes, false));
            assert!(one.count > 0 && one.last_ago <= one.first_ago && one.first_ago < S(60), "{one:?}");
        }
        assert!(noted[0].last_ago > noted[1].last_ago, "the key before was called with before");
        assert!(shared.handshakes.take(pair.now).is_empty(), "nothing is told twice");
    }
}

#[test]
fn a_key_that_only_answers_is_never_called_with() {
    let shared = [Near::shared(), Near::shared()];
    let mut pair = Rotating::new(&shared);
    pair.prepare(0);
    pair.prepare(1);
    pair.runs_for(S(600));
    assert_eq!(pair.confirmed(0), [(1, 1)], "after three renewals");
    assert_eq!(pair.confirmed(1), [(1, 1)]);
    pair.loses_nothing();
}

#[test]
fn a_peer_that_calls_with_its_next_key_is_answered_and_followed() {
    let shared = [Near::shared(), Near::shared()];
    let mut pair = Rotating::new(&shared);
    pair.prepare(0);
    pair.takes(0, (1, Use::Spare), Some((2, Use::Call)));
    pair.runs_for(S(1));
    let way = |end: &Near<'_>| end.tunnels.tracked[&ID].tunnels.sending().map(|session| session.tunnel());
    for (end, own) in [(0, 2), (1, 1)] {
        let uses = pair.ends[end].tunnels.tracked[&ID].tunnels.uses();
        let newest = uses.filter(|(_, tunnel, _)| tunnel.own == Epoch(own) && tunnel.peer == Epoch(3 - own));
        let newest: Vec<TunnelId> = newest.map(|(id, ..)| id).collect();
        assert_eq!(newest, Vec::from_iter(way(&pair.ends[end])), "end {end} sends on it");
    }
    pair.loses_nothing();
}

#[test]
fn a_key_that_goes_takes_its_sessions_along_at_once() {
    let shared = [Near::shared(), Near::shared()];
    let mut pair = Rotating::new(&shared);
    pair.prepare(0);
    pair.takes(0, (2, Use::Call), None);
    assert!(pair.ends[0].peer().way().is_none(), "what data threads send with is gone");
    assert_eq!(pair.ends[0].tunnels.uses(pair.now).len(), 1);
    let engine = &mut pair.ends[0].tunnels.engine;
    assert!(engine.add_key(key_id(Epoch(1)), local_key([9; 32])).is_ok(), "the key is forgotten");
    pair.runs_for(S(1));
    assert_eq!(pair.confirmed(0), [(2, 1)], "the peer knows the other key");
}

#[test]
fn a_peer_that_has_none_of_its_keys_any_more_is_another_peer() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    let before = Arc::clone(&near.tunnels.tracked[&ID].peer);
    let other = PeerKeys::single(Epoch(2), local_key([77; 32]).public());
    near.finds_with(&[place(1)], other, NOW + S(1));
    assert!(before.way().is_none());
    assert!(!near.tunnels.tracked.contains_key(&ID), "nothing is left of it");
}

#[test]
fn keys_of_this_node_are_not_taken_for_a_peers() {
    let shared = Near::shared();
    let mut near = Near::connected(&shared);
    let cur = near.peer_key;
    for own in [[1; 32], EXTERNAL] {
        let own = PeerKey { epoch: Epoch(2), public: local_key(own).public() };
        near.finds_with(&[place(1)], PeerKeys { cur, next: Some(own), prev: None }, NOW);
        assert_eq!(near.tunnels.uses(NOW).len(), 1, "one that it announces is left out");
        near.finds_with(&[place(1)], PeerKeys { cur: own, next: None, prev: Some(cur) }, NOW);
        assert!(near.tunnels.uses(NOW).is_empty(), "one that it uses is refused");
        near.finds(&[place(1)], NOW);
    }
}

/// Two ends that say something every tick and whose keys are replaced.
struct Rotating<'a> {
    ends: [Near<'a>; 2],
    now: Duration,
    epochs: [u32; 2],
    /// On their way: when they arrive, and where.
    flying: VecDeque<(Duration, usize, Vec<u8>)>,
    sent: [usize; 2],
    heard: [usize; 2],
}

impl<'a> Rotating<'a> {
    fn new(shared: &'a [(Shared, Arc<Wire>); 2]) -> Self {
        let ends = [0, 1].map(|end| Near::new(&shared[end], secret(end, 1)[0], secret(1 - end, 1)[0]));
        let mut pair =
            Self { ends, now: NOW, epochs: [1, 1], flying: VecDeque::new(), sent: [0, 0], heard: [0, 0] };
        for end in 0..2 {
            pair.hears_of(end, 1, None, None);
        }
        pair.runs_for(S(1));
        pair
    }

    /// The keys of these ends are replaced, from one to the next.
    fn rotates(&mut self, who: &[usize]) {
        who.iter().for_each(|end| self.prepare(*end));
        self.runs_for(S(1));
        for end in who.iter().copied() {
            let epoch = self.epochs[end];
            self.takes(end, (epoch, Use::Spare), Some((epoch + 1, Use::Call)));
        }
        self.runs_for(S(1));
        for end in who.iter().copied() {
            self.epochs[end] += 1;
            let epoch = self.epochs[end];
            let uses = self.ends[end].tunnels.uses(self.now);
            let has_switched =
                |one: &TunnelUse| one.own == Epoch(epoch) && one.is_confirmed && one.last_received.is_some();
            assert!(uses.iter().any(has_switched), "{uses:?}");
            self.hears_of(end, epoch, None, Some(epoch - 1));
        }
        // Longer than a session that is used would go without a packet.
        self.runs_for(S(30));
        for end in who.iter().copied() {
            let epoch = self.epochs[end];
            let uses = self.ends[end].tunnels.uses(self.now);
            for one in uses.iter().filter(|one| one.own < Epoch(epoch)) {
                assert!(one.last_received.is_none_or(|ago| ago > S(20)), "nobody uses it: {one:?}");
            }
            self.takes(end, (epoch, Use::Call), None);
            self.hears_of(end, epoch, None, None);
        }
        self.runs_for(S(1));
    }

    /// An end makes its next key, and the other one hears of it.
    fn prepare(&mut self, end: usize) {
        let epoch = self.epochs[end];
        self.takes(end, (epoch, Use::Call), Some((epoch + 1, Use::Answer)));
        self.hears_of(end, epoch, Some(epoch + 1), None);
    }

    /// An end takes keys of its own.
    fn takes(&mut self, end: usize, older: (u32, Use), newer: Option<(u32, Use)>) {
        let own = |(epoch, usage)| OwnKey { epoch: Epoch(epoch), key: local_key(secret(end, epoch)), usage };
        let keys = OwnKeys { older: own(older), newer: newer.map(own), external: local_key(EXTERNAL) };
        self.ends[end].tunnels.set_keys(keys, self.now);
        self.ends[end].tunnels.pump(self.now);
    }

    /// The other end hears of an end's keys.
    fn hears_of(&mut self, end: usize, cur: u32, next: Option<u32>, prev: Option<u32>) {
        let key = |epoch| PeerKey { epoch: Epoch(epoch), public: local_key(secret(end, epoch)).public() };
        let keys = PeerKeys { cur: key(cur), next: next.map(key), prev: prev.map(key) };
        self.ends[1 - end].finds_with(&[place(end as u32)], keys, self.now);
    }

    /// The pairs of keys, this end's first, of the tunnels that an end can send on.
    fn confirmed(&self, end: usize) -> Vec<(u32, u32)> {
        let uses = self.ends[end].tunnels.uses(self.now);
        uses.iter().filter(|one| one.is_confirmed).map(|one| (one.own.0, one.peer.0)).collect()
    }

    fn runs_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += TICK;
            for end in 0..2 {
                self.ends[end].passes(self.now);
                self.ends[end].says(b"again", self.now);
                self.sent[end] += 1;
                let sent = self.ends[end].wire.take().into_iter();
                self.flying.extend(sent.map(|(_, datagram)| (self.now + DELAY, 1 - end, datagram)));
            }
            while self.flying.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, to, datagram) = self.flying.pop_front().expect("the first one");
                let from = place(1 - to as u32);
                self.heard[to] += usize::from(self.ends[to].hears(datagram, from, self.now));
                // An answer leaves at once.
                let sent = self.ends[to].wire.take().into_iter();
                self.flying.extend(sent.map(|(_, datagram)| (self.now + DELAY, 1 - to, datagram)));
            }
        }
    }

    /// All that was said has been heard, and nothing but the newest keys is left.
    fn ends_with(mut self, epochs: [u32; 2]) {
        for end in 0..2 {
            assert_eq!(self.confirmed(end), [(epochs[end], epochs[1 - end])]);
            assert_eq!(self.ends[end].tunnels.uses(self.now).len(), 1);
            let indices = self.ends[end].tunnels.engine.indices_len();
            assert!(indices <= 4, "{indices} sessions are kept");
            assert!(self.ends[end].peer().is_up());
            assert_eq!(self.ends[end].told().len(), 1, "it went up once, and never down");
        }
        self.loses_nothing();
    }

    /// What was said has been heard or is on its way.
    fn loses_nothing(&self) {
        for end in 0..2 {
            let flying = self.flying.iter().filter(|(_, to, _)| *to == 1 - end).count();
            let (sent, heard) = (self.sent[end], self.heard[1 - end]);
            assert!(
                sent - heard <= flying,
                "of {sent} packets {heard} came, {flying} datagrams are on their way"
            );
        }
    }
}

/// The private key of an end's epoch.
fn secret(end: usize, epoch: u32) -> [u8; 32] {
    let mut secret = [1 + end as u8; 32];
    if epoch > 1 {
        secret[..4].copy_from_slice(&epoch.to_be_bytes());
    }
    secret
}
