//! The table of nodes and keys, as leaves and records tell it.

use std::collections::BTreeMap;

use meshd_trust::log::Beside;
use meshd_wire::{Leaf, LeafKind, NodeId, PublicKey, Subject, Timestamp};

use crate::report::{CertReport, KeyReport, NodeReport};

/// Nodes and keys of a log.
#[derive(Debug, Default)]
pub(crate) struct Table {
    nodes: BTreeMap<Subject, Node>,
}

#[derive(Debug, Default)]
struct Node {
    name: String,
    enrolled: Option<Timestamp>,
    revoked: Option<Timestamp>,
    certs: Vec<CertReport>,
    keys: BTreeMap<u32, Key>,
    current: Option<u32>,
}

#[derive(Debug, Default)]
struct Key {
    key: Option<PublicKey>,
    announced: Option<Timestamp>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    destroyed: Option<Timestamp>,
    compromised: Option<Timestamp>,
    receipts: Option<u32>,
}

impl Table {
    /// Takes a leaf and its verified record.
    pub(crate) fn take(&mut self, leaf: &Leaf, beside: Beside<'_>) {
        let Some(kind) = leaf.known_kind() else { return };
        match kind {
            LeafKind::Enrol | LeafKind::Renew => self.node(leaf).cert(leaf, kind, beside),
            LeafKind::RotateAnnounce
            | LeafKind::RotateActivate
            | LeafKind::KeyDestroy
            | LeafKind::KeyCompromised => {
                if let Some(epoch) = leaf.epoch {
                    self.node(leaf).key(leaf, kind, epoch, beside);
                }
            }
            LeafKind::Revoke => {
                let node = self.node(leaf);
                node.revoked = node.revoked.or(Some(leaf.time));
                node.end(leaf.time);
            }
            LeafKind::RevokeEffect
            | LeafKind::Sever
            | LeafKind::Policy
            | LeafKind::AgreementJoin
            | LeafKind::AgreementLeave
            | LeafKind::StewardDelegate
            | LeafKind::StewardRetire
            | LeafKind::RootRotate
            | LeafKind::TokenIssue
            | LeafKind::TokenUse
            | LeafKind::StateRollback
            | LeafKind::ClockReset
            | LeafKind::BreakGlass
            | LeafKind::ConfigPqDowngrade => {}
        }
    }

    /// Name of a node.
    pub(crate) fn name(&self, subject: &Subject) -> Option<String> {
        self.nodes.get(subject).map(|node| node.name.clone()).filter(|name| !name.is_empty())
    }

    /// Nodes and keys at the time of the audit.
    pub(crate) fn finish(
        self,
        now: Timestamp,
        exceptions: &BTreeMap<(Subject, u32), Vec<String>>,
    ) -> (Vec<NodeReport>, Vec<KeyReport>) {
        let (mut nodes, mut keys) = (Vec::new(), Vec::new());
        for (subject, node) in self.nodes {
            let id = NodeId(subject.0).to_string();
            for (epoch, key) in node.keys {
                let used = key.from.map(|from| key.to.unwrap_or(now).since(from));
                keys.push(KeyReport {
                    node: id.clone(),
                    name: node.name.clone(),
                    epoch,
                    key: key.key.map(|key| key.to_string()),
                    announced: key.announced.map(|at| at.0),
                    active_from: key.from.map(|at| at.0),
                    active_to: key.to.map(|at| at.0),
                    destroyed: key.destroyed.map(|at| at.0),
                    compromised: key.compromised.map(|at| at.0),
                    receipts: key.receipts,
                    used_s: used,
                    exceptions: exceptions.get(&(subject, epoch)).cloned().unwrap_or_default(),
                });
            }
            nodes.push(NodeReport {
                node: id,
                name: node.name,
                enrolled: node.enrolled.map(|at| at.0),
                revoked: node.revoked.map(|at| at.0),
                certs: node.certs,
            });
        }
        nodes.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
        keys.sort_by(|a, b| (&a.name, &a.node, a.epoch).cmp(&(&b.name, &b.node, b.epoch)));
        (nodes, keys)
    }

    fn node(&mut self, leaf: &Leaf) -> &mut Node {
        self.nodes.entry(leaf.subject).or_default()
    }
}

impl Node {
    fn cert(&mut self, leaf: &Leaf, kind: LeafKind, beside: Beside<'_>) {
        if kind == LeafKind::Enrol {
            self.enrolled = self.enrolled.or(Some(leaf.time));
        }
        let Beside::Cert(cert) = beside else { return };
        self.name.clone_from(&cert.name);
        self.certs.push(CertReport {
            logged: leaf.time.0,
            from: cert.not_before.0,
            until: cert.not_after.0,
            addr4: cert.ipv4().to_string(),
            identity: cert.identity.key_id().to_string(),
        });
    }

    fn key(&mut self, leaf: &Leaf, kind: LeafKind, epoch: u32, beside: Beside<'_>) {
        let at = Some(leaf.time);
        let key = self.keys.entry(epoch).or_default();
        if let Beside::Keys(keys) = beside
            && let Some(named) = keys.all().find(|key| key.epoch == epoch)
        {
            key.key.get_or_insert(named.key);
        }
        match kind {
            LeafKind::RotateAnnounce => key.announced = key.announced.or(at),
            LeafKind::RotateActivate if key.from.is_none() => {
                key.from = at;
                key.receipts = leaf.receipts.map(|receipts| receipts.count);
                self.end(leaf.time);
                self.current = Some(epoch);
            }
            LeafKind::KeyDestroy => {
                key.destroyed = key.destroyed.or(at);
                self.end_of(epoch, leaf.time);
            }
            LeafKind::KeyCompromised => {
                key.compromised = key.compromised.or(at);
                self.end_of(epoch, leaf.time);
            }
            _ => {}
        }
    }

    fn end_of(&mut self, epoch: u32, at: Timestamp) {
        if self.current == Some(epoch) {
            self.end(at);
        }
    }

    /// The key in use is not any more.
    fn end(&mut self, at: Timestamp) {
        if let Some(key) = self.current.take().and_then(|epoch| self.keys.get_mut(&epoch)) {
            key.to = Some(at);
        }
    }
}
