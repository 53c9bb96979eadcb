//! Revocations: the full set of what an organisation has taken back.

use meshd_wire::record::{Revocations, Roles};
use meshd_wire::{KeyId, PublicKey};

use super::{Accepted, Change, Incoming};
use crate::roster::Roster;
use crate::roster::held::{Held, Verified};
use crate::roster::high_water::Mark;
use crate::roster::org::Org;
use crate::roster::refusal::Refusal;
use crate::roster::signers;

impl Roster {
    pub(super) fn accept_revocations(
        &mut self,
        incoming: Incoming<'_, Revocations>,
    ) -> Result<Accepted, Refusal> {
        let org = incoming.record.org;
        match self.verify_revocations(incoming)? {
            Verified::Known => Ok(Accepted::Known),
            Verified::New(held) => {
                self.store_revocations(held);
                Ok(Accepted::New(Change::Revocations(org)))
            }
        }
    }

    fn verify_revocations(
        &self,
        incoming: Incoming<'_, Revocations>,
    ) -> Result<Verified<Revocations>, Refusal> {
        let revocations = &incoming.record;
        self.proven_member(&revocations.org)?;
        let org = self.orgs.get(&revocations.org).ok_or(Refusal::MissingParent("root"))?;
        if org.revocations.as_ref().is_some_and(|held| held.bytes == incoming.bytes) {
            return Ok(Verified::Known);
        }
        check_shape(revocations)?;
        let signer = self.verify_revoker(org, &incoming)?;
        let mark = self.marks.orgs.get(&revocations.org).and_then(|marks| marks.revocations.as_ref());
        Mark::admit(mark, revocations.root_version, revocations.n, incoming.id)?;
        incoming.timing.check_begun(revocations.issued_at)?;
        if org.revocations.as_ref().is_some_and(|held| held.id == incoming.id) {
            return Ok(Verified::Known);
        }
        Ok(Verified::New(incoming.into_held(signer)))
    }

    /// A steward with the role signs alone, or enough keys of the root of that version do.
    fn verify_revoker(&self, org: &Org, incoming: &Incoming<'_, Revocations>) -> Result<KeyId, Refusal> {
        let root_version = incoming.record.root_version;
        let newest = org.root_version();
        let root = org.roots.iter().map(|held| &held.record).find(|root| {
            root.root_version == root_version && (root_version == newest || incoming.timing.is_restore())
        });
        let is_root_key = |id: &KeyId| root.is_some_and(|root| signers::find(&root.keys, id).is_ok());
        match root {
            Some(root) if incoming.envelope.signatures().iter().any(|one| is_root_key(&one.key)) => {
                let key_of = |id: &KeyId| -> Result<PublicKey, Refusal> { signers::find(&root.keys, id) };
                let signed_by = signers::verify(incoming.envelope, &self.mesh, key_of)?;
                signers::check_threshold(&signed_by, &root.keys, root.threshold)?;
                signed_by.first().copied().ok_or(Refusal::UnknownSigner)
            }
            Some(_) | None => signers::verify_one(incoming.envelope, &self.mesh, |id| {
                org.steward_key(id, Roles::REVOKE, root_version, incoming.timing)
            }),
        }
    }

    fn store_revocations(&mut self, held: Held<Revocations>) {
        let org = held.record.org;
        let mark = Mark { root_version: held.record.root_version, count: held.record.n, id: held.id };
        self.marks.orgs.entry(org).or_default().revocations = Some(mark);
        if let Some(org) = self.orgs.get_mut(&org) {
            org.put_revocations(held);
        }
    }
}

fn check_shape(revocations: &Revocations) -> Result<(), Refusal> {
    let Revocations { nodes, certs, severed, org, .. } = revocations;
    let is_sorted = nodes.is_sorted_by(|a, b| a < b)
        && certs.is_sorted_by(|a, b| a < b)
        && severed.is_sorted_by(|a, b| a < b);
    if !is_sorted {
        return Err(Refusal::Invalid("revocations: unsorted or repeated"));
    }
    if severed.contains(org) {
        return Err(Refusal::Invalid("an organisation that severs itself"));
    }
    Ok(())
}
