//! Addresses of a pool.

use std::net::IpAddr;

use meshd_api::{Allocation, ClaimReply, ClaimRequest, Networks, ReleaseRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, Done};
use crate::body::{address, nullable};
use crate::failure::Failure;
use crate::meshd::Asked;
use crate::pool_id::PoolId;

/// Key of what an address is for.
const KIND: &str = "RequestAddressType";
/// What stands there if it is for the gateway.
const GATEWAY: &str = "com.docker.network.gateway";

/// Asks for an address.
#[derive(Debug, Deserialize)]
pub struct RequestAddress {
    #[serde(rename = "PoolID", default, deserialize_with = "nullable")]
    pool_id: String,
    /// `--ip`; any address if empty.
    #[serde(rename = "Address", default, deserialize_with = "nullable")]
    address: String,
    #[serde(rename = "Options", default, deserialize_with = "nullable")]
    options: Map<String, Value>,
}

impl Call for RequestAddress {
    type Reply = Value;
    const PATH: &'static str = "/IpamDriver.RequestAddress";

    async fn run(self, meshd: &Asked) -> Result<Value, Failure> {
        let id: PoolId = self.pool_id.parse()?;
        let wanted = address("the address", &self.address)?;
        let gateway = id.gateway().ok_or_else(|| Failure::new(format!("subnet {} has no room", id.pool)))?;
        if self.options.get(KIND).and_then(Value::as_str) == Some(GATEWAY) {
            return answer_gateway(&id, gateway, wanted);
        }
        if let Some(wanted) = wanted {
            judge(&id, gateway, wanted)?;
        }
        let allocation = allocation(&id, &meshd.networks().await?);
        let claim = ClaimRequest {
            pool: id.pool.to_string(),
            // Who names an address gets it from anywhere in the pool.
            range: id.range.filter(|_| wanted.is_none()).map(|range| range.to_string()),
            address: wanted,
            allocation,
        };
        let ClaimReply { address } = meshd.ask(&claim).await?;
        Ok(json!({"Address": format!("{address}/{}", id.pool.max_prefix_len()), "Data": {}}))
    }
}

/// The pool's first address stands for the gateway on every host, so it is claimed by none.
fn answer_gateway(id: &PoolId, gateway: IpAddr, wanted: Option<IpAddr>) -> Result<Value, Failure> {
    match wanted {
        Some(wanted) if wanted != gateway => {
            Err(Failure::new(format!("{wanted} can't be the gateway, it is {gateway} on every host"))
                .with("leave --gateway out"))
        }
        _ => Ok(json!({"Address": format!("{gateway}/{}", id.pool.prefix_len()), "Data": {}})),
    }
}

fn judge(id: &PoolId, gateway: IpAddr, wanted: IpAddr) -> Result<(), Failure> {
    if !id.pool.contains(&wanted) {
        return Err(Failure::new(format!("{wanted} lies outside the subnet {}", id.pool)));
    }
    if wanted == gateway {
        return Err(Failure::new(format!("{wanted} stands for the gateway")).with("choose another address"));
    }
    Ok(())
}

/// How addresses are chosen in a pool: the network says so, and Docker does not say which network it is for. All
/// networks with one pool choose alike.
fn allocation(id: &PoolId, networks: &Networks) -> Allocation {
    let pool = Some(id.pool.to_string());
    let network = networks.networks.iter().find(|network| network.pool4 == pool || network.pool6 == pool);
    network.map(|network| network.allocation).unwrap_or_default()
}

/// Gives an address back.
#[derive(Debug, Deserialize)]
pub struct ReleaseAddress {
    #[serde(rename = "PoolID", default, deserialize_with = "nullable")]
    pool_id: String,
    #[serde(rename = "Address", default, deserialize_with = "nullable")]
    address: String,
}

impl Call for ReleaseAddress {
    type Reply = Done;
    const PATH: &'static str = "/IpamDriver.ReleaseAddress";

    async fn run(self, meshd: &Asked) -> Result<Done, Failure> {
        let Some(address) = address("the address", &self.address)? else { return Ok(Done {}) };
        let gateway = self.pool_id.parse::<PoolId>().ok().and_then(|id| id.gateway());
        if gateway != Some(address) {
            meshd.give_back(&ReleaseRequest { address }).await;
        }
        Ok(Done {})
    }
}
