//! Whether the record beside a leaf is what the leaf says, signed by who the leaf says.

use std::collections::BTreeMap;

use meshd_trust::log::{Beside, RecordFault};
use meshd_trust::verify_signature;
use meshd_wire::record::{
    MeshGenesis, NodeCert, NodeKeys, NodeLeave, OrgRoot, OrgState, Revocations, Roles, StewardDelegation,
};
use meshd_wire::{Envelope, KeyId, Kind, Leaf, LeafKind, MeshId, NodeId, OrgId, PublicKey};

use crate::chain::Chain;

/// What is known of the nodes of a log at a leaf.
#[derive(Debug)]
pub(crate) struct Judge<'c> {
    chain: &'c Chain,
    org: OrgId,
    certified: BTreeMap<NodeId, Certified>,
}

/// What the certificates of a node have said so far.
#[derive(Debug, Default)]
struct Certified {
    identities: Vec<PublicKey>,
    /// Numbers of its certificates: root version and serial.
    serials: Vec<(u32, u64)>,
}

/// A record that is what its leaf says.
#[derive(Debug)]
pub(crate) enum Judged {
    /// None, or one that says nothing about keys.
    Nothing,
    Cert(NodeCert),
    Keys(NodeKeys),
}

impl Judged {
    pub(crate) fn beside(&self) -> Beside<'_> {
        match self {
            Self::Nothing => Beside::Nothing,
            Self::Cert(cert) => Beside::Cert(cert),
            Self::Keys(keys) => Beside::Keys(keys),
        }
    }
}

impl<'c> Judge<'c> {
    pub(crate) fn new(chain: &'c Chain, org: OrgId) -> Self {
        Self { chain, org, certified: BTreeMap::new() }
    }

    /// Judges the envelope beside a leaf; an empty one is none.
    pub(crate) fn judge(&mut self, leaf: &Leaf, envelope: &[u8]) -> Result<Judged, RecordFault> {
        let kind = leaf.known_kind();
        let Some(id) = leaf.record else {
            return match (envelope.is_empty(), kind.is_some_and(names_record)) {
                (false, _) => Err(RecordFault::Unnamed),
                (true, true) => Err(RecordFault::Absent),
                (true, false) => Ok(Judged::Nothing),
            };
        };
        if envelope.is_empty() {
            return Err(RecordFault::Absent);
        }
        let envelope = Envelope::from_bytes(envelope).map_err(|_| RecordFault::Unreadable)?;
        let found = envelope.record_id(&self.chain.mesh()).ok_or(RecordFault::Unreadable)?;
        if found != id {
            return Err(RecordFault::OtherId);
        }
        match kind {
            Some(LeafKind::Enrol | LeafKind::Renew) => self.cert(leaf, &envelope).map(Judged::Cert),
            // The log itself came back from a backup.
            Some(LeafKind::StateRollback) if leaf.epoch.is_none() => {
                self.state(leaf, &envelope).map(|()| Judged::Nothing)
            }
            Some(
                kind @ (LeafKind::RotateAnnounce
                | LeafKind::RotateActivate
                | LeafKind::KeyDestroy
                | LeafKind::KeyCompromised
                | LeafKind::StateRollback),
            ) => self.keys(kind, leaf, &envelope).map(Judged::Keys),
            Some(LeafKind::Revoke) => self.revoke(leaf, &envelope).map(|()| Judged::Nothing),
            Some(LeafKind::AgreementJoin) => self.genesis(leaf, &envelope).map(|()| Judged::Nothing),
            Some(LeafKind::StewardDelegate) => self.delegation(leaf, &envelope).map(|()| Judged::Nothing),
            // Of these this release knows no record that would have to say something.
            Some(
                LeafKind::RevokeEffect
                | LeafKind::Sever
                | LeafKind::Policy
                | LeafKind::AgreementLeave
                | LeafKind::StewardRetire
                | LeafKind::RootRotate
                | LeafKind::TokenIssue
                | LeafKind::TokenUse
                | LeafKind::ClockReset
                | LeafKind::BreakGlass
                | LeafKind::ConfigPqDowngrade,
            )
            | None => Ok(Judged::Nothing),
        }
    }

    fn cert(&mut self, leaf: &Leaf, envelope: &Envelope) -> Result<NodeCert, RecordFault> {
        let cert: NodeCert = envelope.record().map_err(|_| RecordFault::OtherContent)?;
        if cert.node.0 != leaf.subject.0 || cert.org != self.org {
            return Err(RecordFault::OtherContent);
        }
        let steward = self.chain.steward_key(&self.org, &leaf.actor, Roles::ENROL);
        self.signed_by_one(envelope, leaf, steward)?;
        let known = self.certified.entry(cert.node).or_default();
        // A node is named by its first identity; later ones are the word of its steward.
        if known.identities.is_empty() && NodeId::from(cert.identity.key_id()) != cert.node {
            return Err(RecordFault::OtherContent);
        }
        if !known.identities.contains(&cert.identity) {
            known.identities.push(cert.identity);
        }
        known.serials.push((cert.root_version, cert.serial));
        Ok(cert)
    }

    fn keys(&self, kind: LeafKind, leaf: &Leaf, envelope: &Envelope) -> Result<NodeKeys, RecordFault> {
        let keys: NodeKeys = envelope.record().map_err(|_| RecordFault::OtherContent)?;
        let says = match (kind, leaf.epoch) {
            (_, None) => false,
            (LeafKind::RotateAnnounce, epoch) => keys.next.map(|next| next.epoch) == epoch,
            (LeafKind::RotateActivate, Some(epoch)) => keys.cur.epoch == epoch,
            (LeafKind::KeyDestroy, Some(epoch)) => keys.all().all(|key| key.epoch != epoch),
            (_, Some(_)) => true,
        };
        if keys.node.0 != leaf.subject.0 || !says {
            return Err(RecordFault::OtherContent);
        }
        self.signed_by_one(envelope, leaf, self.identity(&keys.node, &leaf.actor))?;
        Ok(keys)
    }

    fn state(&self, leaf: &Leaf, envelope: &Envelope) -> Result<(), RecordFault> {
        let state: OrgState = envelope.record().map_err(|_| RecordFault::OtherContent)?;
        if state.org != self.org || leaf.subject.0 != self.org.0 {
            return Err(RecordFault::OtherContent);
        }
        let steward = self.chain.steward_key(&self.org, &leaf.actor, Roles::HEAD);
        self.signed_by_one(envelope, leaf, steward)
    }

    fn revoke(&self, leaf: &Leaf, envelope: &Envelope) -> Result<(), RecordFault> {
        let node = NodeId(leaf.subject.0);
        if envelope.kind() == Some(Kind::NodeLeave) {
            let farewell: NodeLeave = envelope.record().map_err(|_| RecordFault::OtherContent)?;
            if farewell.node != node {
                return Err(RecordFault::OtherContent);
            }
            return self.signed_by_one(envelope, leaf, self.identity(&node, &leaf.actor));
        }
        let revocations: Revocations = envelope.record().map_err(|_| RecordFault::OtherContent)?;
        let is_taken_back = |(version, serial): &(u32, u64)| {
            *version <= revocations.root_version && revocations.certs.contains(serial)
        };
        let names = revocations.nodes.contains(&node)
            || self.certified.get(&node).is_some_and(|known| known.serials.iter().any(is_taken_back));
        if revocations.org != self.org || !names {
            return Err(RecordFault::OtherContent);
        }
        match self.chain.steward_key(&self.org, &leaf.actor, Roles::REVOKE) {
            Some(key) => self.signed_by_one(envelope, leaf, Some(key)),
            None => self.signed_by_root(envelope, leaf, revocations.root_version),
        }
    }

    fn genesis(&self, leaf: &Leaf, envelope: &Envelope) -> Result<(), RecordFault> {
        let genesis: MeshGenesis = envelope.record().map_err(|_| RecordFault::OtherContent)?;
        let is_member = genesis.agreement.members.iter().any(|member| member.org == self.org);
        let is_ours = envelope.record_id(&MeshId([0; 32])).is_some_and(|id| id.0 == self.chain.mesh().0);
        if leaf.subject.0 != self.org.0 || !is_member || !is_ours {
            return Err(RecordFault::OtherContent);
        }
        let of_root = |id: &KeyId| {
            self.chain.roots(&self.org).flat_map(|root| &root.keys).any(|key| key.key_id() == *id)
        };
        if !of_root(&leaf.actor) {
            return Err(RecordFault::Signature);
        }
        let founders: Vec<PublicKey> = genesis
            .agreement
            .members
            .iter()
            .flat_map(|member| self.chain.roots(&member.org))
            .flat_map(|root| root.keys.iter().copied())
            .collect();
        self.signed_by_all(envelope, leaf, &founders)
    }

    fn delegation(&self, leaf: &Leaf, envelope: &Envelope) -> Result<(), RecordFault> {
        let delegation: StewardDelegation = envelope.record().map_err(|_| RecordFault::OtherContent)?;
        if delegation.org != self.org || leaf.subject.0 != self.org.0 {
            return Err(RecordFault::OtherContent);
        }
        self.signed_by_root(envelope, leaf, delegation.root_version)
    }

    /// An identity that a node has had.
    fn identity(&self, node: &NodeId, actor: &KeyId) -> Option<PublicKey> {
        let known = self.certified.get(node)?;
        known.identities.iter().find(|key| key.key_id() == *actor).copied()
    }

    /// One signature, by the actor of the leaf.
    fn signed_by_one(
        &self,
        envelope: &Envelope,
        leaf: &Leaf,
        key: Option<PublicKey>,
    ) -> Result<(), RecordFault> {
        let is_one = envelope.signatures().len() == 1 && key.is_some_and(|key| key.key_id() == leaf.actor);
        let is_valid = key.is_some_and(|key| verify_signature(envelope, &self.chain.mesh(), &key));
        if is_one && is_valid { Ok(()) } else { Err(RecordFault::Signature) }
    }

    /// Enough keys of a root, the actor among them.
    fn signed_by_root(&self, envelope: &Envelope, leaf: &Leaf, version: u32) -> Result<(), RecordFault> {
        let root: Option<&OrgRoot> = self.chain.roots(&self.org).find(|root| root.root_version == version);
        let root = root.ok_or(RecordFault::Signature)?;
        self.signed_by_all(envelope, leaf, &root.keys)?;
        let enough = envelope.signatures().len() >= usize::from(root.threshold);
        if enough { Ok(()) } else { Err(RecordFault::Signature) }
    }

    /// Every signature is of one of these keys and verifies, and the actor's is among them.
    fn signed_by_all(&self, envelope: &Envelope, leaf: &Leaf, keys: &[PublicKey]) -> Result<(), RecordFault> {
        let verifies = |signer: &KeyId| {
            let key = keys.iter().find(|key| key.key_id() == *signer);
            key.is_some_and(|key| verify_signature(envelope, &self.chain.mesh(), key))
        };
        let signatures = envelope.signatures();
        let is_signed = signatures.iter().any(|signature| signature.key == leaf.actor)
            && signatures.iter().all(|signature| verifies(&signature.key));
        if is_signed { Ok(()) } else { Err(RecordFault::Signature) }
    }
}

/// Whether a leaf of this kind names a record.
fn names_record(kind: LeafKind) -> bool {
    match kind {
        LeafKind::Enrol
        | LeafKind::Renew
        | LeafKind::RotateAnnounce
        | LeafKind::RotateActivate
        | LeafKind::KeyDestroy
        | LeafKind::KeyCompromised
        | LeafKind::StateRollback
        | LeafKind::Revoke
        | LeafKind::AgreementJoin
        | LeafKind::StewardDelegate => true,
        LeafKind::RevokeEffect
        | LeafKind::Sever
        | LeafKind::Policy
        | LeafKind::AgreementLeave
        | LeafKind::StewardRetire
        | LeafKind::RootRotate
        | LeafKind::TokenIssue
        | LeafKind::TokenUse
        | LeafKind::ClockReset
        | LeafKind::BreakGlass
        | LeafKind::ConfigPqDowngrade => false,
    }
}
