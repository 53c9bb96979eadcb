//! `meshctl endpoints gc`.

use clap::Args;
use meshd_api::{Collected, GcRequest};

use crate::command::Daemon;
use crate::failure::Failure;

/// Detach at once what has ended by itself.
#[derive(Debug, Args)]
pub struct Gc {
    /// Only print what would go.
    #[arg(long)]
    dry_run: bool,
}

impl Gc {
    /// Asks and prints.
    pub async fn run(self, daemon: &Daemon) -> Result<(), Failure> {
        let answer = daemon.client.call(&GcRequest { dry_run: self.dry_run }).await?;
        let verb = if self.dry_run { "would remove" } else { "removed" };
        daemon.form.answer(&answer, |reply| match &reply.collected[..] {
            [] => "nothing to remove".to_owned(),
            all => all.iter().map(|one| format!("{verb} {}", line(one))).collect::<Vec<_>>().join("\n"),
        })
    }
}

fn line(one: &Collected) -> String {
    let what = match (&one.attachment, &one.host_link) {
        // Docker names the interface itself.
        (Some(of), _) if of.ifname.is_empty() => format!("{} of {}", of.container, of.runtime),
        (Some(of), _) => format!("{} of {}", of.ifname, of.container),
        (None, Some(link)) => format!("link {link}"),
        (None, None) => format!("endpoint {}", one.id.chars().take(ID_SHORT).collect::<String>()),
    };
    let addresses: Vec<String> = one.addresses.iter().map(ToString::to_string).collect();
    let at = if addresses.is_empty() { String::new() } else { format!(" at {}", addresses.join(", ")) };
    format!("{what}{at}: {}", one.reason)
}

/// Digits of an id that tell endpoints of one host apart, as their links have them.
const ID_SHORT: usize = 12;
