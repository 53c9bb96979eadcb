//! What is dropped when its time is long over. Marks stay longer, so nothing old comes back as new.
//!
//! How late it is, says the own organisation's newest state: a wall clock that ran ahead for a while must
//! not cost certificates, the own one among them, or marks that are good again once it is repaired.

use std::collections::BTreeSet;

use meshd_wire::record::Endpoint;
use meshd_wire::{EndpointId, KeyId, NodeId, OrgId, Timestamp};

use super::claims::Holder;
use super::limits::{ENDPOINT_LIFE_S, EXPIRED_KEPT_S, MARKS_KEPT_S};
use super::{Roster, endpoint};

impl Roster {
    /// Drops nodes whose certificates, and delegations whose time, were over a week ago.
    pub fn forget_expired(&mut self, now: Timestamp) {
        self.forget_endpoints(now, |claim, now| claim.withdrawn && endpoint::rests_until(claim) < now);
        let Some(now) = self.signed_time().map(|signed| signed.min(now)) else { return };
        let is_long_over = |end: Timestamp| end.plus(EXPIRED_KEPT_S) < now;
        let over = self.certs().filter(|cert| is_long_over(cert.record.not_after));
        for node in over.map(|cert| cert.record.node).collect::<Vec<_>>() {
            self.forget_node(&node);
        }
        self.forget_endpoints(now, |claim, now| endpoint::rests_until(claim) < now);
        let signers = self.signers();
        for org in self.orgs.values_mut() {
            // The last one always stays: it says whom the root has replaced.
            let Some(last) = org.delegations.last().map(|held| held.id) else { continue };
            org.delegations.retain(|held| {
                held.id == last
                    || !is_long_over(held.record.not_after)
                    || signers.contains(&held.record.record_key.key_id())
            });
        }
        self.forget_marks(now);
    }

    /// Drops marks of nodes whose certificates and keys, all that ever counted, are over by themselves.
    fn forget_marks(&mut self, now: Timestamp) {
        let key_age_max_s = self.agreement().map_or(0, |agreement| u64::from(agreement.key_age_max_s));
        let kept_s = MARKS_KEPT_S.max(key_age_max_s.saturating_add(EXPIRED_KEPT_S));
        let nodes = &self.nodes;
        self.marks.nodes.retain(|id, marks| {
            nodes.contains_key(id) || marks.over_at.is_none_or(|end| end.plus(kept_s) >= now)
        });
        for (id, marks) in &mut self.marks.nodes {
            let is_held = |endpoint: &EndpointId| {
                nodes.get(id).is_some_and(|node| node.endpoints.contains_key(endpoint))
            };
            marks
                .endpoints
                .retain(|endpoint, mark| is_held(endpoint) || mark.over_at.plus(ENDPOINT_LIFE_S) >= now);
        }
    }

    /// Drops endpoints that nobody needs to know of any more. That one was given back is dropped by the wall
    /// clock, which may be wrong: its mark stays, and hosts that start and stop much need the room.
    fn forget_endpoints(&mut self, now: Timestamp, is_over: impl Fn(&Endpoint, Timestamp) -> bool) {
        let records = self.nodes.values().flat_map(|node| node.endpoints.values()).map(|held| &held.record);
        let over: Vec<Holder> = records.filter(|record| is_over(record, now)).map(Holder::from).collect();
        for holder in over {
            self.forget_endpoint(&holder);
        }
    }

    pub(super) fn forget_endpoint(&mut self, holder: &Holder) {
        let Some(node) = self.nodes.get_mut(&holder.node) else { return };
        if let Some(held) = node.endpoints.remove(&holder.endpoint) {
            self.claims.endpoints.remove(&held.record, &node.cert.record.org);
        }
    }

    /// The newest time that the own organisation has signed; of any, where there is no own one.
    fn signed_time(&self) -> Option<Timestamp> {
        let is_own = |id: &OrgId| self.floor.org.is_none_or(|own| own == *id);
        let states = self.orgs.iter().filter(|(id, _)| is_own(id)).filter_map(|(_, org)| org.state.as_ref());
        states.map(|held| held.record.issued_at).max()
    }

    pub(super) fn forget_node(&mut self, id: &NodeId) {
        if let Some(node) = self.nodes.remove(id) {
            self.claims.remove_cert(&node.cert.record);
            if let Some(keys) = &node.keys {
                self.claims.remove_keys(&keys.record);
            }
            for endpoint in node.endpoints.values() {
                self.claims.endpoints.remove(&endpoint.record, &node.cert.record.org);
            }
        }
    }

    /// Keys that signed something of a steward's that is held.
    fn signers(&self) -> BTreeSet<KeyId> {
        let mut signers: BTreeSet<KeyId> = self.certs().map(|cert| cert.signer).collect();
        for org in self.orgs.values() {
            signers.extend(org.revocations.iter().map(|held| held.signer));
            signers.extend(org.state.iter().chain(&org.state_complete).map(|held| held.signer));
        }
        signers
    }
}
