//! The verbs, one a file, and what they share: the daemon to talk to and the form of what is printed.

pub mod admit;
pub mod attach;
pub mod audit;
pub mod completions;
pub mod config;
pub mod detach;
pub mod endpoints;
pub mod invite;
pub mod join;
pub mod key;
pub mod leave;
pub mod man;
pub mod mesh;
pub mod network;
pub mod org;
pub mod peer;
pub mod peers;
pub mod ping;
pub mod revoke;
pub mod status;
pub mod steward;
pub mod wait;
pub mod watch;

use std::future::Future;
use std::process::ExitCode;

use data_encoding::BASE64;
use meshd_api::{Client, Exit, Signed};

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::output::Form;

/// What every verb that talks to the daemon needs.
#[derive(Debug)]
pub struct Daemon {
    /// The daemon of this host.
    pub client: Client,
    /// How to print.
    pub form: Form,
}

/// Does what was typed.
pub fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let form = if cli.json { Form::Json } else { Form::Human };
    let daemon = Daemon { client: Client::new(cli.socket), form };
    let done = match cli.command {
        Command::Audit(audit) => return audit.run(&daemon),
        Command::Mesh(mesh) => mesh.run(&daemon),
        Command::Org(org) => org.run(form),
        Command::Steward(steward) => online(steward.run(&daemon)),
        Command::Invite(invite) => online(invite.run(&daemon)),
        Command::Join(join) => online(join.run(&daemon)),
        Command::Admit(admit) => online(admit.run(&daemon)),
        Command::Leave(leave) => online(leave.run(&daemon)),
        Command::Revoke(revoke) => online(revoke.run(&daemon)),
        Command::Status(status) => online(status.run(&daemon)),
        Command::Peers(peers) => online(peers.run(&daemon)),
        Command::Peer(peer) => online(peer.run(&daemon)),
        Command::Key(key) => online(key.run(&daemon)),
        Command::Network(network) => online(network.run(&daemon)),
        Command::Attach(attach) => online(attach.run(&daemon)),
        Command::Detach(detach) => online(detach.run(&daemon)),
        Command::Endpoints(endpoints) => online(endpoints.run(&daemon)),
        Command::Ping(ping) => online(ping.run(&daemon)),
        Command::Watch(watch) => online(watch.run(&daemon)),
        Command::Wait(wait) => online(wait.run(&daemon)),
        Command::Config(config) => online(config.run(&daemon)),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs a verb that talks to the daemon; one thread is enough for one socket.
fn online<T>(verb: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, "can't start").because(&error))?
        .block_on(verb)
}

/// Decodes a record that the daemon sent.
fn unbase64(signed: &Signed) -> Result<Vec<u8>, Failure> {
    BASE64
        .decode(signed.0.as_bytes())
        .map_err(|error| Failure::new(Exit::Failed, "can't understand the daemon's answer").because(&error))
}
