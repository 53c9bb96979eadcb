//! Cases in YAML: policies in a world of pods, and who may reach whom.

use meshd_api::PolicyProtocol;
use serde::Deserialize;
use serde_json::{Value, json};

use super::judge::{End, Traffic, ends, passes};
use crate::cluster::{Cluster, Name};
use crate::compile::{WEIGHT_MAX, compile};
use crate::objects;

/// Pods and namespaces of every case.
const WORLD: &str = include_str!("cases/world.yaml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    /// Policies of namespace a: each its spec.
    #[serde(default)]
    a: Vec<Value>,
    /// Policies of namespace b.
    #[serde(default)]
    b: Vec<Value>,
    /// Other objects beside those of the world.
    #[serde(default)]
    more: Vec<Value>,
    /// What passes, `b/client > a/web tcp 80`.
    #[serde(default)]
    yes: Vec<String>,
    /// What does not.
    #[serde(default)]
    no: Vec<String>,
}

#[test]
fn selection_of_pods() {
    hold(include_str!("cases/selection.yaml"), 12);
}

#[test]
fn directions() {
    hold(include_str!("cases/directions.yaml"), 11);
}

#[test]
fn peers() {
    hold(include_str!("cases/peers.yaml"), 18);
}

#[test]
fn ports() {
    hold(include_str!("cases/ports.yaml"), 18);
}

#[test]
fn blocks_of_addresses() {
    hold(include_str!("cases/blocks.yaml"), 9);
}

fn hold(text: &str, cases_min: usize) {
    let cases: Vec<Case> = serde_saphyr::from_str(text).expect("cases");
    assert!(cases.len() >= cases_min, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for Case { case, a, b, more, yes, no } in &cases {
        let policies = [("a", a), ("b", b)];
        let policies = policies.iter().flat_map(|(namespace, specs)| {
            specs.iter().enumerate().map(move |(number, spec)| policy(namespace, number, spec))
        });
        let items: Vec<Value> = policies.chain(more.iter().cloned()).collect();
        let mut cluster = Cluster::default();
        objects::read(WORLD, &mut cluster).expect("the world");
        let list = json!({"kind": "List", "items": items}).to_string();
        objects::read(&list, &mut cluster).unwrap_or_else(|error| panic!("{case}: {error}"));
        objects::complete_namespaces(&mut cluster);
        assert_eq!(cluster.faults().collect::<Vec<_>>(), [""; 0], "{case}");
        assert!(!yes.is_empty() || !no.is_empty(), "{case}: nothing is asked");
        for (probes, expected) in [(yes, true), (no, false)] {
            for probe in probes {
                let seen = seen(&cluster, probe);
                if seen.iter().any(|seen| *seen != expected) {
                    wrong.push(format!("{case}: {probe}: {seen:?}, not {expected}"));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

fn policy(namespace: &str, number: usize, spec: &Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": namespace, "name": format!("p{number}")}, "spec": spec})
}

/// Whether it passes, once for each family.
fn seen(cluster: &Cluster, probe: &str) -> Vec<bool> {
    let words: Vec<&str> = probe.split(' ').collect();
    let [from, ">", to, traffic @ ..] = words.as_slice() else { panic!("{probe}") };
    let traffic = match traffic {
        ["icmp"] => Traffic::Icmp,
        ["tcp", port] => Traffic::Port(PolicyProtocol::Tcp, port.parse().expect("a port")),
        ["udp", port] => Traffic::Port(PolicyProtocol::Udp, port.parse().expect("a port")),
        ["sctp", port] => Traffic::Port(PolicyProtocol::Sctp, port.parse().expect("a port")),
        _ => panic!("{probe}"),
    };
    let (from, to) = (name(from), name(to));
    let request = compile(cluster, "meshd", None, WEIGHT_MAX).request;
    let mut seen = Vec::new();
    for one in at(cluster, from.as_ref(), words[0]) {
        for other in at(cluster, to.as_ref(), words[2]) {
            if one.address.is_ipv4() == other.address.is_ipv4() {
                seen.push(passes(&request, one, other, traffic));
            }
        }
    }
    assert!(!seen.is_empty(), "{probe}");
    seen
}

fn name(word: &str) -> Option<Name> {
    let (namespace, name) = word.split_once('/')?;
    Some(Name { namespace: namespace.to_owned(), name: name.to_owned() })
}

fn at<'a>(cluster: &'a Cluster, name: Option<&'a Name>, word: &str) -> Vec<End<'a>> {
    match name {
        Some(name) => ends(cluster, name),
        None => vec![End { pod: None, address: word.parse().expect("an address") }],
    }
}
