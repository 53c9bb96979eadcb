//! Delegations: the root says who its stewards are.

use meshd_wire::OrgId;
use meshd_wire::name;
use meshd_wire::record::StewardDelegation;

use super::{Accepted, Change, Incoming};
use crate::roster::held::{Held, Verified};
use crate::roster::limits::{DELEGATION_LIFE_MAX_S, DELEGATIONS_MAX};
use crate::roster::org::Org;
use crate::roster::refusal::Refusal;
use crate::roster::{Roster, signers};

impl Roster {
    pub(super) fn accept_delegation(
        &mut self,
        incoming: Incoming<'_, StewardDelegation>,
    ) -> Result<Accepted, Refusal> {
        let org = incoming.record.org;
        match self.verify_delegation(incoming)? {
            Verified::Known => Ok(Accepted::Known),
            Verified::New(held) => {
                self.store_delegation(&org, held);
                Ok(Accepted::New(Change::Delegation(org)))
            }
        }
    }

    fn verify_delegation(
        &self,
        incoming: Incoming<'_, StewardDelegation>,
    ) -> Result<Verified<StewardDelegation>, Refusal> {
        let steward = &incoming.record;
        self.proven_member(&steward.org)?;
        let org = self.orgs.get(&steward.org).ok_or(Refusal::MissingParent("root"))?;
        let same_count = org.delegations.iter().find(|held| {
            held.record.root_version == steward.root_version && held.record.serial == steward.serial
        });
        if same_count.is_some_and(|held| held.bytes == incoming.bytes) {
            return Ok(Verified::Known);
        }
        check_shape(steward)?;
        self.check_root_floor(steward)?;
        let root = org
            .roots
            .iter()
            .find(|held| held.record.root_version == steward.root_version)
            .ok_or(Refusal::MissingParent("root"))?;
        let signed_by =
            signers::verify(incoming.envelope, &self.mesh, |id| signers::find(&root.record.keys, id))?;
        signers::check_threshold(&signed_by, &root.record.keys, root.record.threshold)?;
        match same_count {
            Some(held) if held.id == incoming.id => return Ok(Verified::Known),
            Some(_) => return Err(Refusal::Equivocation),
            None => {}
        }
        check_is_newest(org, steward, incoming.timing.is_restore())?;
        incoming.timing.check_not_over(root.record.not_after)?;
        incoming.timing.check_begun(steward.not_before)?;
        incoming.timing.check_not_over(steward.not_after)?;
        if org.delegations.len() >= DELEGATIONS_MAX {
            return Err(Refusal::TooMany("delegations"));
        }
        let signer = *signed_by.first().ok_or(Refusal::UnknownSigner)?;
        Ok(Verified::New(incoming.into_held(signer)))
    }

    fn check_root_floor(&self, steward: &StewardDelegation) -> Result<(), Refusal> {
        if self.floor.org == Some(steward.org) && steward.root_version < self.floor.root_version_min {
            Err(Refusal::BelowFloor)
        } else {
            Ok(())
        }
    }

    fn store_delegation(&mut self, org: &OrgId, held: Held<StewardDelegation>) {
        if let Some(org) = self.orgs.get_mut(org) {
            org.delegations.push(held);
            org.delegations.sort_by_key(|held| (held.record.root_version, held.record.serial));
        }
    }
}

/// A stolen old root must not appoint stewards once a newer root is known.
fn check_is_newest(org: &Org, steward: &StewardDelegation, is_restore: bool) -> Result<(), Refusal> {
    if steward.root_version == org.root_version() || is_restore { Ok(()) } else { Err(Refusal::Stale) }
}

fn check_shape(steward: &StewardDelegation) -> Result<(), Refusal> {
    if !steward.label_namespace.is_empty() && !name::is_label_part(&steward.label_namespace) {
        return Err(Refusal::Invalid("a label namespace"));
    }
    if steward.not_before > steward.not_after {
        return Err(Refusal::Invalid("an end before its beginning"));
    }
    if steward.not_after.since(steward.not_before) > DELEGATION_LIFE_MAX_S {
        return Err(Refusal::Invalid("a delegation that lives too long"));
    }
    Ok(())
}
