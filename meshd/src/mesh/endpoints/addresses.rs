//! What endpoints have of the mesh: their addresses, and this node's word that they have them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use meshd_api::{ApiError, ErrorCode, Network};
use meshd_core::pool::{Allocation, Holder, NoAddress};
use meshd_trust::Refusal;
use meshd_wire::record::Label;
use meshd_wire::{EndpointId, NodeId};

use super::Mesh;
use crate::endpoints::{Addresses, Claim, Claimant, Entry, NoPool, Pools, Stage, TakeError, claim_id};

impl Mesh {
    /// What claims addresses beside the loop.
    pub(super) fn claims_beside(&self) -> Claimant {
        self.claimant(self.endpoints.addresses.clone(), self.endpoints.messages.clone())
    }

    /// Makes a pool known, with all that the mesh has of it.
    pub(super) fn open_pool(&self, net: IpNet, how: Allocation) -> Result<(), ApiError> {
        self.endpoints.addresses.pool(net, how).map_err(|error| no_pool(&error))?;
        let now = self.clock.now();
        self.endpoints.addresses.learn(&self.roster, &self.node, now);
        // Those that were taken over before their network was known.
        let taken = self.endpoints.file.content().entries.iter().flat_map(|entry| &entry.addresses);
        for address in taken.filter(|address| net.contains(*address)) {
            self.endpoints.addresses.hold((*address).into(), now);
        }
        Ok(())
    }

    /// Forgets a pool of a network that nothing else on this node uses, and gives back what it has of it.
    pub(super) fn close_pool(&mut self, net: IpNet, of: &Network) {
        let content = self.endpoints.file.content();
        let is_it = |network: &Network| (&network.runtime, &network.network) == (&of.runtime, &of.network);
        let has_it = |network: &Network| {
            !is_it(network) && Pools::of(network).is_ok_and(|pools| pools.nets.contains(&net))
        };
        let taken = content.entries.iter().flat_map(|entry| &entry.addresses);
        let mut taken = taken.chain(content.reserved.iter().map(|one| &one.address));
        if content.networks.iter().any(has_it) || taken.any(|address| net.contains(address)) {
            return;
        }
        for block in self.endpoints.addresses.forget_pool(net) {
            self.withdraw_net(block);
        }
    }

    /// Takes over what others have claimed, gives back what nobody has any more, and claims ahead of need.
    pub(super) fn tend_addresses(&mut self) {
        let addresses = self.endpoints.addresses.clone();
        self.withdraw_strays(&addresses);
        self.withdraw_lost_endpoints();
        if addresses.nets().is_empty() {
            return;
        }
        let has_news = self.has_news_of_claims();
        if has_news {
            addresses.learn(&self.roster, &self.node, self.clock.now());
        }
        if has_news || addresses.blocks() != self.endpoints.file.content().blocks {
            self.claim_held_blocks(&addresses);
        }
        let blocks = addresses.blocks();
        if blocks != self.endpoints.file.content().blocks
            && let Err(error) = self.endpoints.store(|content| content.blocks = blocks)
        {
            tracing::warn!(error = error.error, "the blocks of this node can't be stored");
        }
        self.claim_ahead();
    }

    /// Begins to claim blocks before they are needed, and gives back those that were empty for long.
    pub(super) fn claim_ahead(&self) {
        let (wanted, given_back) = self.endpoints.addresses.block_changes(self.clock.now());
        if wanted.is_empty() && given_back.is_empty() {
            return;
        }
        let claimant = self.claims_beside();
        // Ends by itself: claims have a deadline.
        tokio::spawn(async move { claimant.tend((wanted, given_back)).await });
    }

    /// Gives back what endpoints had that nobody knows any more: the word about their end was lost.
    fn withdraw_lost_endpoints(&mut self) {
        for (id, _) in self.lost_endpoints() {
            tracing::info!(endpoint = %id, "giving back what an endpoint had that is not known any more");
            self.withdraw_endpoint(&id);
        }
    }

    /// Endpoints that the mesh is told of and nobody knows, with what they have.
    pub(super) fn lost_endpoints(&self) -> Vec<(EndpointId, Vec<IpAddr>)> {
        // Comes every second, for thousands of endpoints: they are not searched one by one.
        let entries: BTreeSet<EndpointId> =
            self.endpoints.file.content().entries.iter().map(|entry| entry.id).collect();
        let is_known = |id| entries.contains(&id) || self.endpoints.jobs.has(id);
        self.own_claims()
            .filter(|record| {
                !Claim::of_record(record).nets.iter().any(|net| claim_id(*net) == record.endpoint)
            })
            .filter(|record| !is_known(record.endpoint))
            .map(|record| (record.endpoint, record.prefixes().map(|(address, _)| address).collect()))
            .collect()
    }

    /// Sees to it that blocks that are given from are claimed; one that is another's by now is given from no more.
    fn claim_held_blocks(&mut self, addresses: &Addresses) {
        for block in addresses.blocks() {
            if let Err(refusal) = self.publish_endpoint(&Claim::of_net(block)) {
                tracing::warn!(%block, %refusal, "a block of this node is not its own any more");
                addresses.lose_block(block);
            }
        }
    }

    /// Says of all that are attached that they are there; what was said and is not old is not said again.
    pub(super) fn claim_attached(&mut self) {
        if self.endpoints.is_cut_off {
            return;
        }
        let boot = self.endpoints.boot;
        let entries = self.endpoints.file.content().entries.iter();
        let attached = entries.filter(|entry| entry.stage == Stage::Attached && entry.boot == boot);
        for entry in attached.cloned().collect::<Vec<_>>() {
            if let Err(error) = self.claim_entry(&entry) {
                let cause = error.cause.unwrap_or_default();
                tracing::warn!(endpoint = %entry.id, error = error.error, cause, "the mesh can't be told of it");
            }
        }
    }

    /// Says that an endpoint is there.
    pub(super) fn claim_entry(&mut self, entry: &Entry) -> Result<(), ApiError> {
        let said = self.publish_endpoint(&self.claim_of(entry));
        said.map_err(|refusal| self.refused_claim(entry, &refusal))
    }

    /// Whether the mesh would believe that an endpoint is there; asked before anything is made for it.
    pub(super) fn judge_entry(&self, entry: &Entry) -> Result<(), ApiError> {
        let judged = self.judge_endpoint(&self.claim_of(entry));
        judged.map_err(|refusal| self.refused_claim(entry, &refusal))
    }

    /// What the mesh is told of an endpoint: of its labels, those that this node may speak for.
    fn claim_of(&self, entry: &Entry) -> Claim {
        let attested = self.roster.node(&self.node).map(|view| view.cert().may_attest.as_slice());
        let attested = attested.unwrap_or_default();
        let labels = entry.labels.iter().filter(|(key, _)| attested.contains(key));
        Claim {
            endpoint: entry.id,
            nets: entry.addresses.iter().copied().map(IpNet::from).collect(),
            labels: labels.map(|(key, value)| Label { key: key.clone(), value: value.clone() }).collect(),
            name: entry.name.clone(),
            image: entry.image,
        }
    }

    /// Lets addresses rest, and tells the mesh that nobody has them.
    pub(super) fn give_back(&mut self, addresses: &[IpAddr]) {
        let now = self.clock.now();
        for address in addresses {
            self.withdraw_net((*address).into());
            self.endpoints.addresses.release(*address, now);
        }
    }

    fn refused_claim(&self, entry: &Entry, refusal: &Refusal) -> ApiError {
        match refusal {
            Refusal::NameTaken { holder } => {
                let name = entry.name.as_deref().unwrap_or_default();
                let holder = self.holder_text(holder);
                ApiError::new(ErrorCode::NameTaken, format!("the name {name} is taken by {holder}"))
                    .with_hint("give another name")
            }
            Refusal::AddressTaken { holder } => {
                // It is not said which of them.
                let addresses: Vec<String> = entry.addresses.iter().map(ToString::to_string).collect();
                self.taken(&addresses.join(" or "), &self.holder_text(holder))
            }
            other => ApiError::new(ErrorCode::RecordRefused, "the endpoint can't be made known")
                .with_cause(other.to_string()),
        }
    }

    /// Says why there is no address.
    pub(super) fn take_failed(&self, error: &TakeError) -> ApiError {
        let why = crate::chain::of(error);
        match error {
            TakeError::NoPool(error) => no_pool(error),
            TakeError::NoAddress { wanted, why } => self.no_address(*wanted, why),
            TakeError::NoRegistry { .. } | TakeError::Late | TakeError::Gone => {
                ApiError::new(ErrorCode::Unavailable, "no address can be claimed now")
                    .with_cause(why)
                    .with_hint("look after the registry: `meshctl status` names it")
            }
            TakeError::Refused(_) => {
                ApiError::new(ErrorCode::RecordRefused, "no address can be claimed").with_cause(why)
            }
        }
    }

    fn no_address(&self, wanted: Option<IpAddr>, why: &NoAddress<NodeId>) -> ApiError {
        let address = wanted.map_or_else(|| "the address".to_owned(), |address| address.to_string());
        let (code, hint) = match why {
            NoAddress::Taken(Holder::Other(holder)) => {
                return self.taken(&address, &self.holder_text(holder));
            }
            NoAddress::Taken(Holder::This) => return self.taken(&address, &self.holder_text(&self.node)),
            NoAddress::Rests { .. } => (ErrorCode::AddressTaken, "give another address, or none"),
            NoAddress::Outside | NoAddress::Reserved => {
                (ErrorCode::BadRequest, "give another address, or none")
            }
            NoAddress::Exhausted => (
                ErrorCode::NoAddress,
                "detach what is not used any more, or make a network with a larger pool",
            ),
        };
        match wanted {
            Some(address) => ApiError::new(code, format!("{address} can't be given"))
                .with_cause(why.to_string())
                .with_hint(hint),
            None => ApiError::new(code, why.to_string()).with_hint(hint),
        }
    }

    fn taken(&self, address: &str, holder: &str) -> ApiError {
        ApiError::new(ErrorCode::AddressTaken, format!("{address} is taken by {holder}"))
            .with_hint("`meshctl endpoints` shows those of this node; give another address, or none")
    }

    fn holder_text(&self, holder: &NodeId) -> String {
        match (*holder == self.node, self.member(holder)) {
            (true, _) => "an endpoint of this node".to_owned(),
            (false, Some(member)) => format!("node {} of {}, or an endpoint of it", member.name, member.org),
            (false, None) => format!("node {}, or an endpoint of it", holder.short()),
        }
    }
}

fn no_pool(error: &NoPool) -> ApiError {
    match error {
        NoPool::Bad(error) => ApiError::new(ErrorCode::BadRequest, error.to_string()),
        NoPool::Overlaps(_) => ApiError::new(ErrorCode::PrefixConflict, error.to_string())
            .with_hint("take the same pool, to be one network, or another one"),
    }
}
