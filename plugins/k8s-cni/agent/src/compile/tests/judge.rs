//! What meshd makes of what was compiled.

use std::net::IpAddr;

use ipnet::IpNet;
use meshd_api::{PolicyProtocol, PolicyRule, SetPoliciesRequest};

use crate::cluster::{Cluster, Name, Pod};
use crate::compile::{NAMESPACE_LABEL, POD_LABEL};

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    Port(PolicyProtocol, u16),
    Icmp,
}

/// One end: a pod at one of its addresses, or an address that is no pod's.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    pub pod: Option<(&'a Name, &'a Pod)>,
    pub address: IpAddr,
}

/// Whether traffic passes at both ends.
pub fn passes(request: &SetPoliciesRequest, from: End<'_>, to: End<'_>, traffic: Traffic) -> bool {
    let out = from.pod.is_none_or(|pod| allows(request, pod, Way::Out, to.address, traffic));
    let into = to.pod.is_none_or(|pod| allows(request, pod, Way::In, from.address, traffic));
    out && into
}

/// All ends of a pod.
pub fn ends<'a>(cluster: &'a Cluster, name: &'a Name) -> Vec<End<'a>> {
    let pod = &cluster.pods[name];
    let pod_end = pod.is_endpoint.then_some((name, pod));
    pod.addresses.iter().map(|address| End { pod: pod_end, address: *address }).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

fn allows(
    request: &SetPoliciesRequest,
    (name, pod): (&Name, &Pod),
    way: Way,
    peer: IpAddr,
    traffic: Traffic,
) -> bool {
    let selects = |key: &str, value: &str| match key {
        NAMESPACE_LABEL => value == name.namespace,
        POD_LABEL => value == pod.uid,
        _ => false,
    };
    let policies = request.policies.iter();
    let mut selecting =
        policies.filter(|policy| policy.select.iter().all(|(key, value)| selects(key, value))).peekable();
    if selecting.peek().is_none() {
        return false;
    }
    let rules = selecting.filter_map(|policy| match way {
        Way::In => policy.ingress.as_ref(),
        Way::Out => policy.egress.as_ref(),
    });
    let mut rules = rules.peekable();
    rules.peek().is_none() || rules.flatten().any(|rule| fits(rule, peer, traffic))
}

fn fits(rule: &PolicyRule, peer: IpAddr, traffic: Traffic) -> bool {
    let holds = |net: &String| net.parse::<IpNet>().expect("a prefix").contains(&peer);
    let peer_fits = rule
        .peers
        .as_ref()
        .is_none_or(|peers| peers.iter().any(|peer| holds(&peer.net) && !peer.except.iter().any(holds)));
    let port_fits = rule.ports.as_ref().is_none_or(|ports| {
        ports.iter().any(|ports| match traffic {
            Traffic::Port(protocol, port) => {
                protocol == ports.protocol && (ports.first..=ports.last).contains(&port)
            }
            Traffic::Icmp => false,
        })
    });
    peer_fits && port_fits
}
