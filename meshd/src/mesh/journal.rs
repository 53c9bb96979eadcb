//! Which tunnel keys were seen on the wire: what an auditor holds against the log.
//!
//! The tunnels gather what handshakes were completed with; here it becomes a row for each key, of this node or of a peer.
//! Nothing is written for a handshake: a new key is on disk within a minute, that a known one is still used within a
//! quarter of an hour, and both when the mesh is stopped.

mod file;

use std::time::Duration;

use meshd_api::{Observed, ObservedKey, TunnelSuite};
use meshd_tunnel::Suite;
use meshd_wire::{NodeId, OrgId, PublicKey, Timestamp};

use super::Mesh;
use crate::clock::boot;
use crate::dataplane::Completed;

pub use file::{Journal, forget_journal, set_journal_aside};

use file::{Key, Seen};

/// How often the tunnels are asked.
const ASK_EVERY: Duration = Duration::from_secs(60);

impl Mesh {
    /// Takes note of the keys on the wire, now and then; comes every second.
    pub(super) fn keep_journal(&mut self) {
        let boot = boot();
        if self.journal.is_asked(boot, ASK_EVERY) {
            self.note_handshakes();
            self.journal.store_if_due(boot);
        }
    }

    /// The journal as it is now.
    pub fn observed(&mut self) -> Observed {
        self.note_handshakes();
        Observed {
            mesh: self.membership.mesh.to_string(),
            node: self.node.to_string(),
            name: self.name_of_node(&self.node),
            at: self.clock.now().0,
            since: self.journal.since().0,
            forgotten: self.journal.forgotten(),
            keys: self.journal.rows().map(|(key, seen)| self.observed_key(key, seen)).collect(),
        }
    }

    fn note_handshakes(&mut self) {
        // The tunnels keep what they have seen until the clock is right.
        if self.clock.is_suspect() {
            return;
        }
        let completed = self.plane.take_handshakes();
        self.journal.note_all((self.node, self.membership.org), &completed, self.clock.now());
    }

    fn observed_key(&self, key: &Key, seen: &Seen) -> ObservedKey {
        ObservedKey {
            node: key.node.to_string(),
            name: self.name_of_node(&key.node),
            org: seen.org.to_string(),
            external: key.is_external,
            epoch: key.epoch,
            key: key.key.to_string(),
            suite: if key.is_aes { TunnelSuite::Aes } else { TunnelSuite::Wg },
            psk: key.has_psk,
            first: seen.first.0,
            last: seen.last.0,
            handshakes: seen.count,
        }
    }

    fn name_of_node(&self, node: &NodeId) -> String {
        let of_node = self.roster.node(node).map(|view| view.cert().name.clone());
        of_node.or_else(|| self.external_name(node).map(str::to_owned)).unwrap_or_default()
    }
}

impl Journal {
    /// Takes note of handshakes: each shows a key of this node and one of a peer.
    pub(super) fn note_all(&mut self, own: (NodeId, OrgId), completed: &[Completed], now: Timestamp) {
        self.end_at(now);
        for Completed { ends, first_ago, last_ago, count } in completed {
            let back = |ago: &Duration| Timestamp(now.0.saturating_sub(ago.as_secs()));
            let both = [(own, ends.own), ((ends.peer.node, ends.peer.org), ends.theirs)];
            for ((node, org), (epoch, key)) in both {
                let key = Key {
                    node,
                    is_external: ends.is_external,
                    epoch: epoch.0,
                    key: PublicKey(key),
                    is_aes: ends.suite == Suite::Aes,
                    has_psk: ends.has_psk,
                };
                self.note(key, Seen { org, first: back(first_ago), last: back(last_ago), count: *count });
            }
        }
        self.make_room();
    }
}
