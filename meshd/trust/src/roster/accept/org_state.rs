//! States: the head steward's word that its organisation is alive, and what is in force.

use meshd_wire::record::{OrgState, Roles};

use super::{Accepted, Change, Incoming};
use crate::roster::Roster;
use crate::roster::held::{Held, Verified};
use crate::roster::high_water::Mark;
use crate::roster::refusal::Refusal;
use crate::roster::signers;

impl Roster {
    pub(super) fn accept_state(&mut self, incoming: Incoming<'_, OrgState>) -> Result<Accepted, Refusal> {
        let org = incoming.record.org;
        match self.verify_state(incoming)? {
            Verified::Known => Ok(Accepted::Known),
            Verified::New(held) => {
                self.store_state(held);
                Ok(Accepted::New(Change::State(org)))
            }
        }
    }

    fn verify_state(&self, incoming: Incoming<'_, OrgState>) -> Result<Verified<OrgState>, Refusal> {
        let state = &incoming.record;
        self.proven_member(&state.org)?;
        let org = self.orgs.get(&state.org).ok_or(Refusal::MissingParent("root"))?;
        if org.state.as_ref().is_some_and(|held| held.bytes == incoming.bytes) {
            return Ok(Verified::Known);
        }
        self.check_agreement_floor(&state.org, state.agreement_version)?;
        let signer = signers::verify_one(incoming.envelope, &self.mesh, |id| {
            org.steward_key(id, Roles::HEAD, state.root_version, incoming.timing)
        })?;
        let mark = self.marks.orgs.get(&state.org).and_then(|marks| marks.state.as_ref());
        // The state file holds a complete state below the newest one, which lacks a component.
        if !incoming.timing.is_restore() {
            Mark::admit(mark, state.root_version, state.seq, incoming.id)?;
        }
        incoming.timing.check_begun(state.issued_at)?;
        if org.state.as_ref().is_some_and(|held| held.id == incoming.id) {
            return Ok(Verified::Known);
        }
        Ok(Verified::New(incoming.into_held(signer)))
    }

    fn store_state(&mut self, held: Held<OrgState>) {
        let OrgState { org, root_version, seq, .. } = held.record;
        let mark = Mark { root_version, count: seq, id: held.id };
        let marks = self.marks.orgs.entry(org).or_default();
        if marks.state.is_none_or(|before| (before.root_version, before.count) <= (root_version, seq)) {
            marks.state = Some(mark);
        }
        if let Some(org) = self.orgs.get_mut(&org) {
            org.put_state(held);
        }
    }
}
