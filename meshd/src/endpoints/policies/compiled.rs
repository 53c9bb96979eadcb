//! Policies as the packet filter takes them.

use std::sync::Arc;

use meshd_api::Labels;

use super::{Peer, Policy, Rule};
use crate::os::{Allowance, Direction, Permit, Ranges};

/// One policy; its chains are made once for all endpoints that it selects.
#[derive(Debug)]
pub struct Compiled {
    select: Labels,
    /// What others may open to them, if that is restricted.
    pub ingress: Option<Arc<Allowance>>,
    /// What they may open, if that is restricted.
    pub egress: Option<Arc<Allowance>>,
}

impl Compiled {
    /// Compiles policies.
    pub fn of(policies: &[Policy]) -> Arc<Vec<Self>> {
        let compiled = |policy: &Policy| Self {
            select: policy.select.clone(),
            ingress: policy.ingress.as_deref().map(|rules| allowance(Direction::Ingress, rules)),
            egress: policy.egress.as_deref().map(|rules| allowance(Direction::Egress, rules)),
        };
        Arc::new(policies.iter().map(compiled).collect())
    }

    /// Whether an endpoint with these labels is meant.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.select.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

fn allowance(direction: Direction, rules: &[Rule]) -> Arc<Allowance> {
    let permits: Vec<Permit> = rules.iter().map(permit).collect();
    Arc::new(Allowance::new(direction, &permits))
}

fn permit(rule: &Rule) -> Permit {
    let peers = rule
        .peers
        .as_ref()
        .map(|peers| Ranges::of(peers.iter().map(|Peer { net, except }| (net, except.as_slice()))));
    Permit { peers, ports: rule.ports.clone() }
}
