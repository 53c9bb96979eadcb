//! An endpoint for tests.

use meshd_api::{Attachment, Endpoint, EndpointState, Labels};

/// One of Docker's network `n`, without addresses.
pub fn endpoint(id: &str) -> Endpoint {
    let text = str::to_owned;
    let attachment =
        Attachment { runtime: text("docker"), network: text("n"), container: text(id), ifname: text("") };
    Endpoint {
        id: text(id),
        attachment,
        state: EndpointState::Attached,
        addresses: Vec::new(),
        gateways: Vec::new(),
        routes: Vec::new(),
        mtu: 1420,
        host_link: text("msh1f"),
        host_mac: text("02:00:00:00:00:01"),
        container_link: text("msc1f"),
        container_mac: text("02:00:00:00:00:02"),
        name: None,
        dns_name: None,
        labels: Labels::default(),
        since: 0,
    }
}
