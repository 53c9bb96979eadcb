//! Upstream's definition, word by word, on the API's own objects.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use meshd_api::{Labels, PolicyProtocol};

use super::judge::Traffic;

/// Objects as the API has them.
#[derive(Debug, Clone)]
pub struct World {
    pub namespaces: Vec<Namespace>,
    pub pods: Vec<Pod>,
    pub policies: Vec<NetworkPolicy>,
}

impl World {
    /// Whether a pod may send to another.
    pub fn passes(&self, from: &Pod, to: &Pod, traffic: Traffic) -> bool {
        self.is_allowed(from, to, to, traffic, "Egress") && self.is_allowed(to, from, to, traffic, "Ingress")
    }

    fn is_allowed(&self, of: &Pod, peer: &Pod, reached: &Pod, traffic: Traffic, direction: &str) -> bool {
        let selecting: Vec<&NetworkPolicy> = self
            .policies
            .iter()
            .filter(|policy| policy.metadata.namespace == of.metadata.namespace)
            .filter(|policy| has_direction(policy, direction))
            .filter(|policy| {
                let spec = policy.spec.as_ref().expect("a spec");
                matches(spec.pod_selector.as_ref().expect("a selector"), &labels(of))
            })
            .collect();
        selecting.is_empty()
            || selecting.iter().any(|policy| {
                let spec = policy.spec.as_ref().expect("a spec");
                let namespace = policy.metadata.namespace.as_deref().expect("a namespace");
                let rules: Vec<_> = if direction == "Ingress" {
                    spec.ingress.iter().flatten().map(|rule| (&rule.from, &rule.ports)).collect()
                } else {
                    spec.egress.iter().flatten().map(|rule| (&rule.to, &rule.ports)).collect()
                };
                rules.into_iter().any(|(peers, ports)| {
                    let peers = peers.as_deref().unwrap_or_default();
                    let ports = ports.as_deref().unwrap_or_default();
                    (peers.is_empty() || peers.iter().any(|one| self.is_peer(one, namespace, peer)))
                        && (ports.is_empty() || ports.iter().any(|one| is_port(one, reached, traffic)))
                })
            })
    }

    fn is_peer(&self, peer: &NetworkPolicyPeer, namespace: &str, pod: &Pod) -> bool {
        if let Some(block) = &peer.ip_block {
            let holds = |net: &str| net.parse::<IpNet>().expect("a prefix").contains(&address(pod));
            return holds(&block.cidr) && !block.except.iter().flatten().any(|hole| holds(hole));
        }
        let of = pod.metadata.namespace.as_deref().expect("a namespace");
        let in_namespace = match &peer.namespace_selector {
            None => of == namespace,
            Some(selector) => self.namespaces.iter().any(|one| {
                one.metadata.name.as_deref() == Some(of)
                    && matches(selector, &one.metadata.labels.clone().unwrap_or_default())
            }),
        };
        in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| matches(selector, &labels(pod)))
    }
}

fn has_direction(policy: &NetworkPolicy, direction: &str) -> bool {
    let spec = policy.spec.as_ref().expect("a spec");
    match spec.policy_types.as_deref() {
        None | Some([]) => {
            direction == "Ingress" || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
        }
        Some(types) => types.iter().any(|kind| kind == direction),
    }
}

fn is_port(port: &NetworkPolicyPort, reached: &Pod, traffic: Traffic) -> bool {
    let Traffic::Port(protocol, number) = traffic else { return false };
    let wanted = port.protocol.as_deref().unwrap_or("TCP");
    if wanted != word(protocol) {
        return false;
    }
    match &port.port {
        None => true,
        Some(IntOrString::Int(first)) => {
            (*first..=port.end_port.unwrap_or(*first)).contains(&i32::from(number))
        }
        Some(IntOrString::String(name)) => reached
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .flat_map(|one| one.ports.iter().flatten())
            .any(|one| {
                one.name.as_ref() == Some(name)
                    && one.protocol.as_deref().unwrap_or("TCP") == wanted
                    && one.container_port == i32::from(number)
            }),
    }
}

const fn word(protocol: PolicyProtocol) -> &'static str {
    match protocol {
        PolicyProtocol::Tcp => "TCP",
        PolicyProtocol::Udp => "UDP",
        PolicyProtocol::Sctp => "SCTP",
    }
}

fn labels(pod: &Pod) -> Labels {
    pod.metadata.labels.clone().unwrap_or_default()
}

fn address(pod: &Pod) -> IpAddr {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    address.expect("an address").parse().expect("an address")
}

fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|one| {
            let value = labels.get(&one.key);
            let is_in = || value.is_some_and(|value| one.values.iter().flatten().any(|other| other == value));
            match one.operator.as_str() {
                "In" => is_in(),
                "NotIn" => !is_in(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                other => panic!("{other}"),
            }
        })
}
