//! Introductions: a member shows its records to a host that does not know it yet.

use meshd_wire::enrol::{EnrolReply, Refused};
use meshd_wire::record::{NodeCert, NodeKeys};
use meshd_wire::{Envelope, Kind, PublicKey, Timestamp};
use minicbor::bytes::ByteVec;

use super::{Answer, Declined, Steward};

/// Records of one introduction: the chain of a mesh of sixty-four organisations, a certificate and keys.
const RECORDS_MAX: usize = 512;

impl Steward {
    /// Passes on what proves the member at the other end of the connection; of strangers, nothing.
    pub(super) fn meet(
        &mut self,
        peer: &PublicKey,
        records: &[ByteVec],
        now: Timestamp,
    ) -> Result<Answer, Declined> {
        if records.len() > RECORDS_MAX {
            return Err(Refused::Malformed.into());
        }
        let certifies_peer =
            |envelope: &Envelope| envelope.record::<NodeCert>().ok().filter(|cert| cert.transport == *peer);
        let (mut chain, mut own, mut keys) = (Vec::new(), None, Vec::new());
        for bytes in records {
            let Ok(envelope) = Envelope::from_bytes(bytes) else { continue };
            match envelope.kind() {
                Some(Kind::NodeCert) if certifies_peer(&envelope).is_some() => own = Some(bytes.to_vec()),
                Some(Kind::NodeKeys) => {
                    keys.extend(envelope.record::<NodeKeys>().map(|one| (one.node, bytes)))
                }
                Some(kind) if kind.belongs_to_chain() => chain.push(bytes.to_vec()),
                Some(_) | None => {}
            }
        }
        // Looked for first, so that most strangers cost no signature.
        let own = own.ok_or(Refused::NotMember)?;
        self.merge(&chain, now)?;
        let roster = self.roster.as_ref().ok_or(Refused::Unavailable)?;
        let cert = roster.judge_cert(&own, now).map_err(|_| Refused::NotMember)?;
        let held = roster.chain();
        let mut publish: Vec<Vec<u8>> = chain.into_iter().filter(|record| held.contains(record)).collect();
        publish.push(own);
        publish.extend(keys.iter().find(|(node, _)| *node == cert.node).map(|(_, bytes)| bytes.to_vec()));
        Ok(Answer::publishing(EnrolReply::Done, publish))
    }
}
