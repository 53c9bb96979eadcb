//! Subnets of both families as they are typed: `10.91.128.0/20`, `fd12:3456:789a:1::/64`.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

/// A prefix without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet(IpNet);

/// Reports a text that is not a subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a prefix with host bits zero, such as 10.91.128.0/20")]
pub struct ParseSubnetError;

impl Subnet {
    /// Whether it is of IPv4.
    pub fn is_v4(self) -> bool {
        matches!(self.0, IpNet::V4(_))
    }
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, ParseSubnetError> {
        let net: IpNet = text.parse().map_err(|_| ParseSubnetError)?;
        if net.trunc() == net { Ok(Self(net)) } else { Err(ParseSubnetError) }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Subnet;

    #[test]
    fn subnets_have_no_host_bits() {
        for (right, is_v4) in [("10.91.128.0/20", true), ("fd12::/48", false), ("192.0.2.1/32", true)] {
            let subnet: Subnet = right.parse().expect("a subnet");
            assert_eq!((subnet.to_string().as_str(), subnet.is_v4()), (right, is_v4));
        }
        for wrong in ["", "10.91.0.0", "10.91.0.1/16", "10.91.0.0/33", "fd12::1/48", "a/8"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
    }
}
