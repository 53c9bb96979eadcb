//! Records that the steward signs about its organisation.

use std::collections::BTreeSet;

use meshd_wire::enrol::Refused;
use meshd_wire::record::{OrgState, Revocations, VERSION, Versioned};
use meshd_wire::{Envelope, NodeId, Record, RecordId, Timestamp};

use super::book::Page;
use super::decide;
use super::entry::{Signed, Station};
use super::{Declined, Steward};

/// Nodes that one record of revocations names: 34 bytes each, and a record has 64 KiB at most. One that is
/// larger would be refused by everybody, and so stop the whole organisation.
pub(super) const REVOKED_MAX: usize = 1_900;

impl Steward {
    pub(super) fn sign<R: Record>(&self, station: &Station, record: &R) -> Envelope {
        meshd_trust::sign(record, &station.mesh, &[&self.seeds.record()])
    }

    /// Signs the newest state and writes it down before anyone sees it.
    pub(super) fn sign_state(&self, page: &Page, now: Timestamp) -> Result<Vec<u8>, Declined> {
        let station = self.station.as_ref().ok_or(Refused::Unavailable)?;
        let seq = decide::next_count(page.state()?.map_or(0, |state| state.count), now);
        let revocations = page.revocations()?.map(|signed| Versioned { n: signed.count, id: signed.id });
        let state = OrgState {
            version: VERSION,
            org: station.org,
            root_version: station.root_version,
            seq,
            issued_at: now,
            agreement_version: station.agreement_version,
            policy: None,
            revocations,
            checkpoint: self.log_head().map(|head| Versioned { n: head.size, id: RecordId(head.root.0) }),
        };
        let signed = self.signed(station, &state, seq, now)?;
        page.put_state(&signed)?;
        Ok(signed.envelope)
    }

    /// Nodes that the newest revocations of the mesh name. A book from a backup may have forgotten some.
    pub(super) fn nodes_taken_back(&self, station: &Station) -> &[NodeId] {
        let org = self.roster.as_ref().and_then(|roster| roster.org(&station.org));
        org.and_then(|org| org.revocations()).map_or(&[], |revocations| &revocations.nodes)
    }

    /// Whether the mesh counts a node as taken back, whatever the book says.
    pub(super) fn is_taken_back(&self, station: &Station, node: &NodeId) -> bool {
        self.nodes_taken_back(station).binary_search(node).is_ok()
    }

    /// Signs the set of everything taken back that has not expired anyway.
    pub(super) fn sign_revocations(
        &self,
        page: &Page,
        station: &Station,
        now: Timestamp,
    ) -> Result<Vec<u8>, Declined> {
        let n = decide::next_count(page.revocations()?.map_or(0, |signed| signed.count), now);
        let (mut nodes, mut over) = (BTreeSet::new(), BTreeSet::new());
        for node in page.nodes()?.into_iter().filter(|node| node.revoked_at.is_some()) {
            // Expiry is judged with some skew, so what expired lately stays in the set.
            let counts = node.cert.not_after.plus(decide::DAY_S) >= now;
            if counts { &mut nodes } else { &mut over }.insert(node.cert.node);
        }
        if nodes.len() > REVOKED_MAX {
            tracing::error!(len = nodes.len(), "more nodes are taken back than one record can name");
            return Err(Refused::Unavailable.into());
        }
        // The book knows nothing of these, so it can't tell when they are over; they go when room is needed.
        let room = REVOKED_MAX - nodes.len();
        let is_lost = |node: &&NodeId| !nodes.contains(*node) && !over.contains(*node);
        let lost: Vec<NodeId> =
            self.nodes_taken_back(station).iter().filter(is_lost).take(room).copied().collect();
        nodes.extend(lost);
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let revocations = Revocations {
            version: VERSION,
            org: station.org,
            root_version: station.root_version,
            n,
            issued_at: now,
            nodes,
            certs: Vec::new(),
            severed: Vec::new(),
        };
        let signed = self.signed(station, &revocations, n, now)?;
        page.put_revocations(&signed)?;
        Ok(signed.envelope)
    }

    fn signed<R: Record>(
        &self,
        station: &Station,
        record: &R,
        count: u64,
        at: Timestamp,
    ) -> Result<Signed, Declined> {
        let envelope = self.sign(station, record);
        let id = envelope.record_id(&station.mesh).ok_or(Refused::Unavailable)?;
        Ok(Signed { count, id, at, envelope: envelope.to_bytes() })
    }
}
