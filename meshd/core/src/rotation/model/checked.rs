//! Every order of everything that can happen, within a bound.

use stateright::{Checker, Model, Property};

use super::ghost::Invariant;
use super::world::{Action, Budget, World};

/// States looked at in each model, unless the environment names another bound: more than there are.
const STATES_MAX: usize = 1_000_000;
/// Names another bound: `MESHD_MODEL_STATES=10000000`.
const STATES_VARIABLE: &str = "MESHD_MODEL_STATES";

struct Explored(Budget);

impl Model for Explored {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.0)]
    }

    fn actions(&self, state: &World, actions: &mut Vec<Action>) {
        actions.extend(state.actions());
    }

    fn next_state(&self, state: &World, action: Action) -> Option<World> {
        let mut next = state.clone();
        next.act(action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("I1 no black hole", |_, world: &World| holds(world, Invariant::NoBlackHole)),
            Property::always("I2 log before use", |_, world: &World| holds(world, Invariant::LogBeforeUse)),
            Property::always("I3 numbers grow", |_, world: &World| holds(world, Invariant::NumbersGrow)),
            Property::always("I4 destroyed is gone", |_, world: &World| holds(world, Invariant::Destroyed)),
            Property::always("I5 few keys and tunnels", |_, world: &World| holds(world, Invariant::Bounded)),
            Property::always("I6 rotations end", |_, world: &World| holds(world, Invariant::Ends)),
            Property::always("I7 recovers", |_, world: &World| holds(world, Invariant::Recovers)),
        ]
    }
}

fn holds(world: &World, invariant: Invariant) -> bool {
    !world.broken.contains(&invariant)
}

#[expect(clippy::disallowed_methods, reason = "how much is tried is asked for from outside")]
fn states_max() -> usize {
    std::env::var(STATES_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(STATES_MAX)
}

fn explore(budget: Budget) {
    let states = states_max();
    let checker = Explored(budget).checker().threads(2).target_state_count(states).spawn_bfs().join();
    println!(
        "{} states, {} of them different, {} steps deep, everything seen: {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        checker.is_done() && checker.state_count() < states
    );
    for (name, path) in checker.discoveries() {
        assert!(!name.starts_with('I'), "{name} broken by {:?}", path.into_actions());
    }
}

const BOTH: Budget = Budget {
    rotations: [1, 1],
    losses: 0,
    repeats: 0,
    crashes: 0,
    write_failures: 0,
    compromises: 0,
    rollbacks: 0,
    refusals: 0,
    calm_at: 2,
    end: 30,
};

const ONE: Budget = Budget { rotations: [1, 0], ..BOTH };

#[test]
fn model_both_rotate_at_once() {
    explore(BOTH);
}

#[test]
fn model_a_message_is_lost_and_one_repeated() {
    explore(Budget { losses: 1, repeats: 1, ..ONE });
}

#[test]
fn model_a_node_crashes() {
    explore(Budget { crashes: 1, ..ONE });
}

#[test]
fn model_a_disk_fails() {
    explore(Budget { write_failures: 1, ..ONE });
}

#[test]
fn model_a_key_is_stolen() {
    explore(Budget { compromises: 1, ..ONE });
}

#[test]
fn model_a_backup_is_restored() {
    explore(Budget { rollbacks: 1, ..ONE });
}

#[test]
fn model_the_log_refuses_a_key() {
    explore(Budget { refusals: 1, ..ONE });
}
