//! The genesis: its content is pinned by the mesh id, its force comes from every founder's root.

use meshd_wire::name;
use meshd_wire::record::{AgreementBody, Member, MeshGenesis, Prefix};
use meshd_wire::{Envelope, MeshId, OrgId};

use super::{Accepted, Change, Incoming};
use crate::roster::held::Verified;
use crate::roster::limits::ORGS_MAX;
use crate::roster::refusal::Refusal;
use crate::roster::{Roster, overlay, signers};

impl Roster {
    pub(super) fn accept_genesis(
        &mut self,
        incoming: Incoming<'_, MeshGenesis>,
    ) -> Result<Accepted, Refusal> {
        self.pin(incoming.bytes);
        match self.verify_genesis(incoming)? {
            Verified::Known => Ok(Accepted::Known),
            Verified::New(held) => {
                self.genesis = Some(held);
                Ok(Accepted::New(Change::Genesis))
            }
        }
    }

    /// Remembers whose roots to expect. The content hashes to the mesh id, so it is authentic whoever
    /// signed the envelope; without it no root could be told from a stranger's.
    pub(in crate::roster) fn pin(&mut self, bytes: &[u8]) {
        let Ok(envelope) = Envelope::from_bytes(bytes) else { return };
        let Ok(genesis) = envelope.record::<MeshGenesis>() else { return };
        let is_ours = envelope.record_id(&self.mesh).is_some_and(|id| MeshId(id.0) == self.mesh);
        if is_ours && self.pinned.is_none() {
            self.pinned = Some(genesis);
        }
    }

    fn verify_genesis(&self, incoming: Incoming<'_, MeshGenesis>) -> Result<Verified<MeshGenesis>, Refusal> {
        if MeshId(incoming.id.0) != self.mesh {
            return Err(Refusal::OtherMesh);
        }
        let agreement = &incoming.record.agreement;
        check_shape(&incoming.record)?;
        self.check_floor(agreement)?;
        incoming.timing.check_begun(agreement.not_before)?;
        if self.genesis.as_ref().is_some_and(|held| held.bytes == incoming.bytes) {
            return Ok(Verified::Known);
        }
        let mut roots = Vec::new();
        for member in &agreement.members {
            let org = self.orgs.get(&member.org).ok_or(Refusal::MissingParent("root of a founder"))?;
            roots.push(&org.roots);
        }
        let signed_by = signers::verify(incoming.envelope, &self.mesh, |id| {
            let mut keys = roots.iter().flat_map(|chain| chain.iter()).flat_map(|held| &held.record.keys);
            keys.find(|key| key.key_id() == *id).copied().ok_or(Refusal::UnknownSigner)
        })?;
        for chain in roots {
            // Any one version may have signed: a founder may have renewed its root since.
            let mut refusal = Refusal::UnknownSigner;
            let is_signed = chain.iter().any(|held| {
                signers::check_threshold(&signed_by, &held.record.keys, held.record.threshold)
                    .map_err(|reason| refusal = reason)
                    .is_ok()
            });
            if !is_signed {
                return Err(refusal);
            }
        }
        if self.genesis.is_some() {
            return Ok(Verified::Known);
        }
        let signer = *signed_by.first().ok_or(Refusal::UnknownSigner)?;
        Ok(Verified::New(incoming.into_held(signer)))
    }

    fn check_floor(&self, agreement: &AgreementBody) -> Result<(), Refusal> {
        if agreement.agreement_version < self.floor.agreement_version_min {
            Err(Refusal::BelowFloor)
        } else {
            Ok(())
        }
    }
}

fn check_shape(genesis: &MeshGenesis) -> Result<(), Refusal> {
    let agreement = &genesis.agreement;
    let members = &agreement.members;
    if !name::is_shown_name(&genesis.name) {
        return Err(Refusal::Invalid("a mesh's name"));
    }
    if agreement.number != 0 || agreement.agreement_version != 1 {
        return Err(Refusal::Invalid("a genesis that is not the first version of agreement 0"));
    }
    if members.is_empty() || members.len() > ORGS_MAX || !members.is_sorted_by(|a, b| a.org < b.org) {
        return Err(Refusal::Invalid("members: none, too many, unsorted or repeated"));
    }
    if agreement.freshness_soft_s == 0
        || agreement.freshness_soft_s > agreement.freshness_hard_s
        || agreement.key_age_max_s == 0
        || agreement.not_before > agreement.not_after
    {
        return Err(Refusal::Invalid("limits that contradict each other"));
    }
    for (index, member) in members.iter().enumerate() {
        let others = members.iter().skip(index + 1);
        check_member(member, others)?;
    }
    Ok(())
}

fn check_member<'a>(member: &Member, mut others: impl Iterator<Item = &'a Member>) -> Result<(), Refusal> {
    if !overlay::is_org_prefix(&member.prefix4) {
        return Err(Refusal::Invalid("an organisation's prefix"));
    }
    let collides = |a: &Prefix, b: &Prefix| overlay::contains(a, b) || overlay::contains(b, a);
    if others.any(|other| other.subnet6 == member.subnet6 || collides(&other.prefix4, &member.prefix4)) {
        return Err(Refusal::Invalid("two organisations with the same addresses"));
    }
    Ok(())
}

impl Roster {
    /// The organisation's part in a genesis that all founders signed.
    pub(super) fn proven_member(&self, org: &OrgId) -> Result<&Member, Refusal> {
        let genesis = self.genesis.as_ref().ok_or(Refusal::MissingParent("genesis"))?;
        let members = &genesis.record.agreement.members;
        members.iter().find(|member| member.org == *org).ok_or(Refusal::UnknownOrg(*org))
    }

    /// Whether a record may say something about an agreement version.
    pub(super) fn check_agreement_floor(&self, org: &OrgId, version: u32) -> Result<(), Refusal> {
        if self.floor.org == Some(*org) && version < self.floor.agreement_version_min {
            Err(Refusal::BelowFloor)
        } else {
            Ok(())
        }
    }
}
