//! The same in pieces, none of them larger than meshd takes.

use std::collections::BTreeMap;

use ipnet::IpNet;
use meshd_api::{
    EndpointPolicy, Labels, POLICY_EXCEPT_MAX, POLICY_PEERS_MAX, POLICY_PORTS_MAX, POLICY_RULES_MAX,
    PolicyPeer, PolicyPorts, PolicyProtocol, PolicyRule,
};

/// A rule; nothing if it is about nobody.
pub fn of_rule(rule: PolicyRule) -> Vec<PolicyRule> {
    let PolicyRule { peers, ports } = rule;
    let peers = chunks(peers, POLICY_PEERS_MAX);
    let ports = chunks(ports.map(united), POLICY_PORTS_MAX);
    let of_peers = |peers: Option<Vec<PolicyPeer>>| {
        ports.iter().map(move |ports| PolicyRule { peers: peers.clone(), ports: ports.clone() })
    };
    peers.into_iter().flat_map(of_peers).collect()
}

/// What selects some endpoints and allows them something.
pub fn of_entry(
    select: &Labels,
    ingress: Option<Vec<PolicyRule>>,
    egress: Option<Vec<PolicyRule>>,
) -> Vec<EndpointPolicy> {
    let entry = |ingress, egress| EndpointPolicy { select: select.clone(), ingress, egress };
    // Without a rule, a direction is shut: that is a piece too.
    let pieces = |rules: Option<Vec<PolicyRule>>| match rules {
        Some(rules) if rules.is_empty() => vec![Some(rules)],
        rules => chunks(rules, POLICY_RULES_MAX),
    };
    let (mut ingress, mut egress) = (pieces(ingress).into_iter(), pieces(egress).into_iter());
    let mut entries = Vec::new();
    loop {
        match (ingress.next(), egress.next()) {
            (None, None) => return entries,
            // What is absent restricts nothing, and takes nothing from what the other pieces allow.
            (one, other) => entries.push(entry(one.flatten(), other.flatten())),
        }
    }
}

/// A prefix with holes, cut in halves until the holes of each fit.
pub fn of_block(net: IpNet, holes: &[IpNet]) -> Vec<PolicyPeer> {
    let mut pieces = Vec::new();
    cut(net, &IpNet::aggregate(&holes.to_vec()), &mut pieces);
    pieces
}

fn cut(net: IpNet, holes: &[IpNet], pieces: &mut Vec<PolicyPeer>) {
    if holes.iter().any(|hole| hole.contains(&net)) {
        return;
    }
    let holes: Vec<IpNet> = holes.iter().copied().filter(|hole| net.contains(hole)).collect();
    if holes.len() <= POLICY_EXCEPT_MAX {
        let except = holes.iter().map(ToString::to_string).collect();
        return pieces.push(PolicyPeer { net: net.to_string(), except });
    }
    // A single address has no hole but itself, so there are two halves.
    for half in net.subnets(net.prefix_len() + 1).into_iter().flatten() {
        cut(half, &holes, pieces);
    }
}

/// As few ranges of ports.
fn united(mut ports: Vec<PolicyPorts>) -> Vec<PolicyPorts> {
    ports.sort_unstable();
    let mut united: BTreeMap<PolicyProtocol, Vec<PolicyPorts>> = BTreeMap::new();
    for one in ports {
        let before = united.entry(one.protocol).or_default();
        match before.last_mut() {
            Some(last) if one.first <= last.last.saturating_add(1) => last.last = last.last.max(one.last),
            Some(_) | None => before.push(one),
        }
    }
    united.into_values().flatten().collect()
}

/// A list in parts; none if it is empty, one that is absent if it is.
fn chunks<T: Clone>(list: Option<Vec<T>>, max: usize) -> Vec<Option<Vec<T>>> {
    match list {
        None => vec![None],
        Some(list) => list.chunks(max).map(|part| Some(part.to_vec())).collect(),
    }
}
