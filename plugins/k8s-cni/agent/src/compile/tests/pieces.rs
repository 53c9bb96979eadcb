//! What is too large for one entry, rule or peer of meshd means the same in several.

use std::collections::BTreeSet;

use ipnet::IpNet;
use meshd_api::{
    EndpointPolicy, POLICY_EXCEPT_MAX, POLICY_PEERS_MAX, POLICY_PORTS_MAX, POLICY_RULES_MAX, PolicyProtocol,
    SetPoliciesRequest,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::judge::{End, Traffic, ends, passes};
use super::shape::{cluster, pod, policy};
use crate::cluster::{Cluster, Name};
use crate::compile::{WEIGHT_MAX, compile, pieces};

/// A world of one pod and one policy.
fn world(spec: Value) -> (Cluster, SetPoliciesRequest) {
    let mut web = pod("web", "one");
    web["status"]["podIP"] = json!("10.9.0.1");
    let cluster = cluster(&[web, policy(spec)]);
    let compiled = compile(&cluster, "meshd", Some("one"), WEIGHT_MAX);
    assert_eq!(compiled.faults, [""; 0]);
    fits(&compiled.request);
    (cluster, compiled.request)
}

/// Fails where meshd would refuse.
fn fits(request: &SetPoliciesRequest) {
    for EndpointPolicy { ingress, egress, .. } in &request.policies {
        for rules in [ingress, egress].into_iter().flatten() {
            assert!(rules.len() <= POLICY_RULES_MAX, "{} rules", rules.len());
            for rule in rules {
                assert!(rule.peers.as_ref().is_none_or(|peers| peers.len() <= POLICY_PEERS_MAX));
                assert!(rule.ports.as_ref().is_none_or(|ports| ports.len() <= POLICY_PORTS_MAX));
                let mut peers = rule.peers.iter().flatten();
                assert!(peers.all(|peer| peer.except.len() <= POLICY_EXCEPT_MAX));
            }
        }
    }
}

/// Whether somebody may open a port of the pod.
fn reaches(world: &(Cluster, SetPoliciesRequest), from: &str, port: u16) -> bool {
    let (cluster, request) = world;
    let from = End { pod: None, address: from.parse().expect("an address") };
    let web = Name { namespace: "a".to_owned(), name: "web".to_owned() };
    passes(request, from, ends(cluster, &web)[0], Traffic::Port(PolicyProtocol::Tcp, port))
}

#[test]
fn a_block_with_many_exceptions() {
    let holes = 4 * POLICY_EXCEPT_MAX;
    let hole = |number: usize| format!("10.0.{}.{}/32", number / 128, number % 128 * 2);
    let except: Vec<String> = (0..holes).map(hole).collect();
    let block = json!({"cidr": "10.0.0.0/8", "except": except});
    for subject in [json!({}), json!({"matchLabels": {"app": "web"}})] {
        let from = json!([{"ipBlock": block}]);
        let world = world(json!({"podSelector": subject, "ingress": [{"from": from}]}));
        for number in 0..holes {
            let (third, fourth) = (number / 128, number % 128 * 2);
            assert!(!reaches(&world, &format!("10.0.{third}.{fourth}"), 80));
            assert!(reaches(&world, &format!("10.0.{third}.{}", fourth + 1), 80));
        }
        assert!(reaches(&world, "10.255.0.1", 80));
        assert!(!reaches(&world, "11.0.0.1", 80));
    }
}

#[test]
fn exceptions_that_touch_are_one() {
    let except: Vec<String> =
        (0..4096).map(|number| format!("10.0.{}.{}/32", number / 256, number % 256)).collect();
    let block = json!({"cidr": "10.0.0.0/8", "except": except});
    let (_, request) = world(json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": block}]}]}));
    let rules = request.policies[0].ingress.as_ref().expect("rules");
    let peers = rules[0].peers.as_ref().expect("peers");
    assert_eq!((peers.len(), &peers[0].except), (1, &vec!["10.0.0.0/20".to_owned()]));
}

#[test]
fn many_ports() {
    let wanted: Vec<u16> = (0..3 * POLICY_PORTS_MAX).map(|number| 1 + 2 * number as u16).collect();
    let ports: Vec<Value> = wanted.iter().map(|port| json!({"port": port})).collect();
    let world = world(json!({"podSelector": {}, "ingress": [{"ports": ports}]}));
    let reached: Vec<u16> = (1..=2 * 3 * 1024).filter(|port| reaches(&world, "192.0.2.1", *port)).collect();
    assert_eq!(reached, wanted);
}

#[test]
fn ports_that_touch_are_one_range_of_their_protocol() {
    let ports: Vec<Value> = (100..200).map(|port| json!({"port": port})).collect();
    let udp = json!({"protocol": "UDP", "port": 200});
    let ports: Vec<Value> = ports.into_iter().rev().chain([udp]).collect();
    let (_, request) = world(json!({"podSelector": {}, "ingress": [{"ports": ports}]}));
    let rules = request.policies[0].ingress.as_ref().expect("rules");
    let ranges: Vec<_> = rules[0].ports.iter().flatten().map(|ports| (ports.first, ports.last)).collect();
    assert_eq!(ranges, [(100, 199), (200, 200)]);
}

#[test]
fn many_rules() {
    let count = 2 * POLICY_RULES_MAX + 1;
    let rule = |number: usize| {
        let address = format!("10.{}.{}.0/32", number / 256, number % 256);
        json!({"from": [{"ipBlock": {"cidr": address}}], "ports": [{"port": number + 1}]})
    };
    let rules: Vec<Value> = (0..count).map(rule).collect();
    let spec = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": rules});
    let world = world(spec);
    assert_eq!(world.1.policies.len(), 3);
    for number in 0..count {
        let from = format!("10.{}.{}.0", number / 256, number % 256);
        let port = u16::try_from(number + 1).expect("a port");
        assert!(reaches(&world, &from, port));
        assert!(!reaches(&world, &from, port + 1));
    }
    let shut = world.1.policies.iter().filter_map(|entry| entry.egress.as_ref());
    assert!(shut.flatten().next().is_none(), "nothing is sent");
    assert!(world.1.policies[0].egress.is_some());
}

proptest! {
    #[test]
    fn pieces_of_a_block_have_the_addresses_that_it_has(
        length in 16..=24_u8,
        holes in prop::collection::vec((any::<u16>(), 20..=32_u8), 0..2000),
        asked in prop::collection::vec(any::<u16>(), 64),
    ) {
        let address = |low: u16| std::net::Ipv4Addr::from(0x0a00_0000 | u32::from(low));
        let net = IpNet::new(address(0).into(), length).expect("a prefix");
        let holes: Vec<IpNet> = holes
            .iter()
            .map(|(low, length)| IpNet::new(address(*low).into(), *length).expect("a prefix").trunc())
            .filter(|hole| net.contains(hole))
            .collect();
        let pieces = pieces::of_block(net, &holes);
        let asked: BTreeSet<u16> = asked.into_iter().collect();
        for low in asked {
            let address = std::net::IpAddr::from(address(low));
            let expected = net.contains(&address) && !holes.iter().any(|hole| hole.contains(&address));
            let holds = |text: &String| text.parse::<IpNet>().expect("a prefix").contains(&address);
            let seen = pieces.iter().any(|piece| holds(&piece.net) && !piece.except.iter().any(holds));
            prop_assert_eq!(seen, expected, "{}", address);
        }
        prop_assert!(pieces.iter().all(|piece| piece.except.len() <= POLICY_EXCEPT_MAX));
    }
}
