//! One registry as this node uses it: puts what the node publishes, and hands on what others put.
//!
//! A watch is only a hint (etcd has lost and reordered events): every reconciliation lists the whole prefix,
//! so what a watch missed, and what a registry forgot, is repaired within [`RECONCILE_EVERY`].
//! Values go to the event loop unverified; nothing here looks into them.
//!
//! Tasks: one a registry, owned by its [`Discovery`] and ended with it.

mod claims;
pub mod keyspace;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use meshd_registry::{CallError, CasOutcome, Event, Expect, Lease, LeaseId, Registry, Rev, Versioned};
use meshd_wire::NodeId;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use keyspace::{Keyspace, Slot};

/// Longest time until a missed event or a lost value is repaired; half of the promised 60 s.
const RECONCILE_EVERY: Duration = Duration::from_secs(30);
/// Spreads the reconciliations of many nodes over time.
const RECONCILE_JITTER_MS_MAX: u64 = 5_000;
/// Wait after a failure, doubled up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest wait after failures: a registry that comes back is noticed soon.
const RETRY_LONGEST: Duration = Duration::from_secs(8);
/// An own value that somebody else changes is put again at most this often.
const REPAIR_EVERY: Duration = Duration::from_secs(1);
/// Life of fast values (paths): a node that is gone leaves no addresses behind for long.
const LEASE_FAST: Duration = Duration::from_secs(90);
/// Life of slow values (certificate and keys).
const LEASE_SLOW: Duration = Duration::from_secs(24 * 3600);
/// Keeps the numbers of leases apart from other hashes.
const LEASE_LABEL: &[u8] = b"meshd/1 lease";

/// Values remembered as seen: three a node and two an endpoint for the largest mesh; a flood beyond is only handed on
/// twice.
const SEEN_MAX: usize = 3 * 16_384 + 2 * 65_536;
/// Claims that are over and cleared away with one reconciliation: others wait for the next one.
const CLEARED_MAX: usize = 256;
/// Tries to write a claim whose key changes meanwhile; the next reconciliation tries again.
const SWAPS_MAX: u32 = 4;

/// Fingerprints of the values of a registry, by the fingerprint of their key: how much is remembered must not
/// hang on the length of keys that a registry invents.
type Seen = BTreeMap<[u8; 32], [u8; 32]>;

fn fingerprint(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// How long a value may outlive its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// For ever: a record of the organisation.
    Lasting,
    /// A day: certificate and keys.
    Slow,
    /// A minute and a half: paths.
    Fast,
}

/// What this node publishes. Slots are ordered so that what proves comes before what is proved.
pub type Published = BTreeMap<Slot, (Arc<[u8]>, Life)>;

/// What a registry tells the event loop.
#[derive(Debug)]
pub enum Finding {
    /// Keys and values that are new; unverified.
    Values(Vec<(Vec<u8>, Vec<u8>)>),
    /// The registry answers.
    Connected,
    /// It no longer answers.
    Disconnected {
        /// Why.
        reason: String,
    },
}

/// A registry in use; its task ends with this value.
#[derive(Debug)]
pub struct Discovery {
    task: JoinHandle<()>,
}

impl Discovery {
    /// Starts using a registry. `index` comes back with every finding.
    pub fn start(
        index: usize,
        node: NodeId,
        registry: Registry,
        keyspace: Keyspace,
        published: watch::Receiver<Arc<Published>>,
        findings: mpsc::Sender<(usize, Finding)>,
    ) -> Self {
        let seed =
            u64::from(std::process::id()).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ crate::clock::wall_ms();
        let agent = Agent {
            index,
            node,
            registry,
            keyspace,
            published,
            findings,
            leases: Leases::default(),
            connected: None,
            seed,
        };
        Self { task: tokio::spawn(agent.run()) }
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reports that the event loop is gone, so that the task ends.
struct LoopGone;

/// Why a session with the registry ended.
enum Ended {
    LoopGone,
    WatchOver,
    Failed(CallError),
}

impl From<LoopGone> for Ended {
    fn from(_: LoopGone) -> Self {
        Self::LoopGone
    }
}

impl From<CallError> for Ended {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

#[derive(Default)]
struct Leases {
    slow: Option<Lease>,
    fast: Option<Lease>,
}

struct Agent {
    index: usize,
    node: NodeId,
    registry: Registry,
    keyspace: Keyspace,
    published: watch::Receiver<Arc<Published>>,
    findings: mpsc::Sender<(usize, Finding)>,
    leases: Leases,
    connected: Option<bool>,
    seed: u64,
}

impl Agent {
    async fn run(mut self) {
        let mut wait = RETRY_FIRST;
        loop {
            let started = Instant::now();
            let reason = match self.session().await {
                Ok(never) => match never {},
                Err(Ended::LoopGone) => return,
                Err(Ended::WatchOver) => "the watch ended".to_owned(),
                Err(Ended::Failed(error)) => crate::chain::of(&error),
            };
            self.leases = Leases::default();
            tracing::debug!(registry = self.index, reason, "session with the registry ended");
            if self.say_connected(false, &reason).await.is_err() {
                return;
            }
            if started.elapsed() > RETRY_LONGEST {
                wait = RETRY_FIRST;
            }
            let jitter = Duration::from_millis(self.random(wait.as_millis() as u64 / 2 + 1));
            sleep_until(Instant::now() + wait + jitter).await;
            wait = (wait * 2).min(RETRY_LONGEST);
        }
    }

    /// Lists, puts, watches; comes back only when something failed.
    async fn session(&mut self) -> Result<std::convert::Infallible, Ended> {
        let mut seen = Seen::new();
        let (rev, mut settled) = self.reconcile(&mut seen).await?;
        self.say_connected(true, "").await?;
        let watch = self.registry.watch(self.keyspace.prefix().as_bytes(), rev.next());
        let mut watch = pin!(watch);
        let mut reconcile_at = self.next_reconcile();
        let mut repair = Repair::default();
        loop {
            tokio::select! {
                event = watch.next() => match event {
                    Some(Event::Put(Versioned { key, value, .. })) => {
                        if self.is_overwritten(&key, &value) {
                            reconcile_at = reconcile_at.min(repair.due(Instant::now()));
                        }
                        self.hand_on(&mut seen, key.to_vec(), value.to_vec()).await?;
                    }
                    Some(Event::Delete { key, .. }) => {
                        seen.remove(&fingerprint(&key));
                        if self.is_own(&key) {
                            reconcile_at = reconcile_at.min(repair.due(Instant::now()));
                        }
                    }
                    Some(Event::Resync { .. }) => reconcile_at = Instant::now(),
                    Some(Event::Connected) => {
                        self.say_connected(true, "").await?;
                        reconcile_at = Instant::now();
                    }
                    Some(Event::Disconnected { reason }) => self.say_connected(false, &reason).await?,
                    None => return Err(Ended::WatchOver),
                },
                changed = self.published.changed() => {
                    changed.map_err(|_| LoopGone)?;
                    settled = self.put_missing(&mut seen, &settled).await?;
                }
                () = sleep_until(reconcile_at) => {
                    (_, settled) = self.reconcile(&mut seen).await?;
                    self.say_connected(true, "").await?;
                    reconcile_at = self.next_reconcile();
                }
                () = lost(&self.leases) => {
                    self.leases = Leases::default();
                    reconcile_at = Instant::now();
                }
            }
        }
    }

    /// Lists the whole prefix, hands on what is new, and puts own values that are absent or differ. Gives what is put.
    async fn reconcile(&mut self, seen: &mut Seen) -> Result<(Rev, Arc<Published>), Ended> {
        let listed = self.registry.list_all(self.keyspace.prefix().as_bytes()).await?;
        let mut now = Seen::new();
        let (mut news, mut leftovers) = (Vec::new(), Vec::new());
        for entry in listed.entries {
            if leftovers.len() < CLEARED_MAX && self.is_leftover(&entry) {
                leftovers.push((entry.key.clone(), entry.modified));
            }
            let (at, print) = (fingerprint(&entry.key), fingerprint(&entry.value));
            if seen.get(&at) != Some(&print) {
                news.push((entry.key.to_vec(), entry.value.to_vec()));
            }
            if now.len() < SEEN_MAX {
                now.insert(at, print);
            }
        }
        *seen = now;
        if !news.is_empty() {
            self.say(Finding::Values(news)).await?;
        }
        let settled = self.put_missing(seen, &Published::new()).await?;
        for (key, rev) in leftovers {
            // Whoever claims it meanwhile has it.
            let _ = self.registry.cas(key, Expect::Rev(rev), None, None).await?;
        }
        Ok((listed.rev, settled))
    }

    /// Whether an entry is a claim of this node that is over, and that nobody has to hear of any more.
    fn is_leftover(&self, entry: &Versioned) -> bool {
        let slot = self.keyspace.slot(&entry.key).filter(|slot| slot.claimed().is_some());
        slot.is_some_and(|slot| !self.published.borrow().contains_key(&slot))
            && claims::is_leftover(&entry.value, &self.node, crate::clock::wall())
    }

    /// Puts own values that are absent or differ, but for those that were settled before: a node with thousands of
    /// endpoints publishes one more at a time.
    async fn put_missing(&mut self, seen: &mut Seen, settled: &Published) -> Result<Arc<Published>, Ended> {
        let published = Arc::clone(&self.published.borrow_and_update());
        let changed = published.iter().filter(|(slot, own)| settled.get(slot) != Some(own));
        for (slot, (value, life)) in changed {
            let key = self.keyspace.key(*slot);
            let stands = seen.get(&fingerprint(key.as_bytes())) == Some(&fingerprint(value));
            if stands && self.outlives(*life) {
                continue;
            }
            let lease = self.lease(*life).await?;
            let put = match slot.claimed() {
                Some(_) => self.put_claim(&key, value, lease).await,
                None => self.registry.put(key.as_bytes(), value.to_vec(), lease).await.map(|_| true),
            };
            match put {
                // The watch will tell of it, and before it does nothing has to be put again.
                Ok(true) if seen.len() < SEEN_MAX => {
                    seen.insert(fingerprint(key.as_bytes()), fingerprint(value));
                }
                Ok(true) => {}
                Ok(false) => tracing::debug!(key, "another node's claim stands there"),
                // One refused key must not keep the others back, nor end the session.
                Err(
                    error @ (CallError::Denied { .. } | CallError::TooLarge { .. } | CallError::Full { .. }),
                ) => {
                    tracing::warn!(key, %error, "the registry refused a record of this node");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(published)
    }

    /// Whether a value that stands will stand until it is signed again. Paths hang on the lease of an earlier session,
    /// which nobody keeps alive any more.
    fn outlives(&self, life: Life) -> bool {
        match life {
            Life::Fast => self.leases.fast.is_some(),
            Life::Lasting | Life::Slow => true,
        }
    }

    /// Puts a claim, unless another node's stands there; says whether it did.
    async fn put_claim(&self, key: &str, value: &[u8], lease: Option<LeaseId>) -> Result<bool, CallError> {
        let mut expect = Expect::Absent;
        for _ in 0..SWAPS_MAX {
            match self.registry.cas(key.as_bytes(), expect, Some(value.to_vec().into()), lease).await? {
                CasOutcome::Done(_) => return Ok(true),
                CasOutcome::Conflict(None) => expect = Expect::Absent,
                CasOutcome::Conflict(Some(there)) => {
                    if !claims::may_be_replaced(&there.value, value, &self.node, crate::clock::wall()) {
                        return Ok(false);
                    }
                    expect = Expect::Rev(there.modified);
                }
            }
        }
        Ok(false)
    }

    async fn lease(&mut self, life: Life) -> Result<Option<LeaseId>, Ended> {
        let (slot, ttl) = match life {
            Life::Lasting => return Ok(None),
            Life::Slow => (&mut self.leases.slow, LEASE_SLOW),
            Life::Fast => (&mut self.leases.fast, LEASE_FAST),
        };
        let lease = match slot.take() {
            Some(lease) => lease,
            None => {
                let id = lease_id(self.keyspace.prefix(), &self.node, ttl);
                self.registry.lease_again(id, ttl).await?
            }
        };
        Ok(Some(slot.insert(lease).id()))
    }

    async fn hand_on(&self, seen: &mut Seen, key: Vec<u8>, value: Vec<u8>) -> Result<(), LoopGone> {
        let (at, print) = (fingerprint(&key), fingerprint(&value));
        if seen.get(&at) == Some(&print) {
            return Ok(());
        }
        // A key that is remembered must not keep an old value: the old one, put again, would count as seen.
        if seen.len() < SEEN_MAX || seen.contains_key(&at) {
            seen.insert(at, print);
        }
        self.say(Finding::Values(vec![(key, value)])).await
    }

    fn is_own(&self, key: &[u8]) -> bool {
        self.keyspace.slot(key).is_some_and(|slot| self.published.borrow().contains_key(&slot))
    }

    /// Whether somebody put another value at a key of ours.
    fn is_overwritten(&self, key: &[u8], value: &[u8]) -> bool {
        let published = self.published.borrow();
        self.keyspace.slot(key).and_then(|slot| published.get(&slot)).is_some_and(|(own, _)| **own != *value)
    }

    async fn say(&self, finding: Finding) -> Result<(), LoopGone> {
        self.findings.send((self.index, finding)).await.map_err(|_| LoopGone)
    }

    async fn say_connected(&mut self, connected: bool, reason: &str) -> Result<(), LoopGone> {
        if self.connected.replace(connected) == Some(connected) {
            return Ok(());
        }
        let reason = reason.to_owned();
        self.say(if connected { Finding::Connected } else { Finding::Disconnected { reason } }).await
    }

    fn next_reconcile(&mut self) -> Instant {
        Instant::now() + RECONCILE_EVERY + Duration::from_millis(self.random(RECONCILE_JITTER_MS_MAX))
    }

    /// Spreads nodes apart; nothing secret hangs on it (xorshift64).
    fn random(&mut self, below: u64) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed % below.max(1)
    }
}

/// Number of a node's lease, the same in each of its runs: what stands is not put again, so if a run that was killed
/// left a lease of its own, its keys would hold it for a day, and many such runs would use up what a node may have.
fn lease_id(prefix: &str, node: &NodeId, ttl: Duration) -> LeaseId {
    let mut hash = Sha256::new();
    hash.update(LEASE_LABEL);
    // No prefix ends within another one, and what follows has fixed lengths.
    hash.update(prefix);
    hash.update(node.0);
    // Another time to live, of another release too, is another lease.
    hash.update(ttl.as_secs().to_be_bytes());
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = hash.finalize().into();
    LeaseId::chosen([a, b, c, d, e, f, g, h])
}

/// Spaces out repairs of own values that somebody else changes.
#[derive(Default)]
struct Repair {
    last: Option<Instant>,
}

impl Repair {
    /// When the next repair may happen; asked again before that, it stays as it is.
    fn due(&mut self, now: Instant) -> Instant {
        let due = match self.last {
            Some(last) if last >= now => last,
            Some(last) => now.max(last + REPAIR_EVERY),
            None => now,
        };
        self.last = Some(due);
        due
    }
}

/// Ends when a lease was lost; never, as long as there is none.
async fn lost(leases: &Leases) {
    tokio::select! {
        () = one_lost(leases.slow.as_ref()) => {}
        () = one_lost(leases.fast.as_ref()) => {}
    }
}

async fn one_lost(lease: Option<&Lease>) {
    match lease {
        Some(lease) => {
            let _ = lease.lost().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
