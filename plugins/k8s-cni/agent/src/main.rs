//! meshd-k8s: brings the network policies of a Kubernetes cluster to meshd on each node.
//!
//! ```text
//! API server ── watch ──▶ agent ─▶ cluster ─▶ compile ─▶ SetPolicies ─▶ meshd
//! files ───── rules ──▶ objects ──┘                 └──▶ JSON, for people
//! ```
//!
//! `cluster` is what of the objects counts, read once; `compile` makes of it what endpoints of this node may do, and
//! is pure; `agent` keeps both up to date and meshd told, the whole each time. meshd knows nothing of Kubernetes, and
//! what it was told outlives the agent, the API server and its own restart.

mod agent;
mod cli;
mod cluster;
mod compile;
mod objects;
mod ready;
mod rules;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use cli::{Cli, Verb};
use meshd_api::Exit;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: failed to {error:#}");
            Exit::Failed.code().into()
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("start an event loop")?;
    match cli.verb {
        Verb::Run(options) => runtime.block_on(agent::run(options)),
        Verb::Rules(options) => runtime.block_on(rules::run(&options)),
        Verb::Ready(options) => runtime.block_on(ready::check(&options)),
    }
}
