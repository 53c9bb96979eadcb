//! Takes endpoints over that the kernel has and this node has forgotten: its state was lost, their containers run.

use std::collections::BTreeSet;
use std::net::IpAddr;

use meshd_api::Attachment;
use meshd_wire::EndpointId;

use super::Mesh;
use super::attach::derived_mac;
use crate::endpoints::{Entry, Stage};
use crate::os::{self, Veth, gateway_of_all};

impl Mesh {
    /// Knows what the kernel has of endpoints that nobody knows. Nothing else is attached yet: what has the mark of
    /// this daemon and has left the host is in a container that lives. Whether there are links of endpoints at all.
    pub(super) fn adopt_endpoints(&mut self) -> bool {
        let (pairs, routes) = match (Veth::list(), os::endpoint_routes()) {
            (Ok(pairs), Ok(routes)) => (pairs, routes),
            (Err(error), _) => return unread(&crate::chain::of(&error)),
            (_, Err(error)) => return unread(&crate::chain::of(&error)),
        };
        let has_links = !pairs.is_empty();
        let lost = pairs.into_iter().filter(|pair| pair.is_handed_over);
        let lost: Vec<Veth> = lost.filter(|pair| self.endpoints.entry(pair.owner.id()).is_none()).collect();
        for pair in lost {
            let of_pair = routes.iter().filter(|(link, _)| *link == pair.host_link);
            let mut addresses: BTreeSet<IpAddr> = of_pair.map(|(_, address)| *address).collect();
            // A route may be gone that its container still has the address of.
            addresses.extend(self.said_addresses(pair.owner.id()));
            let entry = self.entry_of(&pair, addresses.into_iter().collect());
            let judged = match entry.addresses.is_empty() {
                true => Err("it has no address".to_owned()),
                false => self.judge_entry(&entry).map_err(|error| error.to_string()),
            };
            let (endpoint, addresses) = (entry.id, entry.addresses.clone());
            match judged {
                Ok(()) => {
                    tracing::warn!(%endpoint, ?addresses, "taking over an endpoint that was forgotten");
                    self.endpoints.file.change(|content| content.entries.push(entry));
                }
                Err(why) => {
                    tracing::warn!(%endpoint, ?addresses, why, "a link that nobody knows is isolated")
                }
            }
        }
        has_links
    }

    /// Addresses that this node has told the mesh an endpoint has.
    fn said_addresses(&self, id: EndpointId) -> Vec<IpAddr> {
        let said = self.own_claims().find(|record| record.endpoint == id);
        said.map_or_else(Vec::new, |record| record.prefixes().map(|(address, _)| address).collect())
    }

    /// What is known of it: its runtime names it when it detaches it, by the same id.
    fn entry_of(&self, pair: &Veth, addresses: Vec<IpAddr>) -> Entry {
        let id = pair.owner.id();
        let said = self.roster.endpoint(&self.node, &id).map(|view| view.record());
        let labels = said.iter().flat_map(|record| &record.labels);
        Entry {
            id,
            attachment: Attachment {
                runtime: pair.owner.runtime().to_owned(),
                network: String::new(),
                container: String::new(),
                ifname: String::new(),
            },
            // Its runtime has the other end: nobody else has to find it.
            namespace: None,
            mac: derived_mac(&addresses),
            // One that was told to its runtime stays on the link beside these.
            gateways: addresses.iter().map(gateway_of_all).collect(),
            addresses,
            mtu: u16::try_from(pair.mtu).unwrap_or(u16::MAX),
            name: said.and_then(|record| record.name.clone()),
            labels: labels.map(|label| (label.key.clone(), label.value.clone())).collect(),
            image: said.and_then(|record| record.image),
            routes: Vec::new(),
            has_egress: false,
            sandbox: None,
            stage: Stage::Attached,
            since: self.clock.now(),
            boot: self.endpoints.boot,
        }
    }
}

fn unread(error: &str) -> bool {
    tracing::warn!(error, "the links of this host can't be looked at");
    false
}
