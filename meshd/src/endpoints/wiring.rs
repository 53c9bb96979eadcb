//! What is done to the kernel for endpoints.
//!
//! Each effect can be repeated, and is undone in reverse. Everything here blocks, for milliseconds: it runs beside the
//! event loop. Different endpoints may be wired at once; of one endpoint there is one effect at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use meshd_api::Namespace as NamespaceSeen;
use meshd_wire::EndpointId;

use super::batcher::Batcher;
use super::entry::{BootId, Entry, Stage};
use super::policies::{Enforcement, Rulebook};
use super::reconcile::Survey;
use crate::chain;
use crate::os::{
    self, Admission, ContainerEnd, ContainerEndError, Firewall, FirewallError, FirewallSettings, HostEnd,
    LinkEndError, LinkOwner, Mac, Namespace, NamespaceError, NetlinkError, PassageError, RouteError,
    RuntimeNameError, SysctlError, Veth, VethError, VethPlace, VethSettings,
};

/// How long the chains of others need not be looked at again: many endpoints come at once.
const PASSAGE_FRESH: Duration = Duration::from_secs(1);

/// What wiring depends on besides the endpoints. When it changes, wiring is started again.
#[derive(Debug, Clone)]
pub struct WiringSettings {
    /// The overlay device.
    pub device: String,
    /// This node's IPv4 address in the mesh.
    pub addr4: Ipv4Addr,
    /// This node's IPv6 address in the mesh.
    pub addr6: Ipv6Addr,
    /// Prefixes of the mesh.
    pub prefixes: Vec<IpNet>,
    /// UDP port of the tunnels.
    pub underlay_port: u16,
    /// TCP port of stewards and registries.
    pub control_port: u16,
    /// Largest packet of the overlay device.
    pub device_mtu: u16,
}

/// An endpoint's links as they were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wired {
    /// Name of the host's end.
    pub host_link: String,
    /// Hardware address of the host's end.
    pub host_mac: Mac,
    /// Name that the endpoint's end was made with.
    pub container_link: String,
}

/// Says which step failed.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    /// The runtime's name can't stand on a link.
    #[error("name the link's owner")]
    Owner(#[source] RuntimeNameError),
    /// The endpoint's namespace is not there, or not what the caller saw.
    #[error("find the endpoint's namespace")]
    Namespace(#[source] NamespaceError),
    /// The pair of links.
    #[error("make the endpoint's link")]
    Pair(#[source] VethError),
    /// The host's end.
    #[error("set up the host's end")]
    HostEnd(#[source] LinkEndError),
    /// The endpoint's end.
    #[error("set up the endpoint's end")]
    ContainerEnd(#[source] ContainerEndError),
    /// The routes of the host.
    #[error("route to the endpoint")]
    Route(#[source] LinkEndError),
    /// The packet filter.
    #[error("change the packet filter")]
    Firewall(#[source] FirewallError),
    /// What endpoints may do.
    #[error("hold endpoints to their policies")]
    Policies(#[source] FirewallError),
    /// The chains of others.
    #[error("let endpoints through the chains of others")]
    Passage(#[source] PassageError),
    /// Packets are not passed on between links.
    #[error("make the host forward packets")]
    Forwarding(#[source] SysctlError),
    /// A prefix of the mesh.
    #[error("hold a prefix of the mesh")]
    Prefix(#[source] RouteError),
    /// The links of this host.
    #[error("list the links of endpoints")]
    Pairs(#[source] VethError),
    /// The routes of this host.
    #[error("list the routes of endpoints")]
    Routes(#[source] NetlinkError),
    /// A defect of this program ended it half-way.
    #[error("it broke off half-way")]
    BrokenOff,
    /// All endpoints were isolated meanwhile.
    #[error("the endpoints of this host are isolated")]
    CutOff,
    /// The kernel doesn't tell which run of it this is.
    #[error("read the kernel's boot id")]
    Boot(#[source] std::io::Error),
}

/// The links, routes and packet filter of this host's endpoints.
pub struct Wiring {
    settings: WiringSettings,
    policies: Enforcement,
    firewall: Batcher<Filter, (EndpointId, Option<Admission>), Result<(), WiringError>>,
    /// Whether nobody is to be admitted: said by the event loop, which never waits for the packet filter.
    is_cut_off: Arc<AtomicBool>,
    /// Removes pairs of links.
    pairs: Batcher<(), EndpointId, Result<(), VethError>>,
    /// Forgets tracked connections of addresses.
    connections: Batcher<(), BTreeSet<IpAddr>, ()>,
    /// When the chains of others were looked at. Held while that is done, so that no rule is set twice.
    passage: Mutex<Option<Instant>>,
}

/// The packet filter, and whether it admits anybody.
struct Filter {
    firewall: Firewall,
    is_cut_off: Arc<AtomicBool>,
}

impl Wiring {
    /// Prepares the host for the endpoints that there are, in place of what an earlier run left: who is attached and
    /// may be in the mesh stays admitted without a gap, and everybody stays restricted.
    pub fn start(
        settings: WiringSettings,
        entries: &[Entry],
        may_be_admitted: &[Entry],
        rulebook: Rulebook,
    ) -> Result<Self, WiringError> {
        os::enable_forwarding().map_err(WiringError::Forwarding)?;
        // Before anybody is admitted.
        let policies = Enforcement::start(rulebook, entries).map_err(WiringError::Policies)?;
        let attached = may_be_admitted.iter().filter(|entry| entry.stage == Stage::Attached);
        let admitted = attached.map(|entry| (entry.id, entry.admission())).collect();
        let mut held = Vec::new();
        let firewall = hold_prefixes(&settings.prefixes, &mut held).and_then(|()| {
            Firewall::install(&settings.of_firewall(), admitted).map_err(WiringError::Firewall)
        });
        if firewall.is_err() && entries.is_empty() {
            let stopped = Enforcement::stop().map_err(WiringError::Policies);
            for error in [release_prefixes(&held), stopped].into_iter().filter_map(Result::err) {
                tell(None, &error);
            }
        }
        let is_cut_off = Arc::default();
        Ok(Self {
            settings,
            policies,
            firewall: Batcher::new(Filter { firewall: firewall?, is_cut_off: Arc::clone(&is_cut_off) }),
            is_cut_off,
            pairs: Batcher::new(()),
            connections: Batcher::new(()),
            passage: Mutex::new(None),
        })
    }

    /// What endpoints may do.
    pub fn policies(&self) -> &Enforcement {
        &self.policies
    }

    /// Attaches an endpoint, or what of it is missing. If a step fails, nothing of it is left; an endpoint that was
    /// attached keeps what it has.
    pub fn attach(&self, entry: &Entry) -> Result<Wired, WiringError> {
        let was_admitted = self.firewall.state().firewall.admitted().contains_key(&entry.id);
        if !was_admitted {
            self.forget_connections(entry);
        }
        let wired = self.wire(entry);
        let undone = match (&wired, entry.stage) {
            (Ok(_), _) => Ok(()),
            // Its container lives. What was admitted when this began is not any more.
            (Err(_), Stage::Attached) if self.is_cut_off.load(Ordering::Acquire) => self.take_down(entry.id),
            (Err(_), _) if was_admitted => Ok(()),
            // It is isolated, and looked at again.
            (Err(_), Stage::Attached) => self.judge(entry.id, None),
            (Err(_), Stage::Wiring | Stage::Releasing) => self.detach(entry),
        };
        if let Err(error) = undone {
            tell(Some(entry.id), &error);
        }
        wired
    }

    /// Detaches an endpoint, of which any part may be gone already. A step that fails does not keep the others.
    pub fn detach(&self, entry: &Entry) -> Result<(), WiringError> {
        let expelled = self.judge(entry.id, None);
        let routes = self.settings.host_routes(entry);
        let unrouted = entry.host_end(&routes).unroute().map_err(WiringError::Route);
        let removed = self.remove_pair(entry.id);
        self.forget_connections(entry);
        expelled.and(unrouted).and(removed).and_then(|()| self.release(entry.id))
    }

    /// Says whether endpoints may be attached. If not, whoever is being attached is not admitted any more, and takes
    /// its own link down; [`Wiring::cut_off`] does the same for the others.
    pub fn set_cut_off(&self, is_cut_off: bool) {
        self.is_cut_off.store(is_cut_off, Ordering::Release);
    }

    /// Isolates all endpoints and takes their links down, which ends their routes, unless they may be attached again by
    /// now.
    pub fn cut_off(&self) -> Result<(), WiringError> {
        let mut filter = self.firewall.state();
        if !filter.is_cut_off.load(Ordering::Acquire) {
            return Ok(());
        }
        let all = filter.firewall.admitted().keys().map(|id| (*id, None)).collect();
        let expelled = filter.firewall.change(&all).map_err(WiringError::Firewall);
        drop(filter);
        let pairs = Veth::list().map_err(WiringError::Pairs)?;
        let down = pairs.iter().map(Veth::take_down).fold(Ok(()), Result::and).map_err(WiringError::Pair);
        expelled.and(down)
    }

    /// Removes what is left of an endpoint that nobody knows.
    pub fn remove(&self, id: EndpointId) -> Result<(), WiringError> {
        let expelled = self.judge(id, None);
        expelled.and(self.remove_pair(id)).and_then(|()| self.release(id))
    }

    /// Puts the packet filter back as it shall be, and what endpoints need in the chains of others.
    pub fn repair_firewall(&self) -> Result<(), WiringError> {
        // One that can't be written must not keep the other from being there.
        let policies = self.policies.repair().map_err(WiringError::Policies);
        let mut filter = self.firewall.state();
        let admitted = filter.firewall.admitted().clone();
        filter.firewall =
            Firewall::install(&self.settings.of_firewall(), admitted).map_err(WiringError::Firewall)?;
        drop(filter);
        let _held = self.passage();
        policies.and(os::open_passage().map_err(WiringError::Passage))
    }

    /// Takes everything of ours from the host; that it forwards packets stays, as others may count on it.
    pub fn stop(&self) -> Result<(), WiringError> {
        let pairs = Veth::list().map_err(WiringError::Pairs)?;
        let removed = remove_pairs(pairs.iter().map(|pair| pair.owner.id()).collect());
        let removed = removed.into_iter().map(unless_foreign).fold(Ok(()), Result::and);
        let released = release_prefixes(&self.settings.prefixes);
        let closed = os::close_passage().map_err(WiringError::Passage);
        // Last, so that nothing passes unjudged before.
        let uninstalled = Firewall::uninstall().map_err(WiringError::Firewall);
        let freed = Enforcement::stop().map_err(WiringError::Policies);
        removed.and(released).and(closed).and(uninstalled).and(freed)
    }

    /// One line for each thing of an endpoint that is missing or different.
    pub fn faults(&self, entry: &Entry) -> Result<Vec<String>, WiringError> {
        let routes = self.settings.host_routes(entry);
        let mut faults = entry.host_end(&routes).faults().map_err(WiringError::HostEnd)?;
        match entry.namespace.as_ref().map(open).transpose() {
            Ok(Some(namespace)) => {
                let of_end = entry.container_end().faults(&namespace);
                faults.extend(of_end.map_err(WiringError::ContainerEnd)?);
            }
            Ok(None) => {}
            Err(error) => faults.push(chain::of(&error)),
        }
        let of_filter = Firewall::faults_of(entry.id, &entry.admission());
        faults.extend(of_filter.map_err(WiringError::Firewall)?);
        faults.extend(passage_faults());
        Ok(faults)
    }

    /// Looks at what of these endpoints and of others is there; changes nothing.
    pub fn survey(&self, entries: &[Entry]) -> Result<Survey, WiringError> {
        let pairs = Veth::list().map_err(WiringError::Pairs)?;
        let lives = |entry: &&Entry| entry.namespace.as_ref().is_some_and(is_there);
        // A filter that can't be read must not keep what is dead from being found.
        let mut filter_faults =
            self.firewall.state().firewall.faults().unwrap_or_else(|error| vec![chain::of(&error)]);
        filter_faults.extend(self.policies.faults());
        filter_faults.extend(passage_faults());
        Ok(Survey {
            boot: BootId::current().map_err(WiringError::Boot)?,
            pairs: pairs.into_iter().map(|pair| (pair.owner.id(), pair)).collect(),
            routes: os::endpoint_routes().map_err(WiringError::Routes)?,
            living: entries.iter().filter(lives).map(|entry| entry.id).collect(),
            filter_faults,
        })
    }

    fn wire(&self, entry: &Entry) -> Result<Wired, WiringError> {
        let owner = LinkOwner::new(&entry.attachment.runtime, entry.id).map_err(WiringError::Owner)?;
        let namespace = entry.namespace.as_ref().map(open).transpose();
        let namespace = namespace.map_err(WiringError::Namespace)?;
        let ifname = entry.attachment.ifname.as_str();
        let place = match &namespace {
            Some(namespace) => VethPlace::Inside { namespace, ifname },
            None => VethPlace::HandOver,
        };
        let (container_mac, mtu, device_mtu) = (entry.mac, entry.mtu, self.settings.device_mtu);
        let pair = Veth::create(&VethSettings { owner: &owner, container_mac, mtu, device_mtu, place })
            .map_err(WiringError::Pair)?;
        let routes = self.settings.host_routes(entry);
        let host_end = entry.host_end(&routes);
        host_end.set_up().map_err(WiringError::HostEnd)?;
        if let Some(namespace) = &namespace {
            entry.container_end().set_up(namespace).map_err(WiringError::ContainerEnd)?;
        }
        host_end.route().map_err(WiringError::Route)?;
        self.open_passage();
        self.policies.hold(entry).map_err(WiringError::Policies)?;
        self.judge(entry.id, Some(entry.admission()))?;
        let container_link = match namespace {
            Some(_) => ifname.to_owned(),
            None => os::container_link(entry.id),
        };
        Ok(Wired { host_link: pair.host_link, host_mac: pair.host_mac, container_link })
    }

    /// A link that is there still keeps its restrictions.
    fn release(&self, id: EndpointId) -> Result<(), WiringError> {
        self.policies.release(id).map_err(WiringError::Policies)
    }

    /// Docker may have been started since the last endpoint was attached. Where nothing is known of the chains of
    /// others, they may let everything pass.
    fn open_passage(&self) {
        let mut looked_at = self.passage();
        if looked_at.is_some_and(|at| at.elapsed() < PASSAGE_FRESH) {
            return;
        }
        if let Err(error) = os::open_passage() {
            tracing::warn!(error = chain::of(&error), "endpoints may be cut off by the chains of others");
        }
        *looked_at = Some(Instant::now());
    }

    fn passage(&self) -> MutexGuard<'_, Option<Instant>> {
        self.passage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits an endpoint, or isolates it, together with others that want so now.
    fn judge(&self, id: EndpointId, admission: Option<Admission>) -> Result<(), WiringError> {
        let judged = self.firewall.submit((id, admission), judge_all);
        judged.ok_or(WiringError::BrokenOff)?
    }

    /// Ends the routes of an endpoint that stays.
    fn take_down(&self, id: EndpointId) -> Result<(), WiringError> {
        let pairs = Veth::list().map_err(WiringError::Pairs)?;
        let pair = pairs.iter().find(|pair| pair.owner.id() == id);
        pair.map_or(Ok(()), |pair| pair.take_down().map_err(WiringError::Pair))
    }

    fn remove_pair(&self, id: EndpointId) -> Result<(), WiringError> {
        let removed = self.pairs.submit(id, |(), ids| remove_pairs(ids));
        removed.map_or(Err(WiringError::BrokenOff), unless_foreign)
    }

    /// What an address exchanged under another holder must not reach this one, nor the next. A kernel that can't tell
    /// is no reason to refuse an endpoint.
    fn forget_connections(&self, entry: &Entry) {
        let addresses = entry.addresses.iter().copied().collect();
        // There is nothing to tell of a batch that broke off: it has said why.
        let _ = self.connections.submit(addresses, |(), all| {
            if let Err(error) = os::forget_connections(&all.iter().flatten().copied().collect()) {
                tracing::warn!(error = chain::of(&error), "tracked connections of addresses stay");
            }
            all.iter().map(|_| ()).collect()
        });
    }
}

/// All in one transaction; if that is refused, each for itself, so that everybody has an own answer.
fn judge_all(
    filter: &mut Filter,
    wanted: Vec<(EndpointId, Option<Admission>)>,
) -> Vec<Result<(), WiringError>> {
    let Filter { firewall, is_cut_off } = filter;
    let is_cut_off = is_cut_off.load(Ordering::Acquire);
    let is_refused = |admission: &Option<Admission>| is_cut_off && admission.is_some();
    let together: BTreeMap<EndpointId, Option<Admission>> = wanted.iter().cloned().collect();
    let is_any_refused = wanted.iter().any(|(_, admission)| is_refused(admission));
    if together.len() == wanted.len() && !is_any_refused && firewall.change(&together).is_ok() {
        return wanted.iter().map(|_| Ok(())).collect();
    }
    let each = wanted.into_iter().map(|(id, admission)| match is_refused(&admission) {
        true => Err(WiringError::CutOff),
        false => firewall.change(&BTreeMap::from([(id, admission)])).map_err(WiringError::Firewall),
    });
    each.collect()
}

/// All at once; if that is refused, each for itself.
fn remove_pairs(ids: Vec<EndpointId>) -> Vec<Result<(), VethError>> {
    if ids.len() > 1 && Veth::remove_all(&ids.iter().copied().collect()).is_ok() {
        return ids.iter().map(|_| Ok(())).collect();
    }
    ids.into_iter().map(Veth::remove).collect()
}

impl WiringSettings {
    fn of_firewall(&self) -> FirewallSettings {
        FirewallSettings {
            device: self.device.clone(),
            addr4: self.addr4,
            addr6: self.addr6,
            prefixes: self.prefixes.clone(),
            underlay_port: self.underlay_port,
            control_port: self.control_port,
        }
    }

    /// Addresses of an endpoint, each with the one that packets of this host have which go there.
    fn host_routes(&self, entry: &Entry) -> Vec<(IpAddr, IpAddr)> {
        let source = |address: &IpAddr| match address {
            IpAddr::V4(_) => IpAddr::from(self.addr4),
            IpAddr::V6(_) => IpAddr::from(self.addr6),
        };
        entry.addresses.iter().map(|address| (*address, source(address))).collect()
    }
}

impl Entry {
    fn admission(&self) -> Admission {
        Admission { addresses: BTreeSet::from_iter(self.addresses.clone()), has_egress: self.has_egress }
    }

    fn host_end<'a>(&'a self, routes: &'a [(IpAddr, IpAddr)]) -> HostEnd<'a> {
        HostEnd { id: self.id, routes, gateways: &self.gateways }
    }

    fn container_end(&self) -> ContainerEnd<'_> {
        ContainerEnd { ifname: &self.attachment.ifname, addresses: &self.addresses, routes: &self.routes }
    }
}

fn open(seen: &NamespaceSeen) -> Result<Namespace, NamespaceError> {
    Namespace::open(&seen.path, seen.dev, seen.ino)
}

/// Whether a namespace is still there, or might be.
fn is_there(seen: &NamespaceSeen) -> bool {
    match open(seen) {
        Ok(_) => true,
        Err(NamespaceError::Open { source, .. }) => source.kind() != std::io::ErrorKind::NotFound,
        Err(NamespaceError::Kind { .. } | NamespaceError::Own { .. } | NamespaceError::Other { .. }) => false,
        Err(NamespaceError::Enter { .. }) => true,
    }
}

/// Chains that can't be read are no fault: nobody knows whether they drop anything.
fn passage_faults() -> Vec<String> {
    os::passage_faults().unwrap_or_default()
}

/// A link of that name which is somebody else's is as good as none.
fn unless_foreign(removed: Result<(), VethError>) -> Result<(), WiringError> {
    match removed {
        Ok(()) | Err(VethError::Foreign { .. }) => Ok(()),
        Err(error) => Err(WiringError::Pair(error)),
    }
}

/// Adds to `held` what is held now, also when the next one fails.
fn hold_prefixes(prefixes: &[IpNet], held: &mut Vec<IpNet>) -> Result<(), WiringError> {
    for prefix in routable(prefixes) {
        os::hold_prefix(prefix).map_err(WiringError::Prefix)?;
        held.push(prefix);
    }
    Ok(())
}

fn release_prefixes(prefixes: &[IpNet]) -> Result<(), WiringError> {
    let released = routable(prefixes).map(|prefix| os::release_prefix(prefix).map_err(WiringError::Prefix));
    released.fold(Ok(()), Result::and)
}

/// The prefixes of families that the kernel has.
fn routable(prefixes: &[IpNet]) -> impl Iterator<Item = IpNet> {
    let has_ipv6 = os::ipv6_is_enabled();
    prefixes.iter().copied().filter(move |prefix| has_ipv6 || prefix.addr().is_ipv4())
}

fn tell(id: Option<EndpointId>, error: &WiringError) {
    let (endpoint, error) = (id.map(|id| id.short()), chain::of(error));
    tracing::warn!(endpoint, error, "what a failed step left behind could not be removed");
}
