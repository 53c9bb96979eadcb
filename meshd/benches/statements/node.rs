//! A node as its steward sees it.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use meshd::config::Suites;
use meshd::enrol::{self, EnrolClient};
use meshd::membership::NodeSecrets;
use meshd::tls::{RawKey, ServerKey};
use meshd_trust::log::{CheckpointKeys, LogOrigin, LogProof, TreeHash};
use meshd_trust::{Roster, sign};
use meshd_wire::enrol::{EnrolReply, EnrolRequest, KeyStatement};
use meshd_wire::record::{EpochKey, NodeKeys};
use meshd_wire::{Envelope, JoinToken, Leaf, LeafKind, PublicKey, Timestamp};

/// Statements on one connection, as many as a steward takes.
const STATEMENTS: usize = 8;
/// Pause after a steward was too busy, or said no.
const PAUSE: Duration = Duration::from_millis(500);

pub struct Node {
    token: JoinToken,
    secrets: NodeSecrets,
    transport: RawKey,
    roster: Roster,
    keys: NodeKeys,
    /// What it has to say next.
    kind: LeafKind,
}

impl Node {
    pub async fn join(token: &JoinToken, number: usize) -> Self {
        let mut random = [0; NodeSecrets::RANDOM_LEN];
        File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).expect("randomness");
        let secrets = NodeSecrets::new(&random);
        let transport = RawKey::from_seed(&secrets.transport().seed()).expect("a key");
        let name = format!("load-{}-{number}", std::process::id());
        let joined = enrol::join(token, &secrets, Suites::WG, &name, |_| Ok(()), now).await.expect("joined");
        let roster = joined.roster;
        let keys = roster.node(&secrets.node()).and_then(|own| own.keys().cloned()).expect("own keys");
        Self { token: token.clone(), secrets, transport, roster, keys, kind: LeafKind::RotateAnnounce }
    }

    /// Says on one connection what became of its keys, and takes down when each leaf was proven, and how long after
    /// it was first asked for.
    pub async fn converse(
        &mut self,
        end: Instant,
        every: Duration,
        proven: &mut Vec<(SystemTime, Duration)>,
    ) {
        let mut asked = Instant::now();
        let at = &self.token.stewards;
        let Some(Ok(mut client)) = EnrolClient::connect(at, &self.transport, ServerKey::Unverified).await
        else {
            return tokio::time::sleep(PAUSE).await;
        };
        assert!(self.roster.is_steward_tls(&self.token.org, &client.server_key(), now()), "another server");
        for _ in 0..STATEMENTS {
            let (keys, epoch) = self.next();
            let envelope = sign(&keys, &self.token.mesh, &[&self.secrets.identity()]);
            let kind = self.kind.number();
            let statement = KeyStatement { kind, epoch, record: envelope.to_bytes() };
            match client.call(&EnrolRequest::Log { statement }).await {
                Ok(EnrolReply::Logged { leaf }) => {
                    self.believe(&leaf.leaf, &leaf.proof, &envelope);
                    proven.push((SystemTime::now(), asked.elapsed()));
                }
                other => {
                    eprintln!("{}: {other:?}", self.secrets.node().short());
                    return tokio::time::sleep(PAUSE).await;
                }
            }
            self.said(keys);
            tokio::time::sleep_until((asked + every).into()).await;
            if Instant::now() >= end {
                return;
            }
            asked = Instant::now();
        }
    }

    /// Its keys as they are to become, and the epoch that this is about.
    fn next(&self) -> (NodeKeys, u32) {
        let mut keys = self.keys.clone();
        keys.seq += 1;
        keys.issued_at = now();
        let epoch = keys.cur.epoch;
        match self.kind {
            LeafKind::RotateAnnounce => {
                keys.next =
                    Some(EpochKey { epoch: epoch + 1, key: self.tunnel_key(epoch + 1), since: now() });
                (keys, epoch + 1)
            }
            LeafKind::RotateActivate => {
                let next = keys.next.take().expect("announced");
                keys.prev = Some(keys.cur);
                keys.cur = EpochKey { since: now(), ..next };
                keys.accept_until = Some(now().plus(60));
                (keys, epoch + 1)
            }
            _ => {
                keys.prev = None;
                keys.accept_until = None;
                (keys, epoch - 1)
            }
        }
    }

    fn said(&mut self, keys: NodeKeys) {
        self.keys = keys;
        self.kind = match self.kind {
            LeafKind::RotateAnnounce => LeafKind::RotateActivate,
            LeafKind::RotateActivate => LeafKind::KeyDestroy,
            _ => LeafKind::RotateAnnounce,
        };
    }

    /// Believes that the log has its record, by the proof alone.
    fn believe(&self, leaf: &[u8], proof: &[u8], envelope: &Envelope) {
        let JoinToken { mesh, org, .. } = self.token;
        let read = Leaf::from_bytes(leaf).expect("a leaf");
        assert_eq!(read.record, envelope.record_id(&mesh), "a leaf of another record");
        let steward = self.roster.org(&org).expect("its organisation");
        let log = steward.delegations().map(|steward| steward.log_key).collect();
        let keys = CheckpointKeys { log, witnesses: Vec::new() };
        let proof = LogProof::from_bytes(proof).expect("a proof");
        proof.verify(&TreeHash::leaf(leaf), &LogOrigin { mesh, org }, &keys).expect("the proof holds");
    }

    /// A tunnel key that looks like one: canonical, and of no small order.
    fn tunnel_key(&self, epoch: u32) -> PublicKey {
        let mut key = self.secrets.node().0;
        key[..4].copy_from_slice(&epoch.to_be_bytes());
        key[31] &= 0x3f;
        PublicKey(key)
    }
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs())
}
