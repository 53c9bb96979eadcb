//! What this node says about itself, and what a steward says for its organisation.

use std::net::SocketAddr;
use std::sync::Arc;

use meshd_trust::SigningKey;
use meshd_wire::record::{Candidate, CandidateKind, NodePaths, StewardDelegation, VERSION};
use meshd_wire::record::{OrgRoot, OrgState, Revocations};
use meshd_wire::{Envelope, Kind};

use super::Mesh;
use crate::clock::wall_ms;
use crate::discovery::keyspace::Slot;
use crate::discovery::{Life, Published};
use crate::metrics::Counters;

impl Mesh {
    /// Hands the registries what should stand in them; unchanged content wakes nobody.
    pub(super) fn publish(&self) {
        let mut published = Published::new();
        if let Some(bundle) = self.roster.bundle(&self.node) {
            published.insert(Slot::Peer(self.node), (bundle.to_bytes().into(), Life::Slow));
        }
        if let Some(paths) = self.roster.paths_envelope(&self.node) {
            published.insert(Slot::Paths(self.node), (paths.into(), Life::Fast));
        }
        self.claims.fill(&mut published, &self.roster, self.clock.now());
        if self.steward.is_some() {
            for envelope in self.roster.chain() {
                if let Some(slot) = self.steward_slot(&envelope) {
                    published.insert(slot, (envelope.into(), Life::Lasting));
                }
            }
        }
        self.published.send_if_modified(|held| {
            let differs = **held != published;
            if differs {
                *held = Arc::new(published);
            }
            differs
        });
    }

    /// The same for what has changed of this node's claims, without looking at all the others.
    pub(super) fn publish_claims(&mut self) {
        let now = self.clock.now();
        let words: Vec<_> = std::mem::take(&mut self.claims.changed)
            .into_iter()
            .map(|slot| (slot, self.claims.word_on(slot, &self.roster, now)))
            .collect();
        self.published.send_if_modified(|held| {
            let differs = words.iter().any(|(slot, word)| held.get(slot) != word.as_ref());
            if differs {
                let published = Arc::make_mut(held);
                for (slot, word) in words {
                    match word {
                        Some(word) => published.insert(slot, word),
                        None => published.remove(&slot),
                    };
                }
            }
            differs
        });
    }

    /// Place of a record that the steward of this organisation publishes.
    fn steward_slot(&self, bytes: &[u8]) -> Option<Slot> {
        let slot = self.authority_slot(bytes)?;
        let own = self.membership.org;
        match slot {
            Slot::Genesis => Some(slot),
            Slot::Root(org, _) | Slot::Delegation(org, ..) | Slot::Revocations(org) | Slot::State(org) => {
                (org == own).then_some(slot)
            }
            Slot::Checkpoint(_)
            | Slot::Evidence(_)
            | Slot::Peer(_)
            | Slot::Paths(_)
            | Slot::Address(_)
            | Slot::Block(_) => None,
        }
    }

    /// Place of a record that leads from the mesh id to the stewards, or that they sign for their organisation.
    pub(super) fn authority_slot(&self, bytes: &[u8]) -> Option<Slot> {
        let envelope = Envelope::from_bytes(bytes).ok()?;
        match envelope.kind()? {
            Kind::MeshGenesis => Some(Slot::Genesis),
            Kind::OrgRoot => {
                let root: OrgRoot = envelope.record().ok()?;
                // A name is not unique: two organisations may bear the same.
                let org = self.roster.holder_of_root(&envelope.record_id(&self.membership.mesh)?)?;
                Some(Slot::Root(org, root.root_version))
            }
            Kind::StewardDelegation => {
                let one: StewardDelegation = envelope.record().ok()?;
                Some(Slot::Delegation(one.org, one.root_version, one.serial))
            }
            Kind::Revocations => {
                let one: Revocations = envelope.record().ok()?;
                Some(Slot::Revocations(one.org))
            }
            Kind::OrgState => {
                let one: OrgState = envelope.record().ok()?;
                Some(Slot::State(one.org))
            }
            Kind::Agreement
            | Kind::Leave
            | Kind::NodeCert
            | Kind::NodeKeys
            | Kind::NodePaths
            | Kind::Endpoint
            | Kind::OrgPolicy
            | Kind::Receipt
            | Kind::Recovery
            | Kind::JoinRequest
            | Kind::NodeLeave
            | Kind::NodeExternals => None,
        }
    }

    /// Signs where the node can be reached now.
    pub(super) fn sign_paths(&mut self, candidates: &[SocketAddr], counters: &mut Counters) {
        let held = self.roster.node(&self.node).and_then(|view| view.paths().map(|paths| paths.seq));
        let paths = NodePaths {
            version: VERSION,
            node: self.node,
            seq: next_seq(held),
            issued_at: self.clock.now(),
            candidates: candidates.iter().map(|at| Candidate::new(CandidateKind::Host, *at)).collect(),
            relays: Vec::new(),
            nat: 0,
            control_port: self.control.as_ref().map(|control| control.port()),
        };
        let identity = self.membership.secrets.identity();
        self.sign_own(&paths, &identity, counters);
    }

    /// Envelope of the tunnel keys that a steward accepts: a node that was away has old ones in its roster, which takes
    /// no new ones before the certificate is renewed.
    pub(super) fn keys_to_show(&self) -> Vec<u8> {
        let view = self.roster.node(&self.node);
        let held = || view.and_then(|view| view.keys_envelope().map(<[u8]>::to_vec)).unwrap_or_default();
        self.rotation.signed().map_or_else(held, <[u8]>::to_vec)
    }

    fn sign_own<R: meshd_wire::Record>(&mut self, record: &R, key: &SigningKey, counters: &mut Counters) {
        let envelope = meshd_trust::sign(record, &self.membership.mesh, &[key]);
        self.accept_own(&envelope.to_bytes(), counters);
    }

    /// Takes in a record this node made itself.
    pub fn accept_own(&mut self, envelope: &[u8], counters: &mut Counters) -> bool {
        match self.roster.accept(envelope, self.clock.now()) {
            Ok(_) => {
                self.commit(counters);
                true
            }
            Err(refusal) => {
                tracing::error!(%refusal, "the own roster refuses an own record");
                false
            }
        }
    }
}

/// Sequences only grow, and a lost disk does no harm: milliseconds are ahead of any count of changes.
pub(super) fn next_seq(held: Option<u64>) -> u64 {
    held.map_or(0, |seq| seq.saturating_add(1)).max(wall_ms())
}
