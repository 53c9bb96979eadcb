//! `meshctl watch`.

use clap::Args;
use meshd_api::{Event, EventKind, Exit};

use super::Daemon;
use crate::failure::Failure;
use crate::time;

/// Print events as they happen.
#[derive(Debug, Args)]
pub struct Watch {
    /// End after so many events.
    #[arg(short, long, value_name = "N")]
    count: Option<u64>,
}

impl Watch {
    /// Prints until interrupted, or until the daemon ends.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let mut events = daemon.client.events().await?;
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(event) = events.next().await else {
                return Err(Failure::new(Exit::NotReachable, "the daemon has ended the stream of events"));
            };
            daemon.form.answer(&event?, line)?;
            left -= 1;
        }
        Ok(())
    }
}

fn line(event: &Event) -> String {
    format!("{} {}", time::utc_ms(event.at_ms), what(&event.kind))
}

fn what(kind: &EventKind) -> String {
    match kind {
        EventKind::PeerUp { name, org, id: _, path } => match path {
            Some(path) => format!("peer-up {name} of {org} via {path}"),
            None => format!("peer-up {name} of {org}"),
        },
        EventKind::PeerDown { name, org, id: _, reason } => format!("peer-down {name} of {org}: {reason}"),
        EventKind::PathChanged { name, org, id: _, path } => {
            format!("path-changed {name} of {org} via {path}")
        }
        EventKind::MemberAdded { name, org, id: _, addr4, addr6 } => {
            format!("member-added {name} of {org} at {addr4}, {addr6}")
        }
        EventKind::MemberRemoved { name, org, id: _, reason } => {
            format!("member-removed {name} of {org}: {reason}")
        }
        EventKind::RecordRefused { record, reason, signer } => match signer {
            Some(signer) => format!("record-refused {record} signed by {signer}: {reason}"),
            None => format!("record-refused {record}: {reason}"),
        },
        EventKind::RegistryConnected { endpoint } => format!("registry-connected {endpoint}"),
        EventKind::RegistryDisconnected { endpoint, reason } => {
            format!("registry-disconnected {endpoint}: {reason}")
        }
        EventKind::OrgStale { org, state_age_s } => {
            format!("org-stale {org}: last heard of {} ago", time::span(*state_age_s))
        }
        EventKind::LogForked { org } => format!("log-forked {org}: its audit log shows two faces"),
        EventKind::CertRenewed { expires_at } => format!("cert-renewed until {}", time::utc(*expires_at)),
        EventKind::AddressChanged { candidates } => format!("address-changed {}", candidates.join(", ")),
        EventKind::Missed { count } => format!("missed {count} events: the reader was too slow"),
        EventKind::Other => "other: an event this version does not know".to_owned(),
    }
}
