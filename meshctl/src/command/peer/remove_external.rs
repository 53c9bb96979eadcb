//! `meshctl peer remove-external`.

use clap::Args;
use meshd_api::RemoveExternalRequest;

use crate::command::Daemon;
use crate::failure::Failure;
use crate::name::Name;

/// Cut a plain WireGuard peer off, at once; its address rests for a week.
#[derive(Debug, Args)]
pub struct RemoveExternal {
    /// Its name.
    name: Name,
}

impl RemoveExternal {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let request = RemoveExternalRequest { name: self.name.into() };
        let answer = daemon.client.call(&request).await?;
        daemon.form.answer(&answer, |gone| format!("removed {}, {}, {}", gone.name, gone.addr4, gone.addr6))
    }
}
