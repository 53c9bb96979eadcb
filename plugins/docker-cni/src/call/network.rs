//! Networks. Docker tells of one once, when it is made: meshd keeps it.

use meshd_api::{
    ErrorCode, KeepRequest, Network, Policing, PutNetworkRequest, RemoveNetworkReply, RemoveNetworkRequest,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::capabilities::ADDRESS_SPACES;
use super::{Call, Done};
use crate::body::{id, nullable, prefix};
use crate::failure::Failure;
use crate::meshd::{Asked, RUNTIME, is_refused_as};
use crate::network_options::NetworkOptions;
use crate::talk;

/// Tells of a network.
#[derive(Debug, Deserialize)]
pub struct CreateNetwork {
    #[serde(rename = "NetworkID", default, deserialize_with = "nullable")]
    id: String,
    #[serde(rename = "Options", default, deserialize_with = "nullable")]
    options: Map<String, Value>,
    #[serde(rename = "IPv4Data", default, deserialize_with = "nullable")]
    ipv4: Vec<Addressing>,
    #[serde(rename = "IPv6Data", default, deserialize_with = "nullable")]
    ipv6: Vec<Addressing>,
}

/// Where addresses of one subnet come from.
#[derive(Debug, Deserialize)]
struct Addressing {
    #[serde(rename = "AddressSpace", default, deserialize_with = "nullable")]
    space: String,
    #[serde(rename = "Pool", default, deserialize_with = "nullable")]
    pool: String,
    /// `--aux-address`.
    #[serde(rename = "AuxAddresses", default, deserialize_with = "nullable")]
    reserved: Map<String, Value>,
}

impl Call for CreateNetwork {
    type Reply = Done;
    const PATH: &'static str = "/NetworkDriver.CreateNetwork";

    async fn run(self, meshd: &Asked) -> Result<Done, Failure> {
        let network = id("NetworkID", &self.id)?.to_owned();
        let pool4 = pool(&self.ipv4)?;
        let pool6 = pool(&self.ipv6)?;
        if pool4.is_none() && pool6.is_none() {
            return Err(no_own_addresses());
        }
        let NetworkOptions { allocation, egress, reach, mtu } = NetworkOptions::read(&self.options)?;
        let runtime = RUNTIME.to_owned();
        let (ranges, policy) = (Vec::new(), Policing::Optional);
        let network =
            Network { runtime, network, pool4, pool6, allocation, egress, mtu, ranges, reach, policy };
        meshd.ask(&PutNetworkRequest { network }).await?;
        Ok(Done {})
    }
}

/// The subnet of one family, if there is one.
fn pool(subnets: &[Addressing]) -> Result<Option<String>, Failure> {
    let [Addressing { space, pool, reserved }] = subnets else {
        return match subnets.len() {
            0 => Ok(None),
            _ => Err(Failure::new("a network of the mesh has one subnet of each family")),
        };
    };
    // Addresses that another driver chooses collide between hosts.
    if !ADDRESS_SPACES.contains(&space.as_str()) {
        return Err(no_own_addresses());
    }
    let pool = prefix("the subnet", pool)?;
    if pool.prefix_len() == 0 {
        return Err(no_own_addresses());
    }
    if !reserved.is_empty() {
        return Err(Failure::new("--aux-address reserves nothing on the other hosts of the mesh")
            .with("leave such addresses out by --ip-range"));
    }
    Ok(Some(pool.to_string()))
}

fn no_own_addresses() -> Failure {
    Failure::new("addresses of the mesh come from meshd").with("add --ipam-driver meshd and a --subnet")
}

/// Tells that a network is gone.
#[derive(Debug, Deserialize)]
pub struct DeleteNetwork {
    #[serde(rename = "NetworkID", default, deserialize_with = "nullable")]
    id: String,
}

impl Call for DeleteNetwork {
    type Reply = Done;
    const PATH: &'static str = "/NetworkDriver.DeleteNetwork";

    /// Docker removes only networks that have no containers, and forgets this one whatever is answered. What meshd
    /// still holds in it are leftovers.
    async fn run(self, meshd: &Asked) -> Result<Done, Failure> {
        let (runtime, network) = (RUNTIME.to_owned(), self.id);
        let remove = RemoveNetworkRequest { runtime: runtime.clone(), network: network.clone() };
        let removed = meshd.ask_now(&remove).await;
        if let Err(failure) = &removed
            && failure.code().is_none()
        {
            // Docker forgets it all the same; who follows Docker sees to it once meshd is back.
            talk::aside(&format!("left for later: {}", failure.line()));
            return Ok(Done {});
        }
        if !is_refused_as(&removed, ErrorCode::InUse) {
            let RemoveNetworkReply { existed: _ } = removed?;
            return Ok(Done {});
        }
        meshd.ask(&KeepRequest { runtime, network, keep: Vec::new(), dry_run: false }).await?;
        meshd.ask(&remove).await?;
        Ok(Done {})
    }
}
