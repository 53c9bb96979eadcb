//! Links: the overlay device and the underlay's MTU.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressScope;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::link_owner::is_host_end;
use super::mac::Mac;
use super::netlink::{Netlink, NetlinkError};
use super::{address, ipv6, route};
use crate::io::segments_max;

/// MTU assumed where no route leads out: Ethernet's.
const MTU_DEFAULT: u32 = 1500;

/// Packets, or trains of 64 KiB, that wait for the data threads: 8 MiB, which is 7 ms at 10 Gbit/s. What comes
/// on top is dropped, and its sender slows down.
const DEVICE_QUEUE_LEN: u32 = 128;
/// Bytes that the tunnel adds to a packet.
const SEAL_LEN: u16 = 32;
/// Bytes of the longest train that the device hands over: the kernel's own limit without jumbograms.
const GSO_LEN_MAX: u32 = 65_536;

/// One link as the kernel describes it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mtu: u32,
    pub(super) is_up: bool,
    pub(super) is_loopback: bool,
    pub(super) kind: Option<InfoKind>,
    pub(super) mac: Option<Mac>,
    pub(super) alias: Option<String>,
    /// Number under which whoever runs the host has gathered links; zero if it has not.
    pub(super) group: u32,
    /// Index of the other end of a pair, in the namespace where that is.
    pub(super) peer: Option<u32>,
    /// Whether the other end is in another namespace.
    pub(super) is_peer_elsewhere: bool,
}

/// What the overlay device shall look like.
#[derive(Debug, Clone)]
pub struct DeviceSettings {
    /// Name of the link.
    pub name: String,
    /// Largest packet.
    pub mtu: u16,
    /// This node's IPv4 address.
    pub addr4: Ipv4Addr,
    /// This node's IPv6 address.
    pub addr6: Ipv6Addr,
    /// Prefixes routed to the device.
    pub routes: Vec<IpNet>,
}

/// The overlay device after its set-up.
#[derive(Debug, Clone, Copy)]
pub struct Device {
    /// Index of the link.
    pub index: u32,
    /// Whether it carries IPv6: the kernel may have it switched off.
    pub has_ipv6: bool,
}

/// Says why the overlay device could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The kernel refused a step.
    #[error("configure device {device}")]
    Netlink {
        /// Name of the link.
        device: String,
        /// The step that failed.
        #[source]
        source: NetlinkError,
    },
    /// The link vanished between two steps.
    #[error("device {device} vanished")]
    Vanished {
        /// Name of the link.
        device: String,
    },
}

impl Device {
    /// Gives the link its MTU, addresses and routes and brings it up.
    pub fn configure(settings: &DeviceSettings) -> Result<Self, DeviceError> {
        let failed = |source| DeviceError::Netlink { device: settings.name.clone(), source };
        let mut netlink = Netlink::open().map_err(failed)?;
        let link = links(&mut netlink)
            .map_err(failed)?
            .into_iter()
            .find(|link| link.name == settings.name)
            .ok_or_else(|| DeviceError::Vanished { device: settings.name.clone() })?;
        let has_ipv6 = ipv6::prepare(&settings.name);
        set_link(&mut netlink, link.index, u32::from(settings.mtu)).map_err(failed)?;
        if let Err(error) = set_train_limits(&mut netlink, link.index, settings.mtu) {
            // An old kernel keeps its own: a train may then need two sends.
            tracing::warn!(device = settings.name, %error, "limits of the device not changed");
        }
        let mut own = vec![IpAddr::from(settings.addr4)];
        own.extend(has_ipv6.then_some(IpAddr::from(settings.addr6)));
        for own in own {
            address::add(&mut netlink, link.index, own.into(), AddressScope::Universe).map_err(failed)?;
        }
        for prefix in &settings.routes {
            let source: IpAddr = match prefix {
                IpNet::V4(_) => settings.addr4.into(),
                IpNet::V6(_) if has_ipv6 => settings.addr6.into(),
                IpNet::V6(_) => continue,
            };
            route::add(&mut netlink, *prefix, link.index, source).map_err(failed)?;
        }
        Ok(Self { index: link.index, has_ipv6 })
    }
}

/// MTU of the narrowest link that holds a default route, or of the narrowest link that is up.
pub fn underlay_mtu() -> Result<u32, NetlinkError> {
    let mut netlink = Netlink::open()?;
    let egress = route::default_links(&mut netlink)?;
    let links = links(&mut netlink)?;
    let narrowest = |wanted: &dyn Fn(&Link) -> bool| {
        links.iter().filter(|link| link.is_up && !link.is_loopback && wanted(link)).map(|link| link.mtu).min()
    };
    Ok(narrowest(&|link| egress.contains(&link.index))
        .or_else(|| narrowest(&|link| !is_overlay_kind(link) && !is_host_end(&link.name)))
        .unwrap_or(MTU_DEFAULT))
}

/// Whether packets of this link travel inside another link's packets.
pub(super) fn is_overlay_kind(link: &Link) -> bool {
    matches!(
        link.kind,
        Some(
            InfoKind::Tun
                | InfoKind::Wireguard
                | InfoKind::Vxlan
                | InfoKind::Geneve
                | InfoKind::IpIp
                | InfoKind::Ip6Tnl
                | InfoKind::SitTun
                | InfoKind::GreTun
                | InfoKind::GreTap
        )
    )
}

pub(super) fn links(netlink: &mut Netlink) -> Result<Vec<Link>, NetlinkError> {
    let mut links = Vec::new();
    netlink.dump("list links", RouteNetlinkMessage::GetLink(LinkMessage::default()), |reply| {
        if let RouteNetlinkMessage::NewLink(message) = reply {
            links.push(Link::from(message));
        }
    })?;
    Ok(links)
}

/// The link of this name, if there is one.
pub(super) fn find(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, NetlinkError> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let mut found = None;
    let asked = netlink.get("find a link", RouteNetlinkMessage::GetLink(request), |reply| {
        if let RouteNetlinkMessage::NewLink(message) = reply {
            found = Some(Link::from(message));
        }
    });
    match asked {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        asked => asked.map(|()| found),
    }
}

/// Indices of links whose addresses another host can reach us at.
pub(super) fn reachable_links(netlink: &mut Netlink) -> Result<BTreeSet<u32>, NetlinkError> {
    let egress = route::default_links(netlink)?;
    let reachable = |link: &Link| {
        let inner = is_overlay_kind(link) || matches!(link.kind, Some(InfoKind::Bridge | InfoKind::Dummy));
        link.is_up && !link.is_loopback && (!inner || egress.contains(&link.index))
    };
    Ok(links(netlink)?.iter().filter(|link| reachable(link)).map(|link| link.index).collect())
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mtu: MTU_DEFAULT,
            is_up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            is_loopback: flags.contains(LinkFlags::Loopback),
            kind: None,
            mac: None,
            alias: None,
            group: 0,
            peer: None,
            is_peer_elsewhere: false,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(bytes) => link.mac = <[u8; 6]>::try_from(bytes).ok().map(Mac::from),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Group(group) => link.group = group,
                LinkAttribute::Link(peer) => link.peer = Some(peer),
                LinkAttribute::LinkNetNsId(_) => link.is_peer_elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

/// Brings a link up.
pub(super) fn set_up(netlink: &mut Netlink, index: u32) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    netlink.change("set the link up", RouteNetlinkMessage::SetLink(message), 0)
}

/// Takes a link down.
pub(super) fn set_down(netlink: &mut Netlink, index: u32) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.change_mask = LinkFlags::Up;
    netlink.change("set the link down", RouteNetlinkMessage::SetLink(message), 0)
}

fn set_link(netlink: &mut Netlink, index: u32, mtu: u32) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::Mtu(mtu));
    netlink.change("set the device up with its mtu", RouteNetlinkMessage::SetLink(message), 0)
}

/// The longest train whose full packets fit one send after it was sealed; the same on every link that a train passes,
/// as it would be cut into single packets at the first that bears less.
pub(super) fn train_limits(mtu: u16) -> [LinkAttribute; 2] {
    let segments = segments_max(usize::from(mtu.saturating_add(SEAL_LEN))).max(1);
    [LinkAttribute::GsoMaxSegs(segments as u32), LinkAttribute::GsoMaxSize(GSO_LEN_MAX)]
}

fn set_train_limits(netlink: &mut Netlink, index: u32, mtu: u16) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::TxQueueLen(DEVICE_QUEUE_LEN));
    message.attributes.extend(train_limits(mtu));
    netlink.change("set the device's queue and longest train", RouteNetlinkMessage::SetLink(message), 0)
}
