//! The agent of a node: watches what decides who may talk to whom, and keeps meshd told.
//!
//! It is level-triggered: whatever changed, the whole is compiled and handed over, and again from time to time, so
//! nothing that was lost on the way stays lost. Until it has seen everything it says nothing: half a cluster would
//! allow too little. One task does it all.

mod command;
mod join;
mod kept;
mod meshd;
mod node;
mod watch;

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::cli::Run;
use crate::ready::ReadyFile;
use command::Command;
use join::Join;
use meshd::Meshd;
use node::Node;
use watch::Seen;

/// From a change until meshd is told, so that what changes together is told together.
const GATHER: Duration = Duration::from_millis(100);

/// After a refusal or while meshd is away: first wait, doubled until the last.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// meshd is told again although nothing changed: its state may have been lost.
const REPEAT: Duration = Duration::from_secs(60);

/// Runs until it is told to stop.
pub async fn run(options: Run) -> Result<()> {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let ready = ReadyFile::new(options.ready_file)?;
    let client = client(options.kubeconfig.as_deref()).await.context("find the API server")?;
    let mut changes = watch::changes(&client, &options.node);
    let mut agent = Agent {
        seen: Seen::default(),
        join: Join::new(options.api_socket, options.join_tokens, &options.node),
        meshd: Meshd::new(&options.target, options.node.clone()),
        node: Node::new(client, options.node),
        command: Command::new(options.command),
        ready,
        due: None,
        retry: RETRY_FIRST,
    };
    let mut term = signal(SignalKind::terminate()).context("wait for signals")?;
    let mut int = signal(SignalKind::interrupt()).context("wait for signals")?;
    loop {
        let due = agent.due;
        tokio::select! {
            Some(change) = changes.next() => agent.change(change),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => agent.tell().await,
            _ = term.recv() => break,
            _ = int.recv() => break,
        }
    }
    info!("stopped");
    Ok(())
}

async fn client(kubeconfig: Option<&Path>) -> Result<Client> {
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
        }
        None => Config::incluster()?,
    };
    Ok(Client::try_from(config)?)
}

#[derive(Debug)]
struct Agent {
    seen: Seen,
    join: Join,
    meshd: Meshd,
    node: Node,
    command: Command,
    ready: ReadyFile,
    /// When meshd is told next; never before everything was seen once.
    due: Option<Instant>,
    retry: Duration,
}

impl Agent {
    fn change(&mut self, change: Result<watch::Change, kube::runtime::watcher::Error>) {
        match change {
            Ok(change) => {
                if self.seen.take(change) && self.seen.is_whole() {
                    self.due_within(GATHER);
                }
            }
            Err(error) => {
                // Its text has those of its causes already.
                warn!("failed to watch the cluster: {error}");
            }
        }
    }

    fn due_within(&mut self, time: Duration) {
        let soon = Instant::now() + time;
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Tells meshd, then the cluster that this node has a network.
    async fn tell(&mut self) {
        let told = self.tell_all().await;
        let is_told = told.is_ok();
        if let Err(error) = told {
            warn!("failed to {error:#}");
        }
        if let Err(error) = self.ready.set(is_told) {
            warn!("failed to {error:#}");
        }
        if is_told {
            self.retry = RETRY_FIRST;
            self.due = Some(Instant::now() + REPEAT);
        } else {
            self.due = Some(Instant::now() + self.retry);
            self.retry = (self.retry * 2).min(RETRY_LAST);
        }
    }

    async fn tell_all(&mut self) -> Result<()> {
        self.join.join().await?;
        self.meshd.tell(&self.seen.cluster()).await?;
        self.command.run().await?;
        if self.seen.network_is_unavailable() {
            self.node.network_is_available().await?;
        }
        Ok(())
    }
}
