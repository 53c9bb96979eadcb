//! The delegation by which the root has made this host a steward, and the next one.

use data_encoding::BASE64;
use meshd_api::{ApiError, ErrorCode, Signed, StewardKeys, StewardReply};
use meshd_trust::founding::StewardPublicKeys;
use meshd_wire::Envelope;
use meshd_wire::record::StewardDelegation;

use super::Mesh;
use super::desk::not_steward;
use super::entry::random_seeds;
use super::start::steward_keys;
use crate::metrics::Counters;

/// Rest of a delegation at which an administrator is reminded: a third of its life, in seconds.
const REMIND_S: u64 = 30 * DAY_S;
const DAY_S: u64 = 86_400;

impl Mesh {
    /// What the next delegation builds on, and until when the one in force counts.
    pub fn delegation(&self) -> Result<StewardReply, ApiError> {
        let steward = self.steward.as_ref().ok_or_else(not_steward)?;
        let org = self.roster.org(&self.membership.org).ok_or_else(not_steward)?;
        let root = org.root_envelope().ok_or_else(not_steward)?;
        // Others may have been named since: what is signed next follows them all.
        let serial = org.delegations().map(|one| one.serial).max().unwrap_or_default();
        let own = self.own_delegation();
        Ok(StewardReply {
            mesh: self.membership.mesh.to_string(),
            org: self.membership.org.to_string(),
            root: Signed(BASE64.encode(root)),
            root_version: org.root_version(),
            serial,
            not_before: own.map_or(0, |own| own.not_before.0),
            not_after: own.map_or(0, |own| own.not_after.0),
            keys: steward_keys(&steward.public_keys()),
        })
    }

    /// Public halves of the keys that follow those of this steward, made now if there are none yet.
    pub fn next_steward_keys(&mut self) -> Result<StewardKeys, ApiError> {
        let steward = self.steward.as_mut().ok_or_else(not_steward)?;
        let keys = steward.next_keys(&random_seeds()?).map_err(|error| {
            ApiError::new(ErrorCode::StorageFailed, "the next keys of the steward can't be stored")
                .with_cause(crate::chain::of(&error))
                .with_hint("make room in the state directory")
        })?;
        Ok(steward_keys(&keys))
    }

    /// Lets the next keys of the steward take office, once the root has delegated to them.
    pub(super) fn hand_over(&mut self) -> Result<(), String> {
        let org = self.membership.org;
        let Some(steward) = &mut self.steward else { return Ok(()) };
        if steward.hand_over(&self.roster, &org).map_err(|error| crate::chain::of(&error))?
            && let Some(control) = &self.control
        {
            control.replace_key(&steward.tls_key().map_err(|error| crate::chain::of(&error))?);
        }
        // Also if an end came between the two.
        if !steward.is_adopted(&self.roster, &org) {
            steward.adopt(&self.roster, &org).map_err(|error| crate::chain::of(&error))?;
        }
        Ok(())
    }

    /// Takes the next delegation of the same keys or of those that follow, and the root that has signed it if it is a new
    /// one. Asked again, it does what was left undone.
    pub fn renew_delegation(
        &mut self,
        root: Option<&[u8]>,
        envelope: &[u8],
        counters: &mut Counters,
    ) -> Result<StewardReply, ApiError> {
        let (org, now) = (self.membership.org, self.clock.now());
        let steward = self.steward.as_mut().ok_or_else(not_steward)?;
        if self.clock.is_suspect() {
            let error = ApiError::new(ErrorCode::RecordRefused, "the clock of this host is in doubt");
            return Err(error.with_hint("set the clock, and renew again"));
        }
        let next = Envelope::from_bytes(envelope)
            .and_then(|envelope| envelope.record::<StewardDelegation>())
            .map_err(|error| refused(error.to_string()))?;
        let keys = StewardPublicKeys::from(&next);
        if next.org != org || keys != steward.public_keys() && !steward.awaits(&keys) {
            let error = refused("it names another organisation or other keys than this steward's".into());
            return Err(error.with_hint("run `meshctl steward renew` on the host of the steward"));
        }
        // Once the mesh has heard of the next keys, those in use are worth nothing.
        if steward.awaits(&keys) {
            steward.is_ready().map_err(|error| not_handed_over(crate::chain::of(&error)))?;
        }
        for record in root.into_iter().chain([envelope]) {
            self.roster.accept(record, now).map_err(|refusal| {
                refused(refusal.to_string())
                    .with_hint("sign it with the root key of this steward's organisation")
            })?;
            counters.records_accepted += 1;
        }
        self.commit(counters);
        if self.unsaved {
            let error = ApiError::new(ErrorCode::StorageFailed, "the delegation can't be stored");
            return Err(error.with_hint("make room in the state directory, and renew again"));
        }
        self.hand_over().map_err(not_handed_over)?;
        // If the one before was over, everybody waits for these.
        self.sign_state(counters);
        self.renew_at_own_desk(counters);
        self.delegation()
    }

    /// Days for which this host may still act as a steward, once they are few.
    pub(super) fn delegation_ends_in(&self) -> Option<u64> {
        let left = self.own_delegation()?.not_after.since(self.clock.now());
        (left < REMIND_S).then_some(left / DAY_S)
    }

    fn own_delegation(&self) -> Option<&StewardDelegation> {
        let keys = self.steward.as_ref()?.public_keys();
        self.roster.org(&self.membership.org)?.delegations().filter(|one| keys == (*one).into()).last()
    }
}

fn not_handed_over(cause: String) -> ApiError {
    ApiError::new(ErrorCode::StorageFailed, "the steward can't go on with the delegation yet")
        .with_cause(cause)
        .with_hint("it tries again each minute; look at its disk, or renew without --new-keys")
}

fn refused(cause: String) -> ApiError {
    ApiError::new(ErrorCode::RecordRefused, "the delegation is refused").with_cause(cause)
}
