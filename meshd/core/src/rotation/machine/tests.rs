//! One node's machine, with a disk that does as it is told.

mod old_state;

use proptest::prelude::*;

use super::*;
use crate::rotation::acks::Channel;
use crate::rotation::periods::Bounds;

const PEERS: [(u8, Channel); 2] = [(1, Channel::Direct), (2, Channel::Direct)];
const HOUR: u64 = 3600;
/// Half a day, less the lead and any jitter: no key is due before.
const NOT_DUE: u64 = 10 * HOUR;
/// By now every key is due.
const DUE: u64 = 12 * HOUR;

/// A machine, what time it is, and what it has asked for. Dates begin at a day so that they differ from running time.
struct Host {
    machine: Rotation<u8>,
    at: u64,
    disk: Stored,
    disk_works: bool,
    effects: Vec<Effect>,
}

impl Host {
    fn new() -> Self {
        let mut host = Self::start(Stored::first(Epoch(1), date(0), 5), 0);
        host.machine.connected(time(0), PEERS);
        host.go(0);
        host.effects.clear();
        host
    }

    fn start(disk: Stored, at: u64) -> Self {
        let mut machine = Rotation::restore(time(at), Periods::default(), disk, 1);
        machine.looked(time(at));
        let mut host = Self { machine, at, disk, disk_works: true, effects: Vec::new() };
        host.drain();
        host
    }

    /// Goes to a time and lets the machine look at it.
    fn go(&mut self, at: u64) -> &mut Self {
        self.at = at;
        self.machine.tick(time(at));
        self.drain();
        self
    }

    fn tell(&mut self, told: impl FnOnce(&mut Rotation<u8>, Now)) -> &mut Self {
        told(&mut self.machine, time(self.at));
        self.drain();
        self
    }

    fn drain(&mut self) {
        while let Some(effect) = self.machine.poll() {
            if let Effect::Store { ticket, stored } = effect {
                if self.disk_works {
                    self.disk = stored;
                    self.machine.stored(time(self.at), ticket);
                } else {
                    self.machine.not_stored(time(self.at), ticket);
                }
            }
            self.effects.push(effect);
        }
    }

    fn published(&self) -> Vec<Content> {
        let contents = self.effects.iter().filter_map(|effect| match effect {
            Effect::Publish(content) => Some(*content),
            _ => None,
        });
        contents.collect()
    }

    fn leaves(&self) -> Vec<Leaf> {
        let leaves = self.effects.iter().filter_map(|effect| match effect {
            Effect::Append(leaf) => Some(*leaf),
            _ => None,
        });
        leaves.collect()
    }

    fn alarms(&self) -> Vec<Alarm> {
        let alarms = self.effects.iter().filter_map(|effect| match effect {
            Effect::Alarm(alarm) => Some(*alarm),
            _ => None,
        });
        alarms.collect()
    }

    fn dropped(&self) -> Vec<Epoch> {
        let dropped = self.effects.iter().filter_map(|effect| match effect {
            Effect::Drop { epoch } => Some(*epoch),
            _ => None,
        });
        dropped.collect()
    }

    /// As far as a state on the way to the second key.
    fn until(mut self, state: State) -> Self {
        self.go(DUE);
        if state == State::Announced {
            return self;
        }
        self.tell(|machine, now| machine.proven(now, Epoch(2), Cosigned::All));
        for (peer, _) in PEERS {
            self.tell(|machine, now| machine.installed(now, peer, Epoch(2)));
        }
        if state == State::Proving {
            return self;
        }
        for (peer, _) in PEERS {
            self.tell(|machine, now| machine.switched(now, peer, Epoch(2)));
        }
        assert_eq!(state, State::Committed);
        self
    }
}

fn date(at: u64) -> u64 {
    86_400 + at
}

fn time(at: u64) -> Now {
    Now { running: Duration::from_secs(at), date: Some(date(at)) }
}

fn host() -> Host {
    Host::new()
}

fn uses(older: (u32, Use), newer: (u32, Use)) -> OwnEpochs {
    OwnEpochs { older: (Epoch(older.0), older.1), newer: Some((Epoch(newer.0), newer.1)) }
}

#[test]
fn a_rotation_goes_through_every_state_and_leaves_the_next_key_alone() {
    let mut host = host();
    host.go(NOT_DUE);
    assert_eq!(host.machine.state(), State::Steady);
    assert_eq!(host.effects, []);

    let mut host = host.until(State::Announced);
    assert_eq!(host.machine.state(), State::Announced);
    let next = KeySince { epoch: Epoch(2), since: date(DUE) };
    let cur = KeySince { epoch: Epoch(1), since: date(0) };
    let announced = Content { seq: 7, cur, next: Some(next), prev: None, compromised: false };
    let stored = Stored { seq: 7, epoch_max: Epoch(2), cur, step: Step::Prepared { next } };
    let expected = [
        Effect::MakeKey { epoch: Epoch(2) },
        Effect::Store { ticket: 1, stored },
        Effect::Use(uses((1, Use::Call), (2, Use::Answer))),
        Effect::Publish(announced),
        Effect::Append(Leaf::Announce(Epoch(2))),
    ];
    assert_eq!(host.effects, expected);

    host.effects.clear();
    host.tell(|machine, now| machine.proven(now, Epoch(2), Cosigned::All));
    host.tell(|machine, now| machine.installed(now, 1, Epoch(2)));
    assert_eq!(host.machine.state(), State::Announced, "a peer is missing");
    host.tell(|machine, now| machine.installed(now, 2, Epoch(2)));
    assert_eq!(host.machine.state(), State::Proving);
    let calls = [Effect::Use(uses((1, Use::Spare), (2, Use::Call))), Effect::ShowProof { epoch: Epoch(2) }];
    assert_eq!(host.effects[1..], calls);

    host.effects.clear();
    host.tell(|machine, now| machine.switched(now, 1, Epoch(2)));
    host.tell(|machine, now| machine.switched(now, 2, Epoch(1)));
    assert_eq!(host.machine.state(), State::Proving, "another key is no answer");
    host.tell(|machine, now| machine.switched(now, 2, Epoch(2)));
    assert_eq!(host.machine.state(), State::Committed);
    let accept_until = date(DUE) + 900;
    let committed =
        Content { seq: 9, cur: next, next: None, prev: Some((cur, accept_until)), compromised: false };
    assert_eq!(host.published(), [committed]);
    assert_eq!(host.leaves(), [Leaf::Activate(Epoch(2))]);
    assert_eq!(host.machine.own_epochs(), uses((1, Use::Spare), (2, Use::Call)));

    host.effects.clear();
    host.go(DUE + 100).tell(|machine, now| machine.heard(now, Epoch(1)));
    host.go(DUE + 299);
    assert_eq!(host.effects, [], "the key before was heard less than 200 s ago");
    host.go(DUE + 300);
    assert_eq!(host.machine.state(), State::Steady);
    assert_eq!(host.dropped(), [Epoch(1)]);
    assert_eq!(host.disk.keys().collect::<Vec<_>>(), [Epoch(2)]);
    assert_eq!(host.leaves(), [Leaf::Destroy(Epoch(1))]);
    assert_eq!(host.machine.own_epochs(), OwnEpochs::single(Epoch(2)));
    assert_eq!(host.machine.current(), next);
}

#[test]
fn the_key_before_goes_at_the_end_of_its_overlap_however_much_is_heard_on_it() {
    let mut host = host().until(State::Committed);
    for at in (0..900).step_by(100) {
        host.go(DUE + at).tell(|machine, now| machine.heard(now, Epoch(1)));
        assert_eq!(host.machine.state(), State::Committed);
    }
    host.go(DUE + 900);
    assert_eq!(host.machine.state(), State::Steady);
}

#[test]
fn a_peer_that_has_not_switched_keeps_the_key_before_though_it_is_silent() {
    let mut host = host().until(State::Proving);
    host.tell(|machine, now| machine.switched(now, 1, Epoch(2)));
    host.go(DUE + 1799);
    assert_eq!(host.machine.state(), State::Proving);
    host.go(DUE + 1800);
    assert_eq!(host.machine.state(), State::Committed, "the lead is over");
    host.go(DUE + 1800 + 699);
    assert_eq!(host.machine.state(), State::Committed);
    host.tell(|machine, now| machine.switched(now, 2, Epoch(2)));
    host.go(DUE + 1800 + 898);
    assert_eq!(host.machine.state(), State::Committed, "what it sent before may still be on its way");
    host.tell(|machine, now| machine.switched(now, 2, Epoch(2)));
    host.go(DUE + 1800 + 899);
    assert_eq!(host.machine.state(), State::Steady, "only the first time counts");
}

#[test]
fn peers_that_say_nothing_are_waited_for_so_long_and_those_that_cannot_for_a_minute() {
    let mut host = host().until(State::Announced);
    host.tell(|machine, now| machine.proven(now, Epoch(2), Cosigned::All));
    host.go(DUE + 899);
    assert_eq!(host.machine.state(), State::Announced);
    host.go(DUE + 900);
    assert_eq!(host.machine.state(), State::Proving);

    let mut host = self::host().until(State::Announced);
    host.tell(|machine, now| machine.connected(now, [(1, Channel::Registry)]));
    host.tell(|machine, now| machine.proven(now, Epoch(2), Cosigned::All));
    host.go(DUE + 59);
    assert_eq!(host.machine.state(), State::Announced);
    host.go(DUE + 60);
    assert_eq!(host.machine.state(), State::Proving);
}

#[test]
fn a_peer_that_goes_is_waited_for_no_more() {
    let mut host = host().until(State::Proving);
    host.tell(|machine, now| machine.switched(now, 1, Epoch(2)));
    host.tell(|machine, now| machine.connected(now, [PEERS[0]]));
    assert_eq!(host.machine.state(), State::Committed);
}

#[test]
fn without_its_proof_a_key_is_not_used_and_the_operator_hears_of_it_once() {
    let mut host = host().until(State::Announced);
    for (peer, _) in PEERS {
        host.tell(|machine, now| machine.installed(now, peer, Epoch(2)));
    }
    host.go(DUE + 899);
    assert_eq!(host.alarms(), []);
    host.go(DUE + 900).go(DUE + 5000).go(DUE + 20 * HOUR);
    assert_eq!(host.alarms(), [Alarm::RotationLate]);
    assert_eq!(host.machine.state(), State::Announced);
    host.tell(|machine, now| machine.proven(now, Epoch(1), Cosigned::All));
    assert_eq!(host.machine.state(), State::Announced, "the proof of another key");
    host.tell(|machine, now| machine.proven(now, Epoch(2), Cosigned::All));
    host.tell(|machine, now| machine.proven(now, Epoch(1), Cosigned::All));
    assert_eq!(host.machine.state(), State::Proving);
    host.go(DUE + 20 * HOUR + 59);
    assert_eq!(host.machine.state(), State::Proving, "peers get a minute though the lead is long over");
    host.go(DUE + 20 * HOUR + 60);
    assert_eq!(host.machine.state(), State::Committed);
}

#[test]
fn a_missing_witness_is_waited_for_until_the_key_has_half_its_greatest_age() {
    let mut host = host().until(State::Announced);
    host.tell(|machine, now| machine.proven(now, Epoch(2), Cosigned::InPart));
    host.go(24 * HOUR - 1);
    assert_eq!(host.machine.state(), State::Announced);
    host.go(24 * HOUR);
    assert_eq!(host.machine.state(), State::Proving);
}

#[test]
fn a_refused_key_is_never_used_and_attempts_after_it_wait_ever_longer() {
    let mut host = host().until(State::Announced);
    for (epoch, rest) in [(2, 0), (3, 900), (4, 1800), (5, 3600), (6, 7200), (7, 7200)] {
        let at = host.at;
        host.effects.clear();
        host.tell(|machine, now| machine.proof_refused(now, Epoch(epoch)));
        assert_eq!(host.dropped(), [Epoch(epoch)]);
        assert!(host.leaves().contains(&Leaf::Destroy(Epoch(epoch))));
        if rest > 0 {
            assert_eq!(host.machine.next_timeout(time(at)), Some(Duration::from_secs(at + rest)));
            host.go(at + rest - 1);
            assert!(host.published().iter().all(|content| content.next.is_none()), "it is taken back");
        }
        host.go(at + rest);
        let next = host.published().last().and_then(|content| content.next);
        assert_eq!(next.map(|next| next.epoch), Some(Epoch(epoch + 1)));
    }
}

#[test]
fn a_log_that_answers_and_has_no_proof_after_three_leads_gets_another_key() {
    let mut host = host().until(State::Announced);
    host.go(DUE + 100).tell(|machine, now| machine.log_answers(now, true));
    host.go(DUE + 200).tell(|machine, now| machine.log_answers(now, false));
    host.go(DUE + 50_000).tell(|machine, now| machine.log_answers(now, true));
    host.go(DUE + 50_000 + 5_399).tell(|machine, now| machine.log_answers(now, true));
    assert_eq!(host.dropped(), []);
    host.go(DUE + 50_000 + 5_400);
    assert_eq!(host.dropped(), [Epoch(2)]);
    assert_eq!(host.machine.own_epochs(), uses((1, Use::Call), (3, Use::Answer)));
}

#[test]
fn a_key_that_only_a_witness_misses_is_not_given_up() {
    let mut host = host().until(State::Announced);
    host.tell(|machine, now| machine.log_answers(now, true));
    host.tell(|machine, now| machine.proven(now, Epoch(2), Cosigned::InPart));
    host.go(DUE + 6 * HOUR);
    assert_eq!(host.machine.state(), State::Announced);
    assert_eq!(host.dropped(), []);
}

#[test]
fn a_lost_next_key_is_replaced_and_a_lost_key_in_use_too() {
    for state in [State::Announced, State::Proving] {
        let mut host = host().until(state);
        host.tell(|machine, now| machine.key_lost(now, Epoch(2)));
        assert_eq!(host.machine.own_epochs(), uses((1, Use::Call), (3, Use::Answer)));
    }
    let mut host = host();
    host.tell(|machine, now| machine.key_lost(now, Epoch(1)));
    assert_eq!(host.machine.state(), State::Compromised);
    assert!(!host.published()[0].compromised);
}

#[test]
fn a_stolen_key_is_dropped_at_once_in_every_state_and_its_successor_waits_for_its_proof() {
    for state in [State::Announced, State::Proving, State::Committed] {
        let mut host = host().until(state);
        host.effects.clear();
        host.tell(|machine, now| machine.compromised(now));
        let dropped = host.dropped();
        assert!(dropped.contains(&Epoch(1)) && dropped.contains(&Epoch(2)), "{state:?}: {dropped:?}");
        let content = host.published()[0];
        assert!(content.compromised && content.prev.is_none() && content.next.is_none());
        assert_eq!(content.cur.epoch, Epoch(3));
        let old = if state == State::Committed { Epoch(2) } else { Epoch(1) };
        assert!(host.leaves().contains(&Leaf::Compromised(old)));
        assert_eq!(host.machine.own_epochs(), OwnEpochs { older: (Epoch(3), Use::Answer), newer: None });
        assert_eq!(host.disk.keys().collect::<Vec<_>>(), [Epoch(3)]);
        host.tell(|machine, now| machine.proven(now, Epoch(3), Cosigned::All));
        assert_eq!(host.machine.own_epochs(), OwnEpochs::single(Epoch(3)));
        assert_eq!(host.machine.state(), State::Steady);
    }
}

#[test]
fn while_the_disk_fails_the_old_key_goes_on_and_it_is_tried_again_every_second() {
    let mut host = host();
    host.disk_works = false;
    host.go(DUE);
    host.go(DUE + 1);
    let stores = host.effects.iter().filter(|effect| matches!(effect, Effect::Store { .. })).count();
    assert_eq!(stores, 2);
    assert_eq!((host.published(), host.leaves()), (vec![], vec![]));
    assert_eq!(host.machine.own_epochs(), OwnEpochs::single(Epoch(1)));
    assert_eq!(host.machine.next_timeout(time(DUE + 1)), Some(Duration::from_secs(DUE + 2)));
    host.disk_works = true;
    host.go(DUE + 2);
    assert_eq!(host.machine.state(), State::Announced);
    assert_eq!(host.published()[0].next.map(|next| next.epoch), Some(Epoch(2)), "no number is skipped");
}

#[test]
fn a_stolen_key_stays_dropped_while_the_disk_fails() {
    let mut host = host();
    host.disk_works = false;
    host.tell(|machine, now| machine.compromised(now));
    assert_eq!(host.dropped(), [Epoch(1)]);
    assert_eq!(host.published(), []);
    host.disk_works = true;
    host.go(1);
    assert!(host.published()[0].compromised);
}

#[test]
fn many_packets_or_bytes_bring_the_next_key_before_its_time() {
    for (packets, bytes) in [(1 << 39, 0), (0, 1 << 49)] {
        let mut host = host();
        host.tell(|machine, now| machine.carried(now, packets, bytes));
        assert_eq!(host.machine.state(), State::Steady);
        host.tell(|machine, now| machine.carried(now, packets, bytes));
        assert_eq!(host.machine.state(), State::Announced);
    }
}

#[test]
fn a_wish_to_rotate_is_met_at_once_or_when_the_rotation_under_way_is_over() {
    let mut host = host();
    host.tell(|machine, now| machine.rotate(now));
    assert_eq!(host.machine.state(), State::Announced);
    host.tell(|machine, now| machine.rotate(now));
    let mut host = self::host().until(State::Committed);
    host.tell(|machine, now| machine.rotate(now));
    assert_eq!(host.machine.state(), State::Committed);
    host.go(DUE + 900);
    assert_eq!(host.machine.state(), State::Announced);
    assert_eq!(host.machine.own_epochs(), uses((2, Use::Call), (3, Use::Answer)));
}

#[test]
fn while_the_clock_is_in_doubt_nothing_begins_and_the_key_before_still_ends() {
    let mut host = host();
    let doubt = |at| Now { date: None, ..time(at) };
    host.machine.tick(doubt(DUE));
    host.drain();
    assert_eq!(host.effects, []);
    let mut host = host.until(State::Committed);
    host.effects.clear();
    host.machine.tick(doubt(DUE + 900));
    host.drain();
    assert_eq!(host.dropped(), [Epoch(1)]);
}

#[test]
fn a_record_is_signed_again_long_before_it_expires_with_a_sequence_of_its_own() {
    let mut host = host().until(State::Announced);
    let first = host.published()[0];
    host.go(DUE + 12 * HOUR - 1);
    assert_eq!(host.published().len(), 1);
    host.go(DUE + 12 * HOUR);
    let published = host.published();
    assert_eq!(published[1..], [Content { seq: first.seq + 1, ..first }]);
    host.tell(|machine, now| machine.publish_again(now));
    assert_eq!(host.published()[2].seq, first.seq + 2);
}

#[test]
fn periods_are_up_to_a_tenth_shorter_and_differ_from_node_to_node() {
    let due = |seed| {
        let stored = Stored::first(Epoch(1), date(0), 5);
        let mut machine: Rotation<u8> = Rotation::restore(time(0), Periods::default(), stored, seed);
        machine.looked(time(0));
        machine.stored(time(0), 0);
        let due = machine.due_at();
        let full = Duration::from_secs(12 * HOUR - 1800);
        assert!(due <= full && due > full - Duration::from_secs(12 * HOUR / 10), "{due:?}");
        due
    };
    let different: std::collections::BTreeSet<Duration> = (0..32).map(due).collect();
    assert!(different.len() > 24, "{different:?}");
}

#[test]
fn after_a_start_the_node_says_again_where_it_is_and_waits_no_longer_than_before() {
    for (state, ends) in [(State::Announced, 900), (State::Proving, 1800), (State::Committed, 900)] {
        let before = host().until(state);
        let seq = before.published().last().map(|content| content.seq);
        // The machine was off for ten minutes, and its running time begins anew.
        let start = Now { running: Duration::from_secs(100_000), date: Some(date(DUE + 600)) };
        let mut machine: Rotation<u8> = Rotation::restore(start, Periods::default(), before.disk, 2);
        assert_eq!(machine.own_epochs(), before.machine.own_epochs());
        assert_eq!(machine.poll(), Some(Effect::Use(before.machine.own_epochs())));
        assert_eq!(machine.poll(), None, "own records are looked for first");
        machine.looked(start);
        let Some(Effect::Store { ticket, stored }) = machine.poll() else { panic!("nothing is stored") };
        assert_eq!(machine.poll(), None);
        machine.stored(start, ticket);
        assert!(Some(stored.seq) > seq && machine.content().seq == stored.seq);
        let effects: Vec<Effect> = std::iter::from_fn(|| machine.poll()).collect();
        assert!(effects.contains(&Effect::Publish(machine.content())), "{state:?}: {effects:?}");
        assert_eq!(machine.state(), state);
        machine.connected(start, PEERS);
        machine.proven(start, Epoch(2), Cosigned::All);
        let later =
            |at: u64| Now { running: Duration::from_secs(100_000 + at), date: Some(date(DUE + 600 + at)) };
        machine.tick(later(ends - 600 - 1));
        assert_eq!(machine.state(), state);
        machine.tick(later(ends - 600));
        assert!(std::iter::from_fn(|| machine.poll()).any(|effect| matches!(effect, Effect::Store { .. })));
    }
}

#[test]
fn a_key_grows_old_whatever_the_running_time_of_its_host() {
    let stored = Stored::first(Epoch(1), date(0), 5);
    for has_doubts in [false, true] {
        // The host has just started, and its clock may not be right at once.
        let at = |running: u64, date| Now { running: Duration::from_secs(running), date };
        let first = at(5, (!has_doubts).then(|| date(11 * HOUR)));
        let mut machine: Rotation<u8> = Rotation::restore(first, Periods::default(), stored, 1);
        machine.looked(at(10, Some(date(11 * HOUR + 5))));
        let store = std::iter::from_fn(|| machine.poll()).find_map(|effect| match effect {
            Effect::Store { ticket, .. } => Some(ticket),
            _ => None,
        });
        machine.stored(at(11, Some(date(11 * HOUR + 6))), store.unwrap());
        assert_eq!(machine.state(), State::Steady);
        machine.tick(at(HOUR, Some(date(12 * HOUR))));
        assert_eq!(machine.state(), State::Prepared, "in doubt at first: {has_doubts}");
    }
}

#[test]
fn a_key_whose_overlap_ended_while_the_node_was_off_is_not_used_again() {
    let before = host().until(State::Committed);
    let mut host = Host::start(before.disk, DUE + 900);
    assert_eq!(host.dropped(), [Epoch(1)]);
    assert_eq!(
        host.effects.iter().find(|effect| matches!(effect, Effect::Use(_))),
        Some(&Effect::Use(OwnEpochs::single(Epoch(2))))
    );
    assert_eq!(host.leaves(), [Leaf::Activate(Epoch(2)), Leaf::Destroy(Epoch(1))]);
    assert_eq!(host.go(DUE + 901).machine.state(), State::Steady);
}

#[test]
fn a_node_that_cannot_ask_anybody_goes_on_after_a_minute() {
    let stored = Stored::first(Epoch(1), date(0), 5);
    let mut machine: Rotation<u8> = Rotation::restore(time(0), Periods::default(), stored, 1);
    machine.poll();
    machine.tick(time(59));
    assert_eq!(machine.poll(), None);
    assert_eq!(machine.next_timeout(time(59)), Some(Duration::from_secs(60)));
    machine.tick(time(60));
    assert!(matches!(machine.poll(), Some(Effect::Store { .. })));
}

proptest! {
    #[test]
    fn deadlines_alone_take_a_node_without_peers_from_key_to_key(seed in any::<u64>(), lab in 1_000..50_000_u64) {
        let period = Duration::from_millis(lab);
        let periods = Periods::new(Lengths::for_period(period, Bounds::Lab), Bounds::Lab).unwrap();
        let mut now = time(0);
        let stored = Stored::first(Epoch(1), date(0), 0);
        let mut machine: Rotation<u8> = Rotation::restore(now, periods, stored, seed);
        let mut steps = 0;
        while machine.current().epoch < Epoch(5) {
            while let Some(effect) = machine.poll() {
                match effect {
                    Effect::Store { ticket, .. } => machine.stored(now, ticket),
                    Effect::Append(Leaf::Announce(epoch)) => machine.proven(now, epoch, Cosigned::All),
                    _ => {}
                }
            }
            let next = machine.next_timeout(now);
            prop_assert!(next.is_some_and(|next| next > now.running), "{next:?}");
            now.running = next.unwrap_or_default();
            now.date = Some(date(now.running.as_secs()));
            machine.tick(now);
            steps += 1;
            prop_assert!(steps < 60, "{machine:?}");
        }
        prop_assert!(now.running <= period * 4 + periods.lengths().lead);
    }
}
