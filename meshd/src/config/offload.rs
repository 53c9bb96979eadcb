//! What the kernel may do for many packets at once; each can be switched off where a driver does it wrong.

use serde::Deserialize;

use super::ConfigError;

/// Switches of the offloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// Send a train of datagrams by one call (`UDP_SEGMENT`).
    pub udp_gso: bool,
    /// Receive a train of datagrams by one call (`UDP_GRO`).
    pub udp_gro: bool,
    /// Exchange TCP super-packets with the device.
    pub tun_tcp_gro: bool,
    /// Exchange UDP super-packets with the device.
    pub tun_udp_gro: bool,
    /// Never send a train whose last datagram is as long as the others; none asks the kernel's version.
    pub never_gso_equal_tail: Option<bool>,
}

/// `"auto"`, true or false.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum EqualTail {
    Fixed(bool),
    Word(String),
}

pub(super) fn equal_tail(given: &EqualTail) -> Result<Option<bool>, ConfigError> {
    match given {
        EqualTail::Fixed(fixed) => Ok(Some(*fixed)),
        EqualTail::Word(word) if word == "auto" => Ok(None),
        EqualTail::Word(word) => Err(ConfigError::Value {
            key: "tunnel.never_gso_equal_tail",
            why: format!("`{word}` is neither \"auto\" nor true nor false"),
        }),
    }
}
