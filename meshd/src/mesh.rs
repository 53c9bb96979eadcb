//! One mesh as this host lives in it: what is verified, what is published, what the tunnels use.
//!
//! Records come in from registries, stewards and callers as bytes. The roster verifies them; what it accepts
//! is stored first and used afterwards, so a crash never brings back what was used less than what is on disk.

mod absorb;
mod applied;
mod checkpoints;
mod claims;
mod clock_floor;
mod cosigners;
mod delegation;
mod desk;
mod duties;
mod endpoints;
mod entry;
mod external;
#[cfg(test)]
pub(crate) mod fixture;
mod journal;
mod key_log;
mod links;
mod mirrors;
mod naming;
mod neighbours;
mod prefixes;
mod publish;
mod rotation;
mod start;
mod turn;
mod view;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use meshd_api::{Event, EventKind};
use meshd_trust::Roster;
use meshd_wire::{NodeId, OrgId, Timestamp};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::sleep;

use crate::channel::{Channels, Received};
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
use crate::role::registry::{Holders, ServerKeys, Whereabouts};
use crate::role::steward::Steward;
use crate::tls::Admission;

use absorb::Found;
use checkpoints::Checkpoints;
use clock_floor::ClockFloor;
use cosigners::Cosigners;
use endpoints::Endpoints;
use external::ExternalsFile;
use journal::Journal;
use key_log::KeyLog;
use links::RegistryLink;
use mirrors::Mirrors;
use naming::Naming;
use rotation::KeyRotation;

pub use applied::MemberView;
pub use checkpoints::{GrowthCall, forget_checkpoints};
pub use claims::OwnClaims;
pub use clock_floor::forget_clock_floor;
pub use cosigners::CosignCall;
pub use duties::{Errand, Help, RenewalRequest};
pub use entry::{Entry, Founding, forget_founding};
pub use external::{Newcomer, Wanted, claim_error, forget_externals};
pub use journal::forget_journal;
pub use mirrors::CopyCall;
pub use prefixes::refuse_conflicts;
pub use rotation::forget_keys;

/// Findings of registries waiting for the loop, and taken in at once; registries beyond wait.
const FINDINGS_MAX: usize = 256;

/// What reaches a mesh from outside.
pub enum News {
    /// From the tunnels.
    Tunnels(dataplane::Event),
    /// From registries, by index.
    Registries(Vec<(usize, Finding)>),
    /// From neighbours, over their control channels.
    Neighbours(Vec<Received>),
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
    /// Control channels with neighbours.
    pub channels: Channels,
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
    server_keys: ServerKeys,
    servers_unsaved: bool,
    roster_file: Generations,
    keyspace: Keyspace,
    published: watch::Sender<Arc<Published>>,
    early: BTreeMap<Slot, Found>,
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
    journal: Journal,
    cosigners: Cosigners,
    mirrors: Mirrors,
    checkpoints: Checkpoints,
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
            received = self.channels.received() => News::Neighbours(received),
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
        self.learn(values, counters);
        // A registry tells all that it has before it counts as connected.
        if has_list && self.links.iter().all(|link| link.connected == Some(true)) {
            self.own_keys_sought(counters);
        }
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
        let Self { links, control, plane, naming, channels, mut clock_floor, mut journal, .. } = self;
        drop((links, channels));
        naming.stop().await;
        if let Some(control) = control {
            control.stop().await;
        }
        let stopped = Instant::now();
        plane.stop();
        clock_floor.settle(crate::clock::boot());
        journal.note_all((self.node, self.membership.org), &plane.take_handshakes(), self.clock.now());
        journal.store();
        tracing::info!(took_ms = stopped.elapsed().as_millis() as u64, "tunnels are down");
    }
}
