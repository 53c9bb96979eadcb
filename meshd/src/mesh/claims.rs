//! What this node claims for its endpoints: published as long as it holds, renewed before it is over, and withdrawn
//! so that everybody hears of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use meshd_core::pool::Claimed;
use meshd_trust::{Accepted, Change, ENDPOINT_LIFE_S, Refusal, Roster};
use meshd_wire::record::Endpoint;
use meshd_wire::{EndpointId, Envelope, NodeId, Timestamp};
use tokio::sync::mpsc;

use super::Mesh;
use crate::daemon::Message;
use crate::discovery::keyspace::Slot;
use crate::discovery::{Life, Published};
use crate::endpoints::{Addresses, Claim, ClaimSigner, Claimant, claim_id, claims_on};
use crate::metrics::Counters;

/// Age at which a claim is signed again.
const RENEW_AGE_S: u64 = ENDPOINT_LIFE_S / 2;
/// How often it is looked which claims are to be signed again.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// How often claims are looked at anew although nobody said anything: they also end with time.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Claims signed again at one time: the loop has other work, and half a day to sign all that a node can have.
const RENEWALS_MAX: usize = 256;
/// Withdrawals that are published at once; those before them reach only who has read them by then.
const FAREWELLS_MAX: usize = 1024;

/// What this node claims, and what it claimed a while ago.
pub struct OwnClaims {
    signer: ClaimSigner,
    /// Withdrawals, until what they withdraw would be over by itself: a node that was away hears of them.
    farewells: VecDeque<(Timestamp, Vec<Slot>, Arc<[u8]>)>,
    /// Places in which something else is to stand than was published.
    pub(super) changed: BTreeSet<Slot>,
    renew_at: Instant,
    /// Who claims what has changed since somebody asked.
    has_news: bool,
    looked_at: Instant,
}

impl OwnClaims {
    /// Nothing is known of earlier withdrawals.
    pub fn new(signer: ClaimSigner) -> Self {
        Self {
            signer,
            farewells: VecDeque::new(),
            changed: BTreeSet::new(),
            renew_at: Instant::now(),
            has_news: true,
            looked_at: Instant::now(),
        }
    }

    /// Takes note of what changed in the roster.
    pub fn note(&mut self, changes: &[Change]) {
        self.has_news |= changes.iter().any(|change| match change {
            Change::Endpoint(..) | Change::Cert(_) | Change::Revocations(_) | Change::Delegation(_) => true,
            Change::Root(_) | Change::Genesis | Change::State(_) | Change::Keys(_) | Change::Paths(_) => {
                false
            }
        });
    }

    /// Whether who claims what may have changed since this was asked last.
    pub fn has_news(&mut self, tick: Instant) -> bool {
        let has_news = std::mem::take(&mut self.has_news) || tick >= self.looked_at + LOOK_EVERY;
        if has_news {
            self.looked_at = tick;
        }
        has_news
    }

    /// Takes in a claim that this node signed, or the end of one.
    pub fn take_in(&mut self, roster: &mut Roster, envelope: &[u8], now: Timestamp) -> Result<(), Refusal> {
        if let Accepted::New(change) = roster.accept(envelope, now)? {
            self.note(&[change]);
        }
        let record = Envelope::from_bytes(envelope).and_then(|envelope| envelope.record::<Endpoint>());
        let Ok(record) = record else { return Ok(()) };
        self.changed.extend(slots(&record));
        if record.withdrawn {
            if self.farewells.len() >= FAREWELLS_MAX {
                self.changed.extend(self.farewells.pop_front().into_iter().flat_map(|(_, slots, _)| slots));
            }
            let until = record.issued_at.plus(ENDPOINT_LIFE_S);
            self.farewells.push_back((until, slots(&record).collect(), envelope.into()));
        }
        Ok(())
    }

    /// Signs a claim, unless that was done and is not old; true if there is something new.
    pub fn claim(&mut self, roster: &mut Roster, claim: &Claim, now: Timestamp) -> Result<bool, Refusal> {
        let is_said = roster.endpoint(&self.signer.node(), &claim.endpoint).is_some_and(|view| {
            let record = view.record();
            !record.withdrawn && !is_old(record, now) && Claim::of_record(record) == *claim
        });
        if is_said {
            return Ok(false);
        }
        let envelope = self.signer.sign(claim, false, now);
        self.take_in(roster, &envelope, now).map(|()| true)
    }

    /// Signs the end of a claim; false if there is none.
    pub fn withdraw(&mut self, roster: &mut Roster, endpoint: &EndpointId, now: Timestamp) -> bool {
        let view = roster.endpoint(&self.signer.node(), endpoint).map(|view| view.record());
        let Some(record) = view.filter(|record| !record.withdrawn) else { return false };
        let nets = Claim::of_record(record).nets;
        let claim = Claim { endpoint: *endpoint, nets, labels: Vec::new(), name: None, image: None };
        let envelope = self.signer.sign(&claim, true, now);
        match self.take_in(roster, &envelope, now) {
            Ok(()) => true,
            Err(refusal) => {
                tracing::error!(%refusal, "the own roster refuses a withdrawal");
                false
            }
        }
    }

    /// Addresses without an endpoint, and blocks, that stand in the roster as this node's and that it does not have:
    /// what became of their claims was lost.
    pub fn strays(&self, roster: &Roster, addresses: &Addresses, now: Timestamp) -> Vec<IpNet> {
        let records = self.records(roster).filter(|record| !record.withdrawn && !is_over(record, now));
        let nets = records.filter_map(|record| {
            let nets = Claim::of_record(record).nets;
            nets.first().copied().filter(|net| nets.len() == 1 && record.endpoint == claim_id(*net))
        });
        nets.filter(|net| !addresses.has(*net)).collect()
    }

    /// Signs again what would be over some time; what was refused is tried again later.
    pub fn renew(&mut self, roster: &mut Roster, now: Timestamp) -> bool {
        self.farewells.retain(|(until, ..)| now <= *until);
        let old = self.records(roster).filter(|record| !record.withdrawn && is_old(record, now));
        let old: Vec<Claim> = old.take(RENEWALS_MAX).map(Claim::of_record).collect();
        let mut is_new = false;
        for claim in old {
            match self.claim(roster, &claim, now) {
                Ok(is_signed) => is_new |= is_signed,
                Err(refusal) => {
                    let nets = format!("{:?}", claim.nets);
                    tracing::warn!(%refusal, nets, "a claim of this node can't be renewed");
                }
            }
        }
        is_new
    }

    /// What is to stand in the registries: claims, and the ends of others.
    pub fn fill(&self, published: &mut Published, roster: &Roster, now: Timestamp) {
        let view = roster.node(&self.signer.node());
        let endpoints = view.into_iter().flat_map(|view| view.endpoints());
        for endpoint in endpoints.filter(|endpoint| endpoint.is_claimed(now)) {
            for slot in slots(endpoint.record()) {
                published.insert(slot, (endpoint.envelope().into(), Life::Slow));
            }
        }
        // The last word on an address first; none on what another node has by now, or had since.
        for (_, slots, envelope) in self.farewells.iter().rev() {
            for slot in slots.iter().filter(|slot| !self.is_anothers(**slot, roster, now)) {
                published.entry(*slot).or_insert_with(|| (envelope.clone(), Life::Slow));
            }
        }
    }

    /// The same for one place; nothing if this node has no word on it.
    pub fn word_on(&self, slot: Slot, roster: &Roster, now: Timestamp) -> Option<(Arc<[u8]>, Life)> {
        let (net, own) = (slot.claimed()?, self.signer.node());
        let claims = roster.claims_on(net.addr(), net.prefix_len(), now).into_iter();
        let mut same = claims.filter(|claim| (claim.addr, claim.len) == (net.addr(), net.prefix_len()));
        let live = same.find_map(|claim| {
            let endpoint = claim.endpoint.filter(|_| claim.node == own)?;
            roster.endpoint(&own, &endpoint).filter(|endpoint| endpoint.is_claimed(now))
        });
        let farewell = || {
            let last = self.farewells.iter().rev().find(|(_, slots, _)| slots.contains(&slot));
            last.filter(|_| !self.is_anothers(slot, roster, now)).map(|(.., envelope)| Arc::clone(envelope))
        };
        Some((live.map(|endpoint| endpoint.envelope().into()).or_else(farewell)?, Life::Slow))
    }

    fn is_anothers(&self, slot: Slot, roster: &Roster, now: Timestamp) -> bool {
        let Some(net) = slot.claimed() else { return false };
        let same = |claim: &meshd_trust::Claim| (claim.addr, claim.len) == (net.addr(), net.prefix_len());
        let mut claims = roster.claims_on(net.addr(), net.prefix_len(), now).into_iter().filter(same);
        claims.any(|claim| claim.node != self.signer.node())
    }

    fn records<'r>(&self, roster: &'r Roster) -> impl Iterator<Item = &'r Endpoint> + use<'r> {
        let view = roster.node(&self.signer.node());
        view.into_iter().flat_map(|view| view.endpoints()).map(|endpoint| endpoint.record())
    }
}

impl Mesh {
    /// What claims addresses beside the loop, in the first registry of the mesh.
    pub fn claimant(&self, addresses: Addresses, messages: mpsc::Sender<Message>) -> Claimant {
        let registry = self.links.first().map(|link| link.registry.clone());
        Claimant::new(registry, self.keyspace.clone(), self.claims.signer.clone(), addresses, messages)
    }

    /// Says what an endpoint or block of this node has, unless that was said and is not old.
    pub fn publish_endpoint(&mut self, claim: &Claim) -> Result<(), Refusal> {
        let is_new = self.claims.claim(&mut self.roster, claim, self.clock.now())?;
        self.published_claims(is_new);
        Ok(())
    }

    /// Whether the own roster would take a claim.
    pub fn judge_endpoint(&self, claim: &Claim) -> Result<(), Refusal> {
        let now = self.clock.now();
        self.roster.judge_endpoint(&self.claims.signer.sign(claim, false, now), now)
    }

    /// Gives back what an endpoint or block of this node has; false if it has nothing.
    pub fn withdraw_endpoint(&mut self, endpoint: &EndpointId) -> bool {
        let is_new = self.claims.withdraw(&mut self.roster, endpoint, self.clock.now());
        self.published_claims(is_new);
        is_new
    }

    /// Gives back an address that no endpoint has, or a block; false if it is not claimed.
    pub fn withdraw_net(&mut self, net: IpNet) -> bool {
        self.withdraw_endpoint(&claim_id(net))
    }

    /// Gives back addresses and blocks that nobody on this node knows of. Says how many.
    pub fn withdraw_strays(&mut self, addresses: &Addresses) -> usize {
        let strays = self.claims.strays(&self.roster, addresses, self.clock.now());
        strays.into_iter().filter(|net| self.withdraw_net(*net)).count()
    }

    /// Whether claims have changed since this was asked last.
    pub fn has_news_of_claims(&mut self) -> bool {
        self.claims.has_news(Instant::now())
    }

    /// What this node claims for endpoints, blocks and addresses to come.
    pub fn own_claims(&self) -> impl Iterator<Item = &Endpoint> {
        let now = self.clock.now();
        self.claims.records(&self.roster).filter(move |record| !record.withdrawn && !is_over(record, now))
    }

    /// Verifies values of a registry, and says who claims what of a prefix.
    pub fn learn_claims(
        &mut self,
        values: Vec<(Vec<u8>, Vec<u8>)>,
        net: IpNet,
        counters: &mut Counters,
    ) -> Vec<Claimed<NodeId>> {
        self.learn(values, counters);
        claims_on(&self.roster, &self.node, net, self.clock.now())
    }

    /// Takes in a claim that this node signed beside the loop, or the end of one.
    pub fn own_claim(&mut self, envelope: &[u8]) -> Result<(), Refusal> {
        self.claims.take_in(&mut self.roster, envelope, self.clock.now())?;
        self.published_claims(true);
        Ok(())
    }

    /// Signs claims again before they are over.
    pub(super) fn renew_claims(&mut self, tick: Instant) {
        if tick >= self.claims.renew_at {
            self.claims.renew_at = tick + RENEW_EVERY;
            let is_new = self.claims.renew(&mut self.roster, self.clock.now());
            self.published_claims(is_new);
        }
    }

    /// Claims are stored within a second: what is lost until then stands in the registry.
    fn published_claims(&mut self, is_new: bool) {
        if is_new {
            self.unsaved_paths = true;
            self.apply_names();
            self.publish_claims();
        }
    }
}

fn slots(record: &Endpoint) -> impl Iterator<Item = Slot> {
    let nets = record.prefixes().filter_map(|(addr, len)| IpNet::new(addr, len).ok());
    nets.map(Slot::of_claim)
}

fn is_old(record: &Endpoint, now: Timestamp) -> bool {
    now.since(record.issued_at) >= RENEW_AGE_S
}

fn is_over(record: &Endpoint, now: Timestamp) -> bool {
    record.issued_at.plus(ENDPOINT_LIFE_S) < now
}

#[cfg(test)]
mod tests;
