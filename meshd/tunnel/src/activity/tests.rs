use std::time::Duration;

use super::Activity;

const NOW: Duration = Duration::from_millis(5_000);
const LATER: Duration = Duration::from_millis(6_000);

#[test]
fn a_new_tunnel_has_no_stamp() {
    let activity = Activity::new();
    assert_eq!(activity.last_sent(), None);
    assert_eq!(activity.last_received(), None);
    assert_eq!(activity.data_sent_unanswered_since(), None);
    assert_eq!(activity.data_received_unanswered_since(), None);
}

#[test]
fn the_first_of_several_unanswered_packets_starts_the_interval() {
    let activity = Activity::new();
    activity.note_sent(NOW, true);
    activity.note_sent(LATER, true);
    assert_eq!(activity.data_sent_unanswered_since(), Some(NOW));
    assert_eq!(activity.last_sent(), Some(LATER));
}

#[test]
fn any_message_back_answers_what_was_sent() {
    for data in [false, true] {
        let activity = Activity::new();
        activity.note_sent(NOW, true);
        activity.note_received(LATER, data);
        assert_eq!(activity.data_sent_unanswered_since(), None);
        assert_eq!(activity.last_received(), Some(LATER));
    }
}

#[test]
fn any_message_from_here_answers_what_was_received() {
    for data in [false, true] {
        let activity = Activity::new();
        activity.note_received(NOW, true);
        assert_eq!(activity.data_received_unanswered_since(), Some(NOW));
        activity.note_sent(LATER, data);
        assert_eq!(activity.data_received_unanswered_since(), None);
    }
}

#[test]
fn keepalives_wait_for_no_answer() {
    let activity = Activity::new();
    assert!(!activity.note_sent(NOW, false));
    assert!(!activity.note_received(NOW, false));
    assert_eq!(activity.data_sent_unanswered_since(), None);
    assert_eq!(activity.data_received_unanswered_since(), None);
}

#[test]
fn sleeping_timers_are_woken_once() {
    let activity = Activity::new();
    assert!(activity.note_sent(NOW, true));
    assert!(!activity.note_received(NOW, true), "awake by now");
    assert!(!activity.note_sent(LATER, true));
}

#[test]
fn awake_timers_are_left_alone_until_they_sleep_again() {
    let activity = Activity::new();
    activity.arm();
    assert!(!activity.note_received(NOW, true));
    activity.disarm();
    assert!(!activity.note_received(LATER, true), "an interval that runs wakes nobody: who disarms reads it");
    assert_eq!(activity.data_received_unanswered_since(), Some(NOW));
    assert!(activity.note_sent(LATER, true));
}

#[test]
fn the_very_first_millisecond_is_a_time() {
    let activity = Activity::new();
    activity.note_sent(Duration::ZERO, true);
    assert_eq!(activity.data_sent_unanswered_since(), Some(Duration::from_millis(1)));
}
