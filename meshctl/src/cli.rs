//! What may be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use meshd_api::{Exit, SOCKET_DEFAULT};

use crate::command::{
    admit, attach, audit, completions, config, detach, endpoints, invite, join, key, leave, man, mesh,
    network, org, peer, peers, ping, revoke, status, steward, wait, watch,
};

/// Talk to meshd, the mesh VPN of this host.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, max_term_width = 100, after_help = exit_codes(), propagate_version = false)]
pub struct Cli {
    /// Socket of the daemon.
    #[arg(
        long,
        global = true,
        env = "MESHD_SOCKET",
        default_value = SOCKET_DEFAULT,
        hide_env_values = true,
        value_name = "PATH",
        help_heading = "Everywhere"
    )]
    pub socket: PathBuf,

    /// Print JSON with a schema name instead of text for people.
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// A verb.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Found a mesh, alone or with other organisations.
    ///
    /// Alone: `meshctl mesh create NAME`. With others: each runs `meshctl org create`, one runs `meshctl mesh draft`,
    /// each runs `meshctl mesh sign`, and each runs `meshctl mesh create --genesis` on its own first host.
    #[command(subcommand)]
    Mesh(mesh::Mesh),
    /// Make the root of an organisation.
    #[command(subcommand)]
    Org(org::Org),
    /// Show and renew what the root lets this host do as a steward.
    #[command(subcommand)]
    Steward(steward::Steward),
    /// Make a one-time token that lets one host join (on a steward).
    Invite(invite::Invite),
    /// Join a mesh, with a token or by files.
    ///
    /// A host that reaches no steward writes a request file with --request, has it admitted on the steward with
    /// `meshctl admit`, and takes the answer with --import. The ids given with --mesh and --org say whom this host will
    /// trust: compare them by another way than the file came.
    Join(join::Join),
    /// Admit a host whose request came as a file (on a steward).
    Admit(admit::Admit),
    /// Leave the mesh and forget its keys.
    Leave(leave::Leave),
    /// Cut a node off for good (on the steward of its organisation).
    ///
    /// Every other node drops its tunnels with it at once, established connections included, and its address rests. It
    /// can't come back: a host that was stolen and is found again joins as a new node. The revocation is logged.
    Revoke(revoke::Revoke),
    /// Show this node and its mesh.
    Status(status::Status),
    /// Show the other nodes.
    Peers(peers::Peers),
    /// Serve plain WireGuard peers: phones, routers, servers without meshd.
    #[command(subcommand)]
    Peer(peer::Peer),
    /// Show and replace the keys of the tunnels.
    #[command(subcommand)]
    Key(key::Key),
    /// Make and show the networks that endpoints of this host are attached to.
    #[command(subcommand)]
    Network(network::Network),
    /// Verify the log of who was let in and which keys were used, and show what it says.
    ///
    /// Works offline, from the steward's log on this host, a log directory or a bundle: only `observed` asks the daemon.
    /// Ends with 0 if all is clean, 1 if it could not be done, 2 for findings, 3 for evidence of tampering, 4 if
    /// something is missing; the worst wins in the order 3, 4, 2.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Give a network namespace an interface and an address of the mesh.
    ///
    /// Programs in it reach the mesh, and are reached, under an address of their own. Attaching again gives the same
    /// answer; what was attached lasts until `meshctl detach`, or until its namespace is gone.
    Attach(attach::Attach),
    /// Take a network namespace off the mesh again.
    ///
    /// It is named as it was for `meshctl attach`, and need not exist any more.
    Detach(detach::Detach),
    /// Show what is attached to the mesh on this host.
    Endpoints(endpoints::Endpoints),
    /// Measure round trips through the tunnel to a node.
    Ping(ping::Ping),
    /// Print events as they happen.
    Watch(watch::Watch),
    /// Wait until this node is a member, or until others are connected.
    Wait(wait::Wait),
    /// Show the settings of the daemon.
    #[command(subcommand)]
    Config(config::Config),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
    /// Print the manual page, or write one a verb into a directory.
    Man(man::Man),
}

/// Table of exit codes for help and manual.
fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        text.push_str(&format!("  {}  {}\n", exit.code(), exit.meaning()));
    }
    text.pop();
    text
}
