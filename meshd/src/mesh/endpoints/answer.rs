//! Endpoints as callers see them.

use meshd_api::{EndpointState, Endpoints, Ready};
use meshd_trust::Standing;

use super::Mesh;
use crate::endpoints::{Entry, Stage};
use crate::os::{container_link, host_link, host_mac};

impl Mesh {
    /// The endpoints of this host, sorted by address.
    pub fn endpoint_table(&self) -> Endpoints {
        let entries = self.endpoints.file.content().entries.iter();
        let mut endpoints: Vec<meshd_api::Endpoint> =
            entries.map(|entry| self.shown_endpoint(entry)).collect();
        endpoints.sort_by(|a, b| (&a.addresses, &a.id).cmp(&(&b.addresses, &b.id)));
        Endpoints { endpoints }
    }

    pub(super) fn shown_endpoint(&self, entry: &Entry) -> meshd_api::Endpoint {
        meshd_api::Endpoint {
            id: entry.id.to_string(),
            attachment: entry.attachment.clone(),
            state: self.state_of(entry),
            addresses: entry.addresses.clone(),
            gateways: entry.gateways.clone(),
            routes: entry.routes.iter().map(ToString::to_string).collect(),
            mtu: entry.mtu,
            host_link: host_link(entry.id),
            host_mac: host_mac(entry.id).to_string(),
            container_link: match &entry.namespace {
                Some(_) => entry.attachment.ifname.clone(),
                None => container_link(entry.id),
            },
            container_mac: entry.mac.to_string(),
            name: entry.name.clone(),
            dns_name: entry.addresses.first().and_then(|address| self.naming.name_at(*address)),
            labels: entry.labels.clone(),
            since: entry.since.0,
        }
    }

    fn state_of(&self, entry: &Entry) -> EndpointState {
        match entry.stage {
            Stage::Wiring => EndpointState::Wiring,
            Stage::Releasing => EndpointState::Releasing,
            Stage::Attached
                if self.endpoints.is_cut_off
                    || self.endpoints.broken.contains(&entry.id)
                    || self
                        .endpoints
                        .wiring
                        .as_ref()
                        .is_some_and(|one| one.policies().isolates(entry.id)) =>
            {
                EndpointState::Broken
            }
            Stage::Attached => EndpointState::Attached,
        }
    }

    /// Whether an endpoint could be attached now.
    pub fn ready(&self) -> Ready {
        let detail = match self.roster.standing(&self.node, self.clock.now()) {
            Standing::InForce if self.unsaved => Some("the state can't be stored".to_owned()),
            Standing::InForce => None,
            other => {
                Some(format!("this node is not in force: {}", super::super::applied::standing_word(other)))
            }
        };
        Ready { can_attach: detail.is_none(), is_connected: detail.is_none(), detail }
    }
}
