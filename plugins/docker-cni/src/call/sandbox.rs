//! A container's namespace: which link goes in, and what leads through it.

use std::net::IpAddr;

use ipnet::IpNet;
use meshd_api::{Egress, Endpoint, EndpointState};
use serde::{Deserialize, Serialize};

use super::endpoint::endpoint;
use super::{Call, Done};
use crate::body::nullable;
use crate::failure::Failure;
use crate::meshd::Asked;

/// How Docker calls the link in the container, with a number behind it.
const NAME_IN_CONTAINER: &str = "mesh";

/// Asks for the link of a container.
#[derive(Debug, Deserialize)]
pub struct Join {
    #[serde(rename = "NetworkID", default, deserialize_with = "nullable")]
    network_id: String,
    #[serde(rename = "EndpointID", default, deserialize_with = "nullable")]
    endpoint_id: String,
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
        let endpoint = endpoint(meshd, &self.network_id, &self.endpoint_id).await?;
        match endpoint.state {
            EndpointState::Attached | EndpointState::Wiring => {}
            EndpointState::Claiming | EndpointState::Broken | EndpointState::Releasing => {
                return Err(Failure::new(format!("the endpoint is {}", endpoint.state))
                    .with("start the container again"));
            }
        }
        let egress = meshd.network(&self.network_id).await?.egress;
        let gateway = |is_ipv4| (egress == Egress::Mesh).then(|| gateway(&endpoint, is_ipv4)).flatten();
        Ok(Link {
            routes: routes(&endpoint)?,
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
fn routes(endpoint: &Endpoint) -> Result<Vec<Route>, Failure> {
    let wrong = |text: &str| Failure::new(format!("meshd names the route {text}, which can't be followed"));
    let mut routes: Vec<Route> = Vec::new();
    for gateway in &endpoint.gateways {
        routes.push(Route { destination: IpNet::from(*gateway), kind: ON_LINK, next_hop: None });
        for text in &endpoint.routes {
            let destination: IpNet = text.parse().map_err(|_| wrong(text))?;
            if destination.addr().is_ipv4() == gateway.is_ipv4() {
                routes.push(Route { destination, kind: VIA, next_hop: Some(*gateway) });
            }
        }
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
