//! IPv4 prefixes as they are typed: `10.91.0.0/16`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use meshd_wire::record::Prefix;

/// An IPv4 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix4 {
    addr: Ipv4Addr,
    len: u8,
}

/// Reports a text that is not an IPv4 prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an IPv4 prefix with host bits zero, such as 10.91.0.0/16")]
pub struct ParsePrefixError;

impl Prefix4 {
    /// The prefix as records carry it.
    pub fn to_wire(self) -> Prefix {
        Prefix::v4(self.addr, self.len)
    }
}

impl FromStr for Prefix4 {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, ParsePrefixError> {
        let (addr, len) = text.split_once('/').ok_or(ParsePrefixError)?;
        let prefix = Self {
            addr: addr.parse().map_err(|_| ParsePrefixError)?,
            len: len.parse().map_err(|_| ParsePrefixError)?,
        };
        prefix.to_wire().parts().map(|_| prefix).ok_or(ParsePrefixError)
    }
}

impl fmt::Display for Prefix4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::Prefix4;

    #[test]
    fn prefixes_have_no_host_bits() {
        for right in ["10.91.0.0/16", "0.0.0.0/0", "192.0.2.1/32"] {
            assert_eq!(right.parse::<Prefix4>().map(|prefix| prefix.to_string()), Ok(right.to_owned()));
        }
        for wrong in ["", "10.91.0.0", "10.91.0.1/16", "10.91.0.0/33", "fd00::/8", "10.0.0.0/-1", "a/8"] {
            assert!(wrong.parse::<Prefix4>().is_err(), "{wrong}");
        }
    }
}
