//! `meshctl endpoints`.

mod gc;

use std::net::IpAddr;

use clap::{Args, Subcommand};
use meshd_api::{Endpoint, GetEndpoints};

use super::Daemon;
use crate::failure::Failure;
use crate::table::Table;
use crate::time;

/// Show what is attached to the mesh on this host.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Endpoints {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Show interfaces, hardware addresses, routes, labels and ids as well.
    #[arg(short, long)]
    long: bool,
}

/// What else is done with them.
#[derive(Debug, Subcommand)]
enum Verb {
    /// Detach at once what has ended by itself.
    ///
    /// The daemon does so about a minute after a namespace has gone: this is for who needs the address now, or wants to
    /// see what is left behind. Goes: endpoints whose namespace or link is gone, links that no endpoint has, and
    /// addresses that the mesh is told of and no endpoint has.
    Gc(gc::Gc),
}

impl Endpoints {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        if let Some(Verb::Gc(gc)) = self.verb {
            return gc.run(daemon).await;
        }
        let answer = daemon.client.call(&GetEndpoints {}).await?;
        daemon.form.answer(&answer, |all| human(&all.endpoints, self.long))
    }
}

const SHORT: [&str; 9] =
    ["NAME", "ADDRESS", "IPV6", "STATE", "RUNTIME", "NETWORK", "CONTAINER", "LINK", "SINCE"];
const LONG: [&str; 16] = [
    "NAME",
    "ADDRESS",
    "IPV6",
    "STATE",
    "RUNTIME",
    "NETWORK",
    "CONTAINER",
    "LINK",
    "SINCE",
    "INTERFACE",
    "MAC",
    "MTU",
    "ROUTES",
    "LABELS",
    "DNS NAME",
    "ID",
];

fn human(endpoints: &[Endpoint], long: bool) -> String {
    if endpoints.is_empty() {
        return "no endpoints".to_owned();
    }
    let mut table = Table::new(if long { &LONG } else { &SHORT });
    for endpoint in endpoints {
        let none = || "-".to_owned();
        let address = |family: fn(&IpAddr) -> bool| {
            let found = endpoint.addresses.iter().find(|address| family(address));
            found.map_or_else(none, ToString::to_string)
        };
        let attachment = &endpoint.attachment;
        let mut cells = vec![
            endpoint.name.clone().unwrap_or_else(none),
            address(IpAddr::is_ipv4),
            address(IpAddr::is_ipv6),
            endpoint.state.to_string(),
            attachment.runtime.clone(),
            attachment.network.clone(),
            attachment.container.clone(),
            endpoint.host_link.clone(),
            time::utc(endpoint.since),
        ];
        if long {
            let list = |words: Vec<String>| if words.is_empty() { none() } else { words.join(",") };
            let labels = endpoint.labels.iter().map(|(key, value)| format!("{key}={value}"));
            cells.extend([
                list([attachment.ifname.clone()].into_iter().filter(|name| !name.is_empty()).collect()),
                endpoint.container_mac.clone(),
                endpoint.mtu.to_string(),
                list(endpoint.routes.clone()),
                list(labels.collect()),
                endpoint.dns_name.clone().unwrap_or_else(none),
                endpoint.id.clone(),
            ]);
        }
        table.row(cells);
    }
    table.to_text()
}
