//! `meshctl key`.

use clap::Subcommand;
use meshd_api::{CompromisedKeyRequest, GetKeys, Keys, RotateKeyRequest};

use super::Daemon;
use crate::failure::Failure;
use crate::table::Table;
use crate::time;

/// Show and replace the keys of the tunnels.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Show the tunnel keys of all nodes, this one's first.
    List,
    /// Replace this node's tunnel key before its time; no packet is lost.
    ///
    /// Keys are replaced by themselves every 12 hours, or as `keys.period_s` in the configuration says. The new key is
    /// announced first and used when peers have it; the old one is destroyed when nobody uses it any more.
    Rotate,
    /// Drop this node's tunnel keys at once, because somebody else may know them.
    ///
    /// Connections are interrupted until peers have heard of the new key. The identity of the node stays: if that was
    /// stolen as well, revoke the node and let it join again.
    Compromised,
}

const COLUMNS: [&str; 6] = ["NODE", "ORGANISATION", "EPOCH", "ROLE", "SINCE", "PUBLIC KEY"];

impl Key {
    /// Does what was typed.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = match self {
            Self::List => daemon.client.call(&GetKeys {}).await?,
            Self::Rotate => daemon.client.call(&RotateKeyRequest {}).await?,
            Self::Compromised => daemon.client.call(&CompromisedKeyRequest {}).await?,
        };
        daemon.form.answer(&answer, human)
    }
}

fn human(keys: &Keys) -> String {
    let mut table = Table::new(&COLUMNS);
    for key in &keys.keys {
        table.row(vec![
            key.node.clone(),
            key.org.clone(),
            key.epoch.to_string(),
            key.role.to_string(),
            time::utc(key.since),
            key.public_key.clone(),
        ]);
    }
    format!("{}\nrotation: {}, every {}", table.to_text(), keys.rotation, time::span(keys.period_s))
}
