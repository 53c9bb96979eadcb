//! A look back: what was verified once stays readable, whatever is over or replaced by now.

use meshd_wire::record::{OrgRoot, StewardDelegation};
use meshd_wire::{Kind, PublicKey};

use super::Roster;
use super::accept::{Accepted, is_kind};
use super::org::OrgView;
use super::refusal::Refusal;
use super::timing::Timing;

impl Roster {
    /// Takes in envelopes that this host has verified before and kept; returns those that are refused, by index.
    pub fn restore_all(&mut self, envelopes: &[Vec<u8>]) -> Vec<(usize, Refusal)> {
        self.take_all(envelopes, Timing::Restored)
    }

    /// Verifies an envelope of an authority in everything but time: for an audit, which asks who might sign at any
    /// time. A roster that was filled like this says nothing about who may sign now.
    pub fn accept_past(&mut self, envelope: &[u8]) -> Result<Accepted, Refusal> {
        if is_kind(envelope, Kind::MeshGenesis) {
            self.pin(envelope);
        }
        self.accept_at(envelope, Timing::Restored)
    }
}

impl<'a> OrgView<'a> {
    /// All its roots, version 1 first.
    pub fn roots_ever(&self) -> impl Iterator<Item = &'a OrgRoot> + use<'a> {
        self.org.roots.iter().map(|held| &held.record)
    }

    /// All keys that ever signed its audit log, as far as their delegations are held.
    pub fn log_keys_ever(&self) -> Vec<PublicKey> {
        self.delegations_ever().map(|steward| steward.log_key).collect()
    }

    /// All its delegations that are held, oldest first, those included that are over or replaced.
    pub fn delegations_ever(&self) -> impl Iterator<Item = &'a StewardDelegation> + use<'a> {
        self.org.delegations.iter().map(|held| &held.record)
    }
}
