//! How a pool is called between Docker and this plugin: by all there is to know about it, so that nothing must be kept.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::body::{prefix, shown};
use crate::failure::Failure;

/// What every name begins with.
const MARK: &str = "meshd/";

/// A pool, and the part of it that addresses come from: `meshd/10.202.0.0/16,10.202.7.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolId {
    /// The pool.
    pub pool: IpNet,
    /// The part, if it is not the whole.
    pub range: Option<IpNet>,
}

impl PoolId {
    /// Its first address, which stands for the gateway: the same on every host, and nobody's.
    pub fn gateway(&self) -> Option<IpAddr> {
        let gateway: IpAddr = match self.pool.network() {
            IpAddr::V4(first) => u32::from(first).checked_add(1).map(|next| IpAddr::V4(next.into()))?,
            IpAddr::V6(first) => u128::from(first).checked_add(1).map(|next| IpAddr::V6(next.into()))?,
        };
        self.pool.contains(&gateway).then_some(gateway)
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}", self.pool)?;
        self.range.map_or(Ok(()), |range| write!(f, ",{range}"))
    }
}

impl FromStr for PoolId {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let foreign = || Failure::new(format!("PoolID is {}, not one of meshd's", shown(text)));
        let nets = text.strip_prefix(MARK).ok_or_else(foreign)?;
        let (pool, range) = nets.split_once(',').map_or((nets, None), |(pool, range)| (pool, Some(range)));
        let range = range.map(|range| prefix("PoolID", range)).transpose()?;
        Ok(Self { pool: prefix("PoolID", pool)?, range })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_everything() {
        for text in ["meshd/10.202.0.0/16", "meshd/fd77:202::/64", "meshd/10.202.0.0/16,10.202.7.0/24"] {
            let id: PoolId = text.parse().expect(text);
            assert_eq!(id.to_string(), text);
        }
        for text in [
            "",
            "meshd",
            "meshd/",
            "meshd/10.202.0.0",
            "x/10.202.0.0/16",
            "meshd/10.202.0.0/16,",
            "meshd/10.202.0.1/16",
        ] {
            assert!(text.parse::<PoolId>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_gateway_is_the_first_address() {
        let gateway = |text: &str| text.parse::<PoolId>().expect(text).gateway().map(|one| one.to_string());
        assert_eq!(gateway("meshd/10.202.0.0/16").as_deref(), Some("10.202.0.1"));
        assert_eq!(gateway("meshd/fd77:202::/64").as_deref(), Some("fd77:202::1"));
        assert_eq!(gateway("meshd/10.202.0.7/32"), None);
        assert_eq!(gateway("meshd/255.255.255.255/32"), None);
    }
}
