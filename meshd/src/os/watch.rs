//! Changes of links, addresses and our tables of the packet filter, as they happen.

use std::io;
use std::ops::Range;

use netlink_packet_core::{DecodeError, NetlinkMessage, NetlinkPayload, NlasIterator};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::link_owner::{LinkOwner, host_link};
use super::netlink::NetlinkError;
use super::nft::is_own_run;
use super::{firewall, policy};

/// Links only (RTMGRP_LINK).
const LINK_GROUP: u32 = 0x1;
/// Links, IPv4 addresses and IPv6 addresses (RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// Notifications read at once: a burst becomes one change.
const BURST_MAX: usize = 1024;
/// Longest notification of a link that is read; the kernel's own page for one has 4 to 8 KiB.
const NOTICE_LEN_MAX: usize = 32_768;
/// Where a message says what it is, and what it says of a link that is gone.
const KIND: Range<usize> = 4..6;
const RTM_DELLINK: u16 = 17;
/// Tables, chains, rules and sets (NFNLGRP_NFTABLES).
const NFTABLES_GROUP: u32 = 7;
/// Number of the packet filter among the parts of netfilter, in the upper half of a message type.
const NFTABLES: u16 = 10;
/// A message's header, and where it says who caused it.
const HEADER_LEN: usize = 16;
const CAUSE: Range<usize> = 12..16;
/// Octets of such a message before its attributes: family, version, and a resource number.
const NFTABLES_HEADER_LEN: usize = 4;
/// Attribute with the name of the table that something is or was in; the same for all kinds of things.
const TABLE: u16 = 1;
/// What nobody else is to change.
const OWN_TABLES: [&str; 2] = [firewall::TABLE, policy::TABLE];

/// Tells that links or addresses changed; what they are now is read afresh.
pub struct AddressWatch {
    socket: AsyncFd<Socket>,
}

impl AddressWatch {
    /// Subscribes in the calling thread's network namespace; needs a tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = subscribe(GROUPS).map_err(|source| NetlinkError::new("watch addresses", source))?;
        Ok(Self { socket })
    }

    /// Waits for the next change. Cancel safe.
    pub async fn changed(&self) -> Result<(), NetlinkError> {
        let failed = |source| NetlinkError::new("watch addresses", source);
        loop {
            let mut ready = self.socket.readable().await.map_err(failed)?;
            let mut changed = false;
            for _ in 0..BURST_MAX {
                // The content is of no interest, so a short buffer that truncates is enough.
                let mut buffer = [0u8; 64];
                match ready.try_io(|socket| socket.get_ref().recv(&mut &mut buffer[..], 0)) {
                    Ok(Ok(_)) => changed = true,
                    // Notifications were lost: something did change.
                    Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                    Ok(Err(error)) => return Err(failed(error)),
                    Err(_would_block) => break,
                }
            }
            if changed {
                return Ok(());
            }
        }
    }
}

/// Tells which of our links vanished: no runtime says goodbye as surely.
pub struct LinkWatch {
    socket: AsyncFd<Socket>,
}

/// What became of our links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkNews {
    /// The links of these endpoints are gone.
    Vanished(Vec<LinkOwner>),
    /// Notifications were lost; which links there are has to be listed.
    Missed,
}

impl LinkWatch {
    /// Subscribes in the calling thread's network namespace; needs a tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let socket = subscribe(LINK_GROUP).map_err(|source| NetlinkError::new("watch links", source))?;
        Ok(Self { socket })
    }

    /// Waits until one of our links vanishes. Cancel safe.
    pub async fn next(&self) -> Result<LinkNews, NetlinkError> {
        let failed = |source| NetlinkError::new("watch links", source);
        let mut buffer = vec![0u8; NOTICE_LEN_MAX];
        loop {
            let mut ready = self.socket.readable().await.map_err(failed)?;
            let mut vanished = Vec::new();
            for _ in 0..BURST_MAX {
                match ready.try_io(|socket| socket.get_ref().recv(&mut &mut buffer[..], 0)) {
                    Ok(Ok(len)) => match owner_of_vanished(buffer.get(..len).unwrap_or_default()) {
                        Ok(owner) => vanished.extend(owner),
                        Err(_unreadable) => return Ok(LinkNews::Missed),
                    },
                    // What else was read in this burst is in the list that has to follow.
                    Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                        return Ok(LinkNews::Missed);
                    }
                    Ok(Err(error)) => return Err(failed(error)),
                    Err(_would_block) => break,
                }
            }
            if !vanished.is_empty() {
                return Ok(LinkNews::Vanished(vanished));
            }
        }
    }
}

/// Tells that somebody else changed a table of ours.
pub struct TableWatch {
    socket: AsyncFd<Socket>,
}

/// What became of our tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableNews {
    /// Somebody else changed one.
    Changed,
    /// Notifications were lost; the tables have to be looked at.
    Missed,
}

impl TableWatch {
    /// Subscribes in the calling thread's network namespace; needs a tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let subscribe = || -> io::Result<AsyncFd<Socket>> {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.add_membership(NFTABLES_GROUP)?;
            socket.set_non_blocking(true)?;
            register(socket)
        };
        let socket = subscribe().map_err(|source| NetlinkError::new("watch the packet filter", source))?;
        Ok(Self { socket })
    }

    /// Waits until somebody else changes a table of ours. Cancel safe.
    pub async fn next(&self) -> Result<TableNews, NetlinkError> {
        let failed = |source| NetlinkError::new("watch the packet filter", source);
        let mut buffer = vec![0u8; NOTICE_LEN_MAX];
        loop {
            let mut ready = self.socket.readable().await.map_err(failed)?;
            let mut is_changed = false;
            for _ in 0..BURST_MAX {
                match ready.try_io(|socket| socket.get_ref().recv(&mut &mut buffer[..], 0)) {
                    Ok(Ok(len)) => {
                        is_changed |= is_of_others(buffer.get(..len).unwrap_or_default(), is_own_run);
                    }
                    Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                        return Ok(TableNews::Missed);
                    }
                    Ok(Err(error)) => return Err(failed(error)),
                    Err(_would_block) => break,
                }
            }
            if is_changed {
                return Ok(TableNews::Changed);
            }
        }
    }
}

/// Whether a datagram says that somebody else changed a table of ours.
fn is_of_others(notice: &[u8], is_own: impl Fn(u32) -> bool) -> bool {
    let mut rest = notice;
    while let Some(header) = rest.get(..HEADER_LEN) {
        let number = |at: Range<usize>| {
            let bytes = header.get(at).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let kind = header.get(KIND).and_then(|bytes| bytes.try_into().ok()).map_or(0, u16::from_ne_bytes);
        let len = usize::try_from(number(0..4)).unwrap_or(usize::MAX).max(HEADER_LEN);
        let message = rest.get(HEADER_LEN..len.min(rest.len())).unwrap_or_default();
        if kind >> 8 == NFTABLES && is_of_own_table(message) && !is_own(number(CAUSE)) {
            return true;
        }
        // Messages are aligned to four octets.
        rest = len.checked_next_multiple_of(4).and_then(|len| rest.get(len..)).unwrap_or_default();
    }
    false
}

fn is_of_own_table(message: &[u8]) -> bool {
    let attributes = NlasIterator::new(message.get(NFTABLES_HEADER_LEN..).unwrap_or_default());
    let mut attributes = attributes.map_while(Result::ok);
    let table = attributes.find(|attribute| attribute.kind() == TABLE);
    table.is_some_and(|name| {
        let name = name.value().strip_suffix(&[0]).unwrap_or_default();
        OWN_TABLES.iter().any(|own| own.as_bytes() == name)
    })
}

/// Whose link it was, if the notification says that one of ours is gone. A datagram of this group has one message.
fn owner_of_vanished(notice: &[u8]) -> Result<Option<LinkOwner>, DecodeError> {
    if notice.get(KIND) != Some(&RTM_DELLINK.to_ne_bytes()) {
        return Ok(None);
    }
    let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(notice)?;
    // A bridge says the same of a port that leaves it but stays.
    Ok(match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link))
            if link.header.interface_family == AddressFamily::Unspec =>
        {
            owner_of(&link)
        }
        _ => None,
    })
}

fn owner_of(link: &LinkMessage) -> Option<LinkOwner> {
    let texts = |wanted: fn(&LinkAttribute) -> Option<&str>| link.attributes.iter().find_map(wanted);
    let name = texts(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })?;
    let alias = texts(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
        _ => None,
    })?;
    LinkOwner::of_alias(alias).filter(|owner| host_link(owner.id()) == name)
}

fn subscribe(groups: u32) -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, groups))?;
    socket.set_non_blocking(true)?;
    register(socket)
}

#[expect(unsafe_code, reason = "tokio asks for a promise about the life of the descriptor")]
fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor, always returns the same one and closes it when it is dropped,
    // which `AsyncFd` does after it has deregistered it.
    unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use meshd_wire::EndpointId;
    use netlink_packet_core::NetlinkHeader;

    use super::*;

    #[test]
    fn only_the_end_of_a_link_of_ours_is_news() {
        let owner = LinkOwner::new("docker", EndpointId([7; 32])).expect("a runtime's name");
        let name = host_link(owner.id());
        let alias = owner.alias();
        let told = |message| owner_of_vanished(&notice(message)).expect("it can be read");
        let gone = |link| told(RouteNetlinkMessage::DelLink(link));
        assert_eq!(gone(link(&name, &alias)), Some(owner));
        assert_eq!(told(RouteNetlinkMessage::NewLink(link(&name, &alias))), None);
        assert_eq!(gone(link("uplink", &alias)), None);
        assert_eq!(gone(link(&name, "uplink")), None);
        let mut port = link(&name, &alias);
        port.header.interface_family = AddressFamily::Bridge;
        assert_eq!(gone(port), None);
    }

    #[test]
    fn the_end_of_a_link_that_cannot_be_read_is_not_passed_over() {
        let notice = notice(RouteNetlinkMessage::DelLink(link("msh070707070707", "alias")));
        assert!(owner_of_vanished(&notice[..notice.len() - 8]).is_err());
    }

    #[test]
    fn only_what_others_do_to_our_tables_is_news() {
        let own = |cause| cause == 42;
        let told = |kind, cause, table: &str| is_of_others(&filter_notice(kind, cause, table), own);
        assert!(told(NFTABLES << 8 | 2, 7, "meshd_policy"));
        assert!(told(NFTABLES << 8, 7, "meshd"));
        assert!(!told(NFTABLES << 8, 42, "meshd"));
        assert!(!told(NFTABLES << 8, 7, "filter"));
        assert!(!told(1 << 8, 7, "meshd"));
        let mut two = filter_notice(NFTABLES << 8, 7, "nat");
        two.extend(filter_notice(NFTABLES << 8, 7, "meshd"));
        assert!(is_of_others(&two, own));
        for len in 0..two.len() - 4 {
            assert!(!is_of_others(&two[..len], own), "{len}");
        }
    }

    fn filter_notice(kind: u16, cause: u32, table: &str) -> Vec<u8> {
        let name = [table.as_bytes(), &[0]].concat();
        let nla_len = (4 + name.len() as u16).to_ne_bytes();
        let mut body = [&[1, 0, 0, 0], &nla_len[..], &TABLE.to_ne_bytes(), &name].concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (HEADER_LEN + body.len()) as u32;
        let kind = [kind.to_ne_bytes(), [0; 2]].concat();
        [&len.to_ne_bytes()[..], &kind, &[0; 4], &cause.to_ne_bytes(), &body].concat()
    }

    fn link(name: &str, alias: &str) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
        link
    }

    fn notice(message: RouteNetlinkMessage) -> Vec<u8> {
        let mut message =
            NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }
}
