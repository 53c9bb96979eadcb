//! Records that the steward signs about its organisation.

use meshd_wire::enrol::Refused;
use meshd_wire::record::{OrgState, Revocations, VERSION, Versioned};
use meshd_wire::{Envelope, NodeId, Record, Timestamp};

use super::book::Page;
use super::decide;
use super::entry::{Signed, Station};
use super::{Declined, Steward};

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
            checkpoint: None,
        };
        let signed = self.signed(station, &state, seq, now)?;
        page.put_state(&signed)?;
        Ok(signed.envelope)
    }

    /// Signs the set of everything taken back that has not expired anyway.
    pub(super) fn sign_revocations(
        &self,
        page: &Page,
        station: &Station,
        now: Timestamp,
    ) -> Result<Vec<u8>, Declined> {
        let n = decide::next_count(page.revocations()?.map_or(0, |signed| signed.count), now);
        let mut nodes: Vec<NodeId> = page
            .nodes()?
            .into_iter()
            // Expiry is judged with some skew, so what expired lately stays in the set.
            .filter(|node| node.revoked_at.is_some() && node.cert.not_after.plus(decide::DAY_S) >= now)
            .map(|node| node.cert.node)
            .collect();
        nodes.sort();
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
