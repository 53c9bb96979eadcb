//! Network policies of a cluster become what meshd shall enforce on this host.
//!
//! One entry for each namespace, and one for a pod where it differs. The entry of a namespace restricts whatever any
//! policy of the namespace restricts, and allows what holds for all its pods; so a pod that nobody has heard of yet is
//! restricted from its first packet, whatever its labels will be. A pod's own entry only adds to that: what its labels
//! allow, and everything in a direction in which no policy selects it.

mod resolve;

use meshd_api::{EndpointPolicy, Labels, PolicyRule, SetPoliciesRequest};

use crate::cluster::{Cluster, Pod, Policy, Rule};
use resolve::Resolver;

/// Label with a pod's namespace, which the network plugin sets.
const NAMESPACE_LABEL: &str = "k8s.namespace";

/// Label with a pod's id, which the network plugin sets.
const POD_LABEL: &str = "k8s.pod-uid";

/// What network plugins of Kubernetes are called in meshd.
const RUNTIME: &str = "cni";

/// Allows everything.
const EVERYTHING: PolicyRule = PolicyRule { peers: None, ports: None };

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

/// Compiles for the pods of a node; for those of all nodes if none is given.
pub fn compile(cluster: &Cluster, network: &str, node: Option<&str>) -> SetPoliciesRequest {
    let mut resolver = Resolver::new(cluster);
    let mut policies = Vec::new();
    for namespace in cluster.namespace_names() {
        namespace_entries(cluster, namespace, node, &mut resolver, &mut policies);
    }
    SetPoliciesRequest { runtime: RUNTIME.to_owned(), network: network.to_owned(), policies }
}

fn namespace_entries<'a>(
    cluster: &'a Cluster,
    namespace: &'a str,
    node: Option<&str>,
    resolver: &mut Resolver<'a>,
    entries: &mut Vec<EndpointPolicy>,
) {
    let policies: Vec<&Policy> = cluster.policies_of(namespace).collect();
    let mut whole = |direction| whole_namespace(namespace, &policies, direction, resolver);
    let ingress = whole(Direction::Ingress);
    let egress = whole(Direction::Egress);
    let is_restricted = ingress.is_some() || egress.is_some();
    let select = Labels::from([(NAMESPACE_LABEL.to_owned(), namespace.to_owned())]);
    entries.push(EndpointPolicy { select: select.clone(), ingress, egress });
    if !is_restricted {
        return;
    }
    let pods = cluster.pods_of(namespace).filter(|pod| pod.is_endpoint && !pod.uid.is_empty());
    for pod in pods.filter(|pod| node.is_none() || pod.node.as_deref() == node) {
        let mut own = |direction| of_pod(namespace, &policies, pod, direction, resolver);
        let (ingress, egress) = (own(Direction::Ingress), own(Direction::Egress));
        if ingress.is_some() || egress.is_some() {
            let mut select = select.clone();
            select.insert(POD_LABEL.to_owned(), pod.uid.clone());
            entries.push(EndpointPolicy { select, ingress, egress });
        }
    }
}

/// What holds for all pods of a namespace; none if no policy restricts this direction.
fn whole_namespace<'a>(
    namespace: &str,
    policies: &[&'a Policy],
    direction: Direction,
    resolver: &mut Resolver<'a>,
) -> Option<Vec<PolicyRule>> {
    let mut restricting =
        policies.iter().filter_map(|policy| Some((policy, direction.rules(policy)?))).peekable();
    restricting.peek()?;
    let common = restricting.filter(|(policy, _)| policy.subject.is_everything());
    let rules = common.flat_map(|(_, rules)| rules);
    Some(rules.flat_map(|rule| resolver.rules(namespace, rule, direction, None)).collect())
}

/// What a pod may do beyond what holds for its namespace; none if that is nothing.
fn of_pod<'a>(
    namespace: &str,
    policies: &[&'a Policy],
    pod: &Pod,
    direction: Direction,
    resolver: &mut Resolver<'a>,
) -> Option<Vec<PolicyRule>> {
    let restricting: Vec<_> =
        policies.iter().filter_map(|policy| Some((policy, direction.rules(policy)?))).collect();
    if restricting.is_empty() {
        return None;
    }
    let selecting: Vec<_> =
        restricting.into_iter().filter(|(policy, _)| policy.subject.selects(&pod.labels)).collect();
    if selecting.is_empty() {
        return Some(vec![EVERYTHING]);
    }
    let mut own = Vec::new();
    for (policy, rules) in selecting {
        for rule in rules {
            if policy.subject.is_everything() {
                own.extend(resolver.named(namespace, rule, direction, pod));
            } else {
                own.extend(resolver.rules(namespace, rule, direction, Some(pod)));
            }
        }
    }
    (!own.is_empty()).then_some(own)
}

#[cfg(test)]
mod tests;
