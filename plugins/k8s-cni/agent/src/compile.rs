//! Network policies of a cluster become what meshd shall enforce on this host.
//!
//! One entry for each namespace, and one for a pod where it differs. The entry of a namespace restricts whatever any
//! policy of the namespace restricts, and allows what holds for all its pods; so a pod that nobody has heard of yet is
//! restricted from its first packet, whatever its labels will be. A pod's own entry only adds to that: what its labels
//! allow, and everything in a direction in which no policy selects it.
//!
//! Whoever writes a policy may write as much as the API server stores, and meshd takes all policies of a host or none.
//! So what is too large is said in pieces (`pieces`), and what is too heavy in all (`draft`) is taken from those who
//! weigh most: such a policy restricts as it says and allows nothing, and everybody else's are as they were.

mod draft;
mod pieces;
mod resolve;
mod weight;

use std::collections::{BTreeMap, BTreeSet};

use meshd_api::{POLICIES_BYTES_MAX, SetPoliciesRequest};

use crate::cluster::{Cluster, Name, Policy, Rule};
use draft::Draft;

/// Label with a pod's namespace, which the network plugin sets.
const NAMESPACE_LABEL: &str = "k8s.namespace";

/// Label with a pod's id, which the network plugin sets.
const POD_LABEL: &str = "k8s.pod-uid";

/// What network plugins of Kubernetes are called in meshd.
const RUNTIME: &str = "cni";

/// Bytes of a request that are no entries: the names of its network, and what is around them.
const ENVELOPE_BYTES: usize = 1024;

/// What all entries may weigh.
pub const WEIGHT_MAX: usize = POLICIES_BYTES_MAX - ENVELOPE_BYTES;

/// What meshd is to be told.
#[derive(Debug)]
pub struct Compiled {
    /// All of it.
    pub request: SetPoliciesRequest,
    /// What it weighs: more than its bytes, by a little.
    pub weight: usize,
    /// What is left out, with the names of the objects.
    pub faults: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    const fn rules(self, policy: &Policy) -> Option<&Vec<Rule>> {
        match self {
            Self::Ingress => policy.ingress.as_ref(),
            Self::Egress => policy.egress.as_ref(),
        }
    }
}

/// Compiles for the pods of a node, for those of all nodes if none is given, into no more than some weight.
pub fn compile(cluster: &Cluster, network: &str, node: Option<&str>, weight_max: usize) -> Compiled {
    let mut shut = BTreeSet::new();
    loop {
        let draft = Draft::write(cluster, node, &shut, weight_max);
        let over = draft.weight().saturating_sub(weight_max);
        let heaviest = heaviest(draft.weights(), over);
        if heaviest.is_empty() {
            let weight = draft.weight();
            let (policies, mut faults) = draft.finish();
            let too_heavy = |name: &&Name| format!("{name}: too heavy, so it allows nothing");
            faults.extend(shut.iter().map(too_heavy));
            let request =
                SetPoliciesRequest { runtime: RUNTIME.to_owned(), network: network.to_owned(), policies };
            return Compiled { request, weight, faults };
        }
        shut.extend(heaviest);
    }
}

/// What the policies of a namespace weigh: together, and each.
#[derive(Default)]
struct Weights<'a> {
    sum: usize,
    policies: Vec<(usize, &'a Name)>,
}

/// Policies that weigh at least so much together: the heaviest of the namespace that weighs most, again and again.
fn heaviest<'a>(weights: &BTreeMap<&'a Name, usize>, mut over: usize) -> Vec<&'a Name> {
    let mut namespaces: BTreeMap<&str, Weights<'a>> = BTreeMap::new();
    for (name, weight) in weights.iter().filter(|(_, weight)| **weight > 0) {
        let of = namespaces.entry(&name.namespace).or_default();
        of.sum += weight;
        of.policies.push((*weight, *name));
    }
    namespaces.values_mut().for_each(|of| of.policies.sort_unstable());
    let mut heaviest = Vec::new();
    while over > 0 {
        let Some(of) = namespaces.values_mut().max_by_key(|of| of.sum) else { break };
        let Some((weight, name)) = of.policies.pop() else { break };
        of.sum -= weight;
        over = over.saturating_sub(weight);
        heaviest.push(name);
    }
    heaviest
}

#[cfg(test)]
mod tests;
