//! A state that is older than what was signed.

use super::*;

#[test]
fn an_old_state_goes_on_above_all_that_was_published_with_a_key_of_its_own() {
    let mut host = host();
    host.tell(|machine, now| machine.own_record_seen(now, 6, Epoch(1), Epoch(1)));
    assert_eq!(host.effects, [], "its own");
    host.tell(|machine, now| machine.own_record_seen(now, 40, Epoch(8), Epoch(9)));
    assert_eq!(host.alarms(), [Alarm::StateRollback]);
    let content = host.published()[0];
    assert!(content.seq > 40 && content.cur.epoch == Epoch(10) && !content.compromised);
    assert!(host.leaves().contains(&Leaf::Rollback(Epoch(10))));
    assert_eq!(host.dropped(), [Epoch(1)], "peers have forgotten it");
}

#[test]
fn an_old_state_that_has_a_higher_sequence_by_now_is_known_by_its_keys() {
    for (cur, highest) in [(1, 3), (2, 2)] {
        let mut host = host().until(State::Announced);
        host.effects.clear();
        host.tell(|machine, now| machine.own_record_seen(now, 2, Epoch(cur), Epoch(highest)));
        assert_eq!(host.alarms(), [Alarm::StateRollback]);
        assert_eq!(host.dropped().last(), Some(&Epoch(2)), "somebody may know another key as the second");
        let content = host.published().last().copied().unwrap();
        assert!(content.next.unwrap_or(content.cur).epoch > Epoch(highest), "{content:?}");
    }
}

#[test]
fn an_old_state_with_the_key_in_use_rotates_without_loss() {
    for state in [State::Steady, State::Announced] {
        let mut host = if state == State::Steady { host() } else { host().until(state) };
        host.effects.clear();
        host.tell(|machine, now| machine.own_record_seen(now, 40, Epoch(1), Epoch(4)));
        assert_eq!(host.machine.state(), State::Announced);
        assert_eq!(host.machine.own_epochs(), uses((1, Use::Call), (5, Use::Answer)));
        assert!(host.published().iter().all(|content| content.seq > 40));
        assert!(host.leaves().contains(&Leaf::Rollback(Epoch(1))));
    }
}

#[test]
fn records_from_before_the_start_that_come_one_after_the_other_are_one_old_state() {
    let mut host = host();
    host.tell(|machine, _| machine.never_below(1_000));
    for (seq, epoch, fresh) in [(40, 3, 4), (60, 6, 7)] {
        host.effects.clear();
        host.tell(|machine, now| machine.own_record_seen(now, seq, Epoch(epoch), Epoch(epoch)));
        assert_eq!(host.alarms(), [Alarm::StateRollback]);
        assert_eq!(host.published().last().map(|content| content.cur.epoch), Some(Epoch(fresh)));
    }
    host.effects.clear();
    host.tell(|machine, now| machine.own_record_seen(now, 2_000, Epoch(9), Epoch(9)));
    assert_eq!(host.alarms(), [Alarm::CloneSuspected], "signed after the start, and not here");
    host.effects.clear();
    host.tell(|machine, now| machine.own_record_seen(now, 2_000, Epoch(9), Epoch(9)));
    assert_eq!(host.alarms(), [], "the same word again");
}

#[test]
fn a_registry_that_shows_one_old_record_after_the_other_costs_few_keys() {
    let mut host = host();
    host.tell(|machine, _| machine.never_below(1_000));
    for record in 2..9_u32 {
        host.tell(|machine, now| {
            machine.own_record_seen(now, u64::from(10 * record), Epoch(10 * record), Epoch(10 * record))
        });
    }
    let replaced = host.alarms().into_iter().filter(|alarm| *alarm == Alarm::StateRollback).count();
    assert_eq!(replaced, usize::from(OLD_STATES_MAX));
}

#[test]
fn two_hosts_with_one_identity_are_told_of_and_do_not_chase_each_other() {
    let mut host = host();
    host.tell(|machine, now| machine.own_record_seen(now, 40, Epoch(1), Epoch(1)));
    host.effects.clear();
    for seq in 1..100 {
        host.tell(|machine, now| machine.own_record_seen(now, 100 * seq, Epoch(1), Epoch(1)));
    }
    assert!(host.alarms().iter().all(|alarm| *alarm == Alarm::CloneSuspected));
    assert_eq!(host.published(), []);
    host.go(1800);
    assert_eq!(host.published().len(), 1);
}
