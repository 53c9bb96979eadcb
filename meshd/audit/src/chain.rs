//! Who might ever sign in a mesh, proven from the mesh id.

use std::collections::BTreeSet;

use meshd_trust::log::{CheckpointKeys, Finding, LogOrigin};
use meshd_trust::{Accepted, Floor, Refusal, Roster};
use meshd_wire::record::{MeshGenesis, OrgRoot, OrgState, Revocations, Roles, StewardDelegation};
use meshd_wire::{Envelope, KeyId, Kind, MeshId, OrgId, PublicKey};

use crate::frames::{FrameError, read_frames};

/// Genesis, roots and delegations, all verified, whatever is over by now.
#[derive(Debug)]
pub struct Chain {
    mesh: MeshId,
    roster: Roster,
    envelopes: Vec<Vec<u8>>,
    findings: Vec<Finding>,
}

/// Says why bytes prove no mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Not even a row of records.
    #[error("the chain can't be read")]
    Frames(#[from] FrameError),
    /// No genesis, or more than one.
    #[error("the chain has {0} records of a genesis, not one")]
    Genesis(usize),
    /// The genesis of another mesh.
    #[error("it is of the mesh {found}, not of {wanted}")]
    OtherMesh {
        /// Mesh of the genesis.
        found: MeshId,
        /// Mesh that was asked for.
        wanted: MeshId,
    },
}

impl Chain {
    /// Verifies the records of a chain, which may stand in any order.
    pub fn read(bytes: &[u8], wanted: Option<MeshId>) -> Result<Self, ChainError> {
        let envelopes: Vec<Vec<u8>> = read_frames(bytes)?.into_iter().map(<[u8]>::to_vec).collect();
        let geneses: Vec<MeshId> = envelopes.iter().filter_map(|bytes| mesh_of(bytes)).collect();
        let [found] = geneses[..] else { return Err(ChainError::Genesis(geneses.len())) };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            return Err(ChainError::OtherMesh { found, wanted });
        }
        let roster = Roster::new(found, Floor::none());
        let mut chain = Self { mesh: found, roster, envelopes, findings: Vec::new() };
        chain.verify();
        Ok(chain)
    }

    /// Takes a delegation that lies beside a leaf. One that is not what it says is judged with its leaf.
    pub fn take_delegation(&mut self, envelope: &[u8]) {
        if matches!(self.roster.accept_past(envelope), Ok(Accepted::New(_))) {
            self.envelopes.push(envelope.to_vec());
        }
    }

    /// Whether it has a record, whoever signed it.
    pub fn has(&self, envelope: &[u8]) -> bool {
        let id = |bytes: &[u8]| Envelope::from_bytes(bytes).ok()?.record_id(&self.mesh);
        let wanted = id(envelope);
        self.envelopes.iter().any(|bytes| bytes == envelope || wanted.is_some() && id(bytes) == wanted)
    }

    /// The mesh.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The genesis, if all founders are proven to have signed it.
    pub fn genesis(&self) -> Option<&MeshGenesis> {
        self.roster.genesis()
    }

    /// Organisations of the mesh with their names.
    pub fn orgs(&self) -> impl Iterator<Item = (OrgId, &str)> {
        self.roster.orgs().map(|org| (org.id(), org.name()))
    }

    /// Name of an organisation.
    pub fn org_name(&self, org: &OrgId) -> &str {
        self.roster.org(org).map_or("", |org| org.name())
    }

    /// What is wrong with the chain itself.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Keys that may have signed checkpoints of an organisation's log, and keys of its witnesses.
    pub fn checkpoint_keys(&self, org: &OrgId) -> CheckpointKeys {
        let own = self.delegations(org).filter(|steward| steward.roles.contains(Roles::LOG));
        let log: BTreeSet<PublicKey> = own.map(|steward| steward.log_key).collect();
        let others = self.orgs().map(|(id, _)| id).filter(|id| id != org).collect::<Vec<_>>();
        let witnesses: BTreeSet<(OrgId, PublicKey)> = others
            .iter()
            .flat_map(|id| self.delegations(id).map(|steward| (*id, steward.witness_key)))
            .collect();
        CheckpointKeys { log: log.into_iter().collect(), witnesses: witnesses.into_iter().collect() }
    }

    /// Name of an organisation's log.
    pub fn origin(&self, org: &OrgId) -> LogOrigin {
        LogOrigin { mesh: self.mesh, org: *org }
    }

    /// Record key of a steward that ever had a role.
    pub fn steward_key(&self, org: &OrgId, signer: &KeyId, role: Roles) -> Option<PublicKey> {
        let mut stewards = self.delegations(org).filter(|steward| steward.roles.contains(role));
        stewards.find(|steward| steward.record_key.key_id() == *signer).map(|steward| steward.record_key)
    }

    /// All keys that ever might sign for an organisation: those of roots, and record keys of stewards.
    pub fn signers(&self) -> impl Iterator<Item = &PublicKey> {
        self.roster.orgs().flat_map(|org| {
            let roots = org.roots_ever().flat_map(|root| &root.keys);
            roots.chain(org.delegations_ever().map(|steward| &steward.record_key))
        })
    }

    /// All roots of an organisation.
    pub fn roots(&self, org: &OrgId) -> impl Iterator<Item = &OrgRoot> {
        self.roster.org(org).into_iter().flat_map(|org| org.roots_ever())
    }

    /// All that was given, and the delegations taken since, in the one order of a bundle.
    pub fn in_order(&self) -> Vec<Vec<u8>> {
        let mut envelopes = self.envelopes.clone();
        envelopes.sort_by_cached_key(|bytes| place(bytes));
        envelopes.dedup();
        envelopes
    }

    /// Whether it was given in that order.
    pub fn is_in_order(&self) -> bool {
        self.envelopes == self.in_order()
    }

    fn delegations(&self, org: &OrgId) -> impl Iterator<Item = &StewardDelegation> {
        self.roster.org(org).into_iter().flat_map(|org| org.delegations_ever())
    }

    /// Roots before the genesis, since they prove it; then in the order of a bundle.
    fn verify(&mut self) {
        let mut order: Vec<(usize, &Vec<u8>)> = self.envelopes.iter().enumerate().collect();
        order.sort_by_cached_key(|(_, bytes)| place(bytes));
        let genesis = order.iter().filter(|(_, bytes)| mesh_of(bytes).is_some());
        // The first time it tells whose roots to expect, the second time it is proven.
        for (_, bytes) in genesis {
            let _expected = self.roster.accept_past(bytes);
        }
        order.sort_by_key(|(_, bytes)| rank(bytes));
        for (index, bytes) in order {
            let Some(kind) = authority(bytes) else {
                self.findings.push(odd(index, "a record that proves no authority", true));
                continue;
            };
            match self.roster.accept_past(bytes) {
                Ok(Accepted::New(_) | Accepted::Known) => {}
                Ok(Accepted::Opaque) => {
                    self.findings.push(odd(index, &format!("{} of a newer release", kind.name()), false));
                }
                Err(refusal) => {
                    let is_there = !matches!(refusal, Refusal::MissingParent(_));
                    self.findings.push(odd(index, &format!("{}: {refusal}", kind.name()), is_there));
                }
            }
        }
    }
}

fn odd(index: usize, what: &str, is_there: bool) -> Finding {
    Finding::Authority { what: format!("record {index} of the chain, {what}"), is_there }
}

/// Kind of a record that may stand in a chain.
fn authority(bytes: &[u8]) -> Option<Kind> {
    let kind = Envelope::from_bytes(bytes).ok()?.kind()?;
    match kind {
        Kind::OrgRoot | Kind::StewardDelegation | Kind::MeshGenesis | Kind::Revocations | Kind::OrgState => {
            Some(kind)
        }
        Kind::Agreement
        | Kind::Leave
        | Kind::NodeCert
        | Kind::NodeKeys
        | Kind::NodePaths
        | Kind::Endpoint
        | Kind::OrgPolicy
        | Kind::Receipt
        | Kind::Recovery
        | Kind::JoinRequest
        | Kind::NodeLeave
        | Kind::NodeExternals => None,
    }
}

/// Mesh that a genesis founds.
fn mesh_of(bytes: &[u8]) -> Option<MeshId> {
    let envelope = Envelope::from_bytes(bytes).ok()?;
    envelope.record::<MeshGenesis>().ok()?;
    envelope.record_id(&MeshId([0; 32])).map(|id| MeshId(id.0))
}

/// What has to be verified first.
fn rank(bytes: &[u8]) -> u8 {
    match authority(bytes) {
        Some(Kind::OrgRoot) => 0,
        Some(Kind::MeshGenesis) => 1,
        Some(_) | None => 2,
    }
}

/// Place of a record in the chain of a bundle.
fn place(bytes: &[u8]) -> (u8, [u8; 32], u64, u64, Vec<u8>) {
    let nowhere = || (9, [0; 32], 0, 0, bytes.to_vec());
    let Ok(envelope) = Envelope::from_bytes(bytes) else { return nowhere() };
    let Some(id) = envelope.record_id(&MeshId([0; 32])) else { return nowhere() };
    let parts = match envelope.kind() {
        Some(Kind::MeshGenesis) => Some((0, [0; 32], 0, 0)),
        Some(Kind::OrgRoot) => {
            envelope.record::<OrgRoot>().ok().map(|root| (1, [0; 32], u64::from(root.root_version), 0))
        }
        Some(Kind::StewardDelegation) => envelope
            .record::<StewardDelegation>()
            .ok()
            .map(|steward| (2, steward.org.0, u64::from(steward.root_version), u64::from(steward.serial))),
        Some(Kind::Revocations) => {
            envelope.record::<Revocations>().ok().map(|revocations| (3, revocations.org.0, 0, 0))
        }
        Some(Kind::OrgState) => envelope.record::<OrgState>().ok().map(|state| (4, state.org.0, 0, 0)),
        Some(_) | None => None,
    };
    parts.map_or_else(nowhere, |(kind, org, version, serial)| (kind, org, version, serial, id.0.to_vec()))
}
