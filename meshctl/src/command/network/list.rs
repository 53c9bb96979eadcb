//! `meshctl network list`.

use clap::Args;
use meshd_api::{Allocation, Egress, GetNetworks, Networks, Policing, Reach};

use crate::command::Daemon;
use crate::failure::Failure;
use crate::output::{self, Form};
use crate::table::Table;

/// Show the networks of this host, of all runtimes.
#[derive(Debug, Args)]
pub struct List {}

const COLUMNS: [&str; 10] = [
    "RUNTIME",
    "NETWORK",
    "SUBNET",
    "IPV6 SUBNET",
    "RANGES",
    "ADDRESSES",
    "EGRESS",
    "REACH",
    "POLICY",
    "MTU",
];

impl List {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = daemon.client.call(&GetNetworks {}).await?;
        daemon.form.answer(&answer, human)?;
        if daemon.form == Form::Human {
            output::talk(&format!("subnets lie inside {}", answer.body.own_prefixes.join(" or ")));
        }
        Ok(())
    }
}

fn human(all: &Networks) -> String {
    if all.networks.is_empty() {
        return "no networks".to_owned();
    }
    let mut table = Table::new(&COLUMNS);
    for network in &all.networks {
        let none = || "-".to_owned();
        table.row(vec![
            network.runtime.clone(),
            network.network.clone(),
            network.pool4.clone().unwrap_or_else(none),
            network.pool6.clone().unwrap_or_else(none),
            if network.ranges.is_empty() { none() } else { network.ranges.join(",") },
            match network.allocation {
                Allocation::Blocks => "blocks",
                Allocation::Sequential => "sequential",
            }
            .to_owned(),
            match network.egress {
                Egress::Runtime => "runtime",
                Egress::Mesh => "mesh",
                Egress::None => "none",
            }
            .to_owned(),
            match network.reach {
                Reach::Mesh => "mesh",
                Reach::Network => "network",
            }
            .to_owned(),
            match network.policy {
                Policing::Optional => "optional",
                Policing::Required => "required",
            }
            .to_owned(),
            network.mtu.map_or_else(none, |mtu| mtu.to_string()),
        ]);
    }
    table.to_text()
}
