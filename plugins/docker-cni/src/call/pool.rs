//! Pools: where the addresses of a network come from.

use ipnet::IpNet;
use meshd_api::Networks;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Call, Done};
use crate::body::{nullable, prefix, shown};
use crate::failure::Failure;
use crate::meshd::Asked;
use crate::pool_id::PoolId;

/// Asks for a pool; the same one on several hosts makes their networks one.
#[derive(Debug, Deserialize)]
pub struct RequestPool {
    /// `--subnet`.
    #[serde(rename = "Pool", default, deserialize_with = "nullable")]
    pool: String,
    /// `--ip-range`.
    #[serde(rename = "SubPool", default, deserialize_with = "nullable")]
    range: String,
    /// `--ipam-opt`.
    #[serde(rename = "Options", default, deserialize_with = "nullable")]
    options: Map<String, Value>,
    #[serde(rename = "V6", default, deserialize_with = "nullable")]
    is_ipv6: bool,
}

impl Call for RequestPool {
    type Reply = Value;
    const PATH: &'static str = "/IpamDriver.RequestPool";

    /// Claims nothing: a pool is nobody's.
    async fn run(self, meshd: &Asked) -> Result<Value, Failure> {
        let id = self.read()?;
        judge(id.pool, &meshd.networks().await?)?;
        Ok(json!({"PoolID": id.to_string(), "Pool": id.pool, "Data": {}}))
    }
}

impl RequestPool {
    fn read(self) -> Result<PoolId, Failure> {
        if let Some(key) = self.options.keys().find(|key| key.starts_with("meshd.")) {
            return Err(Failure::new(format!("{} is no option of IPAM", shown(key)))
                .with("give it to the network, behind -o"));
        }
        if self.pool.is_empty() {
            // Any answer would be asked for again and again: Docker takes no pool of its own accord that has a route
            // on the host, and the mesh has one.
            let wanted = if self.is_ipv6 {
                "--ipv6 needs a --subnet of IPv6"
            } else {
                "a network of the mesh needs a --subnet"
            };
            return Err(Failure::new(wanted).with("choose one inside your organisation's prefix"));
        }
        let pool = prefix("the subnet", &self.pool)?;
        let range = Some(self.range).filter(|range| !range.is_empty());
        let range = range.map(|range| prefix("--ip-range", &range)).transpose()?;
        match range {
            Some(range) if !pool.contains(&range) => {
                Err(Failure::new(format!("--ip-range {range} lies outside the subnet {pool}")))
            }
            range => Ok(PoolId { pool, range }),
        }
    }
}

/// Whether a pool may be where it is.
fn judge(pool: IpNet, networks: &Networks) -> Result<(), Failure> {
    let is_ipv4 = pool.addr().is_ipv4();
    let nets =
        |texts: &[String]| -> Vec<IpNet> { texts.iter().filter_map(|text| text.parse().ok()).collect() };
    let own: Vec<IpNet> =
        nets(&networks.own_prefixes).into_iter().filter(|own| own.addr().is_ipv4() == is_ipv4).collect();
    if !own.iter().any(|own| own.contains(&pool)) {
        let inside: Vec<String> = own.iter().map(IpNet::to_string).collect();
        let failure = Failure::new(format!("subnet {pool} lies outside your organisation's prefixes"));
        return Err(match inside.is_empty() {
            true => failure.with("it has none of this family"),
            false => failure.with(format!("choose one inside {}", inside.join(" or "))),
        });
    }
    for network in &networks.networks {
        let pools = network.pool4.iter().chain(&network.pool6).filter_map(|text| text.parse::<IpNet>().ok());
        for other in pools {
            if other != pool && (other.contains(&pool) || pool.contains(&other)) {
                return Err(Failure::new(format!("subnet {pool} overlaps {other} of another network"))
                    .with("take the same subnet, to be one network with it, or another one"));
            }
        }
    }
    Ok(())
}

/// Gives a pool back.
#[derive(Debug, Deserialize)]
pub struct ReleasePool {}

impl Call for ReleasePool {
    type Reply = Done;
    const PATH: &'static str = "/IpamDriver.ReleasePool";

    /// Nothing was taken; Docker may call it dozens of times, or never.
    async fn run(self, _: &Asked) -> Result<Done, Failure> {
        Ok(Done {})
    }
}
