//! What meshd is to be told, weighed while it is written.

use std::collections::{BTreeMap, BTreeSet};

use meshd_api::{EndpointPolicy, Labels, POLICIES_MAX, PolicyRule};

use super::resolve::Resolver;
use super::{Direction, NAMESPACE_LABEL, POD_LABEL, pieces, weight};
use crate::cluster::{Cluster, Name, Pod, Policy, Rule};

/// Allows everything.
const EVERYTHING: PolicyRule = PolicyRule { peers: None, ports: None };

/// Longest value of a label in meshd.
const LABEL_BYTES_MAX: usize = 63;

/// How much it would matter if an entry were not said; the least comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Of a namespace that has pods here.
    Here,
    /// Of a pod; without it the pod may do less.
    Own,
    /// Of a namespace that is restricted, and has no pods here yet.
    Restricted,
    /// Of one that is not.
    Open,
}

/// One attempt at it.
#[derive(Debug)]
pub struct Draft<'a, 's> {
    cluster: &'a Cluster,
    node: Option<&'a str>,
    shut: &'s BTreeSet<&'a Name>,
    weight_max: usize,
    resolver: Resolver<'a>,
    entries: Vec<(Rank, EndpointPolicy)>,
    weight: usize,
    /// What each policy adds to it.
    weights: BTreeMap<&'a Name, usize>,
    faults: Vec<String>,
}

/// What a policy has to do with a namespace's pods in one direction.
type Restricting<'a> = (&'a Name, &'a Policy, &'a [Rule]);

impl<'a, 's> Draft<'a, 's> {
    /// Writes it; the policies that are shut allow nothing. What is heavier than it may be is weighed and not kept.
    pub fn write(
        cluster: &'a Cluster,
        node: Option<&'a str>,
        shut: &'s BTreeSet<&'a Name>,
        weight_max: usize,
    ) -> Self {
        let mut draft = Self {
            cluster,
            node,
            shut,
            weight_max,
            resolver: Resolver::new(cluster),
            entries: Vec::new(),
            weight: 0,
            weights: BTreeMap::new(),
            faults: Vec::new(),
        };
        for namespace in cluster.namespace_names() {
            draft.namespace(namespace);
        }
        draft
    }

    /// What all of it weighs.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// What of that is due to each policy.
    pub fn weights(&self) -> &BTreeMap<&'a Name, usize> {
        &self.weights
    }

    /// All entries, and what is not among them.
    pub fn finish(self) -> (Vec<EndpointPolicy>, Vec<String>) {
        let Self { mut entries, mut faults, .. } = self;
        if entries.len() > POLICIES_MAX {
            // Entries of open namespaces without pods are said when there are some.
            entries.sort_by_key(|(rank, _)| *rank);
            let left = entries.split_off(POLICIES_MAX);
            let missed = left.iter().filter(|(rank, _)| *rank != Rank::Open).count();
            if missed > 0 {
                faults.push(format!("{missed} entries of pods and namespaces: more than meshd takes"));
            }
        }
        (entries.into_iter().map(|(_, entry)| entry).collect(), faults)
    }

    fn namespace(&mut self, namespace: &'a str) {
        let policies: Vec<(&Name, &Policy)> = self.cluster.policies_of(namespace).collect();
        let node = self.node;
        let pods = self.cluster.pods_of(namespace).filter(|(_, pod)| pod.is_endpoint);
        let pods: Vec<(&Name, &Pod)> =
            pods.filter(|(_, pod)| node.is_none() || pod.node.as_deref() == node).collect();
        let ingress = self.whole_namespace(namespace, &policies, Direction::Ingress);
        let egress = self.whole_namespace(namespace, &policies, Direction::Egress);
        let is_restricted = ingress.is_some() || egress.is_some();
        let rank = match (pods.is_empty(), is_restricted) {
            (false, _) => Rank::Here,
            (true, true) => Rank::Restricted,
            (true, false) => Rank::Open,
        };
        let select = Labels::from([(NAMESPACE_LABEL.to_owned(), namespace.to_owned())]);
        self.keep(rank, &select, ingress, egress);
        if !is_restricted {
            return;
        }
        for (name, pod) in pods.into_iter().filter(|(_, pod)| !pod.uid.is_empty()) {
            if !is_label(&pod.uid) {
                let uid = &pod.uid;
                self.faults
                    .push(format!("{name}: the pod's id {uid:?} is no label, so no policy allows it more"));
                continue;
            }
            let ingress = self.of_pod(namespace, &policies, pod, Direction::Ingress);
            let egress = self.of_pod(namespace, &policies, pod, Direction::Egress);
            if ingress.is_some() || egress.is_some() {
                let mut select = select.clone();
                select.insert(POD_LABEL.to_owned(), pod.uid.clone());
                self.keep(Rank::Own, &select, ingress, egress);
            }
        }
    }

    /// What holds for all pods of a namespace; none if no policy restricts this direction.
    fn whole_namespace(
        &mut self,
        namespace: &str,
        policies: &[(&'a Name, &'a Policy)],
        direction: Direction,
    ) -> Option<Vec<PolicyRule>> {
        let restricting = self.restricting(policies, direction);
        if restricting.is_empty() {
            return None;
        }
        let mut common = Vec::new();
        for (name, _, rules) in
            restricting.into_iter().filter(|(_, policy, _)| policy.subject.is_everything())
        {
            for rule in rules {
                common.extend(self.due_to(name, |resolver| resolver.rules(namespace, rule, direction, None)));
            }
        }
        Some(common)
    }

    /// What a pod may do beyond what holds for its namespace; none if that is nothing.
    fn of_pod(
        &mut self,
        namespace: &str,
        policies: &[(&'a Name, &'a Policy)],
        pod: &Pod,
        direction: Direction,
    ) -> Option<Vec<PolicyRule>> {
        let mut selecting = self.restricting(policies, direction);
        if selecting.is_empty() {
            return None;
        }
        selecting.retain(|(_, policy, _)| policy.subject.selects(&pod.labels));
        if selecting.is_empty() {
            self.weight += weight::of_rule(&EVERYTHING);
            return Some(vec![EVERYTHING]);
        }
        let mut own = Vec::new();
        for (name, policy, rules) in selecting {
            for rule in rules {
                own.extend(self.due_to(name, |resolver| {
                    if policy.subject.is_everything() {
                        resolver.named(namespace, rule, direction, pod)
                    } else {
                        resolver.rules(namespace, rule, direction, Some(pod))
                    }
                }));
            }
        }
        (!own.is_empty()).then_some(own)
    }

    /// Policies that restrict a direction, with what they allow there.
    fn restricting(&self, policies: &[(&'a Name, &'a Policy)], direction: Direction) -> Vec<Restricting<'a>> {
        let restricting = policies.iter().filter_map(|(name, policy)| {
            let rules = direction.rules(policy)?.as_slice();
            Some((*name, *policy, if self.shut.contains(name) { &rules[..0] } else { rules }))
        });
        restricting.collect()
    }

    /// Rules of a policy, which weigh what they weigh.
    fn due_to(
        &mut self,
        name: &'a Name,
        rules: impl FnOnce(&mut Resolver<'a>) -> Vec<PolicyRule>,
    ) -> Vec<PolicyRule> {
        let known = self.weights.entry(name).or_default();
        if *known > self.weight_max {
            // It is shut whatever else it says.
            return Vec::new();
        }
        let rules = rules(&mut self.resolver);
        let weight: usize = rules.iter().map(weight::of_rule).sum();
        *known += weight;
        self.weight += weight;
        if self.is_too_heavy() { Vec::new() } else { rules }
    }

    fn keep(
        &mut self,
        rank: Rank,
        select: &Labels,
        ingress: Option<Vec<PolicyRule>>,
        egress: Option<Vec<PolicyRule>>,
    ) {
        let entries = pieces::of_entry(select, ingress, egress);
        self.weight += weight::of_entry(select) * entries.len();
        if self.is_too_heavy() {
            self.entries.clear();
        } else {
            self.entries.extend(entries.into_iter().map(|entry| (rank, entry)));
        }
    }

    fn is_too_heavy(&self) -> bool {
        self.weight > self.weight_max
    }
}

/// Whether an endpoint can have this as a label's value; the network plugin leaves out any other.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    (1..=LABEL_BYTES_MAX).contains(&text.len()) && text.bytes().all(inner)
}
