//! Endpoints: a node claims addresses for what it attaches, and blocks to take them from.

use std::cmp::Ordering;
use std::net::IpAddr;

use meshd_wire::name;
use meshd_wire::record::{Endpoint, NodeCert, Prefix};

use super::{Accepted, Change, Incoming};
use crate::roster::claims::Holder;
use crate::roster::endpoint::{is_claimed, over_at};
use crate::roster::held::{Held, Verified};
use crate::roster::high_water::{EndpointMark, Mark};
use crate::roster::limits::{
    BLOCK_LEN4, BLOCK_LEN6, ENDPOINT_LABELS_MAX, ENDPOINT_MARKS_MAX, ENDPOINTS_MAX, NODE_ENDPOINT_MARKS_MAX,
    NODE_ENDPOINTS_MAX,
};
use crate::roster::refusal::Refusal;
use crate::roster::timing::Timing;
use crate::roster::{Roster, overlay, shares, signers};

impl Roster {
    pub(super) fn accept_endpoint(&mut self, incoming: Incoming<'_, Endpoint>) -> Result<Accepted, Refusal> {
        let Endpoint { node, endpoint, .. } = incoming.record;
        match self.verify_endpoint(incoming)? {
            Verified::Known => Ok(Accepted::Known),
            Verified::New(held) => {
                self.store_endpoint(held);
                Ok(Accepted::New(Change::Endpoint(node, endpoint)))
            }
        }
    }

    pub(super) fn verify_endpoint(
        &self,
        incoming: Incoming<'_, Endpoint>,
    ) -> Result<Verified<Endpoint>, Refusal> {
        let claim = &incoming.record;
        let node = self.nodes.get(&claim.node).ok_or(Refusal::MissingParent("certificate"))?;
        let held = node.endpoints.get(&claim.endpoint);
        if held.is_some_and(|held| held.bytes == incoming.bytes) {
            return Ok(Verified::Known);
        }
        let cert = &node.cert.record;
        let signer =
            signers::verify_one(incoming.envelope, &self.mesh, |id| signers::find(&[cert.identity], id))?;
        self.check_may_publish(cert, incoming.timing)?;
        check_shape(claim)?;
        self.check_inside(claim, cert)?;
        let mark = self.marks.nodes.get(&claim.node).and_then(|marks| marks.endpoints.get(&claim.endpoint));
        Mark::admit(mark.map(|mark| &mark.mark), 0, claim.seq, incoming.id)?;
        if held.is_some_and(|held| held.id == incoming.id) {
            return Ok(Verified::Known);
        }
        let is_at_mark = mark.is_some_and(|mark| mark.mark.id == incoming.id);
        if is_at_mark && claim.withdrawn && !incoming.timing.is_restore() {
            // It was forgotten, and there is nothing to learn from it again.
            return Ok(Verified::Known);
        }
        incoming.timing.check_begun(claim.issued_at)?;
        incoming.timing.check_not_over(over_at(claim))?;
        if !claim.withdrawn {
            self.check_unclaimed_addresses(claim, cert, held, incoming.timing)?;
            self.check_name(claim, cert, incoming.timing)?;
        }
        if !incoming.timing.is_restore() {
            self.check_endpoint_room(claim, cert, held.is_none(), mark.is_none())?;
        }
        Ok(Verified::New(incoming.into_held(signer)))
    }

    fn check_inside(&self, claim: &Endpoint, cert: &NodeCert) -> Result<(), Refusal> {
        let member = self.proven_member(&cert.org)?;
        let is_inside = |prefix: &Prefix| match prefix.parts() {
            Some((IpAddr::V4(v4), 32)) => overlay::is_host_of(&member.prefix4, v4),
            Some((IpAddr::V4(_), _)) => overlay::contains(&member.prefix4, prefix),
            Some((IpAddr::V6(_), _)) => overlay::shares_subnet6(prefix, cert.ipv6()),
            None => false,
        };
        if claim.addresses.iter().all(is_inside) { Ok(()) } else { Err(Refusal::OutsidePrefix) }
    }

    /// What a certificate names, and what another endpoint claimed first, stays with its holder.
    fn check_unclaimed_addresses(
        &self,
        claim: &Endpoint,
        cert: &NodeCert,
        held: Option<&Held<Endpoint>>,
        timing: Timing,
    ) -> Result<(), Refusal> {
        let taken = |holder| Err(Refusal::AddressTaken { holder });
        for (addr, len) in claim.prefixes() {
            let mut rivals = self.claims.certified_rivals(addr, len, &claim.node);
            if let Some(holder) = rivals.find(|holder| self.still_binds(holder, &cert.org, timing)) {
                return taken(holder);
            }
            let is_host = overlay::is_host(addr, len);
            let mut has_it = held.is_some_and(|held| self.held_before(&held.record, addr, timing));
            for rival in self.claims.endpoints.address_rivals(claim, addr, len) {
                if !self.endpoint_binds(rival, timing) {
                    continue;
                }
                match self.order_within_node(claim, &rival).filter(|_| is_host) {
                    Some(Ordering::Greater) => has_it = true,
                    Some(Ordering::Less) => return Err(Refusal::Stale),
                    Some(Ordering::Equal) | None => return taken(rival.node),
                }
            }
            if !is_host || timing.is_restore() {
                continue;
            }
            let mut given_back = self.claims.endpoints.given_back_on(addr, len).map(|(_, _, holder)| holder);
            if given_back.any(|holder| self.order_within_node(claim, &holder) == Some(Ordering::Less)) {
                return Err(Refusal::Stale);
            }
            let block = self.claims.endpoints.block_around(addr).map(|(_, _, holder)| holder);
            let of_another = block.filter(|block| block.node != claim.node && !has_it);
            if let Some(block) = of_another.filter(|block| self.endpoint_binds(*block, timing)) {
                return taken(block.node);
            }
        }
        Ok(())
    }

    /// Which of two records of one node is the later one: a node hands an address from one of its endpoints to
    /// another. None if they are of two nodes.
    fn order_within_node(&self, claim: &Endpoint, other: &Holder) -> Option<Ordering> {
        let other = self.endpoint(&other.node, &other.endpoint)?.record();
        (other.node == claim.node).then(|| claim.seq.cmp(&other.seq))
    }

    /// Names of endpoints and of nodes are answered from one table.
    fn check_name(&self, claim: &Endpoint, cert: &NodeCert, timing: Timing) -> Result<(), Refusal> {
        let Some(name) = &claim.name else { return Ok(()) };
        let rival = self.claims.endpoints.name_rival(claim, &cert.org);
        if let Some(rival) = rival.filter(|rival| self.endpoint_binds(*rival, timing)) {
            return Err(Refusal::NameTaken { holder: rival.node });
        }
        // A node that takes the name later has it before the endpoint, which a state file may still hold.
        let mut certs = self.certs().map(|held| &held.record);
        let named = certs.find(|other| other.org == cert.org && other.name == *name);
        match named.filter(|other| !timing.is_restore() && self.still_binds(&other.node, &cert.org, timing)) {
            Some(other) => Err(Refusal::NameTaken { holder: other.node }),
            None => Ok(()),
        }
    }

    /// One node's endpoints never keep another's out, nor one organisation's another's.
    fn check_endpoint_room(
        &self,
        claim: &Endpoint,
        cert: &NodeCert,
        is_new: bool,
        is_unmarked: bool,
    ) -> Result<(), Refusal> {
        let members = self.agreement().map_or(0, |agreement| agreement.members.len());
        let held = || self.nodes.values().map(|node| (node.cert.record.org, node.endpoints.len()));
        let own = self.nodes.get(&claim.node).map_or(0, |node| node.endpoints.len());
        let has_room =
            own < NODE_ENDPOINTS_MAX && shares::has_room(ENDPOINTS_MAX, members, &cert.org, held());
        if is_new && !has_room {
            return Err(Refusal::TooMany("endpoints"));
        }
        let can_make_room = || self.oldest_mark(claim).is_some();
        if is_unmarked && !self.has_mark_room(claim, cert) && !can_make_room() {
            return Err(Refusal::TooMany("endpoints that once were attached"));
        }
        Ok(())
    }

    fn has_mark_room(&self, claim: &Endpoint, cert: &NodeCert) -> bool {
        let members = self.agreement().map_or(0, |agreement| agreement.members.len());
        let marks = self.marks.nodes.values().map(|marks| (marks.org, marks.endpoints.len()));
        let own = self.marks.nodes.get(&claim.node).map_or(0, |marks| marks.endpoints.len());
        own < NODE_ENDPOINT_MARKS_MAX && shares::has_room(ENDPOINT_MARKS_MAX, members, &cert.org, marks)
    }

    /// The endpoint of the same node that is not held and whose records are over first. Without its mark they
    /// could be replayed until then, and would claim addresses for the node that signed them.
    fn oldest_mark(&self, claim: &Endpoint) -> Option<meshd_wire::EndpointId> {
        let node = self.nodes.get(&claim.node)?;
        let marks = self.marks.nodes.get(&claim.node)?.endpoints.iter();
        let gone = marks.filter(|(endpoint, _)| !node.endpoints.contains_key(endpoint));
        gone.min_by_key(|(_, mark)| mark.over_at).map(|(endpoint, _)| *endpoint)
    }

    fn endpoint_binds(&self, holder: Holder, timing: Timing) -> bool {
        match timing {
            Timing::Arrives(now) => self.live(holder, now).is_some(),
            Timing::Restored => true,
        }
    }

    /// Whether an endpoint renews its claim on an address and does not begin it.
    fn held_before(&self, held: &Endpoint, addr: IpAddr, timing: Timing) -> bool {
        let is_claimed = match timing {
            Timing::Arrives(now) => is_claimed(held, now),
            Timing::Restored => true,
        };
        is_claimed && held.prefixes().any(|(before, _)| before == addr)
    }

    fn store_endpoint(&mut self, held: Held<Endpoint>) {
        let claim = &held.record;
        let Some(org) = self.nodes.get(&claim.node).map(|node| node.cert.record.org) else { return };
        // Verification left only holders whose time is over, and those that hand their address on.
        let former = if claim.withdrawn {
            self.earlier_holders(claim)
        } else {
            self.claims.endpoints.rivals(claim, &org)
        };
        for former in former {
            self.forget_endpoint(&former);
            if former.node == claim.node {
                self.raise_mark_of_former(&former, &held);
            }
        }
        self.raise_endpoint_mark(&held);
        let Some(node) = self.nodes.get_mut(&claim.node) else { return };
        if let Some(before) = node.endpoints.remove(&claim.endpoint) {
            self.claims.endpoints.remove(&before.record, &org);
        }
        self.claims.endpoints.add(claim, &org);
        node.endpoints.insert(claim.endpoint, held);
    }

    /// Other endpoints of the same node that have an address by an earlier record.
    fn earlier_holders(&self, claim: &Endpoint) -> Vec<Holder> {
        let hosts = claim.prefixes().filter(|(addr, len)| overlay::is_host(*addr, *len));
        let rivals = hosts.flat_map(|(addr, len)| self.claims.endpoints.address_rivals(claim, addr, len));
        rivals.filter(|rival| self.order_within_node(claim, rival) == Some(Ordering::Greater)).collect()
    }

    /// What an endpoint said before another one of its node took its address must not come back as new.
    fn raise_mark_of_former(&mut self, former: &Holder, held: &Held<Endpoint>) {
        let marks = self.marks.nodes.get_mut(&former.node);
        let mark = marks.and_then(|marks| marks.endpoints.get_mut(&former.endpoint));
        if let Some(mark) = mark.filter(|mark| mark.mark.count < held.record.seq) {
            mark.mark = Mark { root_version: 0, count: held.record.seq, id: held.id };
        }
    }

    fn raise_endpoint_mark(&mut self, held: &Held<Endpoint>) {
        let claim = &held.record;
        let Some(cert) = self.nodes.get(&claim.node).map(|node| &node.cert.record) else { return };
        let Some(marks) = self.marks.nodes.get(&claim.node) else { return };
        let before = marks.endpoints.get(&claim.endpoint).map(|mark| mark.over_at);
        let oldest = match before {
            None if !self.has_mark_room(claim, cert) => self.oldest_mark(claim),
            Some(_) | None => None,
        };
        let mark = EndpointMark {
            mark: Mark { root_version: 0, count: claim.seq, id: held.id },
            // An older record may end later, and must not come back either.
            over_at: before.map_or(over_at(claim), |before| before.max(over_at(claim))),
        };
        if let Some(marks) = self.marks.nodes.get_mut(&claim.node) {
            if let Some(oldest) = oldest {
                marks.endpoints.remove(&oldest);
            }
            marks.endpoints.insert(claim.endpoint, mark);
        }
    }
}

fn check_shape(claim: &Endpoint) -> Result<(), Refusal> {
    let parts: Option<Vec<(IpAddr, u8)>> = claim.addresses.iter().map(Prefix::parts).collect();
    let is_block = match parts.as_deref() {
        Some(
            [(IpAddr::V4(_), 32)] | [(IpAddr::V6(_), 128)] | [(IpAddr::V4(_), 32), (IpAddr::V6(_), 128)],
        ) => false,
        Some([(IpAddr::V4(_), len)]) if BLOCK_LEN4.contains(len) => true,
        Some([(IpAddr::V6(_), len)]) if BLOCK_LEN6.contains(len) => true,
        Some(_) | None => return Err(Refusal::Invalid("neither one address of a family nor a block")),
    };
    if is_block && (claim.name.is_some() || claim.image.is_some() || !claim.labels.is_empty()) {
        return Err(Refusal::Invalid("a block with a name, a label or an image"));
    }
    if claim.name.as_deref().is_some_and(|name| !name::is_endpoint_name(name)) {
        return Err(Refusal::Invalid("an endpoint's name"));
    }
    let labels = &claim.labels;
    let are_labels =
        labels.iter().all(|label| name::is_label_part(&label.key) && name::is_label_part(&label.value));
    if labels.len() > ENDPOINT_LABELS_MAX || !labels.is_sorted_by(|a, b| a.key < b.key) || !are_labels {
        return Err(Refusal::Invalid("labels: too many, unsorted, repeated or misspelt"));
    }
    Ok(())
}
