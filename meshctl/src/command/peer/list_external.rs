//! `meshctl peer list-external`.

use clap::Args;
use meshd_api::{External, GetExternals};

use crate::command::Daemon;
use crate::failure::Failure;
use crate::table::Table;
use crate::{size, time};

/// Show the plain WireGuard peers that this node serves.
#[derive(Debug, Args)]
pub struct ListExternal {}

const COLUMNS: [&str; 9] =
    ["NAME", "ADDRESS", "IPV6", "STATE", "PATH", "HANDSHAKE", "RECEIVED", "SENT", "PUBLIC KEY"];

impl ListExternal {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = daemon.client.call(&GetExternals {}).await?;
        daemon.form.answer(&answer, |all| human(&all.externals))
    }
}

fn human(externals: &[External]) -> String {
    if externals.is_empty() {
        return "no plain WireGuard peers".to_owned();
    }
    let mut table = Table::new(&COLUMNS);
    for external in externals {
        let none = || "-".to_owned();
        table.row(vec![
            external.name.clone(),
            external.addr4.to_string(),
            external.addr6.to_string(),
            state(external).to_owned(),
            external.path.clone().unwrap_or_else(none),
            external.last_handshake_s.map_or_else(none, |ago| format!("{} ago", time::span(ago))),
            size::bytes(external.rx_bytes),
            size::bytes(external.tx_bytes),
            external.public_key.clone(),
        ]);
    }
    table.to_text()
}

fn state(external: &External) -> &'static str {
    match (external.certified, external.last_handshake_s) {
        (false, _) => "not certified",
        (true, Some(_)) => "connected",
        (true, None) => "idle",
    }
}
