//! Endpoints: a container's link into a network.

use std::net::IpAddr;

use meshd_api::{AttachRequest, Attachment, DetachRequest, Egress, Endpoints, GetEndpoints, Labels, Network};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, Done};
use crate::body::{id, interface_address, nullable};
use crate::failure::Failure;
use crate::meshd::{Asked, RUNTIME};

/// Where Docker puts the ports that are to be published.
const PORTS: &str = "com.docker.network.portmap";

/// Asks for an endpoint.
#[derive(Debug, Deserialize)]
pub struct CreateEndpoint {
    #[serde(rename = "NetworkID", default, deserialize_with = "nullable")]
    network_id: String,
    #[serde(rename = "EndpointID", default, deserialize_with = "nullable")]
    id: String,
    #[serde(rename = "Interface", default, deserialize_with = "nullable")]
    interface: Interface,
    #[serde(rename = "Options", default, deserialize_with = "nullable")]
    options: Map<String, Value>,
}

/// What the container's link has.
#[derive(Debug, Default, Deserialize)]
struct Interface {
    #[serde(rename = "Address", default, deserialize_with = "nullable")]
    ipv4: String,
    #[serde(rename = "AddressIPv6", default, deserialize_with = "nullable")]
    ipv6: String,
    #[serde(rename = "MacAddress", default, deserialize_with = "nullable")]
    mac: String,
}

impl Call for CreateEndpoint {
    type Reply = Value;
    const PATH: &'static str = "/NetworkDriver.CreateEndpoint";

    /// Attaches. If it is not known what became of that, it is undone: after a failure here Docker gives the addresses
    /// back, but deletes no endpoint.
    async fn run(self, meshd: &Asked) -> Result<Value, Failure> {
        let attachment = attachment(&self.network_id, &self.id)?;
        let addresses = self.interface.addresses()?;
        let network = meshd.network(&attachment.network).await?;
        judge_ports(&network, &self.options)?;
        let mac = Some(self.interface.mac).filter(|mac| !mac.is_empty());
        let attach = AttachRequest {
            attachment,
            // Docker moves the link, names it and gives it its addresses and routes.
            namespace: None,
            addresses,
            mac,
            mtu: network.mtu,
            name: None,
            labels: Labels::default(),
            image: None,
            // Docker sets a default route by its own means; the prefixes of the mesh are wanted in any case.
            is_default_route: false,
        };
        if let Err(failure) = meshd.ask(&attach).await {
            if failure.code().is_none() {
                meshd.give_back(&DetachRequest { attachment: attach.attachment }).await;
            }
            return Err(failure);
        }
        // What Docker chose may not be told again.
        Ok(json!({"Interface": {}}))
    }
}

impl Interface {
    fn addresses(&self) -> Result<Vec<IpAddr>, Failure> {
        let ipv4 = interface_address("the IPv4 address", &self.ipv4)?;
        let ipv6 = interface_address("the IPv6 address", &self.ipv6)?;
        let addresses: Vec<IpAddr> = ipv4.into_iter().chain(ipv6).collect();
        if addresses.is_empty() {
            return Err(Failure::new("Docker gave the container no address")
                .with("create the network with --ipam-driver meshd and a --subnet"));
        }
        Ok(addresses)
    }
}

/// Ports are published on the link that Docker makes beside; without it nobody would, and nobody would be told.
fn judge_ports(network: &Network, options: &Map<String, Value>) -> Result<(), Failure> {
    let has_ports = options.get(PORTS).and_then(Value::as_array).is_some_and(|ports| !ports.is_empty());
    match network.egress {
        Egress::Mesh | Egress::None if has_ports => {
            Err(Failure::new("ports can be published only with meshd.egress=docker")
                .with("members reach the container at its own address"))
        }
        Egress::Runtime | Egress::Mesh | Egress::None => Ok(()),
    }
}

/// Gives an endpoint up.
#[derive(Debug, Deserialize)]
pub struct DeleteEndpoint {
    #[serde(rename = "NetworkID", default, deserialize_with = "nullable")]
    network_id: String,
    #[serde(rename = "EndpointID", default, deserialize_with = "nullable")]
    id: String,
}

impl Call for DeleteEndpoint {
    type Reply = Done;
    const PATH: &'static str = "/NetworkDriver.DeleteEndpoint";

    async fn run(self, meshd: &Asked) -> Result<Done, Failure> {
        let attachment = attachment(&self.network_id, &self.id)?;
        meshd.give_back(&DetachRequest { attachment }).await;
        Ok(Done {})
    }
}

/// Asks what there is to know about an endpoint.
#[derive(Debug, Deserialize)]
pub struct EndpointInfo {
    #[serde(rename = "NetworkID", default, deserialize_with = "nullable")]
    network_id: String,
    #[serde(rename = "EndpointID", default, deserialize_with = "nullable")]
    id: String,
}

impl Call for EndpointInfo {
    type Reply = Value;
    const PATH: &'static str = "/NetworkDriver.EndpointOperInfo";

    /// Never Docker's own keys: it expects types there that JSON does not have.
    async fn run(self, meshd: &Asked) -> Result<Value, Failure> {
        let attachment = attachment(&self.network_id, &self.id)?;
        let Ok(Endpoints { endpoints }) = meshd.ask_now(&GetEndpoints {}).await else {
            return Ok(json!({"Value": {}}));
        };
        let endpoint = endpoints.into_iter().find(|endpoint| endpoint.attachment == attachment);
        let address = endpoint.and_then(|endpoint| endpoint.addresses.first().copied());
        Ok(json!({"Value": address.map(|address| json!({"meshd.address": address})).unwrap_or(json!({}))}))
    }
}

/// What an endpoint of Docker is called in meshd.
pub fn attachment(network: &str, endpoint: &str) -> Result<Attachment, Failure> {
    Ok(Attachment {
        runtime: RUNTIME.to_owned(),
        network: id("NetworkID", network)?.to_owned(),
        container: id("EndpointID", endpoint)?.to_owned(),
        ifname: String::new(),
    })
}
