//! What Docker sends, read.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::failure::Failure;

/// Longest id; Docker's have 64 digits.
const ID_BYTES_MAX: usize = 128;

/// A value that Go may send as null.
pub fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An id of a network or an endpoint.
pub fn id<'a>(what: &str, text: &'a str) -> Result<&'a str, Failure> {
    let is_id =
        (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_id { Ok(text) } else { Err(Failure::new(format!("{what} is {}, not an id", shown(text)))) }
}

/// An address; none if there is no text.
pub fn address(what: &str, text: &str) -> Result<Option<IpAddr>, Failure> {
    let wrong = || Failure::new(format!("{what} is {}, not an address", shown(text)));
    Some(text).filter(|text| !text.is_empty()).map(|text| text.parse().map_err(|_| wrong())).transpose()
}

/// The address of an address with its prefix length; none if there is no text.
pub fn interface_address(what: &str, text: &str) -> Result<Option<IpAddr>, Failure> {
    address(what, text.split_once('/').map_or(text, |(address, _)| address))
}

/// A prefix without bits behind it.
pub fn prefix(what: &str, text: &str) -> Result<IpNet, Failure> {
    let net: IpNet =
        text.parse().map_err(|_| Failure::new(format!("{what} is {}, not a prefix", shown(text))))?;
    if net == net.trunc() {
        return Ok(net);
    }
    Err(Failure::new(format!("{what} is {net}, which is not its first address"))
        .with(format!("write {}", net.trunc())))
}

/// Longest value that a message repeats; people find the mistake without the rest.
const SHOWN_CHARS_MAX: usize = 60;

/// A value for a message.
pub fn shown(text: &str) -> String {
    let text = Value::from(text).to_string();
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
