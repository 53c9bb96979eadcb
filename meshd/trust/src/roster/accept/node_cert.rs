//! Node certificates: a steward's word that a node belongs to its organisation, and what it owns.

use std::collections::BTreeMap;

use meshd_wire::NodeId;
use meshd_wire::name;
use meshd_wire::record::{Member, NodeCert, Roles};

use super::{Accepted, Change, Incoming};
use crate::address::node_addr6;
use crate::roster::claims::prefixes_of;
use crate::roster::held::{Held, Verified};
use crate::roster::high_water::Mark;
use crate::roster::limits::{CERT_LIFE_MAX_S, CLAIMS_MAX, LABELS_MAX, NODE_MARKS_MAX, NODES_MAX};
use crate::roster::node::Node;
use crate::roster::org::Org;
use crate::roster::refusal::Refusal;
use crate::roster::standing::revokes_cert;
use crate::roster::timing::Timing;
use crate::roster::{Roster, overlay, shares, signers};

impl Roster {
    pub(super) fn accept_cert(&mut self, incoming: Incoming<'_, NodeCert>) -> Result<Accepted, Refusal> {
        let node = incoming.record.node;
        match self.verify_cert(incoming)? {
            Verified::Known => Ok(Accepted::Known),
            Verified::New(held) => {
                self.store_cert(held);
                Ok(Accepted::New(Change::Cert(node)))
            }
        }
    }

    pub(super) fn verify_cert(
        &self,
        incoming: Incoming<'_, NodeCert>,
    ) -> Result<Verified<NodeCert>, Refusal> {
        let cert = &incoming.record;
        let held = self.nodes.get(&cert.node).map(|node| &node.cert);
        let held = held.filter(|held| held.record.org == cert.org);
        if held.is_some_and(|held| held.bytes == incoming.bytes) {
            return Ok(Verified::Known);
        }
        if self.shut.contains(&cert.org) && !self.is_old_acquaintance(held.map(|held| &held.record), cert) {
            return Err(Refusal::Shut(cert.org));
        }
        let member = self.proven_member(&cert.org)?;
        let org = self.orgs.get(&cert.org).ok_or(Refusal::MissingParent("root"))?;
        let signer = signers::verify_one(incoming.envelope, &self.mesh, |id| {
            org.steward_key(id, Roles::ENROL, cert.root_version, incoming.timing)
        })?;
        check_shape(cert)?;
        check_namespace(org, cert, &signer, incoming.timing)?;
        self.check_addresses(cert, member)?;
        self.check_node_id(cert)?;
        let mark = self.marks.nodes.get(&cert.node).filter(|marks| marks.org == cert.org);
        Mark::admit(mark.map(|marks| &marks.cert), cert.root_version, cert.serial, incoming.id)?;
        if held.is_some_and(|held| held.id == incoming.id) {
            return Ok(Verified::Known);
        }
        incoming.timing.check_begun(cert.not_before)?;
        incoming.timing.check_not_over(cert.not_after)?;
        self.check_not_revoked(org, cert, incoming.timing)?;
        self.check_unclaimed(cert, incoming.timing)?;
        if !incoming.timing.is_restore() {
            self.check_room(cert, held.is_none())?;
        }
        Ok(Verified::New(incoming.into_held(signer)))
    }

    /// Whether a certificate is that of the same host as before, as far as its steward can't make that up.
    fn is_old_acquaintance(&self, held: Option<&NodeCert>, cert: &NodeCert) -> bool {
        match held {
            Some(held) => (held.identity, held.transport) == (cert.identity, cert.transport),
            // It was away until it was forgotten. The id of a host is that of the key that it joined with.
            None => {
                let was_here = self.marks.nodes.get(&cert.node).is_some_and(|marks| marks.org == cert.org);
                was_here && NodeId::from(cert.identity.key_id()) == cert.node
            }
        }
    }

    /// One organisation's nodes never keep another's out.
    fn check_room(&self, cert: &NodeCert, is_new: bool) -> Result<(), Refusal> {
        let members = self.agreement().map_or(0, |agreement| agreement.members.len());
        let marks = &self.marks.nodes;
        // Counted only once a table is half full: until then there is room for everybody.
        if is_new && self.nodes.len() >= NODES_MAX / 2 {
            let orgs = self.certs().map(|held| (held.record.org, 1));
            if !shares::has_room(NODES_MAX, members, &cert.org, orgs) {
                return Err(Refusal::TooMany("nodes"));
            }
        }
        if !marks.contains_key(&cert.node) && marks.len() >= NODE_MARKS_MAX / 2 {
            let orgs = marks.values().map(|marks| (marks.org, 1));
            if !shares::has_room(NODE_MARKS_MAX, members, &cert.org, orgs) {
                return Err(Refusal::TooMany("nodes that once were enrolled"));
            }
        }
        Ok(())
    }

    /// A node is named by its first identity key; later ones are the word of the same organisation.
    fn check_node_id(&self, cert: &NodeCert) -> Result<(), Refusal> {
        match self.marks.nodes.get(&cert.node) {
            Some(marks) if marks.org == cert.org => Ok(()),
            Some(marks) if !self.outranks(&cert.org, &marks.org) => {
                Err(Refusal::OtherOrg { holder: marks.org })
            }
            Some(_) | None if NodeId::from(cert.identity.key_id()) == cert.node => Ok(()),
            Some(_) | None => Err(Refusal::Invalid("a node id that its identity key does not give")),
        }
    }

    fn check_addresses(&self, cert: &NodeCert, member: &Member) -> Result<(), Refusal> {
        let addr6 = node_addr6(&self.mesh, member.subnet6, &cert.node);
        let owns =
            |prefix| overlay::contains(&member.prefix4, prefix) || overlay::shares_subnet6(prefix, addr6);
        if overlay::is_host_of(&member.prefix4, cert.ipv4())
            && cert.ipv6() == addr6
            && cert.prefixes.iter().all(owns)
        {
            Ok(())
        } else {
            Err(Refusal::OutsidePrefix)
        }
    }

    fn check_not_revoked(&self, org: &Org, cert: &NodeCert, timing: Timing) -> Result<(), Refusal> {
        let is_revoked = org
            .revocations
            .as_ref()
            .is_some_and(|held| revokes_cert(&held.record, &cert.node, cert.root_version, cert.serial));
        if is_revoked && !timing.is_restore() { Err(Refusal::Revoked) } else { Ok(()) }
    }

    /// What another live node claimed first stays with it.
    fn check_unclaimed(&self, cert: &NodeCert, timing: Timing) -> Result<(), Refusal> {
        let still_binds = |holder: &NodeId| self.still_binds(holder, &cert.org, timing);
        if let Some(holder) = self.claims.address_rivals(cert).into_iter().find(|id| still_binds(id)) {
            return Err(Refusal::AddressTaken { holder });
        }
        if let Some(holder) = self.claims.transport_rival(cert).filter(|id| still_binds(id)) {
            return Err(Refusal::KeyTaken { holder });
        }
        Ok(())
    }

    pub(super) fn store_cert(&mut self, held: Held<NodeCert>) {
        let cert = &held.record;
        if self.marks.nodes.get(&cert.node).is_some_and(|marks| marks.org != cert.org) {
            self.forget_node(&cert.node);
            self.marks.nodes.remove(&cert.node);
        }
        let rivals = self.claims.address_rivals(cert).into_iter().chain(self.claims.transport_rival(cert));
        for rival in rivals.collect::<Vec<_>>() {
            // Verification left only holders whose time is over, or whom the own organisation outranks.
            self.forget_node(&rival);
        }
        for holder in self.claims.endpoints.displaced_by(&cert.node, prefixes_of(cert)) {
            self.forget_endpoint(&holder);
        }
        self.marks.raise_cert(cert, held.id);
        match self.nodes.entry(cert.node) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                self.claims.add_cert(cert);
                entry.insert(Node { cert: held, keys: None, paths: None, endpoints: BTreeMap::new() });
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let node = entry.get_mut();
                self.claims.remove_cert(&node.cert.record);
                self.claims.add_cert(cert);
                // What the former identity signed does not verify any more; the node signs anew.
                if node.cert.record.identity != cert.identity {
                    if let Some(keys) = node.keys.take() {
                        self.claims.remove_keys(&keys.record);
                    }
                    node.paths = None;
                    for (_, endpoint) in std::mem::take(&mut node.endpoints) {
                        self.claims.endpoints.remove(&endpoint.record, &cert.org);
                    }
                }
                node.cert = held;
            }
        }
    }
}

fn check_shape(cert: &NodeCert) -> Result<(), Refusal> {
    if !name::is_host_name(&cert.name) {
        return Err(Refusal::Invalid("a node's name"));
    }
    let labels = &cert.labels;
    let are_labels =
        labels.iter().all(|label| name::is_label_part(&label.key) && name::is_label_part(&label.value));
    if labels.len() > LABELS_MAX || !labels.is_sorted_by(|a, b| a.key < b.key) || !are_labels {
        return Err(Refusal::Invalid("labels: too many, unsorted, repeated or misspelt"));
    }
    let attested = &cert.may_attest;
    if attested.len() > LABELS_MAX
        || !attested.is_sorted_by(|a, b| a < b)
        || !attested.iter().all(|key| name::is_label_part(key))
    {
        return Err(Refusal::Invalid("label keys to attest: too many, unsorted, repeated or misspelt"));
    }
    if cert.prefixes.len() > CLAIMS_MAX || cert.prefixes.iter().any(|prefix| prefix.parts().is_none()) {
        return Err(Refusal::Invalid("prefixes: too many or not prefixes"));
    }
    if cert.identity == cert.transport {
        return Err(Refusal::Invalid("one key for two purposes"));
    }
    if cert.not_before >= cert.not_after {
        return Err(Refusal::Invalid("an end before its beginning"));
    }
    if cert.not_after.since(cert.not_before) > CERT_LIFE_MAX_S {
        return Err(Refusal::Invalid("a certificate that lives too long"));
    }
    Ok(())
}

/// A steward with a label namespace gives no labels outside of it. The last delegation counts; a state file
/// may hold what was signed under an earlier one.
fn check_namespace(
    org: &Org,
    cert: &NodeCert,
    signer: &meshd_wire::KeyId,
    timing: Timing,
) -> Result<(), Refusal> {
    let fits = |namespace: &str| {
        cert.labels
            .iter()
            .map(|label| &label.key)
            .chain(&cert.may_attest)
            .all(|key| key.starts_with(namespace))
    };
    let stewards = org.delegations.iter().filter(|held| held.record.record_key.key_id() == *signer);
    let count = if timing.is_restore() { usize::MAX } else { 1 };
    if stewards.rev().take(count).any(|held| fits(&held.record.label_namespace)) {
        Ok(())
    } else {
        Err(Refusal::Invalid("a label outside its steward's namespace"))
    }
}
