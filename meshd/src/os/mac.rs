//! Hardware addresses of links.

use std::fmt;
use std::str::FromStr;

/// First octet of an address that no manufacturer has given: locally administered, of one station.
const LOCAL: u8 = 0x02;
/// Bit of the first octet that makes it an address of many stations.
const GROUP: u8 = 0x01;

/// Hardware address of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac([u8; 6]);

/// Says that a text is no hardware address of one link.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hardware address of one link, like 02:00:00:00:00:01")]
pub struct MacError;

impl Mac {
    /// A locally administered address that ends in these octets.
    pub fn local([a, b, c, d, e]: [u8; 5]) -> Self {
        Self([LOCAL, a, b, c, d, e])
    }

    /// Its six octets.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for Mac {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let octet = |part: &str| {
            let is_hex = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_hex.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let octets: Option<Vec<u8>> = text.split(':').map(octet).collect();
        let octets: [u8; 6] = octets.and_then(|octets| octets.try_into().ok()).ok_or(MacError)?;
        let is_of_one = octets[0] & GROUP == 0 && octets != [0; 6];
        is_of_one.then_some(Self(octets)).ok_or(MacError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_an_address_is_read_back() {
        let mac = Mac::local([0, 0x1a, 0xff, 3, 4]);
        assert_eq!(mac.to_string(), "02:00:1a:ff:03:04");
        assert_eq!("02:00:1A:ff:03:04".parse(), Ok(mac));
    }

    #[test]
    fn addresses_of_many_or_of_nobody_and_other_texts_are_refused() {
        let wrong = [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:00:01",
            "01:00:00:00:00:01",
            "00:00:00:00:00:00",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "+2:00:00:00:00:01",
        ];
        for text in wrong {
            assert_eq!(text.parse::<Mac>(), Err(MacError), "{text}");
        }
    }
}
