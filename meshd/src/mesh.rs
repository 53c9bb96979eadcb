//! One mesh as this host lives in it: what is verified, what is published, what the tunnels use.
//!
//! Records come in from registries, stewards and callers as bytes. The roster verifies them; what it accepts
//! is stored first and used afterwards, so a crash never brings back what was used less than what is on disk.

mod applied;
mod claims;
mod clock_floor;
mod cosigners;
mod desk;
mod duties;
mod endpoints;
mod entry;
mod external;
#[cfg(test)]
pub(crate) mod fixture;
mod key_log;
mod links;
mod naming;
mod prefixes;
mod publish;
mod rotation;
mod start;
mod view;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use meshd_api::{Event, EventKind};
use meshd_trust::{Accepted, Change, Roster};
use meshd_wire::{NodeId, OrgId, Timestamp};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::sleep;

use crate::clock::NodeClock;
use crate::config::Suites;
use crate::dataplane::{self, DataPlane, PeerConfig};
use crate::discovery::keyspace::{Keyspace, Slot};
use crate::discovery::{Finding, Published};
use crate::endpoints::Report;
use crate::generations::Generations;
use crate::membership::Membership;
use crate::metrics::Counters;
use crate::role::control::ControlRole;
use crate::role::registry::{Holders, Whereabouts};
use crate::role::steward::Steward;
use crate::tls::Admission;

use clock_floor::ClockFloor;
use cosigners::Cosigners;
use endpoints::Endpoints;
use external::ExternalsFile;
use key_log::KeyLog;
use links::RegistryLink;
use naming::Naming;
use rotation::KeyRotation;

pub use applied::MemberView;
pub use claims::OwnClaims;
pub use clock_floor::forget_clock_floor;
pub use cosigners::CosignCall;
pub use duties::{Errand, Help, RenewalRequest};
pub use entry::{Entry, Founding, forget_founding};
pub use external::{Newcomer, Wanted, claim_error, forget_externals};
pub use prefixes::refuse_conflicts;
pub use rotation::forget_keys;

/// Records that came before what proves them, kept until it comes; a flood beyond is refused.
const EARLY_MAX: usize = 1024;
/// Findings of registries waiting for the loop, and taken in at once; registries beyond wait.
const FINDINGS_MAX: usize = 256;
/// Refusals logged in one second; all are counted.
const REFUSALS_LOGGED_PER_S: u32 = 10;

/// What reaches a mesh from outside.
pub enum News {
    /// From the tunnels.
    Tunnels(dataplane::Event),
    /// From registries, by index.
    Registries(Vec<(usize, Finding)>),
    /// From the tasks of endpoints.
    Endpoints(Report),
    /// The rotation of the tunnel key has something to do.
    Keys,
    /// Something is to be logged.
    Log,
}

/// A mesh in operation.
pub struct Mesh {
    /// What this host is in it.
    pub membership: Membership,
    /// Everything verified.
    pub roster: Roster,
    /// Node time.
    pub clock: NodeClock,
    /// This node.
    pub node: NodeId,
    /// Tunnels.
    pub plane: Arc<DataPlane>,
    plane_events: mpsc::Receiver<dataplane::Event>,
    /// Of the registries of this mesh alone: what one that was left still says goes with it.
    findings: mpsc::Receiver<(usize, Finding)>,
    /// Registries in use, in the order of their indices.
    pub links: Vec<RegistryLink>,
    /// The steward role, if this host has it.
    pub steward: Option<Steward>,
    /// What listens for other hosts, if this host has a role.
    pub control: Option<ControlRole>,
    /// Transport keys that the embedded registry lets in.
    pub admission: Admission,
    device: String,
    /// TCP port where a steward or a registry listens.
    control_port: u16,
    holders: Holders,
    whereabouts: Whereabouts,
    roster_file: Generations,
    keyspace: Keyspace,
    published: watch::Sender<Arc<Published>>,
    early: BTreeMap<Slot, Vec<u8>>,
    unsaved: bool,
    unsaved_paths: bool,
    members: BTreeMap<NodeId, MemberView>,
    /// The members as the tunnels know them.
    peers: BTreeMap<NodeId, PeerConfig>,
    events: broadcast::Sender<Event>,
    stale: BTreeSet<OrgId>,
    refusals_logged: (Timestamp, u32),
    duties: duties::Duties,
    /// Suites that this node offers.
    suites: Suites,
    externals: ExternalsFile,
    claims: OwnClaims,
    /// A steward is asked for the addresses of a newcomer; what else there is to ask waits.
    pub claiming: bool,
    clock_floor: ClockFloor,
    naming: Naming,
    endpoints: Endpoints,
    rotation: KeyRotation,
    key_log: KeyLog,
    cosigners: Cosigners,
}

impl Mesh {
    /// Waits for news of the tunnels and the registries. Cancel safe.
    pub async fn news(&mut self) -> News {
        let mut findings = Vec::new();
        let wait = self.rotation.wait(self.keys_now());
        let log_wait = self.key_log.wait();
        tokio::select! {
            biased;
            Some(event) = self.plane_events.recv() => News::Tunnels(event),
            Some(report) = self.endpoints.report() => News::Endpoints(report),
            1.. = self.findings.recv_many(&mut findings, FINDINGS_MAX) => News::Registries(findings),
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => News::Keys,
            () = sleep(log_wait.unwrap_or_default()), if log_wait.is_some() => News::Log,
            else => std::future::pending().await,
        }
    }

    /// Takes in what registries told; all that has come by now is stored at once.
    pub fn on_findings(&mut self, findings: Vec<(usize, Finding)>, counters: &mut Counters) {
        let mut values = Vec::new();
        let mut has_list = false;
        for (index, finding) in findings {
            match finding {
                Finding::Values(more) => values.extend(more),
                Finding::Connected => {
                    has_list = true;
                    self.on_link(index, true, String::new());
                }
                Finding::Disconnected { reason } => self.on_link(index, false, reason),
            }
        }
        self.absorb(values, counters);
        // A registry tells all that it has before it counts as connected.
        if has_list && self.links.iter().all(|link| link.connected == Some(true)) {
            self.own_keys_sought(counters);
        }
    }

    /// Verifies values in the order in which they prove each other, stores what is new, uses it.
    fn absorb(&mut self, values: Vec<(Vec<u8>, Vec<u8>)>, counters: &mut Counters) {
        let mut waiting: Vec<(Slot, Vec<u8>)> = Vec::new();
        for (key, value) in values {
            match self.keyspace.slot(&key) {
                Some(slot) => waiting.push((slot, value)),
                None => counters.keys_unknown += 1,
            }
        }
        let mut changes = Vec::new();
        let mut is_first_look = true;
        while !waiting.is_empty() {
            // Two registries may say different things of one place: each is judged.
            waiting.sort_by_key(|(slot, _)| *slot);
            let before = changes.len();
            for (slot, value) in std::mem::take(&mut waiting) {
                changes.extend(self.take_in(slot, value, is_first_look, counters));
            }
            if changes.len() > before {
                // What was early may be provable now.
                waiting.extend(std::mem::take(&mut self.early));
                is_first_look = false;
            }
        }
        self.claims.note(&changes);
        let has_own_keys = changes.contains(&Change::Keys(self.node));
        if changes.iter().any(|change| !matches!(change, Change::Paths(_) | Change::Endpoint(..))) {
            self.commit(counters);
        } else if !changes.is_empty() {
            // Paths are hints, endpoints come and go: both are stored once a second at most.
            self.unsaved_paths = true;
            self.apply();
        }
        if has_own_keys {
            self.own_keys_seen(counters);
        }
    }

    /// Takes in one value; gives what it changed. One that waits was counted at the first look.
    fn take_in(
        &mut self,
        slot: Slot,
        value: Vec<u8>,
        is_first_look: bool,
        counters: &mut Counters,
    ) -> Vec<Change> {
        if !slot.suits(&value) {
            self.refused(slot, "misplaced", counters);
            return Vec::new();
        }
        let now = self.clock.now();
        let result = match slot {
            Slot::Peer(_) => self.roster.accept_bundle(&value, now),
            Slot::Genesis
            | Slot::Root(..)
            | Slot::Delegation(..)
            | Slot::Revocations(_)
            | Slot::State(_)
            | Slot::Paths(_)
            | Slot::Address(_)
            | Slot::Block(_) => self.roster.accept(&value, now).map(|accepted| match accepted {
                Accepted::New(change) => vec![change],
                Accepted::Known | Accepted::Opaque => Vec::new(),
            }),
        };
        match result {
            Ok(changes) => {
                counters.records_accepted += changes.len() as u64;
                for change in &changes {
                    self.on_change(change);
                }
                changes
            }
            Err(refusal) => {
                let waits = refusal.may_pass_later();
                if waits && (self.early.len() < EARLY_MAX || self.early.contains_key(&slot)) {
                    self.early.insert(slot, value);
                }
                if is_first_look || !waits {
                    self.refused(slot, refusal.reason(), counters);
                }
                Vec::new()
            }
        }
    }

    fn on_change(&mut self, change: &Change) {
        if let Change::State(org) = change
            && *org == self.membership.org
            && let Some(state) = self.roster.org(org).and_then(|org| org.state().cloned())
        {
            self.clock.heard(state.issued_at);
        }
    }

    fn refused(&mut self, slot: Slot, reason: &'static str, counters: &mut Counters) {
        *counters.records_refused.entry(reason).or_default() += 1;
        if self.may_log_refusal() {
            let record = self.keyspace.key(slot);
            tracing::warn!(record, reason, "refused a record");
            self.emit(EventKind::RecordRefused { record, reason: reason.to_owned(), signer: None });
        }
    }

    /// Whether this second has room for another line about a refusal; a flood is counted, not written down.
    fn may_log_refusal(&mut self) -> bool {
        let now = crate::clock::wall();
        if self.refusals_logged.0 != now {
            self.refusals_logged = (now, 0);
        }
        self.refusals_logged.1 += 1;
        self.refusals_logged.1 <= REFUSALS_LOGGED_PER_S
    }

    /// Stores the roster, then uses it; while it can't be stored, the tunnels stay as they are.
    pub fn commit(&mut self, counters: &mut Counters) {
        match self.roster_file.write(&self.roster.to_bytes()) {
            Ok(()) => {
                self.unsaved_paths = false;
                self.merge_chain();
                if std::mem::take(&mut self.unsaved) {
                    tracing::info!("the state can be stored again");
                }
                self.apply();
            }
            Err(error) => {
                counters.store_failures += 1;
                if !std::mem::replace(&mut self.unsaved, true) {
                    let error = crate::chain::of(&error);
                    tracing::error!(error, "the state can't be stored: running on the old one");
                }
            }
        }
    }

    /// What a change of a tunnel is to those who watch.
    pub fn tunnel_event(&self, event: &dataplane::Event) -> Option<EventKind> {
        let of = |node: &NodeId| {
            let (name, org) = match self.members.get(node) {
                Some(member) => (member.name.clone(), member.org.clone()),
                None => (self.external_name(node).map_or_else(|| node.short(), str::to_owned), String::new()),
            };
            (name, node.to_string(), org)
        };
        match event {
            dataplane::Event::PeerUp { node, endpoint } => {
                let (name, id, org) = of(node);
                Some(EventKind::PeerUp { name, id, org, path: Some(format!("udp {endpoint}")) })
            }
            dataplane::Event::PeerDown { node } => {
                let (name, id, org) = of(node);
                Some(EventKind::PeerDown { name, id, org, reason: "silent".to_owned() })
            }
            dataplane::Event::PathChanged { node, endpoint } => {
                let (name, id, org) = of(node);
                Some(EventKind::PathChanged { name, id, org, path: format!("udp {endpoint}") })
            }
            dataplane::Event::DeviceLost
            | dataplane::Event::ThreadRestarted { .. }
            | dataplane::Event::ThreadEnded { .. } => None,
        }
    }

    fn emit(&self, kind: EventKind) {
        // Nobody listens: nothing to tell.
        let _ = self.events.send(Event { at_ms: crate::clock::wall_ms(), kind });
    }

    /// Ends everything in order: what others reach first, the tunnels last.
    pub async fn stop(self) {
        let Self { links, control, plane, naming, mut clock_floor, .. } = self;
        drop(links);
        naming.stop().await;
        if let Some(control) = control {
            control.stop().await;
        }
        let stopped = Instant::now();
        plane.stop();
        clock_floor.settle(clock_floor::boot());
        tracing::info!(took_ms = stopped.elapsed().as_millis() as u64, "tunnels are down");
    }
}
