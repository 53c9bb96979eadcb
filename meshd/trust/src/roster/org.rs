//! What is held of one organisation.

use meshd_wire::record::{Member, OrgRoot, OrgState, Revocations, Roles, StewardDelegation};
use meshd_wire::{KeyId, OrgId, PublicKey, Timestamp};

use super::held::Held;
use super::limits::CLOCK_SKEW_S;
use super::refusal::Refusal;
use super::timing::Timing;

/// How old an organisation's word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Younger than the agreement's soft limit.
    Fresh,
    /// Older than the soft limit: an alarm, nothing else.
    Stale,
    /// Older than the hard limit, or never heard: its nodes are cut.
    Expired,
}

/// Everything held of one organisation. Exists from its first root on.
#[derive(Debug)]
pub(super) struct Org {
    /// Version 1 first, without gaps; never empty.
    pub(super) roots: Vec<Held<OrgRoot>>,
    /// Sorted by (root version, serial).
    pub(super) delegations: Vec<Held<StewardDelegation>>,
    pub(super) revocations: Option<Held<Revocations>>,
    /// Newest state.
    pub(super) state: Option<Held<OrgState>>,
    /// Newest state whose components were all held, while that is not the newest state.
    pub(super) state_complete: Option<Held<OrgState>>,
}

impl Org {
    pub(super) fn new(root: Held<OrgRoot>) -> Self {
        Self {
            roots: vec![root],
            delegations: Vec::new(),
            revocations: None,
            state: None,
            state_complete: None,
        }
    }

    /// Newest root.
    pub(super) fn root(&self) -> Option<&Held<OrgRoot>> {
        self.roots.last()
    }

    pub(super) fn root_version(&self) -> u32 {
        self.root().map_or(0, |root| root.record.root_version)
    }

    /// Delegations of the newest root version that has any. The root names anew whom it keeps, so a
    /// steward that a newer root version does not name is out, with everything it signed.
    pub(super) fn delegations_in_force(&self) -> impl Iterator<Item = &Held<StewardDelegation>> {
        let newest = self.delegations.last().map_or(0, |held| held.record.root_version);
        self.delegations.iter().filter(move |held| held.record.root_version == newest)
    }

    /// Finds the key of a steward that may sign for a role under a root version.
    pub(super) fn steward_key(
        &self,
        signer: &KeyId,
        role: Roles,
        root_version: u32,
        timing: Timing,
    ) -> Result<PublicKey, Refusal> {
        let mut refusal = None;
        for held in self.delegations.iter().rev() {
            let steward = &held.record;
            if steward.record_key.key_id() != *signer {
                continue;
            }
            match self.check_steward(steward, role, root_version, timing) {
                Ok(()) => return Ok(steward.record_key),
                // The newest delegation of the key says why; older ones are out anyway.
                Err(reason) => refusal = refusal.or(Some(reason)),
            }
        }
        Err(refusal.unwrap_or(Refusal::UnknownSigner))
    }

    fn check_steward(
        &self,
        steward: &StewardDelegation,
        role: Roles,
        root_version: u32,
        timing: Timing,
    ) -> Result<(), Refusal> {
        let newest = self.delegations.last().map_or(0, |held| held.record.root_version);
        // A state file may hold what a steward signed before the root replaced it.
        if steward.root_version != newest && !timing.is_restore() {
            return Err(Refusal::UnknownSigner);
        }
        if root_version > steward.root_version {
            return Err(Refusal::Invalid("a root version that its signer was not delegated under"));
        }
        if !steward.roles.contains(role) {
            return Err(Refusal::WrongRole);
        }
        timing.check_begun(steward.not_before)?;
        timing.check_not_over(steward.not_after.plus(CLOCK_SKEW_S))?;
        if role == Roles::HEAD && !timing.is_restore() && !self.is_head(steward) {
            return Err(Refusal::WrongRole);
        }
        Ok(())
    }

    /// The one head: the last steward that the root named so.
    fn head(&self) -> Option<&StewardDelegation> {
        let stewards = self.delegations_in_force().map(|held| &held.record);
        stewards.filter(|steward| steward.roles.contains(Roles::HEAD)).last()
    }

    fn is_head(&self, steward: &StewardDelegation) -> bool {
        self.head().is_some_and(|head| head.record_key == steward.record_key)
    }

    /// Whether what a state names is held: the very revocations, or newer ones.
    fn is_complete(&self, state: &OrgState) -> bool {
        let Some(named) = state.revocations else { return true };
        self.revocations.as_ref().is_some_and(|held| {
            held.id == named.id || (held.record.root_version, held.record.n) > (state.root_version, named.n)
        })
    }

    /// Stores a newer state, keeping the one before while the newer one lacks a component.
    pub(super) fn put_state(&mut self, state: Held<OrgState>) {
        if let Some(before) = self.state.replace(state)
            && self.is_complete(&before.record)
        {
            self.state_complete = Some(before);
        }
        self.settle_state();
    }

    /// Stores newer revocations, which may complete the newest state.
    pub(super) fn put_revocations(&mut self, revocations: Held<Revocations>) {
        self.revocations = Some(revocations);
        self.settle_state();
    }

    fn settle_state(&mut self) {
        if self.state.as_ref().is_some_and(|state| self.is_complete(&state.record)) {
            self.state_complete = None;
        }
    }

    /// Newest state whose components are all held.
    pub(super) fn state_in_force(&self) -> Option<&Held<OrgState>> {
        self.state.as_ref().filter(|state| self.is_complete(&state.record)).or(self.state_complete.as_ref())
    }
}

/// What a roster knows of one organisation.
#[derive(Debug, Clone, Copy)]
pub struct OrgView<'a> {
    pub(super) id: &'a OrgId,
    pub(super) org: &'a Org,
    pub(super) member: &'a Member,
    pub(super) soft_s: u32,
    pub(super) hard_s: u32,
}

impl<'a> OrgView<'a> {
    /// The organisation.
    pub fn id(&self) -> OrgId {
        *self.id
    }

    /// Its part in the agreement.
    pub fn member(&self) -> &'a Member {
        self.member
    }

    /// Its name for people.
    pub fn name(&self) -> &'a str {
        self.root().map_or("", |root| root.name.as_str())
    }

    /// Its newest root.
    pub fn root(&self) -> Option<&'a OrgRoot> {
        self.org.root().map(|held| &held.record)
    }

    /// Envelope of its newest root.
    pub fn root_envelope(&self) -> Option<&'a [u8]> {
        self.org.root().map(|held| held.bytes.as_slice())
    }

    /// Version of its newest root.
    pub fn root_version(&self) -> u32 {
        self.org.root_version()
    }

    /// Its delegations in force, oldest first; look at their time before use.
    pub fn delegations(&self) -> impl Iterator<Item = &'a StewardDelegation> + use<'a> {
        self.org.delegations_in_force().map(|held| &held.record)
    }

    /// The one head among its stewards: the last that the root named so.
    pub fn head(&self) -> Option<&'a StewardDelegation> {
        self.org.head()
    }

    /// Its stewards, without the keys of a head that others follow; look at their time before use.
    pub fn in_office(&self) -> impl Iterator<Item = &'a StewardDelegation> + use<'a> {
        let head = self.head().map(|head| head.tls_key);
        let is_head = |steward: &StewardDelegation| steward.roles.contains(Roles::HEAD);
        self.delegations().filter(move |steward| !is_head(steward) || Some(steward.tls_key) == head)
    }

    /// TLS keys of its stewards in office.
    pub fn tls_keys(&self) -> Vec<PublicKey> {
        self.in_office().map(|steward| steward.tls_key).collect()
    }

    /// Keys that sign its audit log, those included whose time is over: what they have signed stays signed.
    pub fn log_keys(&self) -> Vec<PublicKey> {
        let of_log = self.delegations().filter(|steward| steward.roles.contains(Roles::LOG));
        of_log.map(|steward| steward.log_key).collect()
    }

    /// Its newest revocations.
    pub fn revocations(&self) -> Option<&'a Revocations> {
        self.org.revocations.as_ref().map(|held| &held.record)
    }

    /// Its newest state, whether or not all its components are held.
    pub fn state(&self) -> Option<&'a OrgState> {
        self.org.state.as_ref().map(|held| &held.record)
    }

    /// Envelope of its newest state.
    pub fn state_envelope(&self) -> Option<&'a [u8]> {
        self.org.state.as_ref().map(|held| held.bytes.as_slice())
    }

    /// Age in seconds of the newest state whose components are all held.
    pub fn state_age(&self, now: Timestamp) -> Option<u64> {
        self.org.state_in_force().map(|held| now.since(held.record.issued_at))
    }

    /// How old its word is. A component that is named but withheld counts like a missing state.
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        let Some(held) = self.org.state_in_force() else { return Freshness::Expired };
        let issued_at = held.record.issued_at;
        let age = now.since(issued_at);
        if age > u64::from(self.hard_s) {
            Freshness::Expired
        } else if age > u64::from(self.soft_s) || issued_at > now.plus(CLOCK_SKEW_S) {
            Freshness::Stale
        } else {
            Freshness::Fresh
        }
    }
}
