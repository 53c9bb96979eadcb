//! Long random walks: more faults than every order of them could be tried with.

use proptest::prelude::*;

use super::world::{Budget, World};

proptest! {
    #[test]
    fn the_invariants_hold_whatever_happens_in_whatever_order(
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 600),
        rotations in [0..4_u8, 0..4_u8],
        faults in [0..6_u8, 0..4_u8, 0..4_u8, 0..4_u8],
        losing in [0..2_u8, 0..2_u8, 0..3_u8],
    ) {
        let [losses, repeats, crashes, write_failures] = faults;
        let [compromises, rollbacks, refusals] = losing;
        let budget = Budget {
            rotations, losses, repeats, crashes, write_failures, compromises, rollbacks, refusals,
            calm_at: 40,
            end: 100,
        };
        let mut world = World::new(budget);
        let mut trace = Vec::new();
        // What comes after the picks is the calm.
        let mut picks = picks.into_iter();
        loop {
            let actions = world.actions();
            let Some(first) = actions.first().copied() else { break };
            let action = picks.next().map_or(first, |pick| *pick.get(&actions));
            trace.push((world.tick, action));
            world.act(action);
            prop_assert!(world.broken.is_empty(), "{:?} after {trace:?}\n{world:#?}", world.broken);
        }
        prop_assert_eq!(world.tick, world.budget.end);
    }
}
