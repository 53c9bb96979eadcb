//! What entries weigh: their bytes on the way to meshd, counted without writing them, and never too few.

use meshd_api::{Labels, PolicyPeer, PolicyRule};

/// Quotation marks and a comma around a text.
const TEXT: usize = 3;
/// `{"net":"","except":[]},`
const PEER: usize = 23;
/// `{"protocol":"sctp","first":65535,"last":65535},`
const PORTS: usize = 48;
/// `{"peers":null,"ports":null},`
const RULE: usize = 28;
/// `{"select":{},"ingress":null,"egress":null},`
const ENTRY: usize = 44;
/// `"":"",`
const LABEL: usize = 6;

/// Of a rule.
pub fn of_rule(rule: &PolicyRule) -> usize {
    let peer = |PolicyPeer { net, except }: &PolicyPeer| {
        PEER + net.len() + except.iter().map(|hole| TEXT + hole.len()).sum::<usize>()
    };
    let peers: usize = rule.peers.iter().flatten().map(peer).sum();
    RULE + peers + PORTS * rule.ports.as_ref().map_or(0, Vec::len)
}

/// Of an entry, but for its rules.
pub fn of_entry(select: &Labels) -> usize {
    ENTRY + select.iter().map(|(key, value)| LABEL + key.len() + value.len()).sum::<usize>()
}
