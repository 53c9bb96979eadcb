//! ADD: attaches a container.

use meshd_api::{AttachRequest, Attachment, CheckRequest, PutNetworkRequest};
use serde_json::Value;

use super::Request;
use crate::configuration::{Settings, Wishes};
use crate::daemon::Daemon;
use crate::failure::{Code, Failure};
use crate::outcome::{self, Previous};

/// Reads everything before anything is asked of meshd, so that a wrong word leaves nothing behind.
pub fn run(request: &Request<'_>) -> Result<Value, Failure> {
    let Request { environment, root, network, version, daemon } = request;
    let place = environment.place()?;
    let settings = Settings::read(root)?;
    let wishes = Wishes::read(root, environment.arguments()?, network, &place)?;
    let previous = Previous::read(root)?;
    let namespace = environment.namespace()?;
    let attachment = request.attachment(&place);
    not_again(daemon, &attachment)?;
    if let Some(network) = settings.network {
        daemon.call(&PutNetworkRequest { network })?;
    }
    let sandbox = namespace.path.clone();
    let Wishes { addresses, mac, name, labels, dns } = wishes;
    let endpoint = daemon.call(&AttachRequest {
        attachment,
        namespace: Some(namespace),
        addresses,
        mac,
        mtu: settings.mtu,
        name,
        labels,
        image: None,
        is_default_route: settings.is_default_route
            && !previous.as_ref().is_some_and(Previous::has_default_route),
    });
    let endpoint = endpoint.map_err(unknown_network)?;
    Ok(outcome::result(*version, &endpoint, &place.ifname, &sandbox, &dns, previous))
}

/// What broke off is resumed by its retry; what is complete may not be added again.
fn not_again(daemon: &Daemon, attachment: &Attachment) -> Result<(), Failure> {
    match daemon.call(&CheckRequest { attachment: attachment.clone() }) {
        Ok(check) if check.faults.is_empty() => {
            let Attachment { container, ifname, network, runtime: _ } = attachment;
            Err(Failure::new(
                Code::Taken,
                format!("{ifname} of {container} is attached to {network} already"),
            )
            .with("DEL comes before another ADD"))
        }
        Ok(_) => Ok(()),
        Err(failure) if failure.code() == Code::Container => Ok(()),
        Err(failure) => Err(failure),
    }
}

fn unknown_network(failure: Failure) -> Failure {
    match failure.code() {
        Code::Container => {
            failure.coded(Code::Configuration).with("name pool4 or pool6 in the configuration")
        }
        _ => failure,
    }
}
