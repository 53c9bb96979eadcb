//! `meshctl invite`.

use clap::Args;
use meshd_api::InviteRequest;

use super::Daemon;
use crate::duration::Typed;
use crate::failure::Failure;
use crate::name::{Label, Name};
use crate::output::{self, Form};
use crate::time;

/// Make a one-time token that lets one host join (on a steward).
#[derive(Debug, Args)]
pub struct Invite {
    /// How long the token may be used, such as 15m; at most 24h.
    #[arg(long, default_value = "15m", value_name = "SPAN")]
    ttl: Typed,
    /// Label the newcomer gets; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// The only name the newcomer may take.
    #[arg(long)]
    name: Option<Name>,
}

impl Invite {
    /// Asks for a token and prints it alone on standard output.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let request = InviteRequest {
            ttl_s: Some(self.ttl.0.as_secs()),
            labels: self.labels.into_iter().map(|Label { key, value }| (key, value)).collect(),
            name: self.name.map(String::from),
        };
        let answer = daemon.client.call(&request).await?;
        daemon.form.answer(&answer, |invite| invite.token.0.clone())?;
        if daemon.form == Form::Human {
            output::talk(&format!(
                "for one host, until {}; there: meshctl join TOKEN",
                time::utc(answer.body.expires_at)
            ));
        }
        Ok(())
    }
}
