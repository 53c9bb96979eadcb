//! Paths: a node says where it can be reached.

use std::net::{IpAddr, SocketAddr};

use meshd_wire::record::{NodeCert, NodePaths};

use super::{Accepted, Change, Incoming};
use crate::address::mesh_prefix6;
use crate::roster::held::{Held, Verified};
use crate::roster::high_water::Mark;
use crate::roster::limits::{CANDIDATES_MAX, RELAYS_MAX};
use crate::roster::refusal::Refusal;
use crate::roster::standing::revokes_cert;
use crate::roster::timing::Timing;
use crate::roster::{Roster, overlay, signers};

impl Roster {
    pub(super) fn accept_paths(&mut self, incoming: Incoming<'_, NodePaths>) -> Result<Accepted, Refusal> {
        let node = incoming.record.node;
        match self.verify_paths(incoming)? {
            Verified::Known => Ok(Accepted::Known),
            Verified::New(held) => {
                self.store_paths(held);
                Ok(Accepted::New(Change::Paths(node)))
            }
        }
    }

    fn verify_paths(&self, incoming: Incoming<'_, NodePaths>) -> Result<Verified<NodePaths>, Refusal> {
        let paths = &incoming.record;
        let node = self.nodes.get(&paths.node).ok_or(Refusal::MissingParent("certificate"))?;
        if node.paths.as_ref().is_some_and(|held| held.bytes == incoming.bytes) {
            return Ok(Verified::Known);
        }
        let cert = &node.cert.record;
        let signer =
            signers::verify_one(incoming.envelope, &self.mesh, |id| signers::find(&[cert.identity], id))?;
        self.check_may_publish(cert, incoming.timing)?;
        if paths.candidates.len() > CANDIDATES_MAX || paths.relays.len() > RELAYS_MAX {
            return Err(Refusal::Invalid("too many candidates or relays"));
        }
        let is_candidate = |at: Option<SocketAddr>| at.is_some_and(|at| self.is_underlay(at));
        if !paths.candidates.iter().all(|candidate| is_candidate(candidate.socket_addr())) {
            return Err(Refusal::Invalid("a candidate that no peer can reach"));
        }
        if paths.control_port == Some(0) {
            return Err(Refusal::Invalid("a control port of zero"));
        }
        let mark = self.marks.nodes.get(&paths.node).and_then(|marks| marks.paths.as_ref());
        Mark::admit(mark, 0, paths.seq, incoming.id)?;
        if node.paths.as_ref().is_some_and(|held| held.id == incoming.id) {
            return Ok(Verified::Known);
        }
        incoming.timing.check_begun(paths.issued_at)?;
        Ok(Verified::New(incoming.into_held(signer)))
    }

    fn store_paths(&mut self, held: Held<NodePaths>) {
        let paths = &held.record;
        if let Some(marks) = self.marks.nodes.get_mut(&paths.node) {
            marks.paths = Some(Mark { root_version: 0, count: paths.seq, id: held.id });
        }
        if let Some(node) = self.nodes.get_mut(&paths.node) {
            node.paths = Some(held);
        }
    }

    /// A node that is revoked, or whose certificate is over, has no say.
    pub(super) fn check_may_publish(&self, cert: &NodeCert, timing: Timing) -> Result<(), Refusal> {
        let revocations = self.orgs.get(&cert.org).and_then(|org| org.revocations.as_ref());
        let is_revoked = revocations
            .is_some_and(|held| revokes_cert(&held.record, &cert.node, cert.root_version, cert.serial));
        if is_revoked && !timing.is_restore() {
            return Err(Refusal::Revoked);
        }
        timing.check_not_over(cert.not_after)
    }

    /// Whether an address can be someone else's underlay: never this host itself, never many hosts,
    /// never inside the mesh, where a tunnel would carry itself.
    fn is_underlay(&self, at: SocketAddr) -> bool {
        let ip = at.ip();
        let (mesh6, mesh6_len) = mesh_prefix6(&self.mesh);
        let is_in_mesh4 = self.agreement().is_some_and(|agreement| {
            let prefixes = agreement.members.iter().filter_map(|member| member.prefix4.parts());
            prefixes.into_iter().any(|(prefix, len)| overlay::is_inside(prefix, len, ip))
        });
        let is_odd = match ip {
            IpAddr::V4(v4) => v4.is_broadcast(),
            IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
        };
        at.port() != 0
            && !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_odd || is_in_mesh4)
            && !overlay::is_inside(mesh6.into(), mesh6_len, ip)
    }
}
