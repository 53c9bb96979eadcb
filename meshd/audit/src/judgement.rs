//! Whether the record beside a leaf is what the leaf says, signed by who the leaf says.

use std::collections::BTreeMap;

use meshd_trust::log::{self, RecordFault};
use meshd_wire::record::{
    MeshGenesis, NodeCert, NodeKeys, NodeLeave, OrgRoot, OrgState, Revocations, Roles, StewardDelegation,
};
use meshd_wire::{KeyId, Kind, Leaf, LeafKind, MeshId, NodeId, OrgId, PublicKey};

use crate::chain::Chain;
use crate::entry::{Beside, Content, Opened};

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
#[derive(Debug, Clone, Copy)]
pub(crate) enum Judged<'r> {
    /// None, or one that says nothing about keys.
    Nothing,
    Cert(&'r NodeCert),
    Keys(&'r NodeKeys),
}

impl<'r> Judged<'r> {
    pub(crate) fn beside(self) -> log::Beside<'r> {
        match self {
            Self::Nothing => log::Beside::Nothing,
            Self::Cert(cert) => log::Beside::Cert(cert),
            Self::Keys(keys) => log::Beside::Keys(keys),
        }
    }
}

impl<'c> Judge<'c> {
    pub(crate) fn new(chain: &'c Chain, org: OrgId) -> Self {
        Self { chain, org, certified: BTreeMap::new() }
    }

    /// Judges what stands beside a leaf, with its signatures verified by all keys that may be right.
    pub(crate) fn judge<'r>(&mut self, leaf: &Leaf, beside: &'r Beside) -> Result<Judged<'r>, RecordFault> {
        let kind = leaf.known_kind();
        let opened = match (leaf.record, beside) {
            (_, Beside::Unknown) => return Ok(Judged::Nothing),
            (None, Beside::Nothing) if !kind.is_some_and(names_record) => return Ok(Judged::Nothing),
            (_, Beside::Nothing) => return Err(RecordFault::Absent),
            (None, Beside::Unreadable | Beside::Opened(_)) => return Err(RecordFault::Unnamed),
            (Some(_), Beside::Unreadable) => return Err(RecordFault::Unreadable),
            (Some(id), Beside::Opened(opened)) if opened.id == Some(id) => opened,
            (Some(_), Beside::Opened(opened)) => {
                return Err(opened.id.map_or(RecordFault::Unreadable, |_| RecordFault::OtherId));
            }
        };
        match kind {
            Some(LeafKind::Enrol | LeafKind::Renew) => self.cert(leaf, opened).map(Judged::Cert),
            // The log itself came back from a backup.
            Some(LeafKind::StateRollback) if leaf.epoch.is_none() => {
                self.state(leaf, opened).map(|()| Judged::Nothing)
            }
            Some(
                kind @ (LeafKind::RotateAnnounce
                | LeafKind::RotateActivate
                | LeafKind::KeyDestroy
                | LeafKind::KeyCompromised
                | LeafKind::StateRollback),
            ) => self.keys(kind, leaf, opened).map(Judged::Keys),
            Some(LeafKind::Revoke) => self.revoke(leaf, opened).map(|()| Judged::Nothing),
            Some(LeafKind::AgreementJoin) => self.genesis(leaf, opened).map(|()| Judged::Nothing),
            Some(LeafKind::StewardDelegate) => self.delegation(leaf, opened).map(|()| Judged::Nothing),
            Some(LeafKind::RootRotate) => self.root(leaf, opened).map(|()| Judged::Nothing),
            // Of these this release knows no record that would have to say something.
            Some(
                LeafKind::RevokeEffect
                | LeafKind::Sever
                | LeafKind::Policy
                | LeafKind::AgreementLeave
                | LeafKind::StewardRetire
                | LeafKind::TokenIssue
                | LeafKind::TokenUse
                | LeafKind::ClockReset
                | LeafKind::BreakGlass
                | LeafKind::ConfigPqDowngrade,
            )
            | None => Ok(Judged::Nothing),
        }
    }

    fn cert<'r>(&mut self, leaf: &Leaf, opened: &'r Opened) -> Result<&'r NodeCert, RecordFault> {
        let Content::Cert(cert) = &opened.content else { return Err(RecordFault::OtherContent) };
        if cert.node.0 != leaf.subject.0 || cert.org != self.org {
            return Err(RecordFault::OtherContent);
        }
        let steward = self.chain.steward_key(&self.org, &leaf.actor, Roles::ENROL);
        self.signed_by_one(opened, leaf, steward)?;
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

    fn keys<'r>(&self, kind: LeafKind, leaf: &Leaf, opened: &'r Opened) -> Result<&'r NodeKeys, RecordFault> {
        let Content::Keys(keys) = &opened.content else { return Err(RecordFault::OtherContent) };
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
        self.signed_by_one(opened, leaf, self.identity(&keys.node, &leaf.actor))?;
        Ok(keys)
    }

    fn state(&self, leaf: &Leaf, opened: &Opened) -> Result<(), RecordFault> {
        let state: OrgState = opened.envelope.record().map_err(|_| RecordFault::OtherContent)?;
        if state.org != self.org || leaf.subject.0 != self.org.0 {
            return Err(RecordFault::OtherContent);
        }
        let steward = self.chain.steward_key(&self.org, &leaf.actor, Roles::HEAD);
        self.signed_by_one(opened, leaf, steward)
    }

    fn revoke(&self, leaf: &Leaf, opened: &Opened) -> Result<(), RecordFault> {
        let node = NodeId(leaf.subject.0);
        if opened.envelope.kind() == Some(Kind::NodeLeave) {
            let farewell: NodeLeave = opened.envelope.record().map_err(|_| RecordFault::OtherContent)?;
            if farewell.node != node {
                return Err(RecordFault::OtherContent);
            }
            return self.signed_by_one(opened, leaf, self.identity(&node, &leaf.actor));
        }
        let revocations: Revocations = opened.envelope.record().map_err(|_| RecordFault::OtherContent)?;
        let is_taken_back = |(version, serial): &(u32, u64)| {
            *version <= revocations.root_version && revocations.certs.contains(serial)
        };
        let names = revocations.nodes.contains(&node)
            || self.certified.get(&node).is_some_and(|known| known.serials.iter().any(is_taken_back));
        if revocations.org != self.org || !names {
            return Err(RecordFault::OtherContent);
        }
        match self.chain.steward_key(&self.org, &leaf.actor, Roles::REVOKE) {
            Some(key) => self.signed_by_one(opened, leaf, Some(key)),
            None => self.signed_by_root(opened, leaf, revocations.root_version),
        }
    }

    fn genesis(&self, leaf: &Leaf, opened: &Opened) -> Result<(), RecordFault> {
        let genesis: MeshGenesis = opened.envelope.record().map_err(|_| RecordFault::OtherContent)?;
        let is_member = genesis.agreement.members.iter().any(|member| member.org == self.org);
        let is_ours =
            opened.envelope.record_id(&MeshId([0; 32])).is_some_and(|id| id.0 == self.chain.mesh().0);
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
        self.signed_by_all(opened, leaf, &founders)
    }

    fn delegation(&self, leaf: &Leaf, opened: &Opened) -> Result<(), RecordFault> {
        let delegation: StewardDelegation =
            opened.envelope.record().map_err(|_| RecordFault::OtherContent)?;
        if delegation.org != self.org || leaf.subject.0 != self.org.0 {
            return Err(RecordFault::OtherContent);
        }
        self.signed_by_root(opened, leaf, delegation.root_version)
    }

    /// A root that follows another; the chain says whose it is, and both are in it.
    fn root(&self, leaf: &Leaf, opened: &Opened) -> Result<(), RecordFault> {
        let root: OrgRoot = opened.envelope.record().map_err(|_| RecordFault::OtherContent)?;
        let is_held = self.chain.roots(&self.org).any(|held| *held == root);
        let before = root.root_version.checked_sub(1).and_then(|version| self.root_of_version(version));
        let before = before.filter(|_| is_held && leaf.subject.0 == self.org.0);
        let before = before.ok_or(RecordFault::OtherContent)?;
        self.signed_by_all(opened, leaf, &[&root.keys[..], &before.keys].concat())?;
        let signed =
            |keys: &[PublicKey]| keys.iter().filter(|key| opened.is_signed_by(&key.key_id())).count();
        let is_enough = |of: &OrgRoot| signed(&of.keys) >= usize::from(of.threshold);
        if is_enough(&root) && is_enough(before) { Ok(()) } else { Err(RecordFault::Signature) }
    }

    /// An identity that a node has had.
    fn identity(&self, node: &NodeId, actor: &KeyId) -> Option<PublicKey> {
        let known = self.certified.get(node)?;
        known.identities.iter().find(|key| key.key_id() == *actor).copied()
    }

    /// One signature, by the actor of the leaf.
    fn signed_by_one(&self, opened: &Opened, leaf: &Leaf, key: Option<PublicKey>) -> Result<(), RecordFault> {
        let is_one = opened.envelope.signatures().len() == 1;
        let is_valid = key.is_some_and(|key| key.key_id() == leaf.actor) && opened.is_signed_by(&leaf.actor);
        if is_one && is_valid { Ok(()) } else { Err(RecordFault::Signature) }
    }

    /// Enough keys of a root, the actor among them.
    fn signed_by_root(&self, opened: &Opened, leaf: &Leaf, version: u32) -> Result<(), RecordFault> {
        let root = self.root_of_version(version).ok_or(RecordFault::Signature)?;
        self.signed_by_all(opened, leaf, &root.keys)?;
        let enough = opened.envelope.signatures().len() >= usize::from(root.threshold);
        if enough { Ok(()) } else { Err(RecordFault::Signature) }
    }

    fn root_of_version(&self, version: u32) -> Option<&'c OrgRoot> {
        self.chain.roots(&self.org).find(|root| root.root_version == version)
    }

    /// Every signature is of one of these keys and verifies, and the actor's is among them.
    fn signed_by_all(&self, opened: &Opened, leaf: &Leaf, keys: &[PublicKey]) -> Result<(), RecordFault> {
        let verifies =
            |signer: &KeyId| keys.iter().any(|key| key.key_id() == *signer) && opened.is_signed_by(signer);
        let signatures = opened.envelope.signatures();
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
        | LeafKind::StewardDelegate
        | LeafKind::RootRotate => true,
        LeafKind::RevokeEffect
        | LeafKind::Sever
        | LeafKind::Policy
        | LeafKind::AgreementLeave
        | LeafKind::StewardRetire
        | LeafKind::TokenIssue
        | LeafKind::TokenUse
        | LeafKind::ClockReset
        | LeafKind::BreakGlass
        | LeafKind::ConfigPqDowngrade => false,
    }
}
