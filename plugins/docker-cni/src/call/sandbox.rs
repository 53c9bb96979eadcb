//! A container's namespace: which link goes in, and what leads through it.

use std::net::IpAddr;

use ipnet::IpNet;
use meshd_api::{DescribeRequest, Egress, Endpoint, EndpointState, ErrorCode, Network};
use serde::{Deserialize, Serialize};

use super::endpoint::attachment;
use super::{Call, Done};
use crate::body::{nullable, prefix};
use crate::failure::Failure;
use crate::meshd::{Asked, is_refused_as};

/// How Docker calls the link in the container, with a number behind it.
const NAME_IN_CONTAINER: &str = "mesh";

/// Asks for the link of a container.
#[derive(Debug, Deserialize)]
pub struct Join {
    #[serde(rename = "NetworkID", default, deserialize_with = "nullable")]
    network_id: String,
    #[serde(rename = "EndpointID", default, deserialize_with = "nullable")]
    endpoint_id: String,
    /// The container's namespace: equal for all networks of a container.
    #[serde(rename = "SandboxKey", default, deserialize_with = "nullable")]
    sandbox: String,
}

/// The link, and what leads through it.
#[derive(Debug, Serialize)]
pub struct Link {
    #[serde(rename = "InterfaceName")]
    name: LinkName,
    #[serde(rename = "StaticRoutes")]
    routes: Vec<Route>,
    #[serde(rename = "Gateway", skip_serializing_if = "Option::is_none")]
    gateway4: Option<IpAddr>,
    #[serde(rename = "GatewayIPv6", skip_serializing_if = "Option::is_none")]
    gateway6: Option<IpAddr>,
    /// Else Docker adds a link of its own for the way out.
    #[serde(rename = "DisableGatewayService", skip_serializing_if = "std::ops::Not::not")]
    is_closed: bool,
}

#[derive(Debug, Serialize)]
struct LinkName {
    #[serde(rename = "SrcName")]
    on_host: String,
    #[serde(rename = "DstPrefix")]
    in_container: &'static str,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Route {
    #[serde(rename = "Destination")]
    destination: IpNet,
    #[serde(rename = "RouteType")]
    kind: u8,
    #[serde(rename = "NextHop", skip_serializing_if = "Option::is_none")]
    next_hop: Option<IpAddr>,
}

/// A route that leads to a next hop.
const VIA: u8 = 0;
/// A route that leads to the link itself.
const ON_LINK: u8 = 1;

impl Call for Join {
    type Reply = Link;
    const PATH: &'static str = "/NetworkDriver.Join";

    async fn run(self, meshd: &Asked) -> Result<Link, Failure> {
        let describe = DescribeRequest {
            attachment: attachment(&self.network_id, &self.endpoint_id)?,
            sandbox: Some(self.sandbox).filter(|sandbox| !sandbox.is_empty()),
            identity: None,
        };
        let described = meshd.ask(&describe).await;
        if is_refused_as(&described, ErrorCode::NotFound) {
            return Err(Failure::new("meshd does not know this endpoint").with("start the container again"));
        }
        let endpoint = described?;
        match endpoint.state {
            EndpointState::Attached | EndpointState::Wiring => {}
            EndpointState::Claiming | EndpointState::Broken | EndpointState::Releasing => {
                return Err(Failure::new(format!("the endpoint is {}", endpoint.state))
                    .with("start the container again"));
            }
        }
        let network = meshd.network(&self.network_id).await?;
        let egress = network.egress;
        let gateway = |is_ipv4| (egress == Egress::Mesh).then(|| gateway(&endpoint, is_ipv4)).flatten();
        Ok(Link {
            routes: routes(&endpoint, &network)?,
            gateway4: gateway(true),
            gateway6: gateway(false),
            is_closed: egress == Egress::None,
            name: LinkName { on_host: endpoint.container_link, in_container: NAME_IN_CONTAINER },
        })
    }
}

fn gateway(endpoint: &Endpoint, is_ipv4: bool) -> Option<IpAddr> {
    endpoint.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == is_ipv4)
}

/// The next hop of each family, then what leads there. Without them a container with another network would send what
/// is for the mesh there.
fn routes(endpoint: &Endpoint, network: &Network) -> Result<Vec<Route>, Failure> {
    let mut routes: Vec<Route> = Vec::new();
    for gateway in &endpoint.gateways {
        routes.push(Route { destination: IpNet::from(*gateway), kind: ON_LINK, next_hop: None });
        let mut destinations: Vec<IpNet> = Vec::new();
        for text in &endpoint.routes {
            let destination = prefix("a route of meshd", text)?;
            if destination.addr().is_ipv4() == gateway.is_ipv4() {
                destinations.push(destination);
            }
        }
        // A default route is Docker's to set, and it leaves it out where another network has one.
        if destinations.iter().any(|destination| destination.prefix_len() == 0) {
            destinations.retain(|destination| destination.prefix_len() != 0);
            let pool = if gateway.is_ipv4() { &network.pool4 } else { &network.pool6 };
            destinations.extend(pool.as_deref().map(|pool| prefix("a pool of meshd", pool)).transpose()?);
        }
        let via = |destination| Route { destination, kind: VIA, next_hop: Some(*gateway) };
        routes.extend(destinations.into_iter().map(via));
    }
    Ok(routes)
}

/// Takes a container's link back.
#[derive(Debug, Deserialize)]
pub struct Leave {}

impl Call for Leave {
    type Reply = Done;
    const PATH: &'static str = "/NetworkDriver.Leave";

    /// The link goes with DeleteEndpoint, which always follows; until then Docker handles it.
    async fn run(self, _: &Asked) -> Result<Done, Failure> {
        Ok(Done {})
    }
}

#[cfg(test)]
mod tests {
    use meshd_api::Allocation;

    use super::*;

    fn told(routes: &[&str]) -> Vec<String> {
        let text = str::to_owned;
        let endpoint = Endpoint {
            gateways: ["10.202.0.1", "fe80::1"].map(|gateway| gateway.parse().expect("an address")).to_vec(),
            routes: routes.iter().copied().map(text).collect(),
            ..crate::sample::endpoint("1f")
        };
        let network = Network {
            runtime: text("docker"),
            network: text("n"),
            pool4: Some(text("10.202.0.0/16")),
            pool6: None,
            allocation: Allocation::Blocks,
            egress: Egress::Mesh,
            mtu: None,
            ranges: Vec::new(),
            reach: meshd_api::Reach::Network,
            policy: meshd_api::Policing::Optional,
        };
        let via = |route: Route| {
            let hop = route.next_hop.map(|hop| format!(" via {hop}")).unwrap_or_default();
            format!("{}{hop}", route.destination)
        };
        super::routes(&endpoint, &network).expect("routes").into_iter().map(via).collect()
    }

    #[test]
    fn every_prefix_leads_to_the_next_hop_of_its_family() {
        assert_eq!(
            told(&["10.192.0.0/10", "fd77::/16", "10.128.0.0/10"]),
            [
                "10.202.0.1/32",
                "10.192.0.0/10 via 10.202.0.1",
                "10.128.0.0/10 via 10.202.0.1",
                "fe80::1/128",
                "fd77::/16 via fe80::1",
            ]
        );
    }

    #[test]
    fn a_default_route_is_left_to_docker_but_the_pool_is_always_there() {
        let routes = ["10.202.0.1/32", "10.202.0.0/16 via 10.202.0.1", "fe80::1/128"];
        assert_eq!(told(&["0.0.0.0/0", "::/0"]), routes);
    }
}
