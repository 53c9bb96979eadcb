//! How records enter a roster: decode, verify against `&self`, and only then store (rule R6).

mod delegation;
mod endpoint;
mod genesis;
mod node_cert;
mod node_keys;
mod node_paths;
mod org_root;
mod org_state;
mod revocations;

use meshd_wire::record::{
    Endpoint, MeshGenesis, NodeCert, NodeKeys, NodePaths, OrgRoot, OrgState, Revocations, StewardDelegation,
    VERSION,
};
use meshd_wire::{EndpointId, Envelope, KeyId, Kind, NodeId, OrgId, PeerBundle, Record, RecordId, Timestamp};
use sha2::{Digest, Sha256};

use super::Roster;
use super::held::{Held, Verified};
use super::limits::{OPAQUE_MAX, PASSES_MAX};
use super::refusal::Refusal;
use super::timing::Timing;

/// What became of a record that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It was verified and changed the roster.
    New(Change),
    /// It was verified before.
    Known,
    /// Its kind or version is not known to this release; it is never acted upon.
    Opaque,
}

/// What changed in a roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A root of an organisation.
    Root(OrgId),
    /// The mesh was proven.
    Genesis,
    /// A steward of an organisation.
    Delegation(OrgId),
    /// What an organisation has revoked.
    Revocations(OrgId),
    /// An organisation's word that it is alive.
    State(OrgId),
    /// A node's certificate.
    Cert(NodeId),
    /// A node's tunnel keys.
    Keys(NodeId),
    /// Where a node can be reached.
    Paths(NodeId),
    /// What a node claims for an endpoint.
    Endpoint(NodeId, EndpointId),
}

/// A decoded record on its way in.
pub(super) struct Incoming<'a, R> {
    pub(super) envelope: &'a Envelope,
    pub(super) bytes: &'a [u8],
    pub(super) record: R,
    pub(super) id: RecordId,
    pub(super) timing: Timing,
}

impl<R: Record> Incoming<'_, R> {
    pub(super) fn into_held(self, signer: KeyId) -> Held<R> {
        Held { record: self.record, id: self.id, signer, bytes: self.bytes.to_vec() }
    }
}

impl Roster {
    /// Verifies one envelope against everything accepted before, and stores it if it is new.
    pub fn accept(&mut self, envelope: &[u8], now: Timestamp) -> Result<Accepted, Refusal> {
        self.accept_at(envelope, Timing::Arrives(now))
    }

    /// Accepts envelopes in whatever order they came; returns those that were refused, by index.
    pub fn accept_all(&mut self, envelopes: &[Vec<u8>], now: Timestamp) -> Vec<(usize, Refusal)> {
        self.take_all(envelopes, Timing::Arrives(now))
    }

    pub(super) fn take_all(&mut self, envelopes: &[Vec<u8>], timing: Timing) -> Vec<(usize, Refusal)> {
        let mut refused = Vec::new();
        let mut waiting: Vec<(usize, &[u8])> =
            envelopes.iter().enumerate().map(|(index, bytes)| (index, bytes.as_slice())).collect();
        waiting.sort_by_cached_key(|(_, bytes)| rank(bytes));
        for (_, bytes) in waiting.iter().filter(|(_, bytes)| is_kind(bytes, Kind::MeshGenesis)) {
            self.pin(bytes);
        }
        for pass in 1..=PASSES_MAX {
            let mut changed = false;
            let mut later = Vec::new();
            for (index, bytes) in waiting {
                match self.accept_at(bytes, timing) {
                    Ok(Accepted::New(_)) => changed = true,
                    Ok(Accepted::Known | Accepted::Opaque) => {}
                    Err(refusal) if refusal.may_pass_later() => later.push((index, bytes, refusal)),
                    Err(refusal) => refused.push((index, refusal)),
                }
            }
            if !changed || later.is_empty() || pass == PASSES_MAX {
                refused.extend(later.into_iter().map(|(index, _, refusal)| (index, refusal)));
                break;
            }
            waiting = later.into_iter().map(|(index, bytes, _)| (index, bytes)).collect();
        }
        refused.sort_by_key(|(index, _)| *index);
        refused
    }

    /// Verifies a certificate against everything accepted before, and stores nothing.
    pub fn judge_cert(&self, envelope: &[u8], now: Timestamp) -> Result<NodeCert, Refusal> {
        let decoded = Envelope::from_bytes(envelope)?;
        let incoming = self.incoming::<NodeCert>(&decoded, envelope, Timing::Arrives(now))?;
        let cert = incoming.record.clone();
        self.verify_cert(incoming).map(|_| cert)
    }

    /// Verifies a claim against everything accepted before, and stores nothing: so a node learns who holds
    /// what it wants before it asks the registry.
    pub fn judge_endpoint(&self, envelope: &[u8], now: Timestamp) -> Result<(), Refusal> {
        let decoded = Envelope::from_bytes(envelope)?;
        let incoming = self.incoming::<Endpoint>(&decoded, envelope, Timing::Arrives(now))?;
        self.verify_endpoint(incoming).map(|_| ())
    }

    /// Accepts a node's certificate and keys, both or neither. Keys that are merely over do not stop
    /// the certificate: the node is known then, and has no tunnel until it publishes again.
    pub fn accept_bundle(&mut self, bytes: &[u8], now: Timestamp) -> Result<Vec<Change>, Refusal> {
        let timing = Timing::Arrives(now);
        let bundle = PeerBundle::from_bytes(bytes)?;
        let cert_envelope = Envelope::from_bytes(&bundle.cert)?;
        let keys_envelope = Envelope::from_bytes(&bundle.keys)?;
        let cert = self.incoming::<NodeCert>(&cert_envelope, &bundle.cert, timing)?;
        let keys = self.incoming::<NodeKeys>(&keys_envelope, &bundle.keys, timing)?;
        if cert.record.node != keys.record.node {
            return Err(Refusal::Invalid("a bundle of two nodes"));
        }
        let node = cert.record.node;
        let body = cert.record.clone();
        let cert = self.verify_cert(cert)?;
        let keys = match self.verify_keys(keys, &body) {
            Err(Refusal::Expired) if matches!(cert, Verified::New(_)) => Verified::Known,
            other => other?,
        };
        let mut changes = Vec::new();
        if let Verified::New(held) = cert {
            self.store_cert(held);
            changes.push(Change::Cert(node));
        }
        if let Verified::New(held) = keys {
            self.store_keys(held);
            changes.push(Change::Keys(node));
        }
        Ok(changes)
    }

    pub(super) fn accept_at(&mut self, bytes: &[u8], timing: Timing) -> Result<Accepted, Refusal> {
        let envelope = Envelope::from_bytes(bytes)?;
        let Some(kind) = envelope.kind() else { return Ok(self.keep_opaque(bytes)) };
        if payload_version(envelope.payload()).is_some_and(|version| version != VERSION) {
            return Ok(self.keep_opaque(bytes));
        }
        match kind {
            Kind::OrgRoot => self.accept_root(self.incoming::<OrgRoot>(&envelope, bytes, timing)?),
            Kind::StewardDelegation => {
                self.accept_delegation(self.incoming::<StewardDelegation>(&envelope, bytes, timing)?)
            }
            Kind::MeshGenesis => self.accept_genesis(self.incoming::<MeshGenesis>(&envelope, bytes, timing)?),
            Kind::NodeCert => self.accept_cert(self.incoming::<NodeCert>(&envelope, bytes, timing)?),
            Kind::NodeKeys => self.accept_keys(self.incoming::<NodeKeys>(&envelope, bytes, timing)?),
            Kind::NodePaths => self.accept_paths(self.incoming::<NodePaths>(&envelope, bytes, timing)?),
            Kind::Endpoint => self.accept_endpoint(self.incoming::<Endpoint>(&envelope, bytes, timing)?),
            Kind::Revocations => {
                self.accept_revocations(self.incoming::<Revocations>(&envelope, bytes, timing)?)
            }
            Kind::OrgState => self.accept_state(self.incoming::<OrgState>(&envelope, bytes, timing)?),
            Kind::Agreement | Kind::Leave | Kind::OrgPolicy | Kind::Receipt | Kind::Recovery => {
                Ok(self.keep_opaque(bytes))
            }
            Kind::JoinRequest | Kind::NodeLeave | Kind::NodeExternals => Err(Refusal::WrongKind(kind)),
        }
    }

    fn incoming<'a, R: Record>(
        &self,
        envelope: &'a Envelope,
        bytes: &'a [u8],
        timing: Timing,
    ) -> Result<Incoming<'a, R>, Refusal> {
        let record = envelope.record::<R>()?;
        let id = envelope.record_id(&self.mesh).ok_or(Refusal::WrongKind(R::KIND))?;
        Ok(Incoming { envelope, bytes, record, id, timing })
    }

    /// Keeps a few records that this release cannot read, to pass them on; nothing verifies them.
    fn keep_opaque(&mut self, bytes: &[u8]) -> Accepted {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        if self.opaque.len() < OPAQUE_MAX {
            self.opaque.entry(digest).or_insert_with(|| bytes.to_vec());
        }
        Accepted::Opaque
    }
}

/// Version of a payload, read without knowing the rest of it.
fn payload_version(payload: &[u8]) -> Option<u8> {
    let mut decoder = minicbor::Decoder::new(payload);
    decoder.array().ok()?;
    decoder.u8().ok()
}

pub(super) fn is_kind(bytes: &[u8], kind: Kind) -> bool {
    Envelope::from_bytes(bytes).is_ok_and(|envelope| envelope.kind() == Some(kind))
}

/// Sorts records by what they build on; roots and delegations oldest first.
fn rank(bytes: &[u8]) -> (u8, u32) {
    let Ok(envelope) = Envelope::from_bytes(bytes) else { return (u8::MAX, 0) };
    match envelope.kind() {
        Some(Kind::OrgRoot) => (0, envelope.record::<OrgRoot>().map_or(0, |root| root.root_version)),
        Some(Kind::MeshGenesis) => (1, 0),
        Some(Kind::StewardDelegation) => {
            (2, envelope.record::<StewardDelegation>().map_or(0, |steward| steward.root_version))
        }
        Some(Kind::Revocations) => (3, 0),
        Some(Kind::OrgState) => (4, 0),
        Some(Kind::NodeCert) => (5, 0),
        Some(Kind::NodeKeys) => (6, 0),
        Some(Kind::NodePaths) => (7, 0),
        // Addresses before blocks: one that was claimed before the block around it stays with its holder.
        Some(Kind::Endpoint) => {
            (8, envelope.record::<Endpoint>().map_or(0, |claim| u32::from(claim.is_block())))
        }
        Some(
            Kind::Agreement
            | Kind::Leave
            | Kind::OrgPolicy
            | Kind::Receipt
            | Kind::Recovery
            | Kind::JoinRequest
            | Kind::NodeLeave
            | Kind::NodeExternals,
        )
        | None => (9, 0),
    }
}
