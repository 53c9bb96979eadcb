//! Networks, and addresses for endpoints to come.

use std::net::IpAddr;

use ipnet::IpNet;
use meshd_api::{
    ApiError, Attachment, ClaimReply, ClaimRequest, ErrorCode, Network, NetworkReply, Networks,
    PutNetworkRequest, ReleaseReply, ReleaseRequest, RemoveNetworkReply, RemoveNetworkRequest,
};

use super::Mesh;
use crate::control::Answer;
use crate::endpoints::{
    Entry, NETWORKS_MAX, Pools, Report, Reserved, Scope, TakeError, allocation, judge, judge_pool, read,
};

/// What is meant by who attaches with meshctl and names no network.
const DEFAULT_NETWORK: (&str, &str) = ("meshctl", "default");

impl Mesh {
    /// Knows a network from now on: stored first, then in force, then answered.
    pub fn put_network(&mut self, request: PutNetworkRequest, answer: Answer<NetworkReply>) {
        let network = request.network;
        match self.store_network(&network) {
            Ok(joined) => self.enforce_then(joined, move |enforced| {
                answer.send(enforced.map(|()| NetworkReply { network }));
            }),
            Err(error) => answer.send(Err(error)),
        }
    }

    /// Stores a network. Returns the endpoints of which it became known that they are of it.
    fn store_network(&mut self, network: &Network) -> Result<Vec<Entry>, ApiError> {
        let is_it = |one: &Network| (&one.runtime, &one.network) == (&network.runtime, &network.network);
        let known = &self.endpoints.file.content().networks;
        let others: Vec<Network> = known.iter().filter(|one| !is_it(one)).cloned().collect();
        let before = known.iter().find(|one| is_it(one)).cloned();
        if before.as_ref() == Some(network) {
            return Ok(Vec::new());
        }
        let pools = judge(network, &self.scope(), &others)?;
        match &before {
            Some(before) if Pools::of(before)?.nets != pools.nets && self.has_endpoints(before) => {
                return Err(in_use(before).with_hint("detach them first, or make another network"));
            }
            None if others.len() >= NETWORKS_MAX => {
                let error = format!("this node has {NETWORKS_MAX} networks, and no more fit");
                return Err(ApiError::new(ErrorCode::TooMany, error).with_hint("remove one"));
            }
            Some(_) | None => {}
        }
        self.wiring()?;
        let of_before = before.as_ref().map(Pools::of).transpose()?.map(|pools| pools.nets);
        let mut gone = of_before.unwrap_or_default();
        gone.retain(|net| !pools.nets.contains(net));
        // A new pool may lie where an old one was.
        for net in &gone {
            self.close_pool(*net, network);
        }
        let how = allocation(network.allocation);
        let opened = pools.nets.iter().try_for_each(|net| self.open_pool(*net, how));
        let is_joined = |entry: &Entry| {
            let is_unknown =
                entry.attachment.runtime == network.runtime && entry.attachment.network.is_empty();
            is_unknown && entry.addresses.iter().all(|one| pools.nets.iter().any(|net| net.contains(one)))
        };
        let mut joined = Vec::new();
        let stored = opened.and_then(|()| {
            self.endpoints.store(|content| {
                content.networks.retain(|one| !is_it(one));
                content.networks.push(network.clone());
                content.networks.sort_by(|a, b| (&a.runtime, &a.network).cmp(&(&b.runtime, &b.network)));
                for entry in content.entries.iter_mut().filter(|entry| is_joined(entry)) {
                    entry.attachment.network.clone_from(&network.network);
                    joined.push(entry.clone());
                }
            })
        });
        if stored.is_err()
            && let Some(before) = &before
        {
            for net in gone {
                self.open_pool(net, allocation(before.allocation))?;
            }
        }
        stored.map(|()| joined)
    }

    /// Forgets a network without endpoints.
    pub fn remove_network(&mut self, request: &RemoveNetworkRequest) -> Result<RemoveNetworkReply, ApiError> {
        let RemoveNetworkRequest { runtime, network } = request;
        let Ok(known) = self.network(runtime, network).cloned() else {
            return Ok(RemoveNetworkReply { existed: false });
        };
        if self.has_endpoints(&known) {
            return Err(in_use(&known).with_hint("detach them first"));
        }
        self.endpoints.store(|content| content.networks.retain(|one| *one != known))?;
        self.rules_may_have_changed();
        for net in Pools::of(&known)?.nets {
            self.close_pool(net, &known);
        }
        Ok(RemoveNetworkReply { existed: true })
    }

    /// The networks of this host, and where pools may lie.
    pub fn networks(&self) -> Networks {
        let Scope { own, mesh } = self.scope();
        let text = |nets: Vec<IpNet>| nets.iter().map(ToString::to_string).collect();
        Networks {
            networks: self.endpoints.file.content().networks.clone(),
            own_prefixes: text(own),
            mesh_prefixes: text(mesh),
        }
    }

    /// Makes the network that is meant when meshctl is told none, as soon as somebody means it: the last part of
    /// what the organisation has, far from where nodes get their addresses.
    pub(super) fn know_default_network(&mut self, meant: &Attachment) -> Result<(), ApiError> {
        let (runtime, network) = DEFAULT_NETWORK;
        let is_meant = meant.runtime == runtime && meant.network == network;
        if !is_meant || self.network(runtime, network).is_ok() {
            return Ok(());
        }
        let pool = |is_v4: bool, len: u8| {
            let own = self.scope().own.into_iter().find(|own| own.addr().is_ipv4() == is_v4)?;
            own.subnets(own.prefix_len().saturating_add(len)).ok()?.last().map(|net| net.to_string())
        };
        let network = Network {
            runtime: runtime.to_owned(),
            network: network.to_owned(),
            pool4: pool(true, 4),
            pool6: pool(false, 16),
            allocation: meshd_api::Allocation::Blocks,
            egress: meshd_api::Egress::Runtime,
            mtu: None,
            ranges: Vec::new(),
            reach: meshd_api::Reach::Mesh,
            policy: meshd_api::Policing::Optional,
        };
        // It restricts nobody.
        self.store_network(&network).map(drop)
    }

    /// A network of a runtime.
    pub(super) fn network(&self, runtime: &str, network: &str) -> Result<&Network, ApiError> {
        let known = &self.endpoints.file.content().networks;
        known.iter().find(|one| one.runtime == runtime && one.network == network).ok_or_else(|| {
            ApiError::new(ErrorCode::NotFound, format!("{runtime} has no network `{network}` here"))
                .with_hint("`meshctl network list` shows those there are")
        })
    }

    fn has_endpoints(&self, network: &Network) -> bool {
        let is_of = |attachment: &meshd_api::Attachment| {
            (&attachment.runtime, &attachment.network) == (&network.runtime, &network.network)
        };
        let mut coming = self.endpoints.attaching.values().filter_map(|one| one.attachment());
        let mut stored = self.endpoints.file.content().entries.iter();
        stored.any(|entry| is_of(&entry.attachment)) || coming.any(is_of)
    }

    /// Claims an address for an endpoint to come.
    pub fn claim(&mut self, request: &ClaimRequest, answer: Answer<ClaimReply>) {
        let judged = self.judge_claim_request(request);
        let (pool, ranges) = match judged {
            Ok(judged) => judged,
            Err(error) => return answer.send(Err(error)),
        };
        let how = allocation(request.allocation);
        if let Err(error) = self.open_pool(pool, how) {
            return answer.send(Err(error));
        }
        let (claimant, reports, address) =
            (self.claims_beside(), self.endpoints.reports.clone(), request.address);
        // Ends by itself: claims have a deadline.
        tokio::spawn(async move {
            let result = claimant.take(pool, how, &ranges, address, None).await;
            // The mesh was left meanwhile: nobody to tell.
            drop(reports.send(Report::Reserved { pool, result, answer }).await);
        });
    }

    fn judge_claim_request(&self, request: &ClaimRequest) -> Result<(IpNet, Vec<IpNet>), ApiError> {
        let pool = read(&request.pool)?;
        let how = allocation(request.allocation);
        judge_pool(pool, how, &self.scope(), &self.endpoints.file.content().networks)?;
        let range = request.range.as_deref().map(read).transpose()?;
        if let Some(range) = range.filter(|range| !pool.contains(range)) {
            let error = format!("range {range} lies outside pool {pool}");
            return Err(ApiError::new(ErrorCode::BadRequest, error));
        }
        Ok((pool, range.into_iter().collect()))
    }

    /// Keeps a claimed address until its endpoint comes.
    pub(super) fn on_reserved(
        &mut self,
        pool: IpNet,
        result: Result<IpAddr, TakeError>,
        answer: Answer<ClaimReply>,
    ) {
        let since = self.clock.now();
        // Who asked has given up, and will not give back what it does not know of.
        if let (Ok(address), true) = (&result, answer.is_gone()) {
            return self.give_back(&[*address]);
        }
        let reserved = result.map_err(|error| self.take_failed(&error)).and_then(|address| {
            let kept = self.endpoints.store(|content| content.reserved.push(Reserved { address, since }));
            if kept.is_err() {
                self.give_back(&[address]);
            }
            kept.map(|()| address)
        });
        if let Ok(address) = &reserved {
            tracing::debug!(%pool, %address, "address reserved");
        }
        answer.send(reserved.map(|address| ClaimReply { address }));
    }

    /// Gives an address back that no endpoint has; one that an endpoint has goes with it.
    pub fn release(&mut self, request: &ReleaseRequest) -> Result<ReleaseReply, ApiError> {
        let address = request.address;
        let content = self.endpoints.file.content();
        if !content.reserved.iter().any(|reserved| reserved.address == address) {
            let existed = content.entries.iter().any(|entry| entry.addresses.contains(&address));
            return Ok(ReleaseReply { existed });
        }
        self.endpoints.store(|content| content.reserved.retain(|one| one.address != address))?;
        self.give_back(&[address]);
        Ok(ReleaseReply { existed: true })
    }
}

fn in_use(network: &Network) -> ApiError {
    ApiError::new(ErrorCode::InUse, format!("network {} has endpoints", network.network))
}
