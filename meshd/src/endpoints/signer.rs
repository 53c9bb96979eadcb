//! Signs what this node claims.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ipnet::IpNet;
use meshd_trust::{Roster, SigningKey};
use meshd_wire::record::{Endpoint, Label, Prefix, VERSION};
use meshd_wire::{EndpointId, ImageDigest, MeshId, NodeId, Timestamp};

use crate::clock;
use crate::membership::Membership;

/// What this node says of an endpoint, or of a block that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Names it at this node.
    pub endpoint: EndpointId,
    /// At most one address of each family, or one block.
    pub nets: Vec<IpNet>,
    /// Labels.
    pub labels: Vec<Label>,
    /// Name in the organisation.
    pub name: Option<String>,
    /// Its image.
    pub image: Option<ImageDigest>,
}

impl Claim {
    /// Claim on an address that no endpoint has yet, or on a block.
    pub fn of_net(net: IpNet) -> Self {
        Self { endpoint: claim_id(net), nets: vec![net], labels: Vec::new(), name: None, image: None }
    }

    /// What a record claims.
    pub fn of_record(record: &Endpoint) -> Self {
        let Endpoint {
            version: _,
            node: _,
            endpoint,
            seq: _,
            issued_at: _,
            withdrawn: _,
            addresses: _,
            labels,
            name,
            image,
        } = record;
        let nets = record.prefixes().filter_map(|(addr, len)| IpNet::new(addr, len).ok()).collect();
        Self { endpoint: *endpoint, nets, labels: labels.clone(), name: name.clone(), image: *image }
    }
}

/// Names the claim on an address that no endpoint has yet, or on a block.
pub fn claim_id(net: IpNet) -> EndpointId {
    let is_host = net.prefix_len() == net.max_prefix_len();
    let text = if is_host { net.addr().to_string() } else { net.to_string() };
    EndpointId::of("meshd", "claim", &text, "")
}

/// Signs claims, each as later than all before; clones count together.
#[derive(Clone)]
pub struct ClaimSigner {
    mesh: MeshId,
    node: NodeId,
    identity: Arc<SigningKey>,
    seq: Arc<AtomicU64>,
}

impl ClaimSigner {
    /// Goes on where the roster has heard this node last.
    pub fn new(membership: &Membership, roster: &Roster) -> Self {
        let (mesh, node) = (membership.mesh, membership.secrets.node());
        let seq = roster.newest_endpoint_seq(&node).unwrap_or_default();
        let identity = Arc::new(membership.secrets.identity());
        Self { mesh, node, identity, seq: Arc::new(AtomicU64::new(seq)) }
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Signs a claim, or its end.
    pub fn sign(&self, claim: &Claim, withdrawn: bool, now: Timestamp) -> Vec<u8> {
        let Claim { endpoint, nets, labels, name, image } = claim.clone();
        let mut nets = nets;
        nets.sort_by_key(|net| matches!(net.addr(), IpAddr::V6(_)));
        let record = Endpoint {
            version: VERSION,
            node: self.node,
            endpoint,
            seq: self.next_seq(),
            issued_at: now,
            withdrawn,
            addresses: nets
                .iter()
                .map(|net| Prefix { len: net.prefix_len(), ..Prefix::host(net.addr()) })
                .collect(),
            labels,
            name,
            image,
        };
        meshd_trust::sign(&record, &self.mesh, &[&self.identity]).to_bytes()
    }

    /// Milliseconds are ahead of any count of changes, so a lost disk does no harm; within one, they are counted.
    fn next_seq(&self) -> u64 {
        let mut next = 0;
        let count = |last: u64| {
            next = last.saturating_add(1).max(clock::wall_ms());
            Some(next)
        };
        // It always counts.
        let _ = self.seq.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count);
        next
    }
}
