//! `meshctl peer`.

mod add_external;
mod list_external;
mod quick_config;
mod remove_external;

use clap::Subcommand;

use super::Daemon;
use crate::failure::Failure;

/// Serve plain WireGuard peers: phones, routers, servers without meshd.
#[derive(Debug, Subcommand)]
pub enum Peer {
    /// Give a plain WireGuard peer an address of the mesh, and print its configuration.
    ///
    /// The peer reaches the mesh through this node, its gateway, and only while this node runs. Its private key is made
    /// here, printed, and kept nowhere; a preshared key is mixed in. Standard output is a configuration for wg-quick and
    /// the WireGuard apps.
    #[command(name = "add-external")]
    Add(add_external::AddExternal),
    /// Show the plain WireGuard peers that this node serves.
    #[command(name = "list-external")]
    List(list_external::ListExternal),
    /// Cut a plain WireGuard peer off, at once; its address rests for a week.
    #[command(name = "remove-external")]
    Remove(remove_external::RemoveExternal),
}

impl Peer {
    /// Does what was typed.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(daemon).await,
            Self::List(list) => list.run(daemon).await,
            Self::Remove(remove) => remove.run(daemon).await,
        }
    }
}
