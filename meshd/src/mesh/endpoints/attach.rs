//! Attaching: addresses, then the link, then the word about it.

use std::net::IpAddr;

use ipnet::IpNet;
use meshd_api::{
    ApiError, AttachRequest, Attachment, Egress, Endpoint, ErrorCode, Labels, Namespace, Network,
};
use meshd_wire::{EndpointId, ImageDigest, name};
use tokio::sync::oneshot;

use super::stored::Step;
use super::{Mesh, Waiting, wiring_failed};
use crate::control::Answer;
use crate::endpoints::{
    Entry, Job, Pools, Report, Stage, Surroundings, TakeError, WiringError, allocation, judge_word,
};
use crate::os::{GATEWAY4, LinkOwner, Mac, gateway_of_all};

/// Endpoints of one node, its blocks left out: as many as the roster lets a node have, with room for those.
const ENDPOINTS_MAX: usize = 3584;
/// Longest name of an interface, as the kernel has it.
const IFNAME_LEN_MAX: usize = 15;
/// Labels of one endpoint; a pod has some dozens. More than a stored list takes would keep all others from being stored.
const LABELS_MAX: usize = 256;
/// Longest path, as the kernel has it.
const PATH_LEN_MAX: usize = 4096;
/// What IPv6 needs.
const MTU_MIN: u16 = 1280;

/// An endpoint on its way.
pub(super) struct Attaching {
    /// What was asked; none for one that is wired again.
    request: Option<Box<AttachRequest>>,
    answer: Option<Waiting>,
}

impl Attaching {
    /// Which one it is, if it is new.
    pub(super) fn attachment(&self) -> Option<&Attachment> {
        self.request.as_ref().map(|request| &request.attachment)
    }

    /// Tells who asked why not.
    pub(super) fn refuse(self, error: ApiError) {
        if let Some(answer) = self.answer {
            answer.send(Err(error));
        }
    }
}

impl Mesh {
    /// Attaches an endpoint.
    pub fn attach(&mut self, request: AttachRequest, answer: Answer<Endpoint>) {
        let known = self.know_default_network(&request.attachment);
        let id = match known.and_then(|()| self.judge_attach(&request)) {
            Ok(id) => id,
            Err(error) => return answer.send(Err(error)),
        };
        self.begin(id, Job::Attach(Box::new(request), answer));
    }

    fn judge_attach(&self, request: &AttachRequest) -> Result<EndpointId, ApiError> {
        let Attachment { runtime, network, container, ifname } = &request.attachment;
        judge_word("container", container)?;
        let id = EndpointId::of(runtime, network, container, ifname);
        LinkOwner::new(runtime, id).map_err(|error| bad(format!("`{runtime}`: {error}")))?;
        let network = self.network(runtime, network)?;
        let is_named = request.namespace.is_some() || !ifname.is_empty();
        if is_named && !is_ifname(ifname) {
            return Err(bad(format!("`{ifname}` can't name an interface")).with_hint(format!(
                "1 to {IFNAME_LEN_MAX} bytes without `/`, `:`, `%` and spaces, not `.` or `..`"
            )));
        }
        if request.namespace.as_ref().is_some_and(|namespace| namespace.path.len() > PATH_LEN_MAX) {
            return Err(bad(format!("a path has at most {PATH_LEN_MAX} bytes")));
        }
        let nets = Pools::of(network)?.nets;
        if nets.is_empty() {
            return Err(bad(format!("network {} has no pool to take addresses from", network.network)));
        }
        for (n, address) in request.addresses.iter().enumerate() {
            let is_twice = request.addresses[..n].iter().any(|other| other.is_ipv4() == address.is_ipv4());
            if is_twice || !nets.iter().any(|net| net.contains(address)) {
                let error =
                    format!("{address} is no address, or a second one, of network {}", network.network);
                return Err(bad(error).with_hint("give at most one address of each of its pools"));
            }
        }
        judge_name(request.name.as_deref())?;
        judge_labels(&request.labels)?;
        if let Some(mtu) = request.mtu.or(network.mtu).filter(|mtu| *mtu < MTU_MIN) {
            return Err(bad(format!("mtu {mtu} is too small: IPv6 needs {MTU_MIN}")));
        }
        request.mac.as_deref().map(mac).transpose()?;
        request.image.as_deref().map(digest).transpose()?;
        let is_new = self.endpoints.entry(id).is_none() && !self.endpoints.jobs.has(id);
        if is_new
            && self.endpoints.file.content().entries.len() + self.endpoints.jobs.count() >= ENDPOINTS_MAX
        {
            let error = format!("this node has {ENDPOINTS_MAX} endpoints, and no more fit");
            return Err(ApiError::new(ErrorCode::TooMany, error).with_hint("attach it on another node"));
        }
        Ok(id)
    }

    /// Begins with the addresses. One that is attached is looked after and answered again.
    pub(super) fn begin_attach(
        &mut self,
        id: EndpointId,
        request: Box<AttachRequest>,
        answer: Waiting,
    ) -> bool {
        if self.is_revoked() {
            answer.send(Err(revoked()));
            return false;
        }
        if let Some(entry) = self.endpoints.entry(id) {
            let is_same = entry.boot == self.endpoints.boot
                && is_in(entry, request.namespace.as_ref())
                && request.addresses.iter().all(|wanted| entry.addresses.contains(wanted));
            if !is_same {
                let error = "the endpoint is attached in another way: detach it first";
                answer.send(Err(ApiError::new(ErrorCode::InUse, error)));
                return false;
            }
            let entry = entry.clone();
            return self.wire(entry, Attaching { request: None, answer: Some(answer) });
        }
        // Looked up again: the network may have gone while the job waited.
        let wants = match self.wanted_addresses(&request) {
            Ok(wants) => wants,
            Err(error) => {
                answer.send(Err(error));
                return false;
            }
        };
        let (claimant, reports) = (self.claims_beside(), self.endpoints.reports.clone());
        let addresses = self.endpoints.addresses.clone();
        self.endpoints.attaching.insert(id, Attaching { request: Some(request), answer: Some(answer) });
        // Ends by itself: claims have a deadline.
        tokio::spawn(async move {
            let (mut taken, mut missing, mut step) = (Vec::new(), None, None);
            for want in wants {
                if let Some(address) = want.reserved {
                    step = addresses.step(address);
                    continue;
                }
                match claimant.take(want.pool, want.how, &want.ranges, want.address, step).await {
                    Ok(address) => {
                        step = addresses.step(address);
                        taken.push(address);
                    }
                    Err(error) => {
                        missing = Some(error);
                        break;
                    }
                }
            }
            // The mesh was left meanwhile: nobody to tell.
            drop(reports.send(Report::Addressed { id, taken, missing }).await);
        });
        true
    }

    fn wanted_addresses(&self, request: &AttachRequest) -> Result<Vec<Want>, ApiError> {
        let Attachment { runtime, network, .. } = &request.attachment;
        let network = self.network(runtime, network)?;
        let pools = Pools::of(network)?;
        let reserved = &self.endpoints.file.content().reserved;
        let want = |net: &IpNet| {
            let address = request.addresses.iter().copied().find(|address| net.contains(address));
            Want {
                pool: *net,
                how: allocation(network.allocation),
                ranges: pools.ranges.iter().copied().filter(|range| net.contains(range)).collect(),
                address,
                reserved: address.filter(|address| reserved.iter().any(|one| one.address == *address)),
            }
        };
        Ok(pools.nets.iter().map(want).collect())
    }

    /// Goes on with the link, if all addresses are here.
    pub(super) fn on_addressed(&mut self, id: EndpointId, taken: &[IpAddr], missing: Option<TakeError>) {
        // Many that come at once empty a block before the next second.
        self.claim_ahead();
        let Some(attaching) = self.endpoints.attaching.remove(&id) else { return self.finish(id) };
        let (Some(request), answer) = (attaching.request, attaching.answer) else { return self.finish(id) };
        let made = match missing {
            Some(error) => Err(self.take_failed(&error)),
            None => self.make_entry(id, &request, taken),
        };
        match made {
            Ok(entry) => {
                let attaching = Attaching { request: Some(request), answer };
                self.store_then(Step::Wire(id, attaching), |content| {
                    content.reserved.retain(|reserved| !entry.addresses.contains(&reserved.address));
                    content.entries.push(entry);
                });
                self.own_addresses_changed();
            }
            Err(error) => {
                self.give_back(taken);
                if let Some(answer) = answer {
                    answer.send(Err(error));
                }
                self.finish(id);
            }
        }
    }

    fn make_entry(
        &self,
        id: EndpointId,
        request: &AttachRequest,
        taken: &[IpAddr],
    ) -> Result<Entry, ApiError> {
        let Attachment { runtime, network, .. } = &request.attachment;
        let network = self.network(runtime, network)?;
        let reserved = self.endpoints.file.content().reserved.iter().map(|reserved| reserved.address);
        let asked = reserved.filter(|address| request.addresses.contains(address));
        let mut addresses: Vec<IpAddr> = taken.iter().copied().chain(asked).collect();
        addresses.sort();
        if let Some(lost) = request.addresses.iter().find(|wanted| !addresses.contains(wanted)) {
            let error = format!("{lost} was given back or taken meanwhile");
            return Err(ApiError::new(ErrorCode::AddressTaken, error).with_hint("ask again"));
        }
        let mac = match request.mac.as_deref() {
            Some(text) => mac(text)?,
            None => derived_mac(&addresses),
        };
        let most = [request.mtu, network.mtu, Some(self.plane.mtu())];
        let entry = Entry {
            id,
            attachment: request.attachment.clone(),
            namespace: request.namespace.clone(),
            gateways: self.gateways(request, &addresses),
            routes: self.routes(network, request, &addresses)?,
            addresses,
            mac,
            mtu: most.into_iter().flatten().min().unwrap_or(MTU_MIN),
            name: request.name.clone(),
            labels: well_formed(&request.labels),
            image: request.image.as_deref().map(digest).transpose()?,
            has_egress: network.egress == Egress::Mesh,
            sandbox: None,
            stage: Stage::Wiring,
            since: self.clock.now(),
            boot: self.endpoints.boot,
        };
        self.judge_entry(&entry)?;
        Ok(entry)
    }

    /// Next hops inside of the endpoint. A runtime that sets routes itself can't set two to one hop, so there each
    /// pool has one of its own: its first address, the same on every host and nobody's.
    fn gateways(&self, request: &AttachRequest, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let known = &self.endpoints.addresses;
        let of_pool = |address: &IpAddr| known.gateway(*address).filter(|_| request.namespace.is_none());
        addresses.iter().map(|own| of_pool(own).unwrap_or_else(|| gateway_of_all(own))).collect()
    }

    fn routes(
        &self,
        network: &Network,
        request: &AttachRequest,
        addresses: &[IpAddr],
    ) -> Result<Vec<IpNet>, ApiError> {
        let content = self.endpoints.file.content();
        let own_pools = Pools::of(network)?.nets;
        let mut foreign_pools = Vec::new();
        if request.namespace.is_none() {
            // A container has endpoints of one runtime alone.
            for other in content.networks.iter().filter(|other| other.runtime == network.runtime) {
                foreign_pools
                    .extend(Pools::of(other)?.nets.into_iter().filter(|net| !own_pools.contains(net)));
            }
        }
        let is_second = request.namespace.is_some()
            && content.entries.iter().any(|entry| is_in(entry, request.namespace.as_ref()));
        let mesh = self.overlay();
        let around = Surroundings {
            mesh: &mesh,
            own_pools: &own_pools,
            foreign_pools: &foreign_pools,
            is_second,
            is_default: request.is_default_route,
        };
        let mut routes = around.routes(addresses);
        if request.namespace.is_none() && addresses.iter().any(IpAddr::is_ipv4) {
            // Names are asked for there, whatever the own gateway is.
            routes.push(IpNet::from(IpAddr::from(GATEWAY4)));
        }
        Ok(routes)
    }

    /// Wires an endpoint beside the loop; whether that began.
    pub(super) fn wire(&mut self, entry: Entry, attaching: Attaching) -> bool {
        let id = entry.id;
        let wiring = match self.wiring() {
            Ok(wiring) => wiring,
            Err(error) => {
                if entry.stage == Stage::Wiring {
                    self.forget_entry(id);
                }
                attaching.refuse(error);
                return false;
            }
        };
        self.endpoints.attaching.insert(id, attaching);
        wiring.policies().say(&entry);
        self.endpoints.run(
            &wiring,
            move |wiring| Report::Wired { id, result: wiring.attach(&entry).map(drop) },
            Some(Report::Wired { id, result: Err(WiringError::BrokenOff) }),
        );
        true
    }

    /// Wires one again of which something is gone.
    pub(super) fn begin_rewire(&mut self, id: EndpointId) -> bool {
        match self.endpoints.entry(id).cloned() {
            Some(entry) if entry.stage == Stage::Attached && !self.endpoints.is_cut_off => {
                self.wire(entry, Attaching { request: None, answer: None })
            }
            Some(_) | None => false,
        }
    }

    /// Says that an endpoint is there, to the mesh and to who asked.
    pub(super) fn on_wired(&mut self, id: EndpointId, result: Result<(), WiringError>) {
        let Some(attaching) = self.endpoints.attaching.remove(&id) else { return self.finish(id) };
        let was_attached = self.endpoints.entry(id).is_some_and(|entry| entry.stage == Stage::Attached);
        let said = result.map_err(|error| wiring_failed(&error)).and_then(|()| {
            if self.is_revoked() {
                // It was revoked meanwhile.
                return Err(revoked());
            }
            let gone = || ApiError::new(ErrorCode::Internal, "the endpoint is gone");
            let entry = self.endpoints.entry(id).cloned().ok_or_else(gone)?;
            self.claim_entry(&entry)
        });
        match said {
            Ok(()) if was_attached => {
                self.say_attached(id, attaching.answer);
                self.finish(id);
            }
            Ok(()) => self.store_then(Step::Say(id, attaching.answer), |content| {
                for entry in content.entries.iter_mut().filter(|entry| entry.id == id) {
                    entry.stage = Stage::Attached;
                }
            }),
            Err(error) => {
                let cause = error.cause.as_deref().unwrap_or_default();
                tracing::warn!(endpoint = %id, error = error.error, cause, "not attached");
                attaching.refuse(error);
                if was_attached {
                    // A live container keeps what it has; it is looked at again.
                    self.endpoints.broken.insert(id);
                    self.finish(id);
                } else if !self.begin_detach(id, oneshot::channel().0) {
                    // What may be left of it goes before anything else is done with it; nobody waits for that.
                    self.finish(id);
                }
            }
        }
    }

    /// Tells who asked that an endpoint is attached.
    pub(super) fn say_attached(&mut self, id: EndpointId, answer: Option<Waiting>) {
        self.endpoints.broken.remove(&id);
        let Some(entry) = self.endpoints.entry(id) else { return };
        tracing::info!(endpoint = %id, addresses = ?entry.addresses, name = entry.name, "attached");
        if let Some(answer) = answer {
            answer.send(Ok(self.shown_endpoint(entry)));
        }
    }
}

/// One address that an endpoint shall get.
struct Want {
    pool: IpNet,
    how: meshd_core::pool::Allocation,
    ranges: Vec<IpNet>,
    /// This one and no other.
    address: Option<IpAddr>,
    /// It is this node's already, for this endpoint to come.
    reserved: Option<IpAddr>,
}

/// Whether an endpoint is where somebody means.
fn is_in(entry: &Entry, namespace: Option<&Namespace>) -> bool {
    match (&entry.namespace, namespace) {
        (Some(one), Some(other)) => (one.dev, one.ino) == (other.dev, other.ino),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn revoked() -> ApiError {
    ApiError::new(ErrorCode::Revoked, "this node was revoked: nothing of it enters the mesh")
        .with_hint("`meshctl leave`, and join with a new token")
}

/// Refuses more labels than fit.
pub(super) fn judge_labels(labels: &Labels) -> Result<(), ApiError> {
    match labels.len() {
        count if count > LABELS_MAX => {
            Err(bad(format!("an endpoint has at most {LABELS_MAX} labels, not {count}")))
        }
        _ => Ok(()),
    }
}

/// What can be a label. Policies of this host select by all of them; the mesh is told those that this node may speak for.
pub(super) fn well_formed(labels: &Labels) -> Labels {
    let labels = labels.iter().filter(|(key, value)| name::is_label_part(key) && name::is_label_part(value));
    labels.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn is_ifname(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && ![b'/', b':', b'%'].contains(&byte);
    (1..=IFNAME_LEN_MAX).contains(&text.len()) && text.bytes().all(is_plain) && text != "." && text != ".."
}

fn mac(text: &str) -> Result<Mac, ApiError> {
    text.parse().map_err(|error| bad(format!("`{text}`: {error}")))
}

/// Judges a name that an endpoint shall have.
pub(super) fn judge_name(name: Option<&str>) -> Result<(), ApiError> {
    match name.filter(|name| !name::is_endpoint_name(name)) {
        Some(name) => Err(bad(format!("`{name}` can't name an endpoint"))
            .with_hint("use letters a-z, digits and `-`, with dots between the parts")),
        None => Ok(()),
    }
}

/// Reads the digest of an image.
pub(super) fn digest(text: &str) -> Result<ImageDigest, ApiError> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    hex.parse().map_err(|_| bad(format!("`{text}` is no digest of an image, like sha256:…")))
}

/// An address of the mesh is unique, and so is what is made from it.
pub(super) fn derived_mac(addresses: &[IpAddr]) -> Mac {
    match addresses.first() {
        Some(IpAddr::V4(v4)) => {
            let [a, b, c, d] = v4.octets();
            Mac::local([0x4d, a, b, c, d])
        }
        Some(IpAddr::V6(v6)) => {
            let [.., a, b, c, d] = v6.octets();
            Mac::local([0x36, a, b, c, d])
        }
        None => Mac::local([0; 5]),
    }
}

fn bad(error: String) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, error)
}
