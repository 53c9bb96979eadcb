//! The pair of links between the host and one endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;

use meshd_wire::EndpointId;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo,
    LinkMessage,
};

use super::ipv6::ipv6_is_enabled;
use super::link::{Link, find, links, set_down, train_limits};
use super::link_owner::{LinkOwner, container_link, host_link, host_mac};
use super::mac::Mac;
use super::namespace::{Namespace, NamespaceError};
use super::netlink::{Netlink, NetlinkError};

/// Where links are gathered that are deleted together; a number that nobody else comes upon ("mesh").
const REMOVED_GROUP: u32 = 0x6d65_7368;

/// What a pair shall look like.
#[derive(Debug)]
pub struct VethSettings<'a> {
    /// Whose it is; gives the host end its name, alias and hardware address.
    pub owner: &'a LinkOwner,
    /// Hardware address of the endpoint's end.
    pub container_mac: Mac,
    /// Largest packet, in both directions.
    pub mtu: u16,
    /// Largest packet of the overlay device: the pair bears trains of as many packets as that does.
    pub device_mtu: u16,
    /// Where the endpoint's end is made.
    pub place: VethPlace<'a>,
}

/// Where the endpoint's end of a pair is made.
#[derive(Debug, Clone, Copy)]
pub enum VethPlace<'a> {
    /// In the host's namespace, under [`container_link`]; the runtime moves and names it.
    HandOver,
    /// In the endpoint's namespace, under its last name.
    Inside {
        /// The namespace.
        namespace: &'a Namespace,
        /// The name there.
        ifname: &'a str,
    },
}

/// A pair as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Veth {
    /// Whose it is.
    pub owner: LinkOwner,
    /// Name of the host end.
    pub host_link: String,
    /// Hardware address of the host end.
    pub host_mac: Mac,
    /// Largest packet of the host end.
    pub mtu: u32,
    /// Whether the host end and its counterpart are up.
    pub is_up: bool,
    /// Whether the other end has left the host's namespace.
    pub is_handed_over: bool,
}

/// Says why a pair could not be made, listed or deleted.
#[derive(Debug, thiserror::Error)]
pub enum VethError {
    /// The kernel refused a step.
    #[error("link {link}")]
    Netlink {
        /// Name of the host end.
        link: String,
        /// The step that failed.
        #[source]
        source: NetlinkError,
    },
    /// Its namespace ended meanwhile.
    #[error("link {link} is gone")]
    Vanished {
        /// Name of the host end.
        link: String,
    },
    /// Somebody else has a link of that name.
    #[error("link {link} belongs to somebody else")]
    Foreign {
        /// Name of the host end.
        link: String,
    },
    /// The endpoint's namespace has an interface of that name already.
    #[error("an interface {ifname} is there already")]
    IfnameTaken {
        /// The name.
        ifname: String,
    },
    /// The endpoint's namespace can't be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The links of this host can't be listed.
    #[error(transparent)]
    List(NetlinkError),
}

impl Veth {
    /// Makes the pair, down and without addresses. A pair that is in place stays; one whose other end is in another
    /// place than wanted is made anew.
    pub fn create(settings: &VethSettings<'_>) -> Result<Self, VethError> {
        let host_link = host_link(settings.owner.id());
        let failed = |source| VethError::Netlink { link: host_link.clone(), source };
        let mut netlink = Netlink::open().map_err(failed)?;
        if let Some(link) = find(&mut netlink, &host_link).map_err(failed)? {
            if !is_owned(&link, settings.owner.id()) {
                return Err(VethError::Foreign { link: host_link });
            }
            if is_in_place(&mut netlink, &link, settings)? {
                mark(&mut netlink, link.index, settings.owner).map_err(failed)?;
                return Self::found(&mut netlink, &host_link);
            }
            delete(&mut netlink, link.index).map_err(failed)?;
        }
        let made = netlink.change(
            "make a pair of links",
            RouteNetlinkMessage::NewLink(pair(settings, &host_link)),
            NLM_F_CREATE | NLM_F_EXCL,
        );
        match made {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                return Err(VethError::IfnameTaken { ifname: settings.container_link() });
            }
            other => other.map_err(failed)?,
        }
        let veth = find(&mut netlink, &host_link)
            .and_then(|link| link.map_or(Ok(()), |link| mark(&mut netlink, link.index, settings.owner)));
        if let Err(source) = veth {
            // Without its mark nobody would know whose it is.
            Self::remove(settings.owner.id())?;
            return Err(failed(source));
        }
        Self::found(&mut netlink, &host_link)
    }

    /// Deletes the pair, and with it all addresses and routes on both ends. It may be gone already.
    pub fn remove(id: EndpointId) -> Result<(), VethError> {
        let host_link = host_link(id);
        let failed = |source| VethError::Netlink { link: host_link.clone(), source };
        let mut netlink = Netlink::open().map_err(failed)?;
        match find(&mut netlink, &host_link).map_err(failed)? {
            Some(link) if is_owned(&link, id) => delete(&mut netlink, link.index).map_err(failed),
            Some(_) => Err(VethError::Foreign { link: host_link }),
            None => Ok(()),
        }
    }

    /// Deletes many pairs at once, which takes the kernel as long as one alone. Those of others, and those that are
    /// gone already, are left out.
    pub fn remove_all(ids: &BTreeSet<EndpointId>) -> Result<(), VethError> {
        let mut netlink = Netlink::open().map_err(VethError::List)?;
        let links = links(&mut netlink).map_err(VethError::List)?;
        let names: BTreeMap<String, EndpointId> = ids.iter().map(|id| (host_link(*id), *id)).collect();
        let is_wanted = |link: &&Link| names.get(&link.name).is_some_and(|id| is_owned(link, *id));
        let (wanted, others): (Vec<&Link>, Vec<&Link>) = links.iter().partition(|link| is_wanted(link));
        if let Some(link) = others.iter().find(|link| link.group == REMOVED_GROUP) {
            return Err(VethError::Foreign { link: link.name.clone() });
        }
        for link in &wanted {
            let failed = |source| VethError::Netlink { link: link.name.clone(), source };
            let mut message = LinkMessage::default();
            message.header.index = link.index;
            message.attributes.push(LinkAttribute::Group(REMOVED_GROUP));
            let gathered = netlink.change("gather links", RouteNetlinkMessage::SetLink(message), 0);
            gone_is_well(gathered).map_err(failed)?;
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(REMOVED_GROUP));
        let deleted = netlink.change("delete pairs of links", RouteNetlinkMessage::DelLink(message), 0);
        gone_is_well(deleted).map_err(VethError::List)
    }

    /// All pairs of this host that are ours, by their marks.
    pub fn list() -> Result<Vec<Self>, VethError> {
        let mut netlink = Netlink::open().map_err(VethError::List)?;
        let mut found: Vec<Self> =
            links(&mut netlink).map_err(VethError::List)?.into_iter().filter_map(Self::of_link).collect();
        found.sort_by(|a, b| a.owner.cmp(&b.owner));
        Ok(found)
    }

    /// Takes the host end down, and with it all routes to the endpoint. It may be gone already.
    pub fn take_down(&self) -> Result<(), VethError> {
        let failed = |source| VethError::Netlink { link: self.host_link.clone(), source };
        let mut netlink = Netlink::open().map_err(failed)?;
        match find(&mut netlink, &self.host_link).map_err(failed)? {
            Some(link) if is_owned(&link, self.owner.id()) => {
                gone_is_well(set_down(&mut netlink, link.index)).map_err(failed)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn found(netlink: &mut Netlink, host_link: &str) -> Result<Self, VethError> {
        let link = find(netlink, host_link).map_err(VethError::List)?;
        link.and_then(Self::of_link).ok_or_else(|| VethError::Vanished { link: host_link.to_owned() })
    }

    fn of_link(link: Link) -> Option<Self> {
        let owner = LinkOwner::of_alias(link.alias.as_deref()?)?;
        let is_named_so = link.name == host_link(owner.id()) && link.kind == Some(InfoKind::Veth);
        let host_mac = link.mac.filter(|_| is_named_so)?;
        let (mtu, is_up, is_handed_over) = (link.mtu, link.is_up, link.is_peer_elsewhere);
        Some(Self { owner, host_link: link.name, host_mac, mtu, is_up, is_handed_over })
    }
}

impl VethSettings<'_> {
    fn container_link(&self) -> String {
        match self.place {
            VethPlace::HandOver => container_link(self.owner.id()),
            VethPlace::Inside { ifname, .. } => ifname.to_owned(),
        }
    }
}

/// Both ends in one message: what is set later, others could have set before.
fn pair(settings: &VethSettings<'_>, host_link: &str) -> LinkMessage {
    let end = |name: String, mac: Mac| {
        let mut end = LinkMessage::default();
        end.attributes.push(LinkAttribute::IfName(name));
        end.attributes.push(LinkAttribute::Address(mac.octets().to_vec()));
        end.attributes.push(LinkAttribute::Mtu(u32::from(settings.mtu)));
        end.attributes.extend(train_limits(settings.device_mtu));
        end
    };
    let mut peer = end(settings.container_link(), settings.container_mac);
    if let VethPlace::Inside { namespace, .. } = settings.place {
        peer.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
    }
    let mut host = end(host_link.to_owned(), host_mac(settings.owner.id()));
    host.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    host
}

/// Writes whose it is, and keeps the kernel from giving it an address; a new link can't be told either.
fn mark(netlink: &mut Netlink, index: u32, owner: &LinkOwner) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::IfAlias(owner.alias()));
    if ipv6_is_enabled() {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
    }
    netlink.change("mark a link as ours", RouteNetlinkMessage::SetLink(message), 0)
}

fn delete(netlink: &mut Netlink, index: u32) -> Result<(), NetlinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    gone_is_well(netlink.change("delete a pair of links", RouteNetlinkMessage::DelLink(message), 0))
}

/// What is gone already needs not be deleted.
fn gone_is_well(deleted: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match deleted {
        Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error),
        _ => Ok(()),
    }
}

/// A link that was made but not yet marked has our hardware address.
fn is_owned(link: &Link, id: EndpointId) -> bool {
    let is_marked = match &link.alias {
        Some(alias) => LinkOwner::of_alias(alias).is_some_and(|owner| owner.id() == id),
        None => link.mac == Some(host_mac(id)),
    };
    is_marked && link.kind == Some(InfoKind::Veth)
}

/// Whether the other end is where it shall be; one that a runtime has taken is.
fn is_in_place(netlink: &mut Netlink, host: &Link, settings: &VethSettings<'_>) -> Result<bool, VethError> {
    let name = settings.container_link();
    let is_peer = |netlink: &mut Netlink| -> Result<bool, NetlinkError> {
        let found = find(netlink, &name)?;
        Ok(found.is_some_and(|link| Some(link.index) == host.peer && link.peer == Some(host.index)))
    };
    match settings.place {
        VethPlace::HandOver if host.is_peer_elsewhere => Ok(true),
        VethPlace::HandOver => is_peer(netlink).map_err(VethError::List),
        VethPlace::Inside { .. } if !host.is_peer_elsewhere => Ok(false),
        VethPlace::Inside { namespace, .. } => {
            namespace.run(|| is_peer(&mut Netlink::open()?))?.map_err(VethError::List)
        }
    }
}
