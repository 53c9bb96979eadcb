//! Roots: a chain of versions, each signed by enough keys of the one before and of its own.

use meshd_wire::OrgId;
use meshd_wire::name;
use meshd_wire::record::OrgRoot;

use super::{Accepted, Change, Incoming};
use crate::roster::held::{Held, Verified};
use crate::roster::limits::{ROOT_KEYS_MAX, ROOT_LIFE_MAX_S, ROOT_VERSIONS_MAX};
use crate::roster::org::Org;
use crate::roster::refusal::Refusal;
use crate::roster::timing::Timing;
use crate::roster::{Roster, signers};

impl Roster {
    pub(super) fn accept_root(&mut self, incoming: Incoming<'_, OrgRoot>) -> Result<Accepted, Refusal> {
        let org = self.org_of_root(&incoming)?;
        match self.verify_root(&org, incoming)? {
            Verified::Known => Ok(Accepted::Known),
            Verified::New(held) => {
                self.store_root(org, held);
                Ok(Accepted::New(Change::Root(org)))
            }
        }
    }

    /// Only founders' roots are taken, so that nobody else's can fill memory.
    fn org_of_root(&self, incoming: &Incoming<'_, OrgRoot>) -> Result<OrgId, Refusal> {
        let genesis = self.pinned.as_ref().ok_or(Refusal::MissingParent("genesis"))?;
        let root = &incoming.record;
        match (root.root_version, root.prev) {
            (0, _) | (1, Some(_)) | (2.., None) => Err(Refusal::Invalid("a root out of its chain")),
            (1, None) => {
                let org = OrgId(incoming.id.0);
                let is_member = genesis.agreement.members.iter().any(|member| member.org == org);
                if is_member { Ok(org) } else { Err(Refusal::UnknownOrg(org)) }
            }
            (2.., Some(prev)) => self
                .orgs
                .iter()
                .find(|(_, org)| org.roots.iter().any(|held| held.id == prev))
                .map(|(id, _)| *id)
                .ok_or(Refusal::MissingParent("root")),
        }
    }

    fn verify_root(
        &self,
        org: &OrgId,
        incoming: Incoming<'_, OrgRoot>,
    ) -> Result<Verified<OrgRoot>, Refusal> {
        let root = &incoming.record;
        check_shape(root, incoming.timing)?;
        let chain = self.orgs.get(org).map_or(&[][..], |org| org.roots.as_slice());
        let same_version = chain.iter().find(|held| held.record.root_version == root.root_version);
        if same_version.is_some_and(|held| held.bytes == incoming.bytes) {
            return Ok(Verified::Known);
        }
        let before = chain.iter().find(|held| Some(held.id) == root.prev).map(|held| &held.record);
        if before.is_some_and(|before| before.root_version.checked_add(1) != Some(root.root_version)) {
            return Err(Refusal::Invalid("a root out of its chain"));
        }
        let before_keys = before.map_or(&[][..], |before| before.keys.as_slice());
        let signed_by = signers::verify(incoming.envelope, &self.mesh, |id| {
            signers::find(&root.keys, id).or_else(|_| signers::find(before_keys, id))
        })?;
        signers::check_threshold(&signed_by, &root.keys, root.threshold)?;
        if let Some(before) = before {
            signers::check_threshold(&signed_by, &before.keys, before.threshold)?;
        }
        match same_version {
            Some(held) if held.id == incoming.id => return Ok(Verified::Known),
            Some(_) => return Err(Refusal::Equivocation),
            None if chain.len() >= ROOT_VERSIONS_MAX => return Err(Refusal::TooMany("versions of a root")),
            None => {}
        }
        let signer = *signed_by.first().ok_or(Refusal::UnknownSigner)?;
        Ok(Verified::New(incoming.into_held(signer)))
    }

    fn store_root(&mut self, org: OrgId, held: Held<OrgRoot>) {
        match self.orgs.entry(org) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(Org::new(held));
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().roots.push(held),
        }
    }
}

/// An old version of a chain may be over; what the newest one signs is checked against its end.
fn check_shape(root: &OrgRoot, timing: Timing) -> Result<(), Refusal> {
    if !name::is_shown_name(&root.name) {
        return Err(Refusal::Invalid("an organisation's name"));
    }
    if root.keys.len() > ROOT_KEYS_MAX || !root.keys.is_sorted_by(|a, b| a < b) {
        return Err(Refusal::Invalid("root keys: too many, unsorted or repeated"));
    }
    if root.threshold == 0 || usize::from(root.threshold) > root.keys.len() {
        return Err(Refusal::Invalid("a threshold that its keys cannot meet"));
    }
    match timing {
        Timing::Arrives(now) if root.not_after > now.plus(ROOT_LIFE_MAX_S) => {
            Err(Refusal::Invalid("a root that lives too long"))
        }
        Timing::Arrives(_) | Timing::Restored => Ok(()),
    }
}
