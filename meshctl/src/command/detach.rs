//! `meshctl detach`.

use clap::Args;
use meshd_api::DetachRequest;

use super::Daemon;
use crate::failure::Failure;
use crate::interface::InterfaceName;
use crate::name::Name;
use crate::place::Place;

/// Take a network namespace off the mesh again.
#[derive(Debug, Args)]
pub struct Detach {
    #[command(flatten)]
    place: Place,
    /// Network it is attached to.
    #[arg(long, default_value = "default", value_name = "NAME")]
    network: Name,
    /// Name of the interface; all of the namespace in that network if none is given.
    #[arg(long, value_name = "NAME")]
    ifname: Option<InterfaceName>,
}

impl Detach {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let attachment = self.place.attachment(&self.network, self.ifname.as_ref())?;
        let answer = daemon.client.call(&DetachRequest { attachment }).await?;
        daemon.form.answer(&answer, |reply| match reply.detached {
            0 => "nothing was attached".to_owned(),
            1 => "detached one endpoint".to_owned(),
            many => format!("detached {many} endpoints"),
        })
    }
}
