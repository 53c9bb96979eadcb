use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{FIRST_LEN, Seen, WINDOW_LEN, Window};

/// What a window is: the set of everything accepted, and a highest one that bounds what is too old.
#[derive(Default)]
struct Model {
    accepted: BTreeSet<u64>,
}

impl Model {
    fn accept(&mut self, counter: u64) -> bool {
        let too_old = self.accepted.last().is_some_and(|highest| counter + WINDOW_LEN <= *highest);
        !too_old && self.accepted.insert(counter)
    }
}

fn accept(window: &mut Window, counter: u64) -> bool {
    let mut fresh = [false];
    window.accept(&[counter], &mut fresh);
    fresh[0]
}

#[test]
fn a_window_of_packets_that_arrive_backwards_is_accepted_whole() {
    let mut window = Window::default();
    for counter in (1000..1000 + WINDOW_LEN).rev() {
        assert!(accept(&mut window, counter), "{counter}");
    }
    for counter in 1000..1000 + WINDOW_LEN {
        assert!(!accept(&mut window, counter), "{counter} again");
    }
    assert!(!accept(&mut window, 999), "one more than a window behind");
}

#[test]
fn the_oldest_of_the_window_is_accepted_and_the_one_before_it_is_not() {
    let mut window = Window::default();
    assert!(accept(&mut window, WINDOW_LEN));
    assert!(!accept(&mut window, 0));
    assert!(accept(&mut window, 1));
    assert!(!accept(&mut window, 1));
}

#[test]
fn a_jump_by_exactly_a_window_forgets_everything_and_keeps_itself() {
    for jump in [WINDOW_LEN - 1, WINDOW_LEN, WINDOW_LEN + 1, 10 * WINDOW_LEN, u64::MAX - (1 << 20)] {
        let mut window = Window::default();
        for counter in 0..200 {
            assert!(accept(&mut window, counter));
        }
        let head = 200 + jump;
        assert!(accept(&mut window, head), "jump {jump}");
        assert!(!accept(&mut window, head), "jump {jump}");
        for counter in 200.max(head - WINDOW_LEN + 1)..head {
            assert!(accept(&mut window, counter), "{counter} after a jump by {jump}");
        }
    }
}

#[test]
fn the_last_counter_of_a_session_is_accepted_once() {
    let last = u64::MAX - WINDOW_LEN - 1;
    let mut window = Window::default();
    assert!(accept(&mut window, last));
    assert!(!accept(&mut window, last));
    assert!(accept(&mut window, last - WINDOW_LEN + 1));
    assert!(!accept(&mut window, last - WINDOW_LEN));
}

#[test]
fn even_the_highest_number_there_is_does_not_wrap_the_window() {
    let mut window = Window::default();
    assert!(accept(&mut window, u64::MAX));
    assert!(!accept(&mut window, 0));
}

/// Bytes of the bitmap.
fn size(window: &Window) -> usize {
    match &window.seen {
        Seen::Nothing => 0,
        Seen::First(seen) => size_of_val(&**seen),
        Seen::All(seen) => size_of_val(&**seen),
    }
}

#[test]
fn the_bitmap_is_no_larger_than_the_counters_ask_for() {
    let mut window = Window::default();
    assert_eq!(size(&window), 0);
    for (counter, bytes) in [(0, 128), (FIRST_LEN - 1, 128), (FIRST_LEN, 2048), (1, 2048)] {
        assert!(accept(&mut window, counter));
        assert_eq!(size(&window), bytes, "after {counter}");
    }
}

#[test]
fn a_bitmap_that_grows_forgets_nothing() {
    for last in [FIRST_LEN, FIRST_LEN + 1, WINDOW_LEN - 1] {
        let mut window = Window::default();
        for counter in (0..FIRST_LEN).step_by(3) {
            assert!(accept(&mut window, counter));
        }
        // What makes it grow may stand anywhere in a train.
        let mut fresh = [false; 3];
        window.accept(&[1, last, 4], &mut fresh);
        assert_eq!(fresh, [true; 3]);
        for counter in 0..FIRST_LEN {
            assert_eq!(
                accept(&mut window, counter),
                counter % 3 != 0 && ![1, 4].contains(&counter),
                "{counter}"
            );
        }
    }
}

/// Steps of a counter: mostly small, both ways, sometimes around the length of the window and beyond.
fn steps() -> impl Strategy<Value = Vec<i64>> {
    let window = WINDOW_LEN as i64;
    let step = prop_oneof![
        6 => -70..70_i64,
        2 => -3000..3000_i64,
        1 => window - 70..window + 70,
        1 => -window - 70..-window + 70,
        1 => 2 * window..9 * window,
    ];
    proptest::collection::vec(step, 1..600)
}

proptest! {
    #[test]
    fn a_window_accepts_exactly_what_a_set_of_everything_accepts(
        start in prop_oneof![0..200_000_u64, 0..2 * FIRST_LEN],
        steps in steps(),
    ) {
        let (mut window, mut model) = (Window::default(), Model::default());
        let mut counter = start;
        for step in steps {
            counter = counter.saturating_add_signed(step);
            prop_assert_eq!(accept(&mut window, counter), model.accept(counter), "counter {}", counter);
            prop_assert_eq!(Some(window.next - 1), model.accepted.last().copied());
        }
    }

    #[test]
    fn a_shuffled_stretch_as_long_as_the_window_is_accepted_once_each(
        start in 0..1_000_000_u64,
        order in Just((0..WINDOW_LEN).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut window = Window::default();
        prop_assert!(order.iter().all(|at| accept(&mut window, start + at)));
        prop_assert!(!order.iter().any(|at| accept(&mut window, start + at)));
    }
}
