//! The mesh whose log it is: one organisation, its steward, and nodes that sign what they do.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use meshd_audit::write_frames;
use meshd_trust::address::node_addr6;
use meshd_trust::founding::{
    DelegationTerms, Founder, FoundingTerms, StewardPublicKeys, delegate, genesis, mesh_id, org_root,
    sign_genesis,
};
use meshd_trust::log::{Checkpoint, LogOrigin, TreeHead};
use meshd_trust::{SigningKey, sign};
use meshd_wire::record::{EpochKey, NodeCert, NodeKeys, Prefix, Roles};
use meshd_wire::{
    Envelope, KeyId, Leaf, LeafKind, MeshId, NodeId, OrgId, PublicKey, Receipts, ReceiptsDigest, Subject,
    Timestamp, TokenId,
};

use crate::life::{NODES, Step};

/// Seconds for which a replaced key still opens packets.
const ACCEPT_S: u64 = 600;
const CERT_LIFE_S: u64 = 7 * 86_400;

/// A leaf and the record beside it, as bytes.
pub struct Row {
    pub leaf: Vec<u8>,
    pub record: Vec<u8>,
}

pub struct Mesh {
    pub id: MeshId,
    org: OrgId,
    founded: u64,
    root: SigningKey,
    record: SigningKey,
    log: SigningKey,
    genesis: Envelope,
    root_envelope: Envelope,
    delegation: Envelope,
    nodes: Vec<Node>,
    /// Newest leaf of each subject.
    lasts: BTreeMap<Subject, u64>,
    size: u64,
    serial: u64,
}

struct Node {
    identity: SigningKey,
    transport: PublicKey,
    keys: NodeKeys,
}

impl Mesh {
    /// Leaves of [`Self::founding`].
    pub const FOUNDING_LEAVES: usize = 2;

    pub fn found(founded: u64) -> Self {
        let now = Timestamp(founded);
        let [root, record, log, witness, tls] = [1, 2, 3, 4, 5].map(|seed| SigningKey::from_seed([seed; 32]));
        let (org, root_envelope) = org_root("clinic", &[&root], 1, now).expect("a root");
        let founder = Founder { org, prefix4: Prefix::v4(Ipv4Addr::new(10, 91, 0, 0), 16), subnet6: 1 };
        let founders = vec![founder];
        let terms = FoundingTerms { name: "care".to_owned(), nonce: [7; 16], lab: false, founders, now };
        let drafted = genesis(&terms).expect("a genesis");
        let id = mesh_id(&drafted);
        let mut genesis = Envelope::new(&drafted);
        sign_genesis(&mut genesis, &root).expect("signed");
        let keys = StewardPublicKeys {
            record: record.public(),
            log: log.public(),
            witness: witness.public(),
            tls: tls.public(),
        };
        let terms = DelegationTerms { org, root_version: 1, serial: 1, keys, roles: Roles::ALL, now };
        let delegation = delegate(&terms, &id, &[&root]).expect("a delegation");
        let nodes = (0..NODES).map(|number| Node::new(number, now)).collect();
        let (lasts, size, serial) = (BTreeMap::new(), 0, 0);
        Self {
            id,
            org,
            founded,
            root,
            record,
            log,
            genesis,
            root_envelope,
            delegation,
            nodes,
            lasts,
            size,
            serial,
        }
    }

    /// What a log begins with.
    pub fn founding(&mut self) -> [Row; Self::FOUNDING_LEAVES] {
        let (founded, subject, root) = (self.founded, self.org.into(), self.root.key_id());
        let (genesis, delegation) = (self.genesis.clone(), self.delegation.clone());
        [
            self.say(founded, LeafKind::AgreementJoin, subject, None, Some(genesis), root),
            self.say(founded, LeafKind::StewardDelegate, subject, None, Some(delegation), root),
        ]
    }

    /// The leaf of a step.
    pub fn leaf(&mut self, now: u64, step: Step) -> Row {
        match step {
            Step::Invite(number) => self.token(now, LeafKind::TokenIssue, number),
            Step::Join(number) => self.token(now, LeafKind::TokenUse, number),
            Step::Enrol(number) => self.certify(now, LeafKind::Enrol, number),
            Step::Renew(number) => self.certify(now, LeafKind::Renew, number),
            Step::FirstKey(number) => self.keys(now, LeafKind::RotateActivate, number, |keys| {
                keys.cur.since = Timestamp(now);
                keys.cur.epoch
            }),
            Step::Announce(number) => self.keys(now, LeafKind::RotateAnnounce, number, |keys| {
                let epoch = keys.cur.epoch + 1;
                keys.next = Some(epoch_key(&keys.node, epoch, now));
                epoch
            }),
            Step::Activate(number) => self.keys(now, LeafKind::RotateActivate, number, |keys| {
                keys.prev = Some(keys.cur);
                keys.cur = epoch_key(&keys.node, keys.cur.epoch + 1, now);
                keys.next = None;
                keys.accept_until = Some(Timestamp(now + ACCEPT_S));
                keys.cur.epoch
            }),
            Step::Destroy(number) => self.keys(now, LeafKind::KeyDestroy, number, |keys| {
                keys.prev = None;
                keys.accept_until = None;
                keys.cur.epoch - 1
            }),
        }
    }

    /// Records that prove the mesh.
    pub fn chain(&self) -> Vec<u8> {
        let all = [&self.genesis, &self.root_envelope, &self.delegation].map(Envelope::to_bytes);
        write_frames(all.iter().map(Vec::as_slice)).expect("they fit")
    }

    /// The signed note of a tree.
    pub fn note(&self, head: TreeHead) -> String {
        let origin = LogOrigin { mesh: self.id, org: self.org };
        Checkpoint { origin, head }.sign(&self.log).to_string()
    }

    fn token(&mut self, now: u64, kind: LeafKind, number: u64) -> Row {
        let subject = Subject::from(TokenId(number.to_be_bytes()));
        self.say(now, kind, subject, None, None, self.record.key_id())
    }

    fn certify(&mut self, now: u64, kind: LeafKind, number: u64) -> Row {
        self.serial += 1;
        let Node { identity, transport, keys } = &self.nodes[at(number)];
        let [.., high, low] = number.to_be_bytes();
        let cert = NodeCert {
            version: 1,
            node: keys.node,
            org: self.org,
            root_version: 1,
            serial: self.serial,
            name: format!("node-{number}"),
            identity: identity.public(),
            transport: *transport,
            addr4: [10, 91, high + 1, low],
            addr6: node_addr6(&self.id, 1, &keys.node).octets(),
            prefixes: vec![],
            labels: vec![],
            may_attest: vec![],
            not_before: Timestamp(now),
            not_after: Timestamp(now + CERT_LIFE_S),
        };
        let subject = Subject::from(keys.node);
        let envelope = sign(&cert, &self.id, &[&self.record]);
        self.say(now, kind, subject, None, Some(envelope), self.record.key_id())
    }

    fn keys(
        &mut self,
        now: u64,
        kind: LeafKind,
        number: u64,
        change: impl FnOnce(&mut NodeKeys) -> u32,
    ) -> Row {
        let Node { identity, keys, .. } = &mut self.nodes[at(number)];
        let epoch = change(keys);
        keys.seq += 1;
        keys.issued_at = Timestamp(now);
        let (envelope, actor) = (sign(keys, &self.id, &[identity]), identity.key_id());
        let subject = Subject::from(keys.node);
        self.say(now, kind, subject, Some(epoch), Some(envelope), actor)
    }

    fn say(
        &mut self,
        now: u64,
        kind: LeafKind,
        subject: Subject,
        epoch: Option<u32>,
        record: Option<Envelope>,
        actor: KeyId,
    ) -> Row {
        let prev = self.lasts.insert(subject, self.size);
        self.size += 1;
        let leaf = Leaf {
            epoch,
            prev,
            record: record.as_ref().and_then(|envelope| envelope.record_id(&self.id)),
            receipts: (kind == LeafKind::RotateActivate)
                .then_some(Receipts { count: 3, digest: ReceiptsDigest([5; 32]) }),
            ..Leaf::new(Timestamp(now), kind, self.org, subject, actor)
        };
        Row { leaf: leaf.to_bytes(), record: record.map_or_else(Vec::new, |envelope| envelope.to_bytes()) }
    }
}

impl Node {
    fn new(number: u64, now: Timestamp) -> Self {
        let seed = |purpose: u8| {
            let mut seed = [purpose; 32];
            seed[..8].copy_from_slice(&number.to_be_bytes());
            SigningKey::from_seed(seed)
        };
        let (identity, transport) = (seed(100), seed(101).public());
        let node = NodeId::from(identity.key_id());
        let keys = NodeKeys {
            version: 1,
            node,
            seq: 0,
            issued_at: now,
            suites: 1,
            post_quantum: 0,
            compromised: false,
            cur: epoch_key(&node, 1, now.0),
            next: None,
            prev: None,
            accept_until: None,
        };
        Self { identity, transport, keys }
    }
}

fn at(number: u64) -> usize {
    usize::try_from(number).expect("a number of a node")
}

/// A tunnel key that looks like one: canonical, and of no small order.
fn epoch_key(node: &NodeId, epoch: u32, since: u64) -> EpochKey {
    let mut key = node.0;
    key[..4].copy_from_slice(&epoch.to_be_bytes());
    key[31] &= 0x3f;
    EpochKey { epoch, key: PublicKey(key), since: Timestamp(since) }
}
