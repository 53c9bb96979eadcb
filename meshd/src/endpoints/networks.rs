//! The container networks of this host: which pools they have, and which they may have.

use ipnet::IpNet;
use meshd_api::{ApiError, ErrorCode, Network};
use meshd_core::pool::{Allocation, Pool};
use meshd_wire::NodeId;

/// Networks of one host; Docker itself stops far below.
pub const NETWORKS_MAX: usize = 256;
/// Bytes of the words that a runtime names things with.
const WORD_BYTES_MAX: usize = 255;

/// Where pools may lie.
#[derive(Debug)]
pub struct Scope {
    /// Prefixes of this node's organisation.
    pub own: Vec<IpNet>,
    /// Prefixes of the whole mesh.
    pub mesh: Vec<IpNet>,
}

/// A network's pools, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pools {
    /// IPv4 first.
    pub nets: Vec<IpNet>,
    /// Only these parts are given to who asks for no address; everything if there are none.
    pub ranges: Vec<IpNet>,
}

impl Pools {
    /// Reads a network's pools; those that are stored were judged before.
    pub fn of(network: &Network) -> Result<Self, ApiError> {
        let named = [(&network.pool4, true), (&network.pool6, false)];
        let mut nets = Vec::new();
        for (text, is_v4) in named {
            let Some(text) = text else { continue };
            let net = read(text)?;
            if net.addr().is_ipv4() != is_v4 {
                return Err(bad(format!("pool {text} is of the other family")));
            }
            nets.push(net);
        }
        let ranges = network.ranges.iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()?;
        match ranges.iter().find(|range| !nets.iter().any(|net| net.contains(*range))) {
            Some(range) => Err(bad(format!("range {range} lies outside the network's pools"))),
            None => Ok(Self { nets, ranges }),
        }
    }
}

/// A prefix as a caller wrote it.
pub fn read(text: &str) -> Result<IpNet, ApiError> {
    text.parse().map_err(|_| bad(format!("`{text}` is no prefix")).with_hint("write it as 10.91.128.0/20"))
}

/// How addresses are chosen, in the words of the pool.
pub fn allocation(network: meshd_api::Allocation) -> Allocation {
    match network {
        meshd_api::Allocation::Blocks => Allocation::Blocks,
        meshd_api::Allocation::Sequential => Allocation::Sequential,
    }
}

/// Whether a prefix can be a pool beside those that are known; an equal one makes two networks one.
pub fn judge_pool(net: IpNet, how: Allocation, scope: &Scope, known: &[Network]) -> Result<(), ApiError> {
    Pool::<NodeId>::new(net, how).map_err(|error| bad(format!("{net} can't be a pool: {error}")))?;
    if !scope.own.iter().any(|own| own.contains(&net)) {
        let own: Vec<String> = scope.own.iter().map(ToString::to_string).collect();
        return Err(bad(format!("pool {net} lies outside this organisation's prefixes"))
            .with_hint(format!("choose one inside {}", own.join(" or "))));
    }
    for other in known {
        for with in Pools::of(other)?.nets {
            let name = &other.network;
            if with == net && allocation(other.allocation) != how {
                let error = format!("network {name} has pool {net} with another way to choose addresses");
                return Err(ApiError::new(ErrorCode::PrefixConflict, error));
            }
            if with != net && (with.contains(&net) || net.contains(&with)) {
                let error = format!("pool {net} overlaps pool {with} of network {name}");
                return Err(ApiError::new(ErrorCode::PrefixConflict, error)
                    .with_hint("take the same pool, to be one network, or another one"));
            }
        }
    }
    Ok(())
}

/// Judges a network that is to be known from now on, beside all others.
pub fn judge(network: &Network, scope: &Scope, others: &[Network]) -> Result<Pools, ApiError> {
    judge_word("runtime", &network.runtime)?;
    judge_word("network", &network.network)?;
    let pools = Pools::of(network)?;
    for net in &pools.nets {
        judge_pool(*net, allocation(network.allocation), scope, others)?;
    }
    Ok(pools)
}

/// Judges a word that a runtime names something with.
pub fn judge_word(what: &str, word: &str) -> Result<(), ApiError> {
    if (1..=WORD_BYTES_MAX).contains(&word.len()) && !word.chars().any(char::is_control) {
        return Ok(());
    }
    Err(bad(format!("a {what} is named by 1 to {WORD_BYTES_MAX} bytes without control characters")))
}

fn bad(error: String) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, pool4: &str) -> Network {
        Network {
            runtime: "docker".into(),
            network: name.into(),
            pool4: Some(pool4.into()),
            pool6: None,
            allocation: meshd_api::Allocation::Blocks,
            egress: meshd_api::Egress::Runtime,
            mtu: None,
            ranges: Vec::new(),
            reach: meshd_api::Reach::Mesh,
            policy: meshd_api::Policing::Optional,
        }
    }

    fn scope() -> Scope {
        let own = vec!["10.91.0.0/16".parse().expect("net"), "fd00:1:2:3::/64".parse().expect("net")];
        Scope { mesh: own.clone(), own }
    }

    fn judged(network: &Network, others: &[Network]) -> Result<Pools, ErrorCode> {
        judge(network, &scope(), others).map_err(|error| error.code)
    }

    #[test]
    fn a_pool_of_the_organisation_is_taken() {
        let mut both = network("a", "10.91.128.0/20");
        both.pool6 = Some("fd00:1:2:3:a::/80".into());
        both.ranges = vec!["10.91.128.64/26".into()];
        let pools = judged(&both, &[]).expect("taken");
        assert_eq!(pools.nets.len(), 2);
        assert_eq!(pools.ranges, vec!["10.91.128.64/26".parse::<IpNet>().expect("net")]);
    }

    #[test]
    fn an_equal_pool_is_the_same_network_and_an_overlapping_one_is_refused() {
        let known = [network("a", "10.91.128.0/20")];
        assert!(judged(&network("b", "10.91.128.0/20"), &known).is_ok());
        assert!(judged(&network("b", "10.91.144.0/20"), &known).is_ok());
        for overlapping in ["10.91.128.0/24", "10.91.0.0/16"] {
            assert_eq!(judged(&network("b", overlapping), &known), Err(ErrorCode::PrefixConflict));
        }
        let mut sequential = network("b", "10.91.128.0/20");
        sequential.allocation = meshd_api::Allocation::Sequential;
        assert_eq!(judged(&sequential, &known), Err(ErrorCode::PrefixConflict));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for pool in ["", "10.91.128.0", "10.91.128.1/20", "10.91.128.0/30", "10.92.0.0/20", "fd00:1:2:3::/80"]
        {
            assert_eq!(judged(&network("a", pool), &[]), Err(ErrorCode::BadRequest), "{pool}");
        }
        let mut range = network("a", "10.91.128.0/20");
        range.ranges = vec!["10.91.0.0/24".into()];
        assert_eq!(judged(&range, &[]), Err(ErrorCode::BadRequest));
        for name in ["", "a\nb", &"x".repeat(256)] {
            assert_eq!(judged(&network(name, "10.91.128.0/20"), &[]), Err(ErrorCode::BadRequest));
        }
    }
}
