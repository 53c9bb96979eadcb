//! A configuration for `wg-quick` and the WireGuard apps.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use data_encoding::BASE64;
use ipnet::IpNet;
use zeroize::Zeroizing;

/// Least MTU that carries IPv6, and the greatest that fits a path of 1,500 bytes.
const MTU: std::ops::RangeInclusive<u16> = 1280..=1420;
/// Seconds between two empty messages of a peer that may sit behind a NAT: the shortest timeouts are 30 s.
const KEEPALIVE_S: u16 = 25;
/// Longest host name, RFC 1035.
const HOST_LEN_MAX: usize = 253;

/// What the configuration of one peer says.
pub(super) struct QuickConfig {
    pub(super) name: String,
    pub(super) private: Option<Zeroizing<String>>,
    pub(super) public: String,
    pub(super) addrs: (Ipv4Addr, Ipv6Addr),
    pub(super) mtu: u16,
    pub(super) gateway: String,
    pub(super) gateway_key: String,
    pub(super) psk: Option<Zeroizing<String>>,
    pub(super) endpoint: Option<String>,
    pub(super) allowed: Vec<IpNet>,
}

impl QuickConfig {
    /// The configuration as text; it holds secrets.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        let mut line = |words: &[&str]| {
            words.iter().for_each(|word| text.push_str(word));
            text.push('\n');
        };
        line(&["# ", &self.name, ", through ", &self.gateway]);
        line(&["[Interface]"]);
        match &self.private {
            Some(private) => line(&["PrivateKey = ", private]),
            None => line(&["# PrivateKey = that of ", &self.public]),
        }
        line(&["Address = ", &format!("{}/32, {}/128", self.addrs.0, self.addrs.1)]);
        line(&["MTU = ", &self.mtu.clamp(*MTU.start(), *MTU.end()).to_string()]);
        line(&[]);
        line(&["[Peer]"]);
        line(&["PublicKey = ", &self.gateway_key]);
        if let Some(psk) = &self.psk {
            line(&["PresharedKey = ", psk]);
        }
        let allowed: Vec<String> = self.allowed.iter().map(ToString::to_string).collect();
        line(&["AllowedIPs = ", &allowed.join(", ")]);
        if let Some(endpoint) = &self.endpoint {
            line(&["Endpoint = ", endpoint]);
        }
        line(&["PersistentKeepalive = ", &KEEPALIVE_S.to_string()]);
        text
    }

    /// Whether the peer knows where its gateway is.
    pub(super) fn has_endpoint(&self) -> bool {
        self.endpoint.is_some()
    }
}

/// A WireGuard key as `wg` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WireGuardKey(String);

/// Reports a text that is not a WireGuard key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 44 letters of base64, as `wg pubkey` prints them")]
pub(super) struct ParseKeyError;

impl FromStr for WireGuardKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let is_key = BASE64.decode(text.as_bytes()).is_ok_and(|bytes| bytes.len() == 32);
        if is_key { Ok(Self(text.to_owned())) } else { Err(ParseKeyError) }
    }
}

impl fmt::Display for WireGuardKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host name or address with a port: `vpn.example.org:51820`, `192.0.2.1:51820`, `[2001:db8::1]:51820`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPort(String);

/// Reports a text that is no host with a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT, with an IPv6 address in brackets")]
pub(super) struct ParseHostPortError;

impl FromStr for HostPort {
    type Err = ParseHostPortError;

    fn from_str(text: &str) -> Result<Self, ParseHostPortError> {
        let (host, port) = text.rsplit_once(':').ok_or(ParseHostPortError)?;
        let has_port = port.parse::<u16>().is_ok_and(|port| port != 0);
        let is_address6 = || {
            let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
        };
        // What stands here ends up in a file that other programs read line by line.
        let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
        let is_name = || (1..=HOST_LEN_MAX).contains(&host.len()) && host.bytes().all(letters);
        if has_port && (is_name() || is_address6()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseHostPortError)
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_port_and_no_line_of_its_own() {
        for right in ["vpn.example.org:51820", "192.0.2.1:1", "[2001:db8::1]:65535", "a:1"] {
            assert!(right.parse::<HostPort>().is_ok(), "{right}");
        }
        for wrong in ["", "a", "a:", ":1", "a:0", "a:65536", "2001:db8::1:51820", "[x]:1", "a\nb:1", "a b:1"]
        {
            assert!(wrong.parse::<HostPort>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_32_bytes_of_base64() {
        let key = BASE64.encode(&[7; 32]);
        assert_eq!(key.parse::<WireGuardKey>().map(|key| key.to_string()), Ok(key.clone()));
        for wrong in ["", "x", &key[..43], &BASE64.encode(&[7; 31]), &BASE64.encode(&[7; 33])] {
            assert!(wrong.parse::<WireGuardKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_mtu_carries_ipv6_and_fits_the_internet() {
        for (mesh, printed) in [(1200, 1280), (1280, 1280), (1400, 1400), (8920, 1420)] {
            let text = QuickConfig { mtu: mesh, ..config() }.to_text();
            assert!(text.contains(&format!("MTU = {printed}\n")), "{}", *text);
        }
    }

    fn config() -> QuickConfig {
        QuickConfig {
            name: "phone".into(),
            private: None,
            public: "P".into(),
            addrs: (Ipv4Addr::new(10, 91, 0, 5), Ipv6Addr::LOCALHOST),
            mtu: 1420,
            gateway: "a".into(),
            gateway_key: "G".into(),
            psk: None,
            endpoint: None,
            allowed: Vec::new(),
        }
    }
}
