//! The event loop: one place that owns all state, fed by the control socket, other hosts and the kernel.
//!
//! Tasks: the control socket, the metrics socket, the address watch, and one for each call that needs the
//! network (join, renewal, farewell). They talk to the loop through bounded queues and own nothing.

mod endpoint;
mod errand;
mod external;
mod handle;
mod message;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use meshd_api::{Event, EventKind};
use meshd_wire::TokenId;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::control::{self, Command, ControlListener};
use crate::dataplane;
use crate::endpoints::{forget_endpoints, forget_policies};
use crate::enrol::EnrolCall;
use crate::generations::Generations;
use crate::membership::{MembershipFile, NodeSecrets};
use crate::mesh::{
    Mesh, News, forget_checkpoints, forget_clock_floor, forget_externals, forget_journal, forget_keys,
};
use crate::metrics::Counters;
use crate::state_dir::StateDir;

pub use message::Message;

/// Commands waiting for the loop; callers beyond wait at their sockets.
const COMMANDS_MAX: usize = 64;
/// Requests of other hosts waiting for the loop; a join takes about a millisecond.
const ENROL_CALLS_MAX: usize = 256;
/// Results of tasks that wait for the loop, and their questions: each task waits for the answer before the next one.
const MESSAGES_MAX: usize = 64;
/// Events a slow watcher may lag behind before it misses some.
const EVENTS_MAX: usize = 1024;
/// How often duties are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to stop.
pub fn run(config: Config, file: Option<&Path>) -> anyhow::Result<()> {
    crate::logging::start(config.log_format, &config.log_level)?;
    crate::logging::tame_redb();
    let state = StateDir::open(&config.state_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let file = file.map(|path| path.display().to_string());
    runtime.block_on(async { Daemon::start(config, file, state).await?.run().await })
}

/// Ends of the queues that tasks hold.
#[derive(Clone)]
pub struct Inlets {
    /// Of other hosts.
    pub enrol: mpsc::Sender<EnrolCall>,
    pub messages: mpsc::Sender<Message>,
}

/// The other ends.
struct Queues {
    commands: mpsc::Receiver<Command>,
    enrol: mpsc::Receiver<EnrolCall>,
    messages: mpsc::Receiver<Message>,
}

/// A request by file that waits for its answer.
struct PendingJoin {
    secrets: NodeSecrets,
    mesh: meshd_wire::MeshId,
    org: meshd_wire::OrgId,
}

struct Daemon {
    config: Config,
    config_file: Option<String>,
    state: StateDir,
    started: Instant,
    events: broadcast::Sender<Event>,
    inlets: Inlets,
    counters: Counters,
    mesh: Option<Mesh>,
    pending: Option<PendingJoin>,
    /// Secrets of a join that failed: its token may be used up by them, and only they may ask again with it.
    tried: Option<(TokenId, NodeSecrets)>,
    /// A join or a farewell is under way; others are refused meanwhile.
    busy: bool,
    tasks: Vec<JoinHandle<()>>,
    queues: Option<Queues>,
}

impl Daemon {
    async fn start(config: Config, config_file: Option<String>, state: StateDir) -> anyhow::Result<Self> {
        let (command_tx, commands) = mpsc::channel(COMMANDS_MAX);
        let (enrol_tx, enrol) = mpsc::channel(ENROL_CALLS_MAX);
        let (message_tx, messages) = mpsc::channel(MESSAGES_MAX);
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let inlets = Inlets { enrol: enrol_tx, messages: message_tx };

        let (_, membership) = MembershipFile::open(state.path()).context("read the membership")?;
        let counters = Counters::default();
        let mesh = match membership {
            Some(membership) => {
                let resumed = Mesh::resume(&config, &state, membership, &inlets, events.clone()).await;
                Some(resumed.context("resume the mesh")?)
            }
            None => None,
        };

        let door = control::Daemon { commands: command_tx, events: events.clone() };
        let listener = ControlListener::bind(&config.socket, control::caller::group())?;
        let plugins = ControlListener::bind(&config.plugin_socket, None)?;
        let mut tasks = vec![
            tokio::spawn(listener.serve(control::router(door.clone()), control::refusal_router())),
            tokio::spawn(plugins.serve(control::plugin_router(door.clone()), control::refusal_router())),
        ];
        if let Some(at) = config.metrics_listen {
            let listener = tokio::net::TcpListener::bind(at)
                .await
                .with_context(|| format!("listen for metrics on {at}"))?;
            let router = control::metrics_router(door);
            tasks.push(tokio::spawn(async move {
                if let Err(error) = axum::serve(listener, router).await {
                    tracing::error!(%error, "the metrics socket ended");
                }
            }));
        }
        let queues = Some(Queues { commands, enrol, messages });
        Ok(Self {
            config,
            config_file,
            state,
            started: Instant::now(),
            events,
            inlets,
            counters,
            mesh,
            pending: None,
            tried: None,
            busy: false,
            tasks,
            queues,
        })
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let mut term = signal(SignalKind::terminate()).context("watch SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("watch SIGINT")?;
        let Some(mut queues) = self.queues.take() else { return Ok(()) };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let addresses = crate::os::AddressWatch::open().context("watch the host's addresses")?;
        let links = crate::os::LinkWatch::open().context("watch the host's links")?;
        let tables = crate::os::TableWatch::open();
        // Who may not watch the packet filter may not write it either, and has nothing in it.
        if let Err(error) = &tables {
            tracing::warn!(
                error = crate::chain::of(error),
                "what others do to the packet filter is not seen"
            );
        }
        // Read after the watch began: a change in between is not missed.
        self.on_addresses();
        tell_systemd(&[sd_notify::NotifyState::Ready]);
        tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %self.config.socket.display(), "ready");
        loop {
            tokio::select! {
                // Leaving and stopping never wait behind work.
                biased;
                _ = term.recv() => break,
                _ = interrupt.recv() => break,
                Some(message) = queues.messages.recv() => self.on_message(message).await,
                Some(command) = queues.commands.recv() => self.on_command(command).await,
                Some(call) = queues.enrol.recv() => self.on_enrol(call),
                news = news_of(&mut self.mesh) => self.on_news(news)?,
                changed = addresses.changed() => {
                    changed.context("watch the host's addresses")?;
                    self.on_addresses();
                }
                gone = links.next() => {
                    gone.context("watch the host's links")?;
                    if let Some(mesh) = &mut self.mesh {
                        mesh.on_links();
                    }
                }
                news = news_of_tables(tables.as_ref().ok()) => {
                    let news = news.context("watch the packet filter")?;
                    if let Some(mesh) = &mut self.mesh {
                        mesh.on_tables(news);
                    }
                }
                _ = tick.tick() => self.on_tick(),
            }
        }
        tell_systemd(&[sd_notify::NotifyState::Stopping]);
        tracing::info!("stopping");
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        if let Some(mesh) = self.mesh.take() {
            mesh.stop().await;
        }
        Ok(())
    }

    fn on_tick(&mut self) {
        tell_systemd(&[sd_notify::NotifyState::Watchdog]);
        let Some(mesh) = &mut self.mesh else { return };
        mesh.follow_servers(&self.state);
        if let Some(errand) = mesh.on_tick(&mut self.counters) {
            errand::start(mesh, errand, self.inlets.messages.clone());
        }
        for call in mesh.cosign_calls() {
            errand::cosign(mesh, call, self.inlets.messages.clone());
        }
        for call in mesh.copy_calls() {
            errand::copy(mesh, call, self.inlets.messages.clone());
        }
        for call in mesh.growth_calls() {
            errand::growth(mesh, call, self.inlets.messages.clone());
        }
    }

    fn on_addresses(&mut self) {
        let Some(mesh) = &mut self.mesh else { return };
        let addresses = mesh.host_addresses(&self.config);
        if mesh.on_addresses(addresses.clone(), &mut self.counters) {
            mesh.plane.greet_peers();
            let candidates = addresses.iter().map(ToString::to_string).collect();
            self.emit(EventKind::AddressChanged { candidates });
        }
    }

    fn on_enrol(&mut self, call: EnrolCall) {
        let Some(mesh) = &mut self.mesh else { return };
        mesh.on_enrol(call, &mut self.counters);
    }

    fn on_news(&mut self, news: News) -> anyhow::Result<()> {
        match news {
            News::Tunnels(event) => self.on_plane(event)?,
            News::Endpoints(report) => {
                if let Some(mesh) = &mut self.mesh {
                    mesh.on_report(report);
                }
            }
            News::Keys => {
                if let Some(mesh) = &mut self.mesh {
                    mesh.rotate_keys(&mut self.counters);
                }
            }
            News::Log => {
                if let Some(mesh) = &mut self.mesh
                    && let Some(statements) = mesh.log_keys(&mut self.counters)
                {
                    errand::log(mesh, statements, self.inlets.messages.clone());
                }
            }
            News::Neighbours(received) => {
                if let Some(mesh) = &mut self.mesh {
                    mesh.on_neighbours(received, &mut self.counters);
                }
            }
            News::Registries(findings) => {
                if let Some(mesh) = &mut self.mesh {
                    mesh.on_findings(findings, &mut self.counters);
                }
            }
        }
        Ok(())
    }

    fn on_plane(&mut self, event: dataplane::Event) -> anyhow::Result<()> {
        if let Some(mesh) = &mut self.mesh {
            mesh.on_tunnel(&event);
        }
        match event {
            dataplane::Event::DeviceLost => {
                anyhow::bail!("device {} was taken away", self.config.device);
            }
            dataplane::Event::ThreadEnded { thread } => {
                anyhow::bail!("data thread {thread} ended although nobody stopped it");
            }
            dataplane::Event::ThreadRestarted { .. }
            | dataplane::Event::PeerUp { .. }
            | dataplane::Event::PeerDown { .. }
            | dataplane::Event::PathChanged { .. } => {}
        }
        if let Some(kind) = self.mesh.as_ref().and_then(|mesh| mesh.tunnel_event(&event)) {
            self.emit(kind);
        }
        Ok(())
    }

    fn emit(&self, kind: EventKind) {
        // Nobody listens: nothing to tell.
        let _ = self.events.send(Event { at_ms: crate::clock::wall_ms(), kind });
    }
}

/// Next news of tunnels and registries; never, as long as there is no mesh.
async fn news_of_tables(
    tables: Option<&crate::os::TableWatch>,
) -> Result<crate::os::TableNews, crate::os::NetlinkError> {
    match tables {
        Some(tables) => tables.next().await,
        None => std::future::pending().await,
    }
}

async fn news_of(mesh: &mut Option<Mesh>) -> News {
    match mesh {
        Some(mesh) => mesh.news().await,
        None => std::future::pending().await,
    }
}

/// Tells systemd, if it asked to be told.
fn tell_systemd(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "notify systemd");
    }
}

/// Removes the files of a membership that ended.
fn forget_membership(state: &StateDir) -> anyhow::Result<()> {
    // Keys first: without the membership nobody would look for them again.
    forget_keys(state.path())?;
    let (file, _) = MembershipFile::open(state.path())?;
    file.remove()?;
    let (roster, _) = Generations::open(state.path(), "roster")?;
    roster.remove()?;
    forget_externals(state.path())?;
    forget_endpoints(state.path())?;
    forget_policies(state.path())?;
    forget_clock_floor(state.path())?;
    forget_checkpoints(state.path())?;
    forget_journal(state.path())?;
    Ok(())
}
