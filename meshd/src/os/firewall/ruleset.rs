//! The table in the JSON of libnftables-json(5). Names in it come from ids and from us, never from users.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use meshd_wire::EndpointId;
use serde_json::{Value, json};

use super::{Admission, FirewallSettings};
use crate::os::link_owner::{HOST_PREFIX, host_link};
use crate::os::nft::words::{
    self, accept, add, concat, counted, drop, field, is, is_not, members, meta, prefix, prefix_of, text,
};

pub(in crate::os) const TABLE: &str = "meshd";

/// Links that are admitted.
const ATTACHED: &str = "attached";
/// Which source addresses a link may have.
const ORIGIN: ByFamily = ByFamily { v4: "origin4", v6: "origin6" };
/// Addresses of endpoints that leave the mesh under the host's address.
const EGRESS: ByFamily = ByFamily { v4: "egress4", v6: "egress6" };
/// Prefixes of the mesh.
const MESH: ByFamily = ByFamily { v4: "mesh4", v6: "mesh6" };

/// Counters, one for each reason to drop a packet.
const UNATTACHED: &str = "unattached";
const SPOOFED: &str = "spoofed";
const ROGUE: &str = "rogue";
const FOREIGN_IN: &str = "foreign_in";
const FOREIGN_OUT: &str = "foreign_out";
const TUNNELLED: &str = "tunnelled";
const UNINVITED: &str = "uninvited";

/// Hook priorities of netfilter_ipv4.h. `guard` looks before addresses are translated on the way in, and after it on
/// the way out.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_AFTER_RAW: i32 = PRIORITY_RAW + 1;
const PRIORITY_MANGLE: i32 = -150;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;
const PRIORITY_AFTER_SOURCE_NAT: i32 = PRIORITY_SOURCE_NAT + 1;

/// UDP ports of VXLAN, of VXLAN as Linux had it first, and of GENEVE; IPIP, 6in4 and GRE.
const TUNNEL_PORTS: [u16; 3] = [4789, 8472, 6081];
const TUNNEL_PROTOCOLS: [u8; 3] = [4, 41, 47];
const DNS_PORT: u16 = 53;

struct ByFamily {
    v4: &'static str,
    v6: &'static str,
}

/// One element of a set, which says something about an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    set: String,
    /// A link, an address, or both.
    link: Option<String>,
    address: Option<IpAddr>,
}

/// The whole table, in place of one that is there.
pub(super) fn table(settings: &FirewallSettings, elements: &BTreeSet<Element>) -> Vec<Value> {
    let mut commands = removal();
    commands.push(add(words::table(TABLE)));
    for counter in [UNATTACHED, SPOOFED, ROGUE, FOREIGN_IN, FOREIGN_OUT, TUNNELLED, UNINVITED] {
        commands.push(add(json!({ "counter": within(json!({ "name": counter })) })));
    }
    commands.extend(sets(settings, elements));
    for (chain, kind, hook, priority, rules) in [
        ("origin", "filter", "prerouting", PRIORITY_RAW, origin()),
        ("guard_in", "filter", "prerouting", PRIORITY_AFTER_RAW, guard_in(settings)),
        ("guard_out", "filter", "postrouting", PRIORITY_AFTER_SOURCE_NAT, guard_out(settings)),
        ("local_forward", "filter", "forward", PRIORITY_FILTER, local()),
        ("local_output", "filter", "output", PRIORITY_FILTER, local()),
        ("input", "filter", "input", PRIORITY_FILTER, input(settings)),
        ("mss", "filter", "forward", PRIORITY_MANGLE, mss(settings)),
        ("nat", "nat", "postrouting", PRIORITY_SOURCE_NAT, nat(settings)),
    ] {
        commands.push(words::base(TABLE, chain, kind, hook, priority));
        commands.extend(rules.iter().map(|expr| words::rule(TABLE, chain, expr)));
    }
    commands
}

/// Takes the table away, there or not.
pub(super) fn removal() -> Vec<Value> {
    words::removal(TABLE)
}

/// Takes elements out of their sets and puts others in; all may be so already.
pub(super) fn change<'a>(
    gone: impl Iterator<Item = &'a Element>,
    new: impl Iterator<Item = &'a Element>,
) -> Vec<Value> {
    let mut commands = Vec::new();
    for element in gone {
        // Only what is there can be deleted.
        commands.push(add(element.command()));
        commands.push(json!({ "delete": element.command() }));
    }
    commands.extend(new.map(|element| add(element.command())));
    commands
}

/// What the sets have to say about an endpoint.
pub(super) fn elements_of(id: EndpointId, admission: &Admission) -> BTreeSet<Element> {
    let link = host_link(id);
    let mut elements = BTreeSet::new();
    elements.insert(Element { set: ATTACHED.to_owned(), link: Some(link.clone()), address: None });
    for address in &admission.addresses {
        let address = Some(*address);
        elements.insert(Element { set: ORIGIN.of(address), link: Some(link.clone()), address });
        if admission.has_egress {
            elements.insert(Element { set: EGRESS.of(address), link: None, address });
        }
    }
    elements
}

/// The elements about endpoints in a listed table.
pub(super) fn elements_listed(listed: &[Value]) -> BTreeSet<Element> {
    let sets = listed.iter().filter_map(|item| item.get("set"));
    let mut found = BTreeSet::new();
    for set in sets {
        let name = text(set, "name");
        if is_of_endpoints(name) {
            let elements = set.get("elem").and_then(Value::as_array).into_iter().flatten();
            found.extend(elements.map(|element| Element::of_listed(name, element)));
        }
    }
    found
}

/// Everything in a listed table but the endpoints and what counts or numbers things.
pub(super) fn frame(listed: &[Value]) -> Vec<Value> {
    let mut frame = Vec::new();
    for item in listed {
        let mut item = item.clone();
        let Some((kind, content)) = item.as_object_mut().and_then(|item| item.iter_mut().next()) else {
            continue;
        };
        let Some(content) = content.as_object_mut() else { continue };
        for volatile in ["handle", "packets", "bytes"] {
            content.remove(volatile);
        }
        let name = content.get("name").and_then(Value::as_str).unwrap_or_default();
        if kind == "set" && is_of_endpoints(name) {
            content.remove("elem");
        }
        if kind != "metainfo" {
            frame.push(item);
        }
    }
    frame
}

fn sets(settings: &FirewallSettings, elements: &BTreeSet<Element>) -> Vec<Value> {
    let mut commands = Vec::new();
    for (name, kind) in [
        (ATTACHED, json!("ifname")),
        (ORIGIN.v4, json!(["ifname", "ipv4_addr"])),
        (ORIGIN.v6, json!(["ifname", "ipv6_addr"])),
        (EGRESS.v4, json!("ipv4_addr")),
        (EGRESS.v6, json!("ipv6_addr")),
    ] {
        let members = elements.iter().filter(|element| element.set == name).map(Element::value).collect();
        commands.push(set(json!({ "name": name, "type": kind }), members));
    }
    let prefixes = IpNet::aggregate(&settings.prefixes);
    for (name, kind, is_v4) in [(MESH.v4, "ipv4_addr", true), (MESH.v6, "ipv6_addr", false)] {
        let of_family = prefixes.iter().filter(|prefix| prefix.addr().is_ipv4() == is_v4);
        let content = json!({ "name": name, "type": kind, "flags": ["interval"] });
        commands.push(set(content, of_family.map(prefix_of).collect()));
    }
    commands
}

/// Lets an endpoint speak only as itself.
fn origin() -> Vec<Vec<Value>> {
    let link_local = prefix("fe80::", 10);
    let neighbours = json!({ "set": [link_local, prefix("ff02::", 16)] });
    vec![
        vec![is_not(meta("iifname"), on_host()), accept()],
        vec![is_not(meta("iifname"), members(ATTACHED)), counted(UNATTACHED), drop()],
        vec![
            is(field("icmpv6", "type"), json!({ "set": ["nd-router-advert", "nd-redirect"] })),
            counted(ROGUE),
            drop(),
        ],
        vec![
            is(field("icmp", "type"), json!({ "set": ["router-advertisement", "redirect"] })),
            counted(ROGUE),
            drop(),
        ],
        vec![is(field("ip6", "saddr"), link_local), is(field("ip6", "daddr"), neighbours), accept()],
        // Whoever looks for a duplicate of its address finds none.
        vec![is(field("ip6", "saddr"), json!("::")), drop()],
        vec![is(concat(meta("iifname"), field("ip", "saddr")), members(ORIGIN.v4)), accept()],
        vec![is(concat(meta("iifname"), field("ip6", "saddr")), members(ORIGIN.v6)), accept()],
        vec![counted(SPOOFED), drop()],
    ]
}

/// Keeps others from entering the overlay through this host, but for names.
fn guard_in(settings: &FirewallSettings) -> Vec<Vec<Value>> {
    let mut rules = vec![
        vec![is(meta("iifname"), ours(settings)), accept()],
        vec![is(meta("iifname"), on_host()), accept()],
    ];
    rules.extend(names(settings, ["daddr", "saddr", "dport"]));
    rules.extend(overlay_drops(FOREIGN_IN));
    rules
}

/// Keeps packets of the overlay from leaving in clear.
fn guard_out(settings: &FirewallSettings) -> Vec<Vec<Value>> {
    let mut rules = vec![
        vec![is(meta("oifname"), ours(settings)), accept()],
        vec![is(meta("oifname"), on_host()), accept()],
    ];
    rules.extend(names(settings, ["saddr", "daddr", "sport"]));
    rules.extend(overlay_drops(FOREIGN_OUT));
    rules
}

/// Lets containers that are no endpoints ask this node for names: its side, theirs, and where the port stands.
fn names(settings: &FirewallSettings, [node, asker, port]: [&str; 3]) -> Vec<Vec<Value>> {
    let mut rules = Vec::new();
    for (family, own) in own_addresses(settings) {
        for protocol in ["udp", "tcp"] {
            rules.push(vec![
                is(field(family, node), json!(own)),
                is_not(field(family, asker), members(MESH.of_protocol(family))),
                is(field(protocol, port), json!(DNS_PORT)),
                accept(),
            ]);
        }
    }
    rules
}

fn overlay_drops(counter: &str) -> Vec<Vec<Value>> {
    let ends = ["ip", "ip6"].into_iter().flat_map(|family| ["saddr", "daddr"].map(|end| (family, end)));
    ends.map(|(family, end)| {
        vec![is(field(family, end), members(MESH.of_protocol(family))), counted(counter), drop()]
    })
    .collect()
}

/// Isolates endpoints that are not admitted, yet or any more.
fn local() -> Vec<Vec<Value>> {
    vec![vec![
        is(meta("oifname"), on_host()),
        is_not(meta("oifname"), members(ATTACHED)),
        counted(UNATTACHED),
        drop(),
    ]]
}

/// Keeps endpoints from hiding packets from us in tunnels to the host, from our own tunnels, and from what nodes alone
/// ask of each other.
fn input(settings: &FirewallSettings) -> Vec<Vec<Value>> {
    let mut ports: BTreeSet<u16> = TUNNEL_PORTS.into();
    ports.insert(settings.underlay_port);
    let from_endpoint = || is(meta("iifname"), on_host());
    vec![
        vec![from_endpoint(), is(field("udp", "dport"), json!({ "set": ports })), counted(TUNNELLED), drop()],
        vec![
            from_endpoint(),
            is(meta("l4proto"), json!({ "set": TUNNEL_PROTOCOLS })),
            counted(TUNNELLED),
            drop(),
        ],
        vec![
            from_endpoint(),
            is(field("tcp", "dport"), json!(settings.control_port)),
            counted(UNINVITED),
            drop(),
        ],
    ]
}

/// Makes TCP fit the narrower of both links.
fn mss(settings: &FirewallSettings) -> Vec<Vec<Value>> {
    let opening = json!({ "&": [field("tcp", "flags"), { "|": ["syn", "rst"] }] });
    let clamp = json!({ "mangle": {
        "key": { "tcp option": { "name": "maxseg", "field": "size" } },
        "value": { "rt": { "key": "mtu" } },
    }});
    let overlay = json!(settings.device);
    [
        (meta("oifname"), on_host()),
        (meta("oifname"), overlay.clone()),
        (meta("iifname"), on_host()),
        (meta("iifname"), overlay),
    ]
    .map(|(end, link)| vec![is(end, link), is(opening.clone(), json!("syn")), clamp.clone()])
    .into()
}

/// Gives packets that leave the mesh the host's address, and packets of this host that enter it the node's.
fn nat(settings: &FirewallSettings) -> Vec<Vec<Value>> {
    let mut rules = Vec::new();
    for family in ["ip", "ip6"] {
        rules.push(vec![
            is(field(family, "saddr"), members(EGRESS.of_protocol(family))),
            is_not(meta("oifname"), ours(settings)),
            is_not(meta("oifname"), on_host()),
            json!({ "masquerade": null }),
        ]);
    }
    let is_of_host = json!({ "fib": { "result": "type", "flags": ["saddr"] } });
    for (family, own) in own_addresses(settings) {
        rules.push(vec![
            is(meta("oifname"), json!(settings.device)),
            is_not(field(family, "saddr"), json!(own)),
            is(is_of_host.clone(), json!("local")),
            json!({ "snat": { "family": family, "addr": own } }),
        ]);
    }
    rules
}

fn own_addresses(settings: &FirewallSettings) -> [(&'static str, String); 2] {
    [("ip", settings.addr4.to_string()), ("ip6", settings.addr6.to_string())]
}

impl ByFamily {
    fn of(&self, address: Option<IpAddr>) -> String {
        if address.is_some_and(|address| address.is_ipv6()) { self.v6 } else { self.v4 }.to_owned()
    }

    fn of_protocol(&self, family: &str) -> &'static str {
        if family == "ip6" { self.v6 } else { self.v4 }
    }
}

impl Element {
    fn command(&self) -> Value {
        json!({ "element": within(json!({ "name": self.set, "elem": [self.value()] })) })
    }

    fn value(&self) -> Value {
        match self.parts().as_slice() {
            [one] => json!(one),
            parts => json!({ "concat": parts }),
        }
    }

    fn of_listed(set: &str, element: &Value) -> Self {
        let parts = match element.get("concat").and_then(Value::as_array) {
            Some(parts) => parts.iter().filter_map(Value::as_str).collect(),
            None => Vec::from_iter(element.as_str()),
        };
        let mut found = Self { set: set.to_owned(), link: None, address: None };
        for part in parts {
            match part.parse() {
                Ok(address) => found.address = Some(address),
                Err(_) => found.link = Some(part.to_owned()),
            }
        }
        found
    }

    fn parts(&self) -> Vec<String> {
        self.link.iter().cloned().chain(self.address.map(|address| address.to_string())).collect()
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.parts().join(" with "), self.set)
    }
}

fn is_of_endpoints(set: &str) -> bool {
    [ATTACHED, ORIGIN.v4, ORIGIN.v6, EGRESS.v4, EGRESS.v6].contains(&set)
}

/// A thing of our table.
fn within(content: Value) -> Value {
    words::within(TABLE, content)
}

fn set(content: Value, members: Vec<Value>) -> Value {
    words::set(TABLE, content, members)
}

/// Host ends of all endpoints, admitted or not.
fn on_host() -> Value {
    json!(format!("{}*", HOST_PREFIX))
}

/// Links that may carry packets of the overlay, beside those of endpoints.
fn ours(settings: &FirewallSettings) -> Value {
    json!({ "set": ["lo", settings.device] })
}
