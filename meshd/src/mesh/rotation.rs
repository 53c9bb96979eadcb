//! The tunnel keys of this node: made, announced, used and destroyed as their rotation asks for it.

mod file;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use meshd_api::{ApiError, ErrorCode};
use meshd_core::rotation::pairing::SKEW_S;
use meshd_core::rotation::{
    Alarm, Channel, Content, Effect, Epoch, KeySince, Now, OwnEpochs, Periods, Rotation, State,
    Stored as Progress, Use,
};
use meshd_tunnel::LocalKey;
use meshd_wire::record::{EpochKey, NodeKeys, VERSION};
use meshd_wire::{Envelope, NodeId, PeerBundle, PublicKey, Timestamp};

use self::file::KeysFile;
use super::Mesh;
use crate::clock::{self, boot};
use crate::dataplane::{OwnKey, OwnKeys, TunnelUse};
use crate::generations::GenerationsError;
use crate::membership::NodeSecrets;
use crate::metrics::Counters;
use crate::private_key::PrivateKey;
use crate::random;
use crate::stored::StoredError;

/// Private keys by their numbers.
type PrivateKeys = BTreeMap<Epoch, PrivateKey>;

/// The epoch of the key that a node joins with.
const FIRST: Epoch = Epoch(1);
/// Silence after which a peer does not count as connected: two keepalives lost and the third overdue.
const CONNECTED_FOR: Duration = Duration::from_secs(60);
/// While a rotation runs, tunnels are looked at this often …
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// … or more often in a lab, where all of it takes a second.
const LOOKS_PER_SILENCE: u32 = 4;

/// A record that was signed.
struct Signed {
    seq: u64,
    envelope: Vec<u8>,
}

/// The tunnel keys of this node and their rotation.
pub struct KeyRotation {
    pub(super) machine: Rotation<NodeId>,
    periods: Periods,
    private: PrivateKeys,
    /// The key that plain WireGuard peers know.
    external: LocalKey,
    file: KeysFile,
    /// The newest record that was signed: under one sequence there is never another.
    signed: Option<Signed>,
    /// What the rotation asked for before the tunnels ran.
    waiting: VecDeque<Effect>,
    looked_at: Duration,
    /// The newest step is on disk: what a restart goes on from.
    is_stored: bool,
    /// Bytes and packets of all tunnels when they were counted last.
    carried: (u64, u64),
}

impl KeyRotation {
    /// Goes on with what is stored in a state directory, or begins with the key that the node joined with.
    ///
    /// `published` is the newest record of its keys that the node knows to have signed.
    pub fn open(
        dir: &Path,
        secrets: &NodeSecrets,
        published: Option<&NodeKeys>,
        periods: Periods,
        now: Timestamp,
    ) -> Result<Self, StoredError> {
        let (mut file, stored) = KeysFile::open(dir, secrets.node())?;
        let (progress, private) = match stored {
            Some(stored) => stored,
            None => {
                let since = published.map_or(now, |keys| keys.cur.since);
                let seq = published.map_or(0, |keys| keys.seq);
                let epoch = published.map_or(FIRST, |keys| Epoch(keys.cur.epoch));
                let epoch_max = published.map_or(epoch, highest);
                let private = PrivateKeys::from_iter(secrets.first_tunnel());
                let progress = Progress { epoch_max, ..Progress::first(epoch, since.0, seq) };
                file.store(&progress, &private)?;
                (progress, private)
            }
        };
        let running = Now { running: boot(), date: Some(now.0) };
        let mut machine = Rotation::restore(running, periods, progress, random::number());
        // What an old state signs must not have the number of what was signed since.
        machine.never_below(clock::wall_ms());
        if let Some(keys) = published {
            machine.own_record_seen(running, keys.seq, Epoch(keys.cur.epoch), highest(keys));
        }
        let mut this = Self {
            machine,
            periods,
            private,
            external: secrets.external(),
            file,
            signed: None,
            waiting: VecDeque::new(),
            looked_at: Duration::ZERO,
            is_stored: true,
            carried: (0, 0),
        };
        // A damaged disk, or one that was restored in part.
        let lost: Vec<Epoch> = progress.keys().filter(|epoch| !this.is_whole(*epoch, published)).collect();
        for epoch in lost {
            this.machine.key_lost(running, epoch);
        }
        this.make_keys();
        Ok(this)
    }

    /// Whether a private key is there, and is the one that was published under its number.
    fn is_whole(&self, epoch: Epoch, published: Option<&NodeKeys>) -> bool {
        let Some(own) = self.private.get(&epoch).map(PrivateKey::local) else {
            return false;
        };
        let published = published.and_then(|keys| keys.all().find(|key| key.epoch == epoch.0));
        published.is_none_or(|key| key.key.0 == own.public())
    }

    /// Makes and drops the keys that the rotation asks for before the tunnels start; the rest waits until they have.
    fn make_keys(&mut self) {
        while let Some(effect) = self.machine.poll() {
            match effect {
                Effect::MakeKey { epoch } => self.make_key(epoch),
                Effect::Drop { epoch } => drop(self.private.remove(&epoch)),
                other => self.waiting.push_back(other),
            }
        }
    }

    fn make_key(&mut self, epoch: Epoch) {
        match PrivateKey::random() {
            Some(private) => drop(self.private.insert(epoch, private)),
            None => tracing::error!(%epoch, "the system gives no random bytes for a tunnel key"),
        }
    }

    fn next_effect(&mut self) -> Option<Effect> {
        self.waiting.pop_front().or_else(|| self.machine.poll())
    }

    /// The keys as the tunnels take them.
    pub fn own_keys(&self) -> Option<OwnKeys> {
        let OwnEpochs { older, newer } = self.machine.own_epochs();
        let own = |(epoch, usage): (Epoch, Use)| {
            let key = self.private.get(&epoch)?.local();
            Some(OwnKey { epoch, key, usage })
        };
        // The one that peers know best may be lost.
        let mut keys = [Some(older), newer].into_iter().flatten().filter_map(own);
        Some(OwnKeys { older: keys.next()?, newer: keys.next(), external: self.external.clone() })
    }

    /// How long until [`Mesh::rotate_keys`] has something to do.
    pub fn wait(&self, now: Now) -> Option<Duration> {
        let look = (self.machine.state() != State::Steady).then(|| self.looked_at + self.look_every());
        let at = look.into_iter().chain(self.machine.next_timeout(now)).min()?;
        Some(at.saturating_sub(now.running))
    }

    /// How far the rotation is.
    pub fn state(&self) -> State {
        self.machine.state()
    }

    /// From one key to the next.
    pub fn period(&self) -> Duration {
        self.periods.lengths().period
    }

    /// Envelope of the newest record of the keys.
    pub fn signed(&self) -> Option<&[u8]> {
        self.signed.as_ref().map(|signed| signed.envelope.as_slice())
    }

    /// Whether a newer record was signed than the one that a roster holds.
    pub(super) fn is_ahead_of(&self, held: Option<&NodeKeys>) -> bool {
        self.signed.as_ref().is_some_and(|signed| held.is_none_or(|held| held.seq < signed.seq))
    }

    fn look_every(&self) -> Duration {
        LOOK_EVERY.min(self.periods.lengths().silence / LOOKS_PER_SILENCE)
    }

    /// Tells the rotation what peers do on their tunnels.
    fn look(&mut self, now: Now, uses: &[TunnelUse]) {
        let since = now.running.saturating_sub(self.looked_at);
        self.looked_at = now.running;
        let is_heard =
            |one: &&TunnelUse, within| one.is_confirmed && one.last_received.is_some_and(|ago| ago <= within);
        let connected: BTreeMap<NodeId, Channel> = uses
            .iter()
            .filter(|one| is_heard(one, CONNECTED_FOR))
            .map(|one| (one.node, Channel::Registry))
            .collect();
        self.machine.connected(now, connected);
        for one in uses.iter().filter(|one| is_heard(one, CONNECTED_FOR)) {
            self.machine.switched(now, one.node, one.own);
        }
        for one in uses.iter().filter(|one| is_heard(one, since)) {
            self.machine.heard(now, one.own);
        }
    }

    /// Tells the rotation what the tunnels have carried.
    fn count(&mut self, now: Now, carried: (u64, u64)) {
        // Peers that are gone take their counts along.
        let packets = carried.0.saturating_sub(self.carried.0);
        let bytes = carried.1.saturating_sub(self.carried.1);
        self.carried = carried;
        self.machine.carried(now, packets, bytes);
    }

    fn public(&self, key: KeySince) -> Option<EpochKey> {
        let private = self.private.get(&key.epoch)?.local();
        Some(EpochKey { epoch: key.epoch.0, key: PublicKey(private.public()), since: Timestamp(key.since) })
    }
}

impl Mesh {
    /// Lets the rotation of this node's tunnel key go on.
    pub fn rotate_keys(&mut self, counters: &mut Counters) {
        let now = self.keys_now();
        if self.rotation.state() != State::Steady {
            let uses = self.plane.tunnel_uses();
            let uses: Vec<TunnelUse> =
                uses.into_iter().filter(|one| self.peers.contains_key(&one.node)).collect();
            self.rotation.look(now, &uses);
        }
        self.rotation.machine.tick(now);
        self.turn_keys(counters);
    }

    /// Counts what the keys have carried; comes every second.
    pub(super) fn count_carried(&mut self, counters: &mut Counters) {
        let now = self.keys_now();
        let peers = self.plane.peers();
        let packets = peers.iter().map(|peer| peer.rx_packets + peer.tx_packets).sum();
        let bytes = peers.iter().map(|peer| peer.rx_bytes + peer.tx_bytes).sum();
        self.rotation.count(now, (packets, bytes));
        self.turn_keys(counters);
    }

    /// Replaces this node's key before its time.
    pub fn rotate_now(&mut self, counters: &mut Counters) {
        let now = self.keys_now();
        self.rotation.machine.rotate(now);
        self.turn_keys(counters);
    }

    /// Replaces this node's keys at once, because somebody else knows them: connections are interrupted.
    pub fn keys_are_compromised(&mut self, counters: &mut Counters) -> Result<(), ApiError> {
        let now = self.keys_now();
        self.rotation.machine.compromised(now);
        self.turn_keys(counters);
        match self.rotation.is_stored {
            true => Ok(()),
            false => {
                Err(ApiError::new(ErrorCode::StorageFailed, "the keys are dropped, and that can't be stored")
                    .with_cause("the state directory takes no more")
                    .with_hint(
                        "make room, and do not restart meshd before: it would go on with the stolen key",
                    ))
            }
        }
    }

    /// A registry has told all that it knows, also of this node.
    pub(super) fn own_keys_sought(&mut self, counters: &mut Counters) {
        self.rotation.machine.looked(self.keys_now());
        self.turn_keys(counters);
    }

    /// A bundle of this node has come from outside. The roster refuses one that is older than its own, and yet the keys in it
    /// may be newer: a state that was restored may have signed a record since.
    pub(super) fn own_bundle_seen(&mut self, bundle: &[u8]) {
        let Some(keys) = self.own_word(bundle) else { return };
        let now = self.keys_now();
        self.rotation.machine.own_record_seen(now, keys.seq, Epoch(keys.cur.epoch), highest(&keys));
    }

    /// The keys in a bundle, if this node has signed them and they are not those that it knows.
    fn own_word(&self, bundle: &[u8]) -> Option<NodeKeys> {
        let envelope = Envelope::from_bytes(&PeerBundle::from_bytes(bundle).ok()?.keys).ok()?;
        let keys: NodeKeys = envelope.record().ok()?;
        let known = self.roster.node(&self.node).and_then(|view| view.keys());
        if keys.node != self.node || known == Some(&keys) {
            return None;
        }
        let identity = self.membership.secrets.identity().public();
        meshd_trust::verify_signature(&envelope, &self.membership.mesh, &identity).then_some(keys)
    }

    /// Time as the rotation sees it.
    pub fn keys_now(&self) -> Now {
        let date = (!self.clock.is_suspect()).then(|| self.clock.now().0);
        Now { running: boot(), date }
    }

    /// Does what the rotation asks for.
    pub(super) fn turn_keys(&mut self, counters: &mut Counters) {
        while let Some(effect) = self.rotation.next_effect() {
            match effect {
                Effect::MakeKey { epoch } => self.rotation.make_key(epoch),
                Effect::Store { ticket, stored } => {
                    let KeyRotation { file, private, .. } = &mut self.rotation;
                    let result = file.store(&stored, private);
                    // A disk takes its time, and what begins now must not count it.
                    let now = self.keys_now();
                    self.rotation.is_stored = result.is_ok();
                    match result {
                        Ok(()) => self.rotation.machine.stored(now, ticket),
                        Err(error) => {
                            let error = crate::chain::of(&error);
                            tracing::error!(error, "the tunnel keys can't be stored");
                            self.rotation.machine.not_stored(now, ticket);
                        }
                    }
                }
                Effect::Use(_) => {
                    if let Some(keys) = self.rotation.own_keys() {
                        self.plane.set_keys(keys);
                    }
                }
                Effect::Drop { epoch } => drop(self.rotation.private.remove(&epoch)),
                Effect::Publish(content) => self.publish_keys(&content, counters),
                Effect::Append(leaf) => self.log_key(leaf),
                // Peers do not ask for it.
                Effect::ShowProof { epoch: _ } => {}
                Effect::Alarm(alarm) => tell_alarm(alarm),
            }
        }
        self.drop_unsaid();
    }

    /// Signs what peers must know of the keys.
    fn publish_keys(&mut self, content: &Content, counters: &mut Counters) {
        let Content { seq, cur, next, prev, compromised } = *content;
        let of = |key: KeySince| self.rotation.public(key).ok_or(key.epoch);
        let (cur, next) = match of(cur).and_then(|cur| Ok((cur, next.map(of).transpose()?))) {
            Ok(keys) => keys,
            Err(lost) => return self.rotation.machine.key_lost(self.keys_now(), lost),
        };
        // One that is lost is accepted no more, whatever was promised.
        let prev_key = prev.and_then(|(key, _)| of(key).ok());
        let record = NodeKeys {
            version: VERSION,
            node: self.node,
            seq,
            issued_at: self.clock.now(),
            suites: self.suites.bits(),
            post_quantum: 0,
            compromised,
            cur,
            next,
            prev: prev_key,
            accept_until: prev.filter(|_| prev_key.is_some()).map(|(_, until)| Timestamp(until)),
        };
        tracing::debug!(seq, epoch = cur.epoch, suites = record.suites, "tunnel keys signed");
        let identity = self.membership.secrets.identity();
        let envelope = meshd_trust::sign(&record, &self.membership.mesh, &[&identity]).to_bytes();
        self.rotation.signed = Some(Signed { seq, envelope });
        self.accept_own_keys(counters);
        // A certificate that is due is asked for with these keys.
        self.renew_at_own_desk(counters);
    }

    /// Takes the newest record of the keys into the own roster, unless nobody would accept a word of this node now.
    pub(super) fn accept_own_keys(&mut self, counters: &mut Counters) {
        let may_speak = self.roster.standing(&self.node, self.clock.now()).may_speak();
        let envelope = self.rotation.signed().map(<[u8]>::to_vec);
        if let Some(envelope) = envelope.filter(|_| may_speak) {
            self.accept_own(&envelope, counters);
        }
    }
}

/// The highest number in a record.
fn highest(keys: &NodeKeys) -> Epoch {
    Epoch(keys.all().map(|key| key.epoch).max().unwrap_or(keys.cur.epoch))
}

/// Whether a peer's key before the one in use may still be used: clocks may differ by some time.
pub(super) fn is_accepted(keys: &NodeKeys, now: Timestamp) -> bool {
    keys.accept_until.is_some_and(|until| now.0 < until.0.saturating_add(SKEW_S))
}

/// Removes the files: a new membership has new keys.
pub fn forget_keys(dir: &Path) -> Result<(), GenerationsError> {
    file::forget(dir)
}

fn tell_alarm(alarm: Alarm) {
    match alarm {
        Alarm::RotationLate => tracing::warn!("the next tunnel key is late"),
        Alarm::StateRollback => {
            tracing::warn!(
                "this node has published newer tunnel keys than it remembers: its state was restored"
            );
        }
        Alarm::CloneSuspected => {
            tracing::error!("somebody else publishes tunnel keys under this node's identity: was it copied?");
        }
    }
}
