//! What is dropped when its time is long over. Marks stay, so nothing old comes back as new.

use std::collections::BTreeSet;

use meshd_wire::{KeyId, NodeId, Timestamp};

use super::Roster;
use super::limits::EXPIRED_KEPT_S;

impl Roster {
    /// Drops nodes whose certificates, and delegations whose time, were over a week ago.
    pub fn forget_expired(&mut self, now: Timestamp) {
        let is_long_over = |end: Timestamp| end.plus(EXPIRED_KEPT_S) < now;
        let over = self.certs().filter(|cert| is_long_over(cert.record.not_after));
        for node in over.map(|cert| cert.record.node).collect::<Vec<_>>() {
            self.forget_node(&node);
        }
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
    }

    pub(super) fn forget_node(&mut self, id: &NodeId) {
        if let Some(node) = self.nodes.remove(id) {
            self.claims.remove_cert(&node.cert.record);
            if let Some(keys) = &node.keys {
                self.claims.remove_keys(&keys.record);
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
