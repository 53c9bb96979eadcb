//! Selectors and names of ports become addresses and numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use meshd_api::{PolicyPeer, PolicyPorts, PolicyProtocol, PolicyRule};

use super::{Direction, pieces};
use crate::cluster::{Block, Cluster, Peer, Pod, Port, Rule};

/// Resolves the rules of a cluster, each list of peers once.
#[derive(Debug)]
pub struct Resolver<'a> {
    cluster: &'a Cluster,
    /// What was resolved, by where the list stands: rules live as long as the cluster.
    peers: BTreeMap<*const Rule, Option<Vec<PolicyPeer>>>,
}

impl<'a> Resolver<'a> {
    /// Resolves rules of this cluster.
    pub fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, peers: BTreeMap::new() }
    }

    /// All that a rule allows, for this pod or for any of its policy's.
    pub fn rules(
        &mut self,
        namespace: &str,
        rule: &'a Rule,
        direction: Direction,
        pod: Option<&Pod>,
    ) -> Vec<PolicyRule> {
        let mut found = Vec::new();
        match &rule.ports {
            None => found.push(PolicyRule { peers: self.peers(namespace, rule), ports: None }),
            Some(ports) => {
                let numbers = ports.iter().filter_map(range).collect();
                found.extend(self.at(namespace, rule, numbers));
                if direction == Direction::Egress {
                    found.extend(self.named_of_peers(namespace, rule, ports));
                }
            }
        }
        if let Some(pod) = pod {
            found.extend(self.named(namespace, rule, direction, pod));
        }
        found.into_iter().flat_map(pieces::of_rule).collect()
    }

    /// What a rule allows at ports whose names this pod gives a number.
    pub fn named(
        &mut self,
        namespace: &str,
        rule: &'a Rule,
        direction: Direction,
        pod: &Pod,
    ) -> Vec<PolicyRule> {
        if direction == Direction::Egress {
            return Vec::new();
        }
        let names = rule.ports.iter().flatten().filter_map(name);
        let numbers = names.flat_map(|(protocol, name)| {
            pod.ports_named(name, protocol).map(move |port| PolicyPorts { protocol, first: port, last: port })
        });
        let numbers = numbers.collect();
        self.at(namespace, rule, numbers).into_iter().flat_map(pieces::of_rule).collect()
    }

    fn at(&mut self, namespace: &str, rule: &'a Rule, ports: Vec<PolicyPorts>) -> Option<PolicyRule> {
        (!ports.is_empty()).then(|| PolicyRule { peers: self.peers(namespace, rule), ports: Some(ports) })
    }

    /// On the way out each pod that is reached says what number a name has.
    fn named_of_peers(&self, namespace: &str, rule: &Rule, ports: &[Port]) -> Vec<PolicyRule> {
        // Each name and each pod is looked at once, however often a rule repeats itself.
        let names: BTreeSet<_> = ports.iter().filter_map(name).collect();
        let mut reached: BTreeMap<(PolicyProtocol, u16), Vec<IpAddr>> = BTreeMap::new();
        for (of, pod) in self.pods() {
            let numbers = |(protocol, name): &(PolicyProtocol, &str)| {
                let protocol = *protocol;
                pod.ports_named(name, protocol).map(move |port| (protocol, port)).collect::<Vec<_>>()
            };
            let numbers: BTreeSet<(PolicyProtocol, u16)> = names.iter().flat_map(numbers).collect();
            if numbers.is_empty() {
                continue;
            }
            let addresses = pod.addresses.iter().copied();
            let peers: Vec<IpAddr> =
                addresses.filter(|address| self.is_peer(namespace, rule, of, pod, *address)).collect();
            for port in numbers {
                reached.entry(port).or_default().extend(&peers);
            }
        }
        let rules = reached.into_iter().filter(|(_, addresses)| !addresses.is_empty());
        rules
            .map(|((protocol, port), addresses)| PolicyRule {
                peers: Some(hosts(addresses)),
                ports: Some(vec![PolicyPorts { protocol, first: port, last: port }]),
            })
            .collect()
    }

    /// The addresses that are meant; none if all are.
    fn peers(&mut self, namespace: &str, rule: &'a Rule) -> Option<Vec<PolicyPeer>> {
        let key = std::ptr::from_ref(rule);
        if let Some(known) = self.peers.get(&key) {
            return known.clone();
        }
        let resolved = rule.peers.as_ref().map(|peers| self.resolve(namespace, peers));
        self.peers.insert(key, resolved.clone());
        resolved
    }

    fn resolve(&self, namespace: &str, peers: &[Peer]) -> Vec<PolicyPeer> {
        let mut addresses = Vec::new();
        let mut found = Vec::new();
        for peer in peers {
            match peer {
                Peer::Block(Block { net, except }) => found.extend(pieces::of_block(*net, except)),
                Peer::Pods { .. } => {
                    let pods = self.pods().filter(|(of, pod)| self.selects(namespace, peer, of, pod));
                    addresses.extend(pods.flat_map(|(_, pod)| pod.addresses.iter().copied()));
                }
            }
        }
        found.extend(hosts(addresses));
        found
    }

    /// Pods that are peers; those on their node's address are the node, which is never a pod.
    fn pods(&self) -> impl Iterator<Item = (&'a str, &'a Pod)> {
        let pods = self.cluster.pods.iter().filter(|(_, pod)| pod.is_endpoint);
        pods.map(|(name, pod)| (name.namespace.as_str(), pod))
    }

    fn is_peer(&self, namespace: &str, rule: &Rule, of: &str, pod: &Pod, address: IpAddr) -> bool {
        let Some(peers) = &rule.peers else { return true };
        peers.iter().any(|peer| match peer {
            Peer::Block(Block { net, except }) => {
                net.contains(&address) && !except.iter().any(|hole| hole.contains(&address))
            }
            Peer::Pods { .. } => self.selects(namespace, peer, of, pod),
        })
    }

    /// Whether a peer of a policy in one namespace means a pod in another.
    fn selects(&self, namespace: &str, peer: &Peer, of: &str, pod: &Pod) -> bool {
        let Peer::Pods { namespaces, pods } = peer else { return false };
        let in_namespace = match namespaces {
            None => of == namespace,
            Some(selector) => self.cluster.namespace(of).is_some_and(|labels| selector.selects(labels)),
        };
        in_namespace && pods.selects(&pod.labels)
    }
}

fn range(port: &Port) -> Option<PolicyPorts> {
    match port {
        Port::Range { protocol, first, last } => {
            Some(PolicyPorts { protocol: *protocol, first: *first, last: *last })
        }
        Port::Named { .. } => None,
    }
}

fn name(port: &Port) -> Option<(PolicyProtocol, &str)> {
    match port {
        Port::Named { protocol, name } => Some((*protocol, name)),
        Port::Range { .. } => None,
    }
}

/// Addresses as few prefixes that hold no others.
fn hosts(addresses: Vec<IpAddr>) -> Vec<PolicyPeer> {
    let nets: Vec<IpNet> = addresses.into_iter().map(IpNet::from).collect();
    let nets = IpNet::aggregate(&nets);
    nets.into_iter().map(|net| PolicyPeer { net: net.to_string(), except: Vec::new() }).collect()
}
