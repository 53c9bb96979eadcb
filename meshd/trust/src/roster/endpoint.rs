//! What is held of one endpoint or block, and who has an address or a name.

use std::net::IpAddr;

use meshd_wire::record::{Endpoint, Label};
use meshd_wire::{EndpointId, NodeId, OrgId, Timestamp};

use super::claims::Holder;
use super::held::Held;
use super::limits::{ENDPOINT_LIFE_S, ENDPOINT_REST_S, EXPIRED_KEPT_S};
use super::node::Node;
use super::{Roster, overlay};

/// What a roster knows of one endpoint or block. Look at the standing of its node before use.
#[derive(Debug, Clone, Copy)]
pub struct EndpointView<'a> {
    pub(super) node: &'a Node,
    pub(super) held: &'a Held<Endpoint>,
}

impl<'a> EndpointView<'a> {
    /// What its node said last.
    pub fn record(&self) -> &'a Endpoint {
        &self.held.record
    }

    /// Labels that count: those that its node may attest.
    pub fn labels(&self) -> impl Iterator<Item = &'a Label> + use<'a> {
        let attested = &self.node.cert.record.may_attest;
        self.held.record.labels.iter().filter(|label| attested.binary_search(&label.key).is_ok())
    }

    /// Whether it is claimed at a time: not given back, and not over.
    pub fn is_claimed(&self, now: Timestamp) -> bool {
        is_claimed(&self.held.record, now)
    }

    /// Its envelope.
    pub fn envelope(&self) -> &'a [u8] {
        &self.held.bytes
    }
}

/// Whether others can have an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// Somebody has it.
    Live,
    /// Nobody has it any more; it is left alone for a while.
    Rests {
        /// Last moment of that.
        until: Timestamp,
    },
}

/// Somebody's claim on an address or a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// First address.
    pub addr: IpAddr,
    /// Length of the prefix.
    pub len: u8,
    /// Who claims it.
    pub node: NodeId,
    /// For which endpoint; none if it stands in the node's certificate.
    pub endpoint: Option<EndpointId>,
    /// Whether it is in force.
    pub state: ClaimState,
}

impl Roster {
    /// One endpoint or block of a node, also one that is over or was given back a short while ago.
    pub fn endpoint(&self, node: &NodeId, endpoint: &EndpointId) -> Option<EndpointView<'_>> {
        let node = self.nodes.get(node)?;
        Some(EndpointView { node, held: node.endpoints.get(endpoint)? })
    }

    /// Greatest sequence number seen of an endpoint; its node signs with a greater one.
    pub fn endpoint_seq(&self, node: &NodeId, endpoint: &EndpointId) -> Option<u64> {
        let marks = self.marks.nodes.get(node)?;
        marks.endpoints.get(endpoint).map(|mark| mark.mark.count)
    }

    /// Greatest sequence number seen of any endpoint of a node.
    pub fn newest_endpoint_seq(&self, node: &NodeId) -> Option<u64> {
        self.marks.nodes.get(node)?.endpoints.values().map(|mark| mark.mark.count).max()
    }

    /// The live endpoint that has a name in an organisation.
    pub fn endpoint_named(&self, org: &OrgId, name: &str, now: Timestamp) -> Option<EndpointView<'_>> {
        self.live(self.claims.endpoints.named(org, name)?, now)
    }

    /// The live endpoint that has an address.
    pub fn endpoint_at(&self, addr: IpAddr, now: Timestamp) -> Option<EndpointView<'_>> {
        self.live(self.claims.endpoints.host(addr)?, now)
    }

    /// All claims that share an address with a prefix, those of certificates included; nothing for what is free.
    pub fn claims_on(&self, addr: IpAddr, len: u8, now: Timestamp) -> Vec<Claim> {
        let certified = self.claims.certified_on(addr, len).map(|(addr, len, node)| Claim {
            addr,
            len,
            node,
            endpoint: None,
            state: ClaimState::Live,
        });
        let index = &self.claims.endpoints;
        let host_len = overlay::bits_of(addr);
        let hosts = index.hosts_in(addr, len).map(|(addr, holder)| (addr, host_len, holder));
        let claimed = hosts.chain(index.blocks_on(addr, len)).chain(index.given_back_on(addr, len));
        let claimed = claimed.filter_map(|(addr, len, holder)| {
            let state = self.claim_state(&holder, now)?;
            Some(Claim { addr, len, node: holder.node, endpoint: Some(holder.endpoint), state })
        });
        certified.chain(claimed).collect()
    }

    fn claim_state(&self, holder: &Holder, now: Timestamp) -> Option<ClaimState> {
        if self.live(*holder, now).is_some() {
            return Some(ClaimState::Live);
        }
        let until = rests_until(self.endpoint(&holder.node, &holder.endpoint)?.record());
        (now <= until).then_some(ClaimState::Rests { until })
    }

    /// An endpoint, if its claim binds others.
    pub(super) fn live(&self, holder: Holder, now: Timestamp) -> Option<EndpointView<'_>> {
        let view = self.endpoint(&holder.node, &holder.endpoint)?;
        (view.is_claimed(now) && self.is_live(&holder.node, now)).then_some(view)
    }
}

/// When a claim is over by itself.
pub(super) fn over_at(record: &Endpoint) -> Timestamp {
    record.issued_at.plus(ENDPOINT_LIFE_S)
}

/// Whether a record claims anything at a time.
pub(super) fn is_claimed(record: &Endpoint, now: Timestamp) -> bool {
    !record.withdrawn && now <= over_at(record)
}

/// Until when its addresses are left alone. A node that was cut off may still use them when its claim is over.
pub(super) fn rests_until(record: &Endpoint) -> Timestamp {
    if record.withdrawn {
        record.issued_at.plus(ENDPOINT_REST_S)
    } else {
        over_at(record).plus(EXPIRED_KEPT_S)
    }
}
