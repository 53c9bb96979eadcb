//! Who calls first, and when.

use super::talk::Talk;
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
