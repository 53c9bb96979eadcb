//! The tunnel keys of the mesh, for tables.

use data_encoding::BASE64;
use meshd_api::{Key, KeyRole, Keys, RotationState};
use meshd_core::rotation::State;
use meshd_trust::{NodeView, Standing};
use meshd_wire::record::EpochKey;

use super::super::Mesh;

impl Mesh {
    /// The keys that nodes of the mesh have published: this node's first.
    pub fn keys(&self) -> Keys {
        let now = self.clock.now();
        let is_shown = |view: &NodeView<'_>| self.roster.standing(&view.id(), now) != Standing::Revoked;
        let mut views: Vec<NodeView<'_>> = self.roster.nodes().filter(is_shown).collect();
        views.sort_by_cached_key(|view| {
            (view.id() != self.node, self.org_name(view), view.cert().name.clone(), view.id())
        });
        Keys {
            rotation: word(self.rotation.state()),
            period_s: self.rotation.period().as_secs(),
            keys: views.iter().flat_map(|view| self.keys_of(view)).collect(),
        }
    }

    fn keys_of(&self, view: &NodeView<'_>) -> Vec<Key> {
        let Some(keys) = view.keys() else { return Vec::new() };
        let row = |role: KeyRole, key: EpochKey| Key {
            node: view.cert().name.clone(),
            org: self.org_name(view),
            epoch: key.epoch,
            role,
            since: key.since.0,
            public_key: BASE64.encode(&key.key.0),
        };
        let prev = keys.prev.filter(|_| super::is_accepted(keys, self.clock.now()));
        let others = [(KeyRole::Next, keys.next), (KeyRole::Previous, prev)];
        let others = others.into_iter().filter_map(|(role, key)| Some(row(role, key?)));
        [row(KeyRole::Current, keys.cur)].into_iter().chain(others).collect()
    }
}

fn word(state: State) -> RotationState {
    match state {
        State::Steady => RotationState::Steady,
        State::Prepared => RotationState::Prepared,
        State::Announced => RotationState::Announced,
        State::Proving => RotationState::Proving,
        State::Committed => RotationState::Committed,
        State::Retired => RotationState::Retired,
        State::Aborted => RotationState::Aborted,
        State::Compromised => RotationState::Compromised,
    }
}
