//! The delegation by which the root has made this host a steward, and the next one.

use data_encoding::BASE64;
use meshd_api::{ApiError, ErrorCode, Signed, StewardReply};
use meshd_trust::founding::StewardPublicKeys;
use meshd_wire::Envelope;
use meshd_wire::record::StewardDelegation;

use super::Mesh;
use super::desk::not_steward;
use super::start::steward_keys;
use crate::metrics::Counters;

/// Rest of a delegation at which an administrator is reminded: a third of its life, in seconds.
const REMIND_S: u64 = 30 * DAY_S;
const DAY_S: u64 = 86_400;

impl Mesh {
    /// The newest delegation of this steward.
    pub fn delegation(&self) -> Result<StewardReply, ApiError> {
        let newest = self.own_delegation().ok_or_else(not_steward)?;
        let org = self.roster.org(&self.membership.org);
        let root = org.and_then(|org| org.root_envelope()).ok_or_else(not_steward)?;
        Ok(StewardReply {
            mesh: self.membership.mesh.to_string(),
            org: self.membership.org.to_string(),
            root: Signed(BASE64.encode(root)),
            root_version: newest.root_version,
            serial: newest.serial,
            not_before: newest.not_before.0,
            not_after: newest.not_after.0,
            keys: steward_keys(&keys_of(newest)),
        })
    }

    /// Takes the next delegation of the same keys, and the root that has signed it if it is a new one. Asked again, it does
    /// what was left undone.
    pub fn renew_delegation(
        &mut self,
        root: Option<&[u8]>,
        envelope: &[u8],
        counters: &mut Counters,
    ) -> Result<StewardReply, ApiError> {
        let (org, now) = (self.membership.org, self.clock.now());
        let steward = self.steward.as_ref().ok_or_else(not_steward)?;
        let next = Envelope::from_bytes(envelope)
            .and_then(|envelope| envelope.record::<StewardDelegation>())
            .map_err(|error| refused(error.to_string()))?;
        if next.org != org || keys_of(&next) != steward.public_keys() {
            let error = refused("it names another organisation or other keys than this steward's".into());
            return Err(error.with_hint("run `meshctl steward renew` on the host of the steward"));
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
        let steward = self.steward.as_mut().ok_or_else(not_steward)?;
        steward.adopt(&self.roster, &org, now).map_err(|error| refused(crate::chain::of(&error)))?;
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
        self.roster.org(&self.membership.org)?.delegations().filter(|one| keys_of(one) == keys).last()
    }
}

fn keys_of(delegation: &StewardDelegation) -> StewardPublicKeys {
    StewardPublicKeys {
        record: delegation.record_key,
        log: delegation.log_key,
        witness: delegation.witness_key,
        tls: delegation.tls_key,
    }
}

fn refused(cause: String) -> ApiError {
    ApiError::new(ErrorCode::RecordRefused, "the delegation is refused").with_cause(cause)
}
