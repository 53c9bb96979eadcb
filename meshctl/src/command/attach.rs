//! `meshctl attach`.

use std::net::IpAddr;

use clap::Args;
use meshd_api::{AttachRequest, Endpoint, Exit};

use super::Daemon;
use crate::failure::Failure;
use crate::interface::InterfaceName;
use crate::name::{Label, Name};
use crate::place::Place;

/// Give a network namespace an interface and an address of the mesh.
#[derive(Debug, Args)]
pub struct Attach {
    #[command(flatten)]
    place: Place,
    /// Network of this host to attach to, as `meshctl network create` named it.
    #[arg(long, default_value = "default", value_name = "NAME")]
    network: Name,
    /// Address it must get, at most one of each family; the network chooses what is not given.
    #[arg(long = "ip", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Name it shall have in the mesh.
    #[arg(long)]
    name: Option<Name>,
    /// Name of the interface.
    #[arg(long, default_value = "mesh0", value_name = "NAME")]
    ifname: InterfaceName,
    /// Label it gets; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// Send everything through the interface, not only what is for the mesh.
    #[arg(long)]
    default_route: bool,
}

impl Attach {
    /// Has it attached, and prints its addresses.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
            if self.addresses.iter().filter(|address| family(address)).count() > 1 {
                return Err(Failure::new(Exit::Usage, "an endpoint has one address of each family"));
            }
        }
        let request = AttachRequest {
            attachment: self.place.attachment(&self.network, Some(&self.ifname))?,
            namespace: Some(self.place.namespace()?),
            addresses: self.addresses,
            mac: None,
            mtu: None,
            name: self.name.map(String::from),
            labels: self.labels.into_iter().map(|Label { key, value }| (key, value)).collect(),
            image: None,
            is_default_route: self.default_route,
        };
        let answer = daemon.client.call(&request).await?;
        daemon.form.answer(&answer, human)
    }
}

fn human(endpoint: &Endpoint) -> String {
    let addresses: Vec<String> = endpoint.addresses.iter().map(ToString::to_string).collect();
    let named = endpoint.name.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
    let attachment = &endpoint.attachment;
    let at = format!("{} of {}", attachment.ifname, attachment.container);
    format!("{at} is attached{named}, at {}", addresses.join(", "))
}
