//! How little is said, and what happens where something can't be read.

use meshd_api::{EndpointPolicy, POLICY_PEERS_MAX, PolicyRule};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Name, Pod};
use crate::compile::{WEIGHT_MAX, compile};
use crate::objects;

pub fn cluster(items: &[Value]) -> Cluster {
    let mut cluster = Cluster::default();
    objects::read(&json!({"kind": "List", "items": items}).to_string(), &mut cluster).expect("objects");
    objects::complete_namespaces(&mut cluster);
    cluster
}

pub fn pod(name: &str, node: &str) -> Value {
    json!({
        "kind": "Pod",
        "metadata": {"namespace": "a", "name": name, "uid": format!("u-{name}"), "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "main"}]},
        "status": {"phase": "Running"},
    })
}

pub fn policy(spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "a", "name": "p"}, "spec": spec})
}

fn compiled(items: &[Value], node: Option<&str>) -> Vec<EndpointPolicy> {
    compile(&cluster(items), "meshd", node, WEIGHT_MAX).request.policies
}

fn labels(policy: &EndpointPolicy) -> Vec<&str> {
    policy.select.values().map(String::as_str).collect()
}

#[test]
fn a_namespace_without_policies_is_one_open_entry() {
    let seen = compiled(&[pod("web", "one"), pod("db", "two")], None);
    assert_eq!(seen.len(), 1);
    assert_eq!((labels(&seen[0]), &seen[0].ingress, &seen[0].egress), (vec!["a"], &None, &None));
}

#[test]
fn a_pod_that_nobody_has_heard_of_is_restricted_as_soon_as_any_pod_of_its_namespace_is() {
    let selector =
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Egress"]});
    let seen = compiled(&[policy(selector)], None);
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].ingress, &seen[0].egress), (&Some(Vec::new()), &Some(Vec::new())));
}

#[test]
fn a_pod_of_which_no_policy_speaks_is_told_to_be_open() {
    let selector = json!({"podSelector": {"matchLabels": {"app": "web"}}});
    let seen = compiled(&[policy(selector), pod("web", "one"), pod("db", "one")], None);
    assert_eq!(seen.len(), 2, "the entry of the namespace says all of web");
    assert_eq!(labels(&seen[1]), ["a", "u-db"]);
    let everything = PolicyRule { peers: None, ports: None };
    assert_eq!((&seen[1].ingress, &seen[1].egress), (&Some(vec![everything]), &None));
}

#[test]
fn only_pods_of_the_node_have_entries_and_all_are_peers() {
    let spec = json!({"podSelector": {"matchLabels": {"app": "nothing"}}});
    let items = [policy(spec), pod("web", "one"), pod("db", "two")];
    let seen = compiled(&items, Some("two"));
    assert_eq!(seen.len(), 2);
    assert_eq!(labels(&seen[1]), ["a", "u-db"]);
}

#[test]
fn pods_of_a_kubelet_alone_are_known_by_the_id_it_gave_them() {
    let mut mirror = pod("api", "one");
    mirror["metadata"]["annotations"] =
        json!({"kubernetes.io/config.mirror": "0123", "kubernetes.io/config.hash": "0123"});
    let cluster = cluster(&[mirror]);
    let name = Name { namespace: "a".to_owned(), name: "api".to_owned() };
    assert_eq!(cluster.pods[&name].uid, "0123");
    let mut other = pod("api", "one");
    other["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": "0123"});
    let other: k8s_openapi::api::core::v1::Pod = serde_json::from_value(other).expect("a pod");
    assert_eq!(Pod::read(&other).uid, "u-api", "anybody may write that annotation on a pod of their own");
}

#[test]
fn neighbouring_addresses_become_one_prefix_and_long_lists_several_rules() {
    let mut items = vec![policy(json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}))];
    for number in 0..4 {
        let mut one = pod(&format!("near-{number}"), "one");
        one["status"]["podIP"] = json!(format!("10.0.0.{number}"));
        items.push(one);
    }
    let seen = compiled(&items, None);
    let peers = seen[0].ingress.as_ref().and_then(|rules| rules[0].peers.as_ref()).expect("peers");
    assert_eq!(peers.iter().map(|peer| peer.net.as_str()).collect::<Vec<_>>(), ["10.0.0.0/30"]);

    for number in 0..=POLICY_PEERS_MAX {
        let mut one = pod(&format!("far-{number}"), "two");
        one["status"]["podIP"] = json!(format!("10.1.{}.{}", number / 128, number % 128 * 2));
        items.push(one);
    }
    let seen = compiled(&items, Some("one"));
    let rules = seen[0].ingress.as_ref().expect("rules");
    assert_eq!(rules.len(), 2);
    let peers: Vec<usize> = rules.iter().filter_map(|rule| rule.peers.as_ref()).map(Vec::len).collect();
    assert_eq!(peers, [POLICY_PEERS_MAX, 2]);
}

#[test]
fn what_cannot_be_read_restricts_and_is_told() {
    for (spec, fault) in [
        (
            json!({"podSelector": {"matchExpressions": [{"key": "x", "operator": "Like"}]}}),
            r#"unknown operator "Like""#,
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "x", "operator": "In"}]}}),
            r#"no values for "x""#,
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists", "values": ["1"]}]}}),
            r#"values for the mere presence of "x""#,
        ),
        (json!({"podSelector": {}, "policyTypes": ["Both"]}), r#"unknown policy type "Both""#),
        (
            json!({"podSelector": {}, "ingress": [{"from": [{}]}]}),
            "a peer without ipBlock, namespaceSelector and podSelector",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]}),
            "a peer with ipBlock and a selector",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10/8"}}]}]}),
            r#""10/8" is no prefix"#,
        ),
        (
            json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}]}]}),
            "11.0.0.0/16 is excepted but not inside 10.0.0.0/8",
        ),
        (
            json!({"podSelector": {}, "ingress": [{"ports": [{"protocol": "ICMP"}]}]}),
            r#"unknown protocol "ICMP""#,
        ),
        (json!({"podSelector": {}, "ingress": [{"ports": [{"port": 65536}]}]}), "65536 is no port"),
        (json!({"podSelector": {}, "ingress": [{"ports": [{"port": 0}]}]}), "0 is no port"),
        (
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": 9, "endPort": 8}]}]}),
            "endPort 8 is less than port 9",
        ),
        (json!({"podSelector": {}, "ingress": [{"ports": [{"endPort": 8}]}]}), "endPort 8 without a port"),
        (
            json!({"podSelector": {}, "ingress": [{"ports": [{"port": "http", "endPort": 8}]}]}),
            r#"endPort 8 after the name "http""#,
        ),
    ] {
        let cluster = cluster(&[policy(spec.clone()), pod("web", "one")]);
        assert_eq!(cluster.faults().collect::<Vec<_>>(), [format!("a/p: {fault}")]);
        let seen = compile(&cluster, "meshd", None, WEIGHT_MAX).request.policies;
        assert_eq!(seen.len(), 1, "{spec}");
        assert_eq!(seen[0].ingress, Some(Vec::new()), "{spec}");
    }
}
