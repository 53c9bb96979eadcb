//! Changes of links and addresses, as they happen.

use std::io;
use std::ops::Range;

use netlink_packet_core::{DecodeError, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::link_owner::{LinkOwner, host_link};
use super::netlink::NetlinkError;

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
