//! `meshctl network`.

mod create;
mod list;
mod remove;

use clap::Subcommand;

use super::Daemon;
use crate::failure::Failure;

/// Make and show the networks that endpoints of this host are attached to.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Make a network: a subnet of the mesh that endpoints get their addresses from.
    ///
    /// The subnet makes networks of several hosts one, not their names: give the same subnet on each. It lies inside the
    /// prefix of this node's organisation, which `meshctl network list` shows. Making a network again with the same
    /// subnets changes its options.
    Create(create::Create),
    /// Show the networks of this host, of all runtimes.
    List(list::List),
    /// Forget a network without endpoints.
    Remove(remove::Remove),
}

impl Network {
    /// Does what was typed.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(daemon).await,
            Self::List(list) => list.run(daemon).await,
            Self::Remove(remove) => remove.run(daemon).await,
        }
    }
}
