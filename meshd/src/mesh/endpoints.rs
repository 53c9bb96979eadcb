//! Attaches containers, pods and processes to this mesh: what is asked, in the order of the steps.
//!
//! The same verbs come over the control socket and over the plugins' socket. What takes time runs beside the event
//! loop and comes back as a report, which dies with the mesh.

mod addresses;
mod adopt;
mod answer;
mod attach;
mod collect;
mod cut_off;
mod describe;
mod detach;
mod network;
mod policy;
mod stored;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use meshd_api::{ApiError, Endpoint, ErrorCode};
use meshd_wire::{EndpointId, NodeId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Mesh;
use crate::control::Answer;
use crate::daemon::Message;
use crate::endpoints::{
    Addresses, BootId, Content, EndpointsFile, Entry, Job, Jobs, PoliciesFile, Pools, Report, Scope, Stage,
    Suspects, Wiring, WiringError, WiringSettings, allocation,
};
use crate::os::VethError;

/// Reports waiting for the loop; tasks beyond wait.
const REPORTS_MAX: usize = 64;

/// The endpoints of this node, and what is being done with them.
pub struct Endpoints {
    file: EndpointsFile,
    policies: PoliciesFile,
    /// The pools of this node's networks.
    pub addresses: Addresses,
    jobs: Jobs,
    /// Who waits for an endpoint to be attached.
    attaching: BTreeMap<EndpointId, attach::Attaching>,
    /// Who waits for one to be detached.
    detaching: BTreeMap<EndpointId, detach::Told>,
    /// What waits for the disk.
    unstored: stored::Unstored,
    /// What runs beside the loop.
    effects: JoinSet<()>,
    /// Made when it is first needed: a node without endpoints leaves the packet filter alone.
    wiring: Option<Arc<Wiring>>,
    /// Those whose container lives without its link.
    broken: BTreeSet<EndpointId>,
    /// Whether all are isolated: the node was revoked.
    is_cut_off: bool,
    /// This run of the host: what another one had is gone.
    boot: BootId,
    messages: mpsc::Sender<Message>,
    reports: mpsc::Sender<Report>,
    received: mpsc::Receiver<Report>,
    suspects: Suspects,
    survey: watch::SurveyPace,
    mending: watch::Mending,
}

impl Endpoints {
    /// Reads the endpoints that a node has.
    pub fn open(dir: &Path, node: NodeId, messages: mpsc::Sender<Message>) -> Result<Self, ApiError> {
        let file = EndpointsFile::open(dir, node).map_err(|error| {
            ApiError::new(ErrorCode::StorageFailed, "the endpoints can't be read")
                .with_cause(crate::chain::of(&error))
                .with_hint("restore `endpoints.a` from a backup, or remove both copies and attach anew")
        })?;
        let policies = PoliciesFile::open(dir, node).map_err(|error| {
            ApiError::new(ErrorCode::StorageFailed, "the policies can't be read")
                .with_cause(crate::chain::of(&error))
                .with_hint("restore `policies.a` from a backup, or remove both copies")
        })?;
        let boot = BootId::current().map_err(|error| {
            ApiError::new(ErrorCode::DeviceFailed, "the kernel doesn't tell which run of it this is")
                .with_cause(error.to_string())
        })?;
        let (reports, received) = mpsc::channel(REPORTS_MAX);
        Ok(Self {
            file,
            policies,
            addresses: Addresses::default(),
            jobs: Jobs::default(),
            attaching: BTreeMap::new(),
            detaching: BTreeMap::new(),
            unstored: stored::Unstored::default(),
            effects: JoinSet::new(),
            wiring: None,
            broken: BTreeSet::new(),
            is_cut_off: false,
            boot,
            messages,
            reports,
            received,
            suspects: Suspects::default(),
            survey: watch::SurveyPace::new(Instant::now()),
            mending: watch::Mending::default(),
        })
    }

    /// Waits for the next result of a task. Cancel safe.
    pub async fn report(&mut self) -> Option<Report> {
        self.received.recv().await
    }

    fn entry(&self, id: EndpointId) -> Option<&Entry> {
        self.file.content().entries.iter().find(|entry| entry.id == id)
    }

    /// Changes what is stored; when this returns, it is on disk, or nothing has changed.
    fn store(&mut self, change: impl FnOnce(&mut Content)) -> Result<(), ApiError> {
        let mut content = self.file.content().clone();
        change(&mut content);
        self.file.replace(content).map_err(|error| stored::unstorable(crate::chain::of(&error)))
    }

    /// Says how far an endpoint is; the disk follows.
    fn set_stage(&mut self, id: EndpointId, stage: Stage) {
        self.file.change(|content| {
            content.entries.iter_mut().filter(|entry| entry.id == id).for_each(|entry| entry.stage = stage);
        });
    }

    /// Runs an effect beside the loop, and brings back what came of it; `broken_off` if it panics.
    fn run(
        &mut self,
        wiring: &Arc<Wiring>,
        effect: impl FnOnce(&Wiring) -> Report + Send + 'static,
        broken_off: Option<Report>,
    ) {
        let wiring = Arc::clone(wiring);
        self.run_beside(move || effect(&wiring), broken_off);
    }

    /// Does something that takes time beside the loop.
    fn run_beside(&mut self, act: impl FnOnce() -> Report + Send + 'static, broken_off: Option<Report>) {
        while self.effects.try_join_next().is_some() {}
        let reports = self.reports.clone();
        // Ends by itself: every step of it is a short call of the kernel, or has a deadline.
        self.effects.spawn(async move {
            let report = match tokio::task::spawn_blocking(act).await {
                Ok(report) => Some(report),
                Err(error) => {
                    tracing::error!(%error, "an effect on an endpoint broke off");
                    broken_off
                }
            };
            if let Some(report) = report {
                // The mesh was left meanwhile: nobody to tell.
                drop(reports.send(report).await);
            }
        });
    }

    /// A job came to its end; gives the next one to begin.
    fn done(&mut self, id: EndpointId) -> Option<(EndpointId, Job)> {
        self.survey.disturb(id);
        self.jobs.done(id)
    }

    /// Waits for what runs beside the loop; nothing is written any more after that.
    async fn settle(&mut self) {
        self.received.close();
        while self.effects.join_next().await.is_some() {}
        self.file.close();
    }
}

impl Mesh {
    /// Where pools may lie.
    pub(super) fn scope(&self) -> Scope {
        let own4 = self.roster.org(&self.membership.org).and_then(|org| org.member().prefix4.parts());
        let own4 = own4.and_then(|(addr, len)| IpNet::new(addr, len).ok());
        let own6 = self.roster.node(&self.node).map(|view| view.cert().ipv6());
        let own6 = own6.and_then(|addr| IpNet::new(addr.into(), 64).ok()).map(|net| net.trunc());
        Scope { own: own4.into_iter().chain(own6).collect(), mesh: self.overlay() }
    }

    /// Takes over the endpoints of the last run, and undoes what was not finished.
    pub(super) fn resume_endpoints(&mut self) -> Result<(), ApiError> {
        let has_links = self.adopt_endpoints();
        let content = self.endpoints.file.content().clone();
        for network in &content.networks {
            // Judged when it came; a prefix that the organisation has lost since gives no address.
            let Ok(pools) = Pools::of(network) else { continue };
            for net in pools.nets {
                self.open_pool(net, allocation(network.allocation))?;
            }
        }
        let now = self.clock.now();
        for block in &content.blocks {
            self.endpoints.addresses.hold(*block, now);
        }
        let addresses = content.entries.iter().flat_map(|entry| entry.addresses.iter());
        for address in addresses.chain(content.reserved.iter().map(|reserved| &reserved.address)) {
            self.endpoints.addresses.hold((*address).into(), now);
        }
        self.own_addresses_changed();
        if content.networks.is_empty() && content.entries.is_empty() && !has_links {
            return Ok(());
        }
        self.wiring()?;
        self.undo_unfinished();
        self.claim_attached();
        Ok(())
    }

    /// What does the effects; the first call prepares this host for endpoints.
    fn wiring(&mut self) -> Result<Arc<Wiring>, ApiError> {
        if let Some(wiring) = &self.endpoints.wiring {
            return Ok(Arc::clone(wiring));
        }
        let view = self
            .roster
            .node(&self.node)
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the own certificate is not in the roster"))?;
        let settings = WiringSettings {
            device: self.device.clone(),
            addr4: view.cert().ipv4(),
            addr6: view.cert().ipv6(),
            prefixes: self.overlay(),
            underlay_port: self.plane.local_port(),
            control_port: self.control_port,
            device_mtu: self.plane.mtu(),
        };
        let entries = &self.endpoints.file.content().entries;
        let may_be_admitted = if self.is_revoked() { &[][..] } else { entries };
        let started = Wiring::start(settings, entries, may_be_admitted, self.rulebook());
        let wiring = Arc::new(started.map_err(|error| wiring_failed(&error))?);
        wiring.set_cut_off(self.is_revoked());
        self.endpoints.wiring = Some(Arc::clone(&wiring));
        Ok(wiring)
    }

    /// Begins a job, now or when those before it are done.
    fn begin(&mut self, id: EndpointId, job: Job) {
        let first = self.endpoints.jobs.begin(id, job).map(|job| (id, job));
        self.work_through(first);
    }

    /// A job came to its end: begins what waits behind it.
    fn finish(&mut self, id: EndpointId) {
        let next = self.endpoints.done(id);
        self.work_through(next);
    }

    /// Starts a job; one that ends at once makes room for the next.
    fn work_through(&mut self, mut next: Option<(EndpointId, Job)>) {
        while let Some((id, job)) = next {
            next = if self.work_on(id, job) { None } else { self.endpoints.done(id) };
        }
    }

    /// Starts a job; whether it goes on beside the loop.
    fn work_on(&mut self, id: EndpointId, job: Job) -> bool {
        match job {
            Job::Attach(request, answer) => self.begin_attach(id, request, answer),
            Job::Detach(told) => self.begin_detach(id, told),
            Job::Rewire => self.begin_rewire(id),
            Job::RemovePair(told) => self.begin_remove_pair(id, told),
        }
    }

    /// Takes in what a task brought back.
    pub fn on_report(&mut self, report: Report) {
        match report {
            Report::Addressed { id, taken, missing } => self.on_addressed(id, &taken, missing),
            Report::Wired { id, result } => self.on_wired(id, result),
            Report::Unwired { id, result } => self.on_unwired(id, result),
            Report::Checked { result, answer } => {
                let result = result.map_err(|error| wiring_failed(&error));
                answer.send(result.map(|faults| meshd_api::CheckReply { faults }));
            }
            Report::Reserved { pool, result, answer } => self.on_reserved(pool, result, answer),
            Report::Stored { edition, result } => self.on_stored(edition, result),
            Report::Removed { id, result } => self.on_removed(id, result),
            Report::CutOff { result } => self.on_cut_off(result),
            Report::Repaired { result } => {
                if let Err(error) = result {
                    tracing::warn!(error = crate::chain::of(&error), "a repair failed");
                }
            }
            Report::Ruled { result, tell } => Self::on_ruled(result, tell),
            Report::Surveyed { result } => self.on_surveyed(result),
        }
    }

    /// Tells the data plane which addresses behind this node are its own.
    fn own_addresses_changed(&self) {
        let entries = self.endpoints.file.content().entries.iter();
        let own = entries.flat_map(|entry| entry.addresses.iter().copied().map(IpNet::from));
        self.plane.set_own(own.collect());
    }

    /// Takes all endpoints away: the mesh is left. What is being done ends before: it would leave something behind.
    pub async fn stop_endpoints(&mut self) {
        self.endpoints.settle().await;
        if let Some(wiring) = self.endpoints.wiring.take()
            && let Err(error) = wiring.stop()
        {
            tracing::error!(
                error = crate::chain::of(&error),
                "something of the endpoints is left on this host"
            );
        }
    }
}

fn wiring_failed(error: &WiringError) -> ApiError {
    let (code, hint) = match error {
        WiringError::Namespace(_) => {
            (ErrorCode::BadRequest, "give the network namespace of the container, not that of the host")
        }
        WiringError::Pair(VethError::IfnameTaken { .. }) => {
            (ErrorCode::InUse, "name another interface, or remove the one that is there")
        }
        WiringError::Policies(error) if error.is_too_much() => (
            ErrorCode::TooMany,
            "let fewer policies select it, or let them name prefixes instead of addresses",
        ),
        WiringError::Firewall(_) | WiringError::Policies(_) => {
            (ErrorCode::DeviceFailed, "install nftables, and look at the daemon's log")
        }
        WiringError::CutOff => (ErrorCode::Revoked, "`meshctl leave`, and join with a new token"),
        WiringError::Owner(_) => (ErrorCode::BadRequest, "name the runtime in lowercase letters"),
        WiringError::Pair(_)
        | WiringError::HostEnd(_)
        | WiringError::ContainerEnd(_)
        | WiringError::Route(_)
        | WiringError::Forwarding(_)
        | WiringError::Passage(_)
        | WiringError::Prefix(_)
        | WiringError::Pairs(_)
        | WiringError::Routes(_)
        | WiringError::Boot(_)
        | WiringError::BrokenOff => {
            (ErrorCode::DeviceFailed, "the daemon needs CAP_NET_ADMIN and CAP_SYS_ADMIN: look at its log")
        }
    };
    ApiError::new(code, "the endpoint can't be wired").with_cause(crate::chain::of(error)).with_hint(hint)
}

/// Says who asked that its endpoint is detached first.
fn unknown(attachment: &meshd_api::Attachment) -> ApiError {
    let meshd_api::Attachment { runtime, network, container, ifname } = attachment;
    let error = format!("{ifname} of {container} is not attached to network {network} of {runtime}");
    ApiError::new(ErrorCode::NotFound, error).with_hint("`meshctl endpoints` lists what is")
}

/// Tells somebody who may have gone.
fn tell(answer: oneshot::Sender<Result<bool, ApiError>>, result: Result<bool, ApiError>) {
    if answer.send(result).is_err() {
        tracing::debug!("a caller left before its answer");
    }
}

/// Who waits for an endpoint.
type Waiting = Answer<Endpoint>;
