//! Tracked connections of an address: they must not outlive its holder.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use netlink_packet_core::{
    DecodeError, NLA_ALIGNTO, NLA_HEADER_SIZE, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable,
    NlasIterator,
};

use super::netlink::{Netlink, NetlinkError};

/// Number of connection tracking among the parts of netfilter, in the upper half of a message type.
const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = SUBSYSTEM;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
/// Where most kernels show tracked connections as text. They pass over empty places of their table in this way, which
/// takes a hundredth of the time that they need to pass them by netlink.
const TABLE: &str = "/proc/thread-self/net/nf_conntrack";
/// Longest text that is believed: with the next line it fits into the page that the kernel fills in one go. A longer one
/// is put together from several looks at the table, and what moves in between may be in none of them.
const TABLE_LEN_MAX: usize = 3 * 1024;

/// Octets before the attributes: family, version, and a resource number.
const HEADER_LEN: usize = 4;

/// Attributes of a connection, as include/uapi/linux/netfilter/nfnetlink_conntrack.h numbers them.
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// Attribute of a tuple, and those in it.
const TUPLE_IP: u16 = 1;
const ADDRESSES: RangeInclusive<u16> = 1..=4;

/// Deletes the tracked connections that have one of the addresses at either end, before or after translation. Returns
/// how many. To look through the kernel's table takes long, however few connections there are: many addresses at once
/// take no longer than one.
pub fn forget_connections(addresses: &BTreeSet<IpAddr>) -> Result<usize, NetlinkError> {
    if File::open(TABLE).is_ok_and(|table| shows_none(table, addresses)) {
        return Ok(0);
    }
    let mut netlink = Netlink::open_netfilter()?;
    let ends: BTreeSet<Vec<u8>> = addresses.iter().map(octets).collect();
    let mut found = Vec::new();
    let all = Connection { kind: GET, family: libc::AF_UNSPEC as u8, attributes: Vec::new() };
    netlink.dump("list tracked connections", all, |connection| {
        if connection.kind == NEW && connection.has_end(&ends) {
            found.push(connection);
        }
    })?;
    let mut deleted = 0;
    for connection in found {
        match netlink.change("delete a tracked connection", connection.deletion(), 0) {
            Ok(()) => deleted += 1,
            // It ended by itself.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}

/// Whether the text shows that there is no connection of these; false also if it doesn't show.
fn shows_none(mut table: impl Read, addresses: &BTreeSet<IpAddr>) -> bool {
    let mut text = [0; TABLE_LEN_MAX + 1];
    let Ok(len) = table.read(&mut text) else { return false };
    if len > TABLE_LEN_MAX {
        return false;
    }
    let text = String::from_utf8_lossy(&text[..len]);
    let ends = text.split_ascii_whitespace().filter_map(|word| {
        let end = word.strip_prefix("src=").or_else(|| word.strip_prefix("dst="))?;
        end.parse::<IpAddr>().ok()
    });
    !ends.into_iter().any(|end| addresses.contains(&end))
}

fn octets(address: &IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A message about tracked connections; the attributes as the kernel packs them.
struct Connection {
    kind: u16,
    family: u8,
    attributes: Vec<u8>,
}

impl Connection {
    fn has_end(&self, ends: &BTreeSet<Vec<u8>>) -> bool {
        attributes(&self.attributes)
            .filter(|tuple| matches!(tuple.kind, TUPLE_ORIGINAL | TUPLE_REPLY))
            .flat_map(|tuple| attributes(tuple.value))
            .filter(|part| part.kind == TUPLE_IP)
            .flat_map(|part| attributes(part.value))
            .any(|end| ADDRESSES.contains(&end.kind) && ends.contains(end.value))
    }

    /// Exactly this connection: the number tells it from one that took its place meanwhile.
    fn deletion(&self) -> Self {
        let names =
            attributes(&self.attributes).filter(|part| matches!(part.kind, TUPLE_ORIGINAL | ID | ZONE));
        let packed = names.flat_map(|part| part.packed).copied().collect();
        Self { kind: DELETE, family: self.family, attributes: packed }
    }
}

impl NetlinkSerializable for Connection {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        HEADER_LEN + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..HEADER_LEN].copy_from_slice(&[self.family, 0, 0, 0]);
        buffer[HEADER_LEN..].copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for Connection {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let (family, attributes) = payload
            .split_at_checked(HEADER_LEN)
            .and_then(|(head, attributes)| Some((*head.first()?, attributes.to_vec())))
            .ok_or_else(|| DecodeError::buffer_too_small(payload.len(), HEADER_LEN))?;
        Ok(Self { kind: header.message_type, family, attributes })
    }
}

/// One attribute: what it is, what it holds, and both with the padding behind them.
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
    packed: &'a [u8],
}

/// Those that can be read; the kernel writes no others.
fn attributes(packed: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    NlasIterator::new(packed).filter_map(Result::ok).filter_map(|nla| {
        let (kind, len) = (nla.kind(), usize::from(nla.length()));
        let rest = nla.into_inner();
        let value = rest.get(NLA_HEADER_SIZE..len)?;
        Some(Attribute { kind, value, packed: rest.get(..len.next_multiple_of(NLA_ALIGNTO))? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "ipv4     2 udp      17 29 src=10.91.128.5 dst=10.91.0.1 sport=5 dport=6 [UNREPLIED] \
                        src=10.91.0.1 dst=10.91.128.5 sport=6 dport=5 mark=0 use=1\n";

    #[test]
    fn a_short_table_shows_whose_connections_there_are() {
        for (address, is_none) in [("10.91.128.5", false), ("10.91.0.1", false), ("10.91.128.6", true)] {
            let address = address.parse().expect("an address");
            assert_eq!(shows_none(LINE.as_bytes(), &[address].into()), is_none, "{address}");
        }
        assert!(shows_none(&b""[..], &["10.91.128.5".parse().expect("an address")].into()));
    }

    #[test]
    fn a_table_that_takes_more_than_one_look_shows_nothing() {
        // What had the address moved from the second page to the first, after that was read.
        let long = LINE.repeat(TABLE_LEN_MAX / LINE.len() + 1);
        assert!(!shows_none(long.as_bytes(), &["10.91.128.6".parse().expect("an address")].into()));
    }
}
