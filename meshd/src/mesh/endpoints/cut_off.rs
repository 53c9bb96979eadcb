//! Isolates the endpoints of a node that was revoked: their containers run on, and nothing passes.

use std::time::Instant;

use meshd_trust::Standing;

use super::Mesh;
use crate::endpoints::{Report, Wiring, WiringError};

impl Mesh {
    /// Whether this node was revoked: no endpoint of it may be in the mesh.
    pub(super) fn is_revoked(&self) -> bool {
        self.roster.standing(&self.node, self.clock.now()) == Standing::Revoked
    }

    /// Lets the links of endpoints follow the standing of this node.
    pub(super) fn heed_standing(&mut self) {
        let is_revoked = self.is_revoked();
        let Some(wiring) = &self.endpoints.wiring else { return };
        wiring.set_cut_off(is_revoked);
        if is_revoked == self.endpoints.is_cut_off {
            return;
        }
        if is_revoked {
            tracing::warn!("this node was revoked: isolating its endpoints");
            self.cut_off();
        } else {
            // The next look wires again what is not as it shall be.
            self.endpoints.is_cut_off = false;
            self.look_soon(Instant::now());
        }
    }

    /// Isolates all endpoints, beside the loop.
    pub(super) fn cut_off(&mut self) {
        let Some(wiring) = self.endpoints.wiring.clone() else { return };
        self.endpoints.is_cut_off = true;
        wiring.set_cut_off(true);
        let effect = |wiring: &Wiring| Report::CutOff { result: wiring.cut_off() };
        self.endpoints.run(&wiring, effect, Some(Report::CutOff { result: Err(WiringError::BrokenOff) }));
    }

    /// Tries again in a second if something of it failed.
    pub(super) fn on_cut_off(&mut self, result: Result<(), WiringError>) {
        if let Err(error) = result {
            tracing::error!(
                error = crate::chain::of(&error),
                "an endpoint of a revoked node is not isolated"
            );
            self.endpoints.is_cut_off = false;
        }
    }
}
