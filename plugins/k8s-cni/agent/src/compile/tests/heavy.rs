//! Policies too heavy for meshd are shut, and nobody else's are.

use meshd_api::{EndpointPolicy, POLICIES_MAX};
use serde_json::{Value, json};

use super::shape::{cluster, pod, policy};
use crate::compile::{Compiled, WEIGHT_MAX, compile};

/// Weight that a few small policies fit into, and one of many peers does not.
const LITTLE: usize = 8 * 1024;

fn of(namespace: &str, name: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object["metadata"]["name"] = json!(name);
    object
}

/// A policy for the pod `web` that names so many addresses.
fn naming(count: usize) -> Value {
    let block = |number: usize| {
        let cidr = format!("10.{}.{}.{}/32", number / 65536, number / 256 % 256, number % 256);
        json!({"ipBlock": {"cidr": cidr}})
    };
    let from: Vec<Value> = (0..count).map(block).collect();
    policy(json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": from}]}))
}

fn compiled(items: &[Value], weight_max: usize) -> Compiled {
    let compiled = compile(&cluster(items), "meshd", Some("one"), weight_max);
    let bytes = serde_json::to_string(&compiled.request.policies).expect("JSON").len();
    assert!(bytes <= compiled.weight + 2, "{bytes} bytes weigh {}", compiled.weight);
    assert!(compiled.weight <= weight_max, "{}", compiled.weight);
    compiled
}

fn entries<'a>(compiled: &'a Compiled, namespace: &str) -> Vec<&'a EndpointPolicy> {
    let all = compiled.request.policies.iter();
    all.filter(|entry| entry.select["k8s.namespace"] == namespace).collect()
}

#[test]
fn a_heavy_policy_allows_nothing_and_everybody_elses_are_as_they_were() {
    let others = [
        of("a", "web", pod("web", "one")),
        of("a", "small", naming(3)),
        of("b", "web", pod("web", "one")),
        of("b", "small", naming(7)),
    ];
    let before = compiled(&others, LITTLE);
    assert_eq!(before.faults, [""; 0]);
    let heavy = [&others[..], &[of("b", "large", naming(1000))]].concat();
    let after = compiled(&heavy, LITTLE);
    assert_eq!(after.faults, ["b/large: too heavy, so it allows nothing"]);
    assert_eq!(after.request, before.request, "those of the same namespace too");
    assert_eq!(compiled(&heavy, WEIGHT_MAX).faults, [""; 0], "it would fit alone");
}

#[test]
fn a_pod_that_only_a_heavy_policy_selects_is_shut() {
    let after = compiled(&[of("b", "web", pod("web", "one")), of("b", "large", naming(1000))], LITTLE);
    let entries = entries(&after, "b");
    assert_eq!(entries.len(), 1, "it has what all of its namespace have");
    assert_eq!((&entries[0].ingress, &entries[0].egress), (&Some(Vec::new()), &None));
}

#[test]
fn many_small_policies_of_one_namespace_do_not_shut_a_larger_one_of_another() {
    let mut items = vec![
        of("a", "web", pod("web", "one")),
        of("a", "larger", naming(20)),
        of("b", "web", pod("web", "one")),
    ];
    items.extend((0..100).map(|number| of("b", &format!("small-{number}"), naming(4))));
    let after = compiled(&items, LITTLE);
    assert!(!after.faults.is_empty() && after.faults.iter().all(|fault| fault.starts_with("b/small-")));
    assert!(entries(&after, "b").len() > 1, "not more of them than needed");
    assert_eq!(entries(&after, "a").len(), 2);
}

#[test]
fn a_policy_that_selects_many_pods_is_weighed_for_each() {
    let mut items = vec![of("a", "web", pod("web", "one")), of("a", "small", naming(20))];
    for number in 0..40 {
        let mut web = of("b", &format!("web-{number}"), pod("web", "one"));
        web["metadata"]["uid"] = json!(format!("u-{number}"));
        items.push(web);
    }
    items.push(of("b", "small", naming(10)));
    assert_eq!(compiled(&items, LITTLE).faults, ["b/small: too heavy, so it allows nothing"]);
}

#[test]
fn of_more_namespaces_than_fit_those_without_pods_and_policies_are_left_out() {
    let namespace =
        |number: usize| json!({"kind": "Namespace", "metadata": {"name": format!("n{number:05}")}});
    let mut items: Vec<Value> = (0..=POLICIES_MAX).map(namespace).collect();
    let (last, before) = (format!("n{POLICIES_MAX:05}"), format!("n{:05}", POLICIES_MAX - 1));
    items.push(of(&last, "web", pod("web", "one")));
    items.push(of(&before, "small", naming(1)));
    let after = compiled(&items, WEIGHT_MAX);
    assert_eq!((after.request.policies.len(), after.faults.len()), (POLICIES_MAX, 0));
    assert_eq!(entries(&after, &last).len(), 1);
    assert_eq!(entries(&after, &before).len(), 1);
    items.extend((0..=POLICIES_MAX).map(|number| of(&format!("n{number:05}"), "small", naming(1))));
    let after = compiled(&items, WEIGHT_MAX);
    assert_eq!(after.request.policies.len(), POLICIES_MAX);
    assert_eq!(after.faults, ["2 entries of pods and namespaces: more than meshd takes"]);
}

#[test]
fn a_pod_with_an_id_that_no_label_can_be_has_no_entry_of_its_own() {
    for odd in ["X".repeat(9), "u".repeat(300), "u\n".to_owned()] {
        let mut web = of("a", "web", pod("web", "one"));
        web["metadata"]["uid"] = json!(odd);
        let after = compiled(&[web, of("a", "small", naming(1))], WEIGHT_MAX);
        assert_eq!(entries(&after, "a").len(), 1);
        assert_eq!(
            after.faults,
            [format!("a/web: the pod's id {odd:?} is no label, so no policy allows it more")]
        );
    }
}
