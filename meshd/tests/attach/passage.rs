//! Endpoints on a host that drops what it forwards, as Docker has it.

use crate::node::*;
use crate::rig::*;

const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];

#[test]
fn a_host_that_drops_what_it_forwards_lets_endpoints_through() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    PROGRAMS.into_iter().for_each(|program| node.space.run(program, "-P FORWARD DROP"));
    let before = rules(&node);
    node.attach_all([&a, &b]);
    node.assert_reached(&a, &b);
    assert_eq!(node.faults(&a.entry()), [""; 0]);
    let opened = rules(&node);
    assert!(opened.contains("-A FORWARD -i msh+ -j ACCEPT"), "{opened}");
    node.space.inside(|| node.wiring.repair_firewall()).expect("the rules are set");
    assert_eq!(rules(&node), opened, "a rule is there once");
    for _ in 0..2 {
        node.space.inside(|| node.wiring.stop()).expect("wiring stops");
        assert_eq!(rules(&node), before);
    }
}

#[test]
fn rules_of_docker_are_noticed_and_its_own_chain_is_used() {
    let Some(node) = Node::new() else { return };
    let (a, b) = (Endpoint::new(1), Endpoint::new(2));
    node.attach_all([&a, &b]);
    for program in PROGRAMS {
        for words in
            ["-N DOCKER-USER", "-A DOCKER-USER -j RETURN", "-I FORWARD -j DOCKER-USER", "-P FORWARD DROP"]
        {
            node.space.run(program, words);
        }
    }
    let faults = PROGRAMS.map(|program| {
        ["-i", "-o"]
            .map(|direction| format!("missing: -A DOCKER-USER {direction} msh+ -j ACCEPT of {program}"))
    });
    assert_eq!(node.filter_faults(), faults.as_flattened());
    assert_eq!(node.faults(&a.entry()), faults.as_flattened());
    node.space.inside(|| node.wiring.repair_firewall()).expect("the rules are set");
    assert_eq!(node.filter_faults(), [""; 0]);
    node.assert_reached(&a, &b);
    assert!(!rules(&node).contains("-A FORWARD -i msh+"));
}

#[test]
fn chains_that_let_everything_pass_are_left_alone() {
    let Some(mut node) = Node::new() else { return };
    let before = said(&node.space, "nft", "list tables");
    node.attach_all([&Endpoint::new(1)]);
    assert_eq!(said(&node.space, "nft", "list tables"), before);
    PROGRAMS.into_iter().for_each(|program| node.space.run(program, "-P FORWARD ACCEPT"));
    let before = rules(&node);
    node.restart(&[]);
    node.attach_all([&Endpoint::new(2)]);
    assert_eq!(rules(&node), before);
}

fn rules(node: &Node) -> String {
    PROGRAMS.map(|program| said(&node.space, program, "-S")).join("\n")
}
