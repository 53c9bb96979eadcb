//! The table: policies, and who then reaches whom.
//!
//! `t` and `s` are on host a, `r` is on host b; `A` and `B` are the nodes. A line says who asks whom for what, `+` what
//! is answered and `-` what is not; each is asked over both families.

use serde_json::{Value, json};

use super::place::Places;

/// Policies, and what holds under them.
pub struct Scene {
    pub name: &'static str,
    /// Whether an endpoint needs a policy to do anything.
    pub is_policed: bool,
    pub policies: Value,
    pub lines: &'static [&'static str],
}

/// All of them.
pub fn scenes(places: &Places, pools: &[String]) -> Vec<Scene> {
    let hosts = |names: &[&str]| hosts(places, names);
    let tcp80 = || ports(&[("tcp", 80, 80)]);
    let mut many: Vec<Value> =
        (0..300).map(|n| json!({ "net": format!("192.0.{}.{}/32", n / 256, n % 256) })).collect();
    many.extend(hosts(&["s"]));
    let block = |except: &[&str]| -> Vec<Value> {
        let except = nets(places, except);
        let of = |pool: &String| {
            let is_v4 = pool.contains('.');
            let except: Vec<&String> = except.iter().filter(|one| one.contains('.') == is_v4).collect();
            json!({ "net": pool, "except": except })
        };
        pools.iter().map(of).collect()
    };
    let block_and_hosts = [block(&["r"]), hosts(&["r"])].concat();
    vec![
        Scene {
            name: "without a policy everything passes",
            is_policed: false,
            policies: json!([]),
            lines: &[
                "s>t +tcp/80 +udp/5000 +ping +sctp/80",
                "r>t +tcp/80 +udp/5000 +ping +sctp/80",
                "t>s +tcp/80 +ping",
                "t>r +tcp/80 +udp/5000",
                "A>t +tcp/80",
                "B>t +tcp/80 +ping",
                "t>B +tcp/80",
            ],
        },
        Scene {
            name: "no rule lets nobody in but the node",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [] }]),
            lines: &[
                "s>t -tcp/80 -udp/5000 -ping -sctp/80",
                "r>t -tcp/80 -udp/5000 -ping -sctp/80",
                "B>t -tcp/80 -ping",
                "A>t +tcp/80 +udp/5000 +ping",
                "t>s +tcp/80 +ping",
                "t>r +tcp/80 +udp/5000 +ping",
                "s>r +tcp/80",
            ],
        },
        Scene {
            name: "no rule lets nothing out but to the node",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "egress": [] }]),
            lines: &[
                "t>s -tcp/80 -udp/5000 -ping",
                "t>r -tcp/80 -udp/5000 -ping -sctp/80",
                "t>B -tcp/80 -ping",
                "t>A +tcp/80 +udp/5000 +ping",
                "s>t +tcp/80 +ping",
                "r>t +tcp/80 +udp/5000",
                "B>t +tcp/80",
            ],
        },
        Scene {
            name: "both directions at once",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [], "egress": [] }]),
            lines: &[
                "s>t -tcp/80 -ping",
                "t>s -tcp/80 -ping",
                "r>t -udp/5000",
                "t>r -tcp/80",
                "A>t +tcp/80",
                "t>A +tcp/80",
            ],
        },
        Scene {
            name: "a rule of nothing but itself allows everything",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{}], "egress": [] }]),
            lines: &["s>t +tcp/80 +udp/5000 +ping +sctp/80", "r>t +tcp/80 +ping", "t>r -tcp/80"],
        },
        Scene {
            name: "peers of the same host",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "peers": hosts(&["s"]) }] }]),
            lines: &["s>t +tcp/80 +udp/5000 +ping +sctp/80", "r>t -tcp/80 -udp/5000 -ping", "B>t -tcp/80"],
        },
        Scene {
            name: "peers of another host",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "peers": hosts(&["r", "B"]) }] }]),
            lines: &["r>t +tcp/80 +udp/5000 +ping", "s>t -tcp/80 -ping", "B>t +tcp/80 +ping"],
        },
        Scene {
            name: "a list of no peers is nobody",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "peers": [] }] }]),
            lines: &["s>t -tcp/80", "r>t -tcp/80", "A>t +tcp/80"],
        },
        Scene {
            name: "a list of no ports is nothing",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "ports": [] }] }]),
            lines: &["s>t -tcp/80 -ping", "r>t -udp/5000"],
        },
        Scene {
            name: "a port, and no other protocol with its number",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "ports": tcp80() }] }]),
            lines: &[
                "s>t +tcp/80 -tcp/81 -udp/5000 -ping -sctp/80",
                "r>t +tcp/80 -tcp/81 -udp/8080 -ping -sctp/80",
            ],
        },
        Scene {
            name: "SCTP is not TCP",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "ports": ports(&[("sctp", 80, 80)]) }] }]),
            lines: &["s>t +sctp/80 -sctp/81 -tcp/80", "r>t +sctp/80 -tcp/80"],
        },
        Scene {
            name: "several ports of one peer",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [
                { "peers": hosts(&["r"]), "ports": ports(&[("tcp", 80, 81), ("udp", 5000, 5000)]) }] }]),
            lines: &["r>t +tcp/80 +tcp/81 -tcp/8080 +udp/5000 -udp/8080 -ping", "s>t -tcp/80 -udp/5000"],
        },
        Scene {
            name: "a range ends where it says",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "ports": ports(&[("tcp", 1, 80)]) }] }]),
            lines: &["s>t +tcp/80 -tcp/81", "r>t +tcp/80 -tcp/8080"],
        },
        Scene {
            name: "all ports of a protocol",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "ports": ports(&[("tcp", 0, 65535)]) }] }]),
            lines: &["s>t +tcp/80 +tcp/8080 -udp/5000 -ping -sctp/80"],
        },
        Scene {
            name: "a block without some of it",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "peers": block(&["r"]) }] }]),
            lines: &["s>t +tcp/80 +udp/5000 +ping", "r>t -tcp/80 -udp/5000 -ping"],
        },
        Scene {
            name: "what one peer excepts another one may name",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [
                { "peers": block_and_hosts, "ports": tcp80() }] }]),
            lines: &["s>t +tcp/80", "r>t +tcp/80 -tcp/81"],
        },
        Scene {
            name: "everything without some of it",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "egress": [{ "peers": [
                { "net": "0.0.0.0/0", "except": nets(places, &["s"]).iter().filter(|one| one.contains('.')).collect::<Vec<_>>() },
                { "net": "::/0", "except": nets(places, &["s"]).iter().filter(|one| one.contains(':')).collect::<Vec<_>>() },
            ] }] }]),
            lines: &["t>r +tcp/80 +ping", "t>s -tcp/80 -ping", "t>B +tcp/80"],
        },
        Scene {
            name: "every address of each family",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [
                { "peers": [{ "net": "0.0.0.0/0" }] }, { "peers": [{ "net": "::/0" }] }] }]),
            lines: &["s>t +tcp/80 +ping", "r>t +tcp/80 +udp/5000"],
        },
        Scene {
            name: "rules of several policies are united, not crossed",
            is_policed: false,
            policies: json!([
                { "select": { "who": "t" }, "ingress": [{ "peers": hosts(&["s"]), "ports": tcp80() }] },
                { "select": { "app": "x" }, "ingress": [{ "peers": hosts(&["r"]), "ports": ports(&[("udp", 5000, 5000)]) }] },
            ]),
            lines: &[
                "s>t +tcp/80 -udp/5000",
                "r>t -tcp/80 +udp/5000",
                "t>s -tcp/80",
                "r>s -tcp/80 +udp/5000",
            ],
        },
        Scene {
            name: "a policy of one direction leaves the other one alone",
            is_policed: false,
            policies: json!([
                { "select": { "who": "t" }, "ingress": [] },
                { "select": { "who": "t" }, "egress": [{ "peers": hosts(&["s"]) }] },
            ]),
            lines: &["t>s +tcp/80 +ping", "t>r -tcp/80", "s>t -tcp/80", "r>s +tcp/80"],
        },
        Scene {
            name: "ports of a peer on the way out",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "egress": [
                { "peers": hosts(&["r"]), "ports": ports(&[("udp", 5000, 5000), ("tcp", 8080, 8080)]) }] }]),
            lines: &["t>r +udp/5000 +tcp/8080 -tcp/80 -udp/8080 -ping", "t>s -udp/5000", "r>t +tcp/80"],
        },
        Scene {
            name: "both ends have a say on one host",
            is_policed: false,
            policies: json!([
                { "select": { "who": "t" }, "egress": [{ "peers": hosts(&["s"]) }] },
                { "select": { "who": "s" }, "ingress": [{ "peers": hosts(&["t"]), "ports": tcp80() }] },
            ]),
            lines: &["t>s +tcp/80 -tcp/81 -ping", "r>s -tcp/80", "t>r -tcp/80"],
        },
        Scene {
            name: "both ends have a say on two hosts",
            is_policed: false,
            policies: json!([
                { "select": { "who": "t" }, "egress": [{ "peers": hosts(&["r"]) }] },
                { "select": { "who": "r" }, "ingress": [{ "peers": hosts(&["t"]), "ports": tcp80() }] },
            ]),
            lines: &["t>r +tcp/80 -tcp/81 -ping", "s>r -tcp/80", "t>s -tcp/80"],
        },
        Scene {
            name: "a policy for all of them",
            is_policed: false,
            policies: json!([{ "select": {}, "ingress": [] }]),
            lines: &[
                "s>t -tcp/80",
                "t>s -tcp/80",
                "t>r -tcp/80",
                "r>s -ping",
                "A>t +tcp/80",
                "B>r +tcp/80",
                "A>r -tcp/80",
            ],
        },
        Scene {
            name: "all labels have to fit",
            is_policed: false,
            policies: json!([{ "select": { "who": "t", "app": "y" }, "ingress": [] }]),
            lines: &["s>t +tcp/80", "r>t +tcp/80"],
        },
        Scene {
            name: "one of many peers",
            is_policed: false,
            policies: json!([{ "select": { "who": "t" }, "ingress": [{ "peers": many, "ports": tcp80() }] }]),
            lines: &["s>t +tcp/80 -tcp/81", "r>t -tcp/80"],
        },
        Scene {
            name: "where policies are required nothing passes without one",
            is_policed: true,
            policies: json!([]),
            lines: &[
                "s>t -tcp/80 -ping",
                "r>t -tcp/80",
                "t>s -tcp/80",
                "t>r -udp/5000",
                "A>t +tcp/80 +ping",
                "t>A +tcp/80",
            ],
        },
        Scene {
            name: "where policies are required one that restricts nothing is enough",
            is_policed: true,
            policies: json!([{ "select": { "who": "t" } }, { "select": { "who": "s" } }]),
            lines: &["s>t +tcp/80 +ping", "t>s +tcp/80", "t>r -tcp/80", "r>t -tcp/80"],
        },
    ]
}

fn nets(places: &Places, names: &[&str]) -> Vec<String> {
    let addresses = names.iter().flat_map(|name| &places[*name].addresses);
    addresses.map(|address| format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })).collect()
}

fn hosts(places: &Places, names: &[&str]) -> Vec<Value> {
    nets(places, names).iter().map(|net| json!({ "net": net })).collect()
}

fn ports(ports: &[(&str, u16, u16)]) -> Value {
    let one = |(protocol, first, last): &(&str, u16, u16)| json!({ "protocol": protocol, "first": first, "last": last });
    ports.iter().map(one).collect()
}
