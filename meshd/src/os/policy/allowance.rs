//! What one policy allows in one direction, as chains of rules.
//!
//! A packet is judged by its connection, whichever way it goes, with the addresses that the connection really has:
//! the client as it was before any translation, the server and its port as they are after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshd_api::{PolicyPorts, PolicyProtocol};
use serde_json::{Value, json};

use super::ranges::Ranges;
use super::table::{Rules, chain_name};
use crate::os::nft::words::{accept, is, jump, meta};

/// Protocols of what is not a connection's packet, but tells what became of one.
const ERRORS: [&str; 2] = ["icmp", "ipv6-icmp"];

/// Which of an endpoint's connections are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Those that others open to it.
    Ingress,
    /// Those that it opens.
    Egress,
}

/// Peers together with ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// Everybody, if there are none.
    pub peers: Option<Ranges>,
    /// Everything, if there are none.
    pub ports: Option<BTreeSet<PolicyPorts>>,
}

/// What one policy allows in one direction. Equal ones are one chain.
#[derive(Debug, Clone)]
pub struct Allowance {
    /// The chain to look at.
    pub(super) name: String,
    /// That one, and those it leads to.
    pub(super) chains: BTreeMap<String, Arc<Rules>>,
}

impl Allowance {
    /// Writes rules for what is allowed.
    pub fn new(direction: Direction, permits: &[Permit]) -> Self {
        let mut chains = BTreeMap::new();
        let mut rules = Rules::default();
        for Permit { peers, ports } in permits {
            let end = match ports {
                None => vec![accept()],
                Some(ports) => match reached(ports, &mut chains) {
                    Some(end) => end,
                    None => continue,
                },
            };
            let of_peers = peers.as_ref().map_or_else(|| vec![(Vec::new(), 0)], |p| from(p, direction));
            for (of_peers, weight) in of_peers {
                rules.push([of_peers, end.clone()].concat(), weight);
            }
        }
        let name = named("allow", rules, &mut chains);
        Self { name, chains }
    }
}

/// The end of rules that accept these ports: a chain of their own, so that peers are looked up once. Nothing if there
/// are none.
///
/// An error is no packet of the protocol it is about, and is judged by its connection all the same: beside the others,
/// since nft can list a port only in a rule that names the protocol of the packet itself.
fn reached(ports: &BTreeSet<PolicyPorts>, chains: &mut BTreeMap<String, Arc<Rules>>) -> Option<Vec<Value>> {
    let (mut rules, mut errors) = (Rules::default(), Rules::default());
    for PolicyPorts { protocol, first, last } in ports {
        let protocol = match protocol {
            PolicyProtocol::Tcp => "tcp",
            PolicyProtocol::Udp => "udp",
            PolicyProtocol::Sctp => "sctp",
        };
        let of_packet = is(meta("l4proto"), json!(protocol));
        let of_connection = is(json!({ "ct": { "key": "protocol", "dir": "original" } }), json!(protocol));
        if (*first, *last) == (0, u16::MAX) {
            rules.push(vec![of_packet, accept()], 0);
            errors.push(vec![of_connection, accept()], 0);
            continue;
        }
        let port = json!({ "ct": { "key": "proto-src", "dir": "reply" } });
        let port = is(port, if first == last { json!(first) } else { json!({ "range": [first, last] }) });
        rules.push(vec![of_packet, port.clone(), accept()], 0);
        for error in ERRORS {
            let expr = vec![is(meta("l4proto"), json!(error)), of_connection.clone(), port.clone(), accept()];
            errors.push(expr, 0);
        }
    }
    if ports.is_empty() {
        return None;
    }
    let errors = named("errors", errors, chains);
    rules.push(vec![is(meta("l4proto"), json!({ "set": ERRORS })), jump(&errors)], 0);
    Some(vec![jump(&named("ports", rules, chains))])
}

/// Knows a chain under the name of what is in it.
fn named(kind: &str, rules: Rules, chains: &mut BTreeMap<String, Arc<Rules>>) -> String {
    let name = chain_name(kind, &rules);
    chains.insert(name.clone(), Arc::new(rules));
    name
}

/// Beginnings of rules for these peers, one for each family, with the number of ranges in it.
fn from(peers: &Ranges, direction: Direction) -> Vec<(Vec<Value>, usize)> {
    let mut matches = Vec::new();
    for (is_v4, family, protocol) in [(true, "ipv4", "ip saddr"), (false, "ipv6", "ip6 saddr")] {
        let Some(ranges) = peers.of_family(is_v4) else {
            matches.push((vec![is(meta("nfproto"), json!(family))], 0));
            continue;
        };
        let dir = match direction {
            Direction::Ingress => "original",
            Direction::Egress => "reply",
        };
        let member = |(first, last): &(std::net::IpAddr, std::net::IpAddr)| {
            if first == last { json!(first) } else { json!({ "range": [first, last] }) }
        };
        let right = match ranges.as_slice() {
            [] => continue,
            [one] => member(one),
            several => json!({ "set": several.iter().map(member).collect::<Vec<_>>() }),
        };
        let peer = json!({ "ct": { "key": protocol, "dir": dir } });
        matches.push((vec![is(peer, right)], ranges.len()));
    }
    matches
}
