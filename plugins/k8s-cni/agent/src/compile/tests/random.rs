//! Random worlds: what was compiled lets pass what upstream's definition does.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use meshd_api::PolicyProtocol;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use super::judge::{Traffic, ends, passes};
use super::upstream::World;
use crate::cluster::{Cluster, Name, Pod, Policy};
use crate::compile::{WEIGHT_MAX, compile};

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 2] = ["x", "y"];
const VALUES: [&str; 2] = ["0", "1"];
const PODS: u8 = 6;
const PORTS: [u16; 3] = [80, 81, 9000];
const PROTOCOLS: [(&str, PolicyProtocol); 3] =
    [("TCP", PolicyProtocol::Tcp), ("UDP", PolicyProtocol::Udp), ("SCTP", PolicyProtocol::Sctp)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_passes_is_what_upstream_defines(world in world()) {
        let cluster = cluster(&world);
        prop_assert_eq!(cluster.faults().count(), 0);
        let request = compile(&cluster, "meshd", None, WEIGHT_MAX).request;
        let mut traffic: Vec<_> = PROTOCOLS
            .iter()
            .flat_map(|(_, protocol)| PORTS.map(|port| Traffic::Port(*protocol, port)))
            .collect();
        traffic.push(Traffic::Icmp);
        for from in &world.pods {
            for to in world.pods.iter().filter(|to| to.metadata.name != from.metadata.name) {
                for traffic in &traffic {
                    let expected = world.passes(from, to, *traffic);
                    let (from, to) = (name(&from.metadata), name(&to.metadata));
                    let seen = passes(&request, ends(&cluster, &from)[0], ends(&cluster, &to)[0], *traffic);
                    prop_assert_eq!(seen, expected, "{} > {} {:?}", from, to, traffic);
                }
            }
        }
    }
}

fn cluster(world: &World) -> Cluster {
    Cluster {
        namespaces: world
            .namespaces
            .iter()
            .map(|one| (name(&one.metadata), one.metadata.labels.clone().unwrap_or_default()))
            .collect(),
        pods: world.pods.iter().map(|pod| (name(&pod.metadata), Pod::read(pod))).collect(),
        policies: world
            .policies
            .iter()
            .map(|policy| (name(&policy.metadata), Policy::read(policy)))
            .collect(),
    }
}

fn name(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Name {
    Name {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().expect("a name"),
    }
}

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn world() -> impl Strategy<Value = World> {
    let namespaces = prop::collection::vec(labels(), NAMESPACES.len());
    let pods: Vec<_> = (1..=PODS).map(pod).collect();
    let policies = prop::collection::vec(policy(), 0..5);
    (namespaces, pods, policies).prop_map(|(namespaces, pods, policies)| World {
        namespaces: NAMESPACES
            .iter()
            .zip(namespaces)
            .map(|(name, labels)| object(json!({"metadata": {"name": name, "labels": labels}})))
            .collect(),
        pods,
        policies: policies
            .into_iter()
            .enumerate()
            .map(|(number, (namespace, spec))| -> NetworkPolicy {
                let metadata = json!({"namespace": namespace, "name": format!("p{number}")});
                object(json!({"metadata": metadata, "spec": spec}))
            })
            .collect(),
    })
}

fn labels() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    prop::collection::btree_map(select(&KEYS), select(&VALUES), 0..=2)
}

fn pod(number: u8) -> impl Strategy<Value = core::Pod> {
    let port = (select(&PROTOCOLS), select(&PORTS));
    (select(&NAMESPACES), labels(), prop::option::of(port)).prop_map(move |(namespace, labels, port)| {
        let ports: Vec<Value> = port
            .into_iter()
            .map(|((protocol, _), port)| json!({"name": "http", "containerPort": port, "protocol": protocol}))
            .collect();
        let name = format!("pod-{number}");
        object(json!({
            "metadata": {"namespace": namespace, "name": name, "uid": name, "labels": labels},
            "spec": {"containers": [{"name": "main", "ports": ports}]},
            "status": {"phase": "Running", "podIP": format!("10.0.0.{number}")},
        }))
    })
}

fn policy() -> impl Strategy<Value = (&'static str, Value)> {
    let types = subsequence(vec!["Ingress", "Egress"], 0..=2);
    let rules = || prop::option::of(prop::collection::vec((peers(), ports()), 0..3));
    (select(&NAMESPACES), selector(), types, rules(), rules()).prop_map(
        |(namespace, selector, types, ingress, egress)| {
            let rules = |rules: Option<Vec<(Value, Value)>>, key: &str| {
                let rule = |(peers, ports)| json!({(key): peers, "ports": ports});
                rules.map(|rules| rules.into_iter().map(rule).collect::<Vec<_>>())
            };
            let spec = json!({
                "podSelector": selector,
                "policyTypes": types,
                "ingress": rules(ingress, "from"),
                "egress": rules(egress, "to"),
            });
            (namespace, spec)
        },
    )
}

fn selector() -> impl Strategy<Value = Value> {
    let expression = (select(&KEYS), select(&["In", "NotIn", "Exists", "DoesNotExist"]), select(&VALUES));
    let expressions = prop::collection::vec(expression, 0..2);
    (prop::option::weighted(0.3, labels()), expressions).prop_map(|(labels, expressions)| {
        let expressions: Vec<Value> = expressions
            .into_iter()
            .map(|(key, operator, value)| {
                let values = if operator.ends_with("In") { vec![value] } else { Vec::new() };
                json!({"key": key, "operator": operator, "values": values})
            })
            .collect();
        json!({"matchLabels": labels, "matchExpressions": expressions})
    })
}

fn peers() -> impl Strategy<Value = Value> {
    let block = (0..=PODS, 24..=32_u8, prop::option::of(0..=PODS)).prop_map(|(number, length, hole)| {
        let hole = hole.filter(|_| length == 24).map(|hole| format!("10.0.0.{hole}/31"));
        json!({"ipBlock": {"cidr": format!("10.0.0.{number}/{length}"), "except": hole.into_iter().collect::<Vec<_>>()}})
    });
    let pods = prop_oneof![
        selector().prop_map(|one| json!({"podSelector": one})),
        selector().prop_map(|one| json!({"namespaceSelector": one})),
        (selector(), selector())
            .prop_map(|(one, other)| json!({"namespaceSelector": one, "podSelector": other})),
    ];
    list(prop_oneof![1 => block.boxed(), 3 => pods.boxed()])
}

fn ports() -> impl Strategy<Value = Value> {
    let protocol = || prop::option::of(select(&PROTOCOLS).prop_map(|(word, _)| word));
    let number = (protocol(), select(&PORTS), prop::option::of(select(&PORTS))).prop_map(
        |(protocol, port, end)| {
            json!({"protocol": protocol, "port": port, "endPort": end.filter(|end| *end >= port)})
        },
    );
    let name = protocol().prop_map(|protocol| json!({"protocol": protocol, "port": "http"}));
    let all = protocol().prop_map(|protocol| json!({"protocol": protocol}));
    list(prop_oneof![3 => number.boxed(), 2 => name.boxed(), 1 => all.boxed()])
}

/// None, empty, one or two.
fn list(one: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::option::weighted(0.8, prop::collection::vec(one, 0..3)).prop_map(|list| json!(list))
}
