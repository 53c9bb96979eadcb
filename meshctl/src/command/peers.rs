//! `meshctl peers`.

use clap::Args;
use meshd_api::{GetPeers, Peer};

use super::Daemon;
use crate::failure::Failure;
use crate::table::Table;
use crate::{size, time};

/// Show the other nodes.
#[derive(Debug, Args)]
pub struct Peers {
    /// Show ids, IPv6 addresses, labels and certificates as well.
    #[arg(short, long)]
    long: bool,
}

impl Peers {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = daemon.client.call(&GetPeers {}).await?;
        daemon.form.answer(&answer, |peers| human(&peers.peers, self.long))
    }
}

const SHORT: [&str; 9] = ["NAME", "ORG", "ADDRESS", "STATE", "PATH", "RTT", "HANDSHAKE", "RECEIVED", "SENT"];
const LONG: [&str; 15] = [
    "NAME",
    "ORG",
    "ADDRESS",
    "STATE",
    "PATH",
    "RTT",
    "HANDSHAKE",
    "RECEIVED",
    "SENT",
    "IPV6",
    "DNS NAME",
    "EPOCH",
    "CERTIFICATE UNTIL",
    "LABELS",
    "ID",
];

fn human(peers: &[Peer], long: bool) -> String {
    if peers.is_empty() {
        return "no other nodes".to_owned();
    }
    let mut table = Table::new(if long { &LONG } else { &SHORT });
    for peer in peers {
        let none = || "-".to_owned();
        let mut cells = vec![
            peer.name.clone(),
            peer.org.clone(),
            peer.addr4.to_string(),
            peer.state.to_string(),
            peer.path.clone().unwrap_or_else(none),
            peer.rtt_ms.map_or_else(none, |rtt| format!("{rtt:.2} ms")),
            peer.last_handshake_s.map_or_else(none, |ago| format!("{} ago", time::span(ago))),
            size::bytes(peer.rx_bytes),
            size::bytes(peer.tx_bytes),
        ];
        if long {
            let labels: Vec<String> =
                peer.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            cells.extend([
                peer.addr6.to_string(),
                peer.dns_name.clone().unwrap_or_else(none),
                peer.key_epoch.map_or_else(none, |epoch| epoch.to_string()),
                time::utc(peer.cert_expires_at),
                if labels.is_empty() { none() } else { labels.join(",") },
                peer.id.clone(),
            ]);
        }
        table.row(cells);
    }
    table.to_text()
}
