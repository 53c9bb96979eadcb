//! `meshctl revoke`.

use clap::Args;
use meshd_api::RevokeRequest;

use super::Daemon;
use crate::failure::Failure;

/// Cut a node off for good (on the steward of its organisation).
#[derive(Debug, Args)]
pub struct Revoke {
    /// Name, NAME.ORGANISATION, id or address of the node, as `meshctl peers` lists them.
    node: String,
}

impl Revoke {
    /// Revokes.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = daemon.client.call(&RevokeRequest { node: self.node }).await?;
        daemon.form.answer(&answer, |revoked| format!("revoked {} ({})", revoked.name, revoked.id))
    }
}
