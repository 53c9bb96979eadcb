//! Tunnel keys: a node says which it uses.

use meshd_wire::PublicKey;
use meshd_wire::record::{NodeCert, NodeKeys};

use super::{Accepted, Change, Incoming};
use crate::roster::held::{Held, Verified};
use crate::roster::high_water::{EpochMark, Mark};
use crate::roster::refusal::Refusal;
use crate::roster::{Roster, curve, signers};

impl Roster {
    pub(super) fn accept_keys(&mut self, incoming: Incoming<'_, NodeKeys>) -> Result<Accepted, Refusal> {
        let node = incoming.record.node;
        let held = self.nodes.get(&node).ok_or(Refusal::MissingParent("certificate"))?;
        match self.verify_keys(incoming, &held.cert.record)? {
            Verified::Known => Ok(Accepted::Known),
            Verified::New(held) => {
                self.store_keys(held);
                Ok(Accepted::New(Change::Keys(node)))
            }
        }
    }

    /// Verifies keys against a certificate, which may be about to be stored.
    pub(super) fn verify_keys(
        &self,
        incoming: Incoming<'_, NodeKeys>,
        cert: &NodeCert,
    ) -> Result<Verified<NodeKeys>, Refusal> {
        let keys = &incoming.record;
        let held = self.nodes.get(&keys.node).filter(|node| node.cert.record.org == cert.org);
        let held = held.and_then(|node| node.keys.as_ref());
        if held.is_some_and(|held| held.bytes == incoming.bytes) {
            return Ok(Verified::Known);
        }
        let signer =
            signers::verify_one(incoming.envelope, &self.mesh, |id| signers::find(&[cert.identity], id))?;
        self.check_may_publish(cert, incoming.timing)?;
        check_shape(keys)?;
        let marks = self.marks.nodes.get(&keys.node).filter(|marks| marks.org == cert.org);
        Mark::admit(marks.and_then(|marks| marks.keys.as_ref()), 0, keys.seq, incoming.id)?;
        check_epoch(marks.and_then(|marks| marks.epoch), keys)?;
        if held.is_some_and(|held| held.id == incoming.id) {
            return Ok(Verified::Known);
        }
        incoming.timing.check_begun(keys.issued_at)?;
        let agreement = self.agreement().ok_or(Refusal::MissingParent("genesis"))?;
        incoming.timing.check_not_over(keys.issued_at.plus(u64::from(agreement.key_age_max_s)))?;
        let rivals = self.claims.tunnel_rivals(keys);
        if let Some(holder) =
            rivals.into_iter().find(|holder| self.still_binds(holder, &cert.org, incoming.timing))
        {
            return Err(Refusal::KeyTaken { holder });
        }
        Ok(Verified::New(incoming.into_held(signer)))
    }

    pub(super) fn store_keys(&mut self, held: Held<NodeKeys>) {
        let keys = &held.record;
        for rival in self.claims.tunnel_rivals(keys) {
            // Verification left only holders whose time is over, or whom the own organisation outranks.
            self.forget_node(&rival);
        }
        if let Some(marks) = self.marks.nodes.get_mut(&keys.node) {
            marks.keys = Some(Mark { root_version: 0, count: keys.seq, id: held.id });
            marks.epoch = Some(EpochMark { epoch: keys.cur.epoch, key: keys.cur.key });
        }
        if let Some(node) = self.nodes.get_mut(&keys.node) {
            if let Some(before) = &node.keys {
                self.claims.remove_keys(&before.record);
            }
            self.claims.add_keys(keys);
            node.keys = Some(held);
        }
    }
}

/// Epochs never decrease, and one epoch has one key.
fn check_epoch(mark: Option<EpochMark>, keys: &NodeKeys) -> Result<(), Refusal> {
    match mark {
        Some(mark) if keys.cur.epoch < mark.epoch => Err(Refusal::Stale),
        Some(mark) if keys.cur.epoch == mark.epoch && keys.cur.key != mark.key => Err(Refusal::Equivocation),
        Some(_) | None => Ok(()),
    }
}

fn check_shape(keys: &NodeKeys) -> Result<(), Refusal> {
    let all: Vec<_> = [keys.prev, Some(keys.cur), keys.next].into_iter().flatten().collect();
    if !all.is_sorted_by(|a, b| a.epoch < b.epoch) {
        return Err(Refusal::Invalid("tunnel keys: epochs do not grow"));
    }
    let mut bytes: Vec<PublicKey> = all.iter().map(|epoch| epoch.key).collect();
    bytes.sort_unstable();
    if !bytes.is_sorted_by(|a, b| a < b) || !bytes.iter().all(curve::is_tunnel_key) {
        return Err(Refusal::Invalid("tunnel keys: repeated, or no keys at all"));
    }
    if keys.suites == 0 {
        return Err(Refusal::Invalid("no tunnel suite"));
    }
    Ok(())
}
