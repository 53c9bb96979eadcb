//! `meshctl network remove`.

use clap::Args;
use meshd_api::RemoveNetworkRequest;

use crate::command::Daemon;
use crate::failure::Failure;
use crate::name::Name;
use crate::place::RUNTIME;

/// Forget a network without endpoints.
#[derive(Debug, Args)]
pub struct Remove {
    /// Its name on this host.
    name: Name,
}

impl Remove {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let request = RemoveNetworkRequest { runtime: RUNTIME.to_owned(), network: self.name.to_string() };
        let answer = daemon.client.call(&request).await?;
        daemon.form.answer(&answer, |reply| match reply.existed {
            true => format!("removed {}", self.name),
            false => format!("there was no {}", self.name),
        })
    }
}
