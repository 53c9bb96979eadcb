//! A mesh of two organisations with logs, made by the rules.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;

use meshd_audit::{Chain, Files, FilesError, LogSource, Report, Terms, audit, write_bundle, write_frames};
use meshd_trust::address::node_addr6;
use meshd_trust::founding::{
    DelegationTerms, Founder, FoundingTerms, StewardPublicKeys, delegate, genesis, mesh_id, next_root,
    org_root, sign_genesis,
};
use meshd_trust::log::{Checkpoint, Edge, LogOrigin, TileAddress, TreeHash, write_entries};
use meshd_trust::{SigningKey, sign};
use meshd_wire::record::{
    EpochKey, NodeCert, NodeKeys, OrgRoot, Prefix, Revocations, Roles, StewardDelegation,
};
use meshd_wire::{
    Envelope, KeyId, Leaf, LeafKind, MeshId, NodeId, OrgId, PublicKey, Receipts, ReceiptsDigest, Subject,
    Timestamp, TokenId,
};

/// When the mesh is founded.
pub const START: u64 = 1_800_000_000;
/// Period of the rotation.
pub const PERIOD: u64 = 12 * 3600;

/// Files by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dir(pub BTreeMap<String, Vec<u8>>);

impl Files for Dir {
    fn read(&self, path: &str) -> Result<Option<Cow<'_, [u8]>>, FilesError> {
        Ok(self.0.get(path).map(|bytes| Cow::Borrowed(bytes.as_slice())))
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, FilesError> {
        let dir = format!("{dir}/");
        let within = self.0.keys().filter_map(|name| name.strip_prefix(dir.as_str()));
        Ok(within.filter(|name| !name.contains('/')).map(str::to_owned).collect())
    }
}

/// An organisation with its steward and its log.
#[derive(Clone)]
pub struct Org {
    pub id: OrgId,
    number: u8,
    pub root: SigningKey,
    pub record: SigningKey,
    pub log: SigningKey,
    pub witness: SigningKey,
    pub root_envelope: Vec<u8>,
    pub delegation: Envelope,
    /// Later roots and delegations.
    pub later: Vec<Vec<u8>>,
    /// Leaves with the records beside them.
    pub leaves: Vec<(Leaf, Vec<u8>)>,
    lasts: BTreeMap<Subject, u64>,
    /// Notes by size.
    pub notes: BTreeMap<u64, String>,
    serial: u64,
    /// Bytes in the place of the last leaf.
    pub raw: Option<Vec<u8>>,
}

/// A node.
#[derive(Clone)]
pub struct Node {
    pub name: &'static str,
    pub org: usize,
    pub identity: SigningKey,
    pub id: NodeId,
    pub keys: NodeKeys,
    pub envelope: Vec<u8>,
}

/// A mesh.
#[derive(Clone)]
pub struct Mesh {
    pub id: MeshId,
    pub genesis: Envelope,
    pub orgs: Vec<Org>,
    pub nodes: Vec<Node>,
    pub now: u64,
}

impl Mesh {
    /// Founds a mesh of so many organisations, each with its steward.
    pub fn new(name: &str, count: u8) -> Self {
        let seeds = |number: u8, purpose: u8| {
            let mut seed = [number; 32];
            seed[0] = purpose;
            seed[1] = u8::try_from(name.len()).expect("short");
            SigningKey::from_seed(seed)
        };
        let names = ["clinic", "institute", "lab"];
        let now = Timestamp(START);
        let founded: Vec<(OrgId, Envelope, SigningKey)> = (0..count)
            .map(|number| {
                let root = seeds(number, 1);
                let (id, envelope) = org_root(names[usize::from(number)], &[&root], 1, now).expect("a root");
                (id, envelope, root)
            })
            .collect();
        let founders = founded.iter().zip(0..).map(|((org, _, _), number)| Founder {
            org: *org,
            prefix4: Prefix::v4(Ipv4Addr::new(10, 91 + number, 0, 0), 16),
            subnet6: u16::from(number) + 1,
        });
        let terms = FoundingTerms {
            name: name.to_owned(),
            nonce: [7; 16],
            lab: false,
            founders: founders.collect(),
            now,
        };
        let drafted = genesis(&terms).expect("a genesis");
        let id = mesh_id(&drafted);
        let mut signed = Envelope::new(&drafted);
        for (_, _, root) in &founded {
            sign_genesis(&mut signed, root).expect("signed");
        }
        let orgs = founded.into_iter().zip(0..).map(|((org, envelope, root), number)| {
            let [record, log, witness, tls] = [2, 3, 4, 5].map(|purpose| seeds(number, purpose));
            let keys = StewardPublicKeys {
                record: record.public(),
                log: log.public(),
                witness: witness.public(),
                tls: tls.public(),
            };
            let terms = DelegationTerms { org, root_version: 1, serial: 1, keys, roles: Roles::ALL, now };
            let delegation = delegate(&terms, &id, &[&root]).expect("a delegation");
            Org {
                id: org,
                number,
                root,
                record,
                log,
                witness,
                root_envelope: envelope.to_bytes(),
                delegation,
                later: Vec::new(),
                leaves: Vec::new(),
                lasts: BTreeMap::new(),
                notes: BTreeMap::new(),
                serial: 0,
                raw: None,
            }
        });
        let mut mesh = Self { id, orgs: orgs.collect(), genesis: signed, nodes: Vec::new(), now: START };
        for org in 0..mesh.orgs.len() {
            let (subject, root) = (Subject::from(mesh.orgs[org].id), mesh.orgs[org].root.key_id());
            mesh.say(org, LeafKind::AgreementJoin, subject, None, Some(mesh.genesis.clone()), root);
            let delegation = mesh.orgs[org].delegation.clone();
            mesh.say(org, LeafKind::StewardDelegate, subject, None, Some(delegation), root);
        }
        mesh
    }

    /// A day of a small mesh: nodes join, rotate, one leaves.
    pub fn lived(count: u8, rotations: u32) -> Self {
        let mut mesh = Self::new("care", count);
        let token = Subject::from(TokenId([4; 8]));
        let steward = mesh.orgs[0].record.key_id();
        mesh.say(0, LeafKind::TokenIssue, token, None, None, steward);
        mesh.enrol("scanner", 0);
        mesh.say(0, LeafKind::TokenUse, token, None, None, steward);
        mesh.enrol("archive", 0);
        if count > 1 {
            mesh.enrol("reader", 1);
        }
        mesh.checkpoint();
        for _ in 0..rotations {
            mesh.now += PERIOD;
            mesh.rotate_all();
        }
        mesh.revoke(1);
        mesh.checkpoint();
        mesh.now += 3600;
        mesh.renew(0);
        mesh.checkpoint();
        mesh.now += 900;
        mesh
    }

    pub fn enrol(&mut self, name: &'static str, org: usize) -> usize {
        let mut seed = [100 + u8::try_from(self.nodes.len()).expect("few"); 32];
        seed[0] = 9;
        let identity = SigningKey::from_seed(seed);
        let id = NodeId::from(identity.key_id());
        let keys = NodeKeys {
            version: 1,
            node: id,
            seq: 1,
            issued_at: Timestamp(self.now),
            suites: 1,
            post_quantum: 0,
            compromised: false,
            cur: EpochKey { epoch: 1, key: tunnel_key(&id, 1), since: Timestamp(self.now) },
            next: None,
            prev: None,
            accept_until: None,
        };
        self.nodes.push(Node { name, org, identity, id, keys, envelope: Vec::new() });
        let node = self.nodes.len() - 1;
        self.certify(node, LeafKind::Enrol);
        self.publish(node);
        self.about(node, LeafKind::RotateActivate, Some(1));
        node
    }

    pub fn renew(&mut self, node: usize) {
        self.certify(node, LeafKind::Renew);
    }

    fn certify(&mut self, node: usize, kind: LeafKind) {
        let Node { name, org, identity, id, .. } = self.nodes[node].clone();
        let owner = &mut self.orgs[org];
        owner.serial += 1;
        let cert = NodeCert {
            version: 1,
            node: id,
            org: owner.id,
            root_version: 1,
            serial: owner.serial,
            name: name.to_owned(),
            identity: identity.public(),
            transport: SigningKey::from_seed([200 + u8::try_from(node).expect("few"); 32]).public(),
            addr4: [10, 91 + owner.number, 0, u8::try_from(node).expect("few") + 1],
            addr6: node_addr6(&self.id, u16::from(owner.number) + 1, &id).octets(),
            prefixes: vec![],
            labels: vec![],
            may_attest: vec![],
            not_before: Timestamp(self.now),
            not_after: Timestamp(self.now + 7 * 86_400),
        };
        let envelope = sign(&cert, &self.id, &[&owner.record]);
        let actor = owner.record.key_id();
        self.say(org, kind, Subject::from(id), None, Some(envelope), actor);
    }

    /// One rotation of all nodes, with checkpoints as they come.
    pub fn rotate_all(&mut self) {
        let epochs: Vec<u32> = self.nodes.iter().map(|node| node.keys.cur.epoch + 1).collect();
        for (node, epoch) in epochs.iter().enumerate() {
            self.announce(node, *epoch);
        }
        self.now += 60;
        for (node, epoch) in epochs.iter().enumerate() {
            self.activate(node, *epoch);
        }
        self.checkpoint();
        self.now += 300;
        for (node, epoch) in epochs.iter().enumerate() {
            self.destroy(node, epoch - 1);
        }
        self.checkpoint();
    }

    pub fn announce(&mut self, node: usize, epoch: u32) {
        let key = tunnel_key(&self.nodes[node].id, epoch);
        let since = Timestamp(self.now);
        self.nodes[node].keys.next = Some(EpochKey { epoch, key, since });
        self.publish(node);
        self.about(node, LeafKind::RotateAnnounce, Some(epoch));
    }

    pub fn activate(&mut self, node: usize, epoch: u32) {
        let (key, since) = (tunnel_key(&self.nodes[node].id, epoch), Timestamp(self.now));
        let keys = &mut self.nodes[node].keys;
        keys.prev = Some(keys.cur);
        keys.cur = EpochKey { epoch, key, since };
        keys.next = None;
        keys.accept_until = Some(Timestamp(self.now + 900));
        self.publish(node);
        self.about(node, LeafKind::RotateActivate, Some(epoch));
    }

    pub fn destroy(&mut self, node: usize, epoch: u32) {
        let keys = &mut self.nodes[node].keys;
        keys.prev = keys.prev.filter(|key| key.epoch != epoch);
        keys.next = keys.next.filter(|key| key.epoch != epoch);
        self.publish(node);
        self.about(node, LeafKind::KeyDestroy, Some(epoch));
    }

    pub fn revoke(&mut self, node: usize) {
        let Node { id, org, .. } = self.nodes[node].clone();
        let owner = &self.orgs[org];
        let revocations = Revocations {
            version: 1,
            org: owner.id,
            root_version: 1,
            n: 1,
            issued_at: Timestamp(self.now),
            nodes: vec![id],
            certs: vec![],
            severed: vec![],
        };
        let (envelope, actor) = (sign(&revocations, &self.id, &[&owner.record]), owner.record.key_id());
        self.say(org, LeafKind::Revoke, Subject::from(id), None, Some(envelope), actor);
    }

    /// Signs the keys of a node anew.
    pub fn publish(&mut self, node: usize) {
        let (mesh, now) = (self.id, Timestamp(self.now));
        let node = &mut self.nodes[node];
        node.keys.seq += 1;
        node.keys.issued_at = now;
        node.envelope = sign(&node.keys, &mesh, &[&node.identity]).to_bytes();
    }

    /// Appends a leaf about a node with its newest keys.
    pub fn about(&mut self, node: usize, kind: LeafKind, epoch: Option<u32>) {
        let Node { id, org, identity, envelope, .. } = self.nodes[node].clone();
        let envelope = Envelope::from_bytes(&envelope).expect("an envelope");
        self.say(org, kind, Subject::from(id), epoch, Some(envelope), identity.key_id());
    }

    pub fn say(
        &mut self,
        org: usize,
        kind: LeafKind,
        subject: Subject,
        epoch: Option<u32>,
        record: Option<Envelope>,
        actor: KeyId,
    ) {
        let (mesh, now) = (self.id, Timestamp(self.now));
        let org = &mut self.orgs[org];
        let index = org.leaves.len() as u64;
        let prev = org.lasts.insert(subject, index);
        let mut leaf = Leaf { epoch, prev, ..Leaf::new(now, kind, org.id, subject, actor) };
        leaf.record = record.as_ref().and_then(|envelope| envelope.record_id(&mesh));
        if kind == LeafKind::RotateActivate {
            leaf.receipts = Some(Receipts { count: 2, digest: ReceiptsDigest([5; 32]) });
        }
        org.leaves.push((leaf, record.map_or_else(Vec::new, |envelope| envelope.to_bytes())));
    }

    /// Replaces the root key of an organisation, and has the new one delegate to the same steward.
    pub fn rotate_root(&mut self, org: usize) -> Envelope {
        let now = Timestamp(self.now);
        let owner = &mut self.orgs[org];
        let envelope = Envelope::from_bytes(&owner.root_envelope).expect("an envelope");
        let before: OrgRoot = envelope.record().expect("a root");
        let heir = SigningKey::from_seed([60 + owner.number; 32]);
        let next = next_root(&before, &[&owner.root], &[&heir], 1, now).expect("a root");
        let delegation: StewardDelegation = owner.delegation.record().expect("a delegation");
        let keys = StewardPublicKeys::from(&delegation);
        let terms =
            DelegationTerms { org: owner.id, root_version: 2, serial: 1, keys, roles: Roles::ALL, now };
        let delegation = delegate(&terms, &self.id, &[&heir]).expect("a delegation");
        owner.later.extend([next.to_bytes(), delegation.to_bytes()]);
        let (subject, actor) = (Subject::from(owner.id), heir.key_id());
        owner.root = heir;
        self.say(org, LeafKind::RootRotate, subject, None, Some(next.clone()), actor);
        self.say(org, LeafKind::StewardDelegate, subject, None, Some(delegation), actor);
        next
    }

    /// Signs all trees and has each organisation cosign those of the others.
    pub fn checkpoint(&mut self) {
        for org in 0..self.orgs.len() {
            self.checkpoint_of(org, true);
        }
    }

    pub fn checkpoint_of(&mut self, org: usize, is_witnessed: bool) {
        let others = 0..self.orgs.len();
        let others: Vec<usize> = others.filter(|other| is_witnessed && *other != org).collect();
        self.checkpoint_by(org, &others);
    }

    /// Signs the tree of an organisation and has some others cosign it.
    pub fn checkpoint_by(&mut self, org: usize, others: &[usize]) {
        let witnesses: Vec<(OrgId, SigningKey)> =
            others.iter().map(|other| (self.orgs[*other].id, self.orgs[*other].witness.clone())).collect();
        let (mesh, now) = (self.id, Timestamp(self.now));
        let owner = &mut self.orgs[org];
        let checkpoint = Checkpoint {
            origin: LogOrigin { mesh, org: owner.id },
            head: edge(&owner.leaf_bytes()).0.head(),
        };
        let mut note = checkpoint.sign(&owner.log);
        for (other, key) in &witnesses {
            note.add(checkpoint.cosign(*other, key, now)).expect("room");
        }
        // The first one of a size says when its leaves were seen.
        owner.notes.entry(checkpoint.head.size).or_insert_with(|| note.to_string());
    }

    /// Records that prove the mesh.
    pub fn chain(&self) -> Vec<u8> {
        let roots = self.orgs.iter().map(|org| org.root_envelope.clone());
        let delegations = self.orgs.iter().map(|org| org.delegation.to_bytes());
        let later = self.orgs.iter().flat_map(|org| org.later.clone());
        let all: Vec<Vec<u8>> =
            std::iter::once(self.genesis.to_bytes()).chain(roots).chain(delegations).chain(later).collect();
        write_frames(all.iter().map(Vec::as_slice)).expect("they fit")
    }

    /// A bundle of all logs.
    pub fn bundle(&self) -> Vec<u8> {
        self.bundle_of(&self.orgs.iter().map(Org::dir).collect::<Vec<_>>())
    }

    /// A bundle of these directories.
    pub fn bundle_of(&self, dirs: &[Dir]) -> Vec<u8> {
        let chain = Chain::read(&self.chain(), Some(self.id)).expect("a chain");
        let sources: Vec<LogSource<'_>> =
            self.orgs.iter().zip(dirs).map(|(org, dir)| source(org, dir)).collect();
        let mut bytes = Vec::new();
        write_bundle(chain, &sources, Timestamp(self.now), &mut bytes).expect("a bundle");
        bytes
    }

    /// Audits directories of the logs.
    pub fn audit(&self, dirs: &[Dir]) -> Report {
        self.audit_at(dirs, self.now)
    }

    pub fn audit_at(&self, dirs: &[Dir], at: u64) -> Report {
        let chain = Chain::read(&self.chain(), Some(self.id)).expect("a chain");
        let sources: Vec<LogSource<'_>> =
            self.orgs.iter().zip(dirs).map(|(org, dir)| source(org, dir)).collect();
        audit(chain, &sources, &terms(at), &mut |_, _| {}).expect("in memory")
    }

    /// Audits all logs as they are.
    pub fn report(&self) -> Report {
        self.audit(&self.orgs.iter().map(Org::dir).collect::<Vec<_>>())
    }
}

impl Org {
    pub fn leaf_bytes(&self) -> Vec<Vec<u8>> {
        let mut leaves: Vec<Vec<u8>> = self.leaves.iter().map(|(leaf, _)| leaf.to_bytes()).collect();
        if let (Some(raw), Some(last)) = (&self.raw, leaves.last_mut()) {
            last.clone_from(raw);
        }
        leaves
    }

    /// The directory of its log.
    pub fn dir(&self) -> Dir {
        let leaves = self.leaf_bytes();
        let (_, tiles) = edge(&leaves);
        let mut files = BTreeMap::new();
        for (path, bytes) in tiles {
            files.insert(path, bytes);
        }
        let size = leaves.len() as u64;
        for (tile, at) in (0..).map_while(|index| TileAddress::within(size, 0, index)).zip((0..).step_by(256))
        {
            let range = at..at + usize::from(tile.width());
            let entries = write_entries(leaves[range.clone()].iter().map(Vec::as_slice)).expect("they fit");
            files.insert(tile.entries_path(), entries);
            let records = self.leaves[range].iter().map(|(_, record)| record.as_slice());
            files.insert(tile.record_path(), write_frames(records).expect("they fit"));
        }
        for (size, note) in &self.notes {
            files.insert(format!("checkpoints/{size}"), note.clone().into_bytes());
        }
        if let Some((_, note)) = self.notes.last_key_value() {
            files.insert("checkpoint".to_owned(), note.clone().into_bytes());
        }
        Dir(files)
    }
}

/// A directory that may hold what it wants beside its log.
pub fn source<'f>(org: &Org, dir: &'f Dir) -> LogSource<'f> {
    LogSource { org: org.id, files: dir, sealed: None }
}

pub fn terms(at: u64) -> Terms {
    Terms { at: Timestamp(at), period_s: PERIOD, is_compared: true, threads: NonZeroUsize::MIN }
}

/// Codes of all findings, sorted, each once.
pub fn codes(report: &Report) -> Vec<String> {
    let mut codes: Vec<String> = report.all_findings().map(|(_, finding)| finding.code.clone()).collect();
    codes.sort();
    codes.dedup();
    codes
}

fn edge(leaves: &[Vec<u8>]) -> (Edge, BTreeMap<String, Vec<u8>>) {
    let mut edge = Edge::new();
    let mut tiles = BTreeMap::new();
    for page in leaves.chunks(256) {
        for tile in edge.append(page.iter().map(|leaf| TreeHash::leaf(leaf))) {
            tiles.insert(tile.address.path(), tile.bytes);
        }
    }
    (edge, tiles)
}

/// A tunnel key that looks like one: canonical, and of no small order.
pub fn tunnel_key(node: &NodeId, epoch: u32) -> PublicKey {
    let mut key = node.0;
    key[..4].copy_from_slice(&epoch.to_be_bytes());
    key[31] &= 0x3f;
    PublicKey(key)
}
