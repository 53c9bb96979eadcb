//! The table, and the difference between two of it, in the JSON of libnftables-json(5).
//!
//! A chain is named after what is in it, so one that is there never changes. Names of users stand nowhere.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use meshd_wire::EndpointId;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Apart, Restriction};
use crate::os::link_owner::host_link;
use crate::os::nft::words::{
    self, accept, add, base, concat, counted, drop, field, is, is_not, jump, members, meta, prefix_of, text,
    within,
};

pub(in crate::os) const TABLE: &str = "meshd_policy";

/// Bytes of a hash that name a chain.
const NAME_BYTES: usize = 16;
/// After everything that looks at forwarded packets by itself: networks apart, then both sides of a packet. What the
/// one accepts the next one judges still.
const PRIORITIES: [(&str, i32); 3] = [(APART, 1), (LEAVING, 2), (REACHING, 3)];
const APART: &str = "apart";
const LEAVING: &str = "leaving";
const REACHING: &str = "reaching";
/// Counters, one for each reason to drop a packet.
const DENIED: &str = "denied";
/// Links of restricted endpoints.
const RESTRICTED: &str = "restricted";
/// Links with themselves: nobody can be kept from itself.
const ITSELF: &str = "itself";
/// Links and directions of connections, to what the endpoint may do.
const FROM: &str = "from_link";
const TO: &str = "to_link";

/// What differs between the families.
struct Family {
    protocol: &'static str,
    kind: &'static str,
    own: &'static str,
    nodes: &'static str,
    /// Pools of networks apart, by what comes from them and what goes to them.
    from: &'static str,
    to: &'static str,
}

const V4: Family =
    Family { protocol: "ip", kind: "ipv4_addr", own: "own4", nodes: "nodes4", from: "from4", to: "to4" };
const V6: Family =
    Family { protocol: "ip6", kind: "ipv6_addr", own: "own6", nodes: "nodes6", from: "from6", to: "to6" };

/// The rules of one chain.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    exprs: Vec<Vec<Value>>,
    /// The same as text: looking through all of them for each would take long for many.
    known: HashSet<String>,
    /// Rules, and elements in them.
    weight: usize,
}

impl Rules {
    /// Adds a rule, with as many elements as are in it; one that is there already would say nothing.
    pub(super) fn push(&mut self, expr: Vec<Value>, weight: usize) {
        if self.known.insert(json!(expr).to_string()) {
            self.exprs.push(expr);
            self.weight += weight + 1;
        }
    }

    /// Rules that a packet meets at most, with those of the chains that these lead to.
    fn met(&self, chains: &BTreeMap<String, Arc<Self>>) -> usize {
        let targets = self.exprs.iter().filter_map(|expr| expr.last()?.pointer("/jump/target")?.as_str());
        let beyond = targets.filter_map(|name| chains.get(name)).map(|rules| rules.met(chains));
        self.exprs.len() + beyond.sum::<usize>()
    }
}

/// Everything in the table that is not always there.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    chains: BTreeMap<String, Arc<Rules>>,
    /// By their set and their text.
    elements: BTreeMap<(&'static str, String), Value>,
    /// Rules of one endpoint that one packet meets at most.
    met_max: usize,
}

impl Table {
    pub(super) fn new(apart: &Apart, restricted: &BTreeMap<EndpointId, Restriction>) -> Self {
        let mut table = Self::default();
        table.set_apart(apart);
        for (id, restriction) in restricted {
            table.restrict(&host_link(*id), restriction);
        }
        table
    }

    /// Whether a chain is in this table, and was in each one before that had it.
    pub(super) fn has_always(&self, chain: &str) -> bool {
        self.chains.contains_key(chain) || PRIORITIES.iter().any(|(base, _)| *base == chain)
    }

    /// Rules and elements.
    pub(super) fn weight(&self) -> usize {
        self.elements.len() + self.chains.values().map(|rules| rules.weight).sum::<usize>()
    }

    /// Rules of one endpoint that one packet meets at most.
    pub(super) fn met_max(&self) -> usize {
        self.met_max
    }

    /// Rules in chains that another table does not have.
    pub(super) fn weight_beside(&self, other: &Self) -> usize {
        let own = self.chains.iter().filter(|(name, _)| !other.chains.contains_key(*name));
        own.map(|(_, rules)| rules.weight).sum()
    }

    /// Takes the chains of another table in, but not what leads to them.
    pub(super) fn take_chains(&mut self, other: Self) {
        self.chains.extend(other.chains);
    }

    /// The whole table, in place of one that is there.
    pub(super) fn whole(&self) -> Vec<Value> {
        let mut commands = words::removal(TABLE);
        commands.push(add(words::table(TABLE)));
        for counter in [DENIED, APART] {
            commands.push(add(json!({ "counter": within(TABLE, json!({ "name": counter })) })));
        }
        commands.extend(self.chains.keys().map(|name| add(chain(name))));
        // With what is in them: nft 1.0.6 can't put verdicts into a map of prefixes that the same transaction has made.
        commands.extend(self.containers());
        for (chain, priority) in PRIORITIES {
            commands.push(base(TABLE, chain, "filter", "forward", priority));
            commands.extend(always(chain).iter().map(|expr| words::rule(TABLE, chain, expr)));
        }
        for (name, rules) in &self.chains {
            commands.extend(rules.exprs.iter().map(|expr| words::rule(TABLE, name, expr)));
        }
        commands
    }

    /// What makes another table of this one.
    pub(super) fn change(&self, new: &Self) -> Vec<Value> {
        let added: Vec<_> = new.chains.iter().filter(|(name, _)| !self.chains.contains_key(*name)).collect();
        let gone: Vec<_> = self.chains.keys().filter(|name| !new.chains.contains_key(*name)).collect();
        let mut commands: Vec<Value> = added.iter().map(|(name, _)| add(chain(name))).collect();
        for (name, rules) in added {
            commands.extend(rules.exprs.iter().map(|expr| words::rule(TABLE, name, expr)));
        }
        let lost = self.elements.iter().filter(|(key, _)| !new.elements.contains_key(key));
        commands.extend(batches(lost).into_iter().map(|batch| json!({ "delete": batch })));
        let found = new.elements.iter().filter(|(key, _)| !self.elements.contains_key(key));
        commands.extend(batches(found).into_iter().map(add));
        // Rules of one may lead to another one.
        commands.extend(gone.iter().map(|name| json!({ "flush": chain(name) })));
        commands.extend(gone.iter().map(|name| json!({ "delete": chain(name) })));
        commands
    }

    /// Sets and maps with what is in them.
    fn containers(&self) -> Vec<Value> {
        let set = |mut content: Value, kind: &str| {
            let name = text(&content, "name");
            let elements = self.elements.iter().filter(|((set, _), _)| *set == name);
            let elements: Vec<&Value> = elements.map(|(_, value)| value).collect();
            if !elements.is_empty() {
                content["elem"] = json!(elements);
            }
            add(json!({ kind: within(TABLE, content) }))
        };
        let mut commands = vec![
            set(json!({ "name": RESTRICTED, "type": "ifname" }), "set"),
            set(json!({ "name": ITSELF, "type": ["ifname", "ifname"] }), "set"),
        ];
        for name in [FROM, TO] {
            let content = json!({ "name": name, "type": ["ifname", "ct_dir"], "map": "verdict" });
            commands.push(set(content, "map"));
        }
        for of in [V4, V6] {
            commands.push(set(json!({ "name": of.own, "type": of.kind, "flags": ["interval"] }), "set"));
            commands.push(set(json!({ "name": of.nodes, "type": of.kind }), "set"));
            for name in [of.from, of.to] {
                let content =
                    json!({ "name": name, "type": of.kind, "map": "verdict", "flags": ["interval"] });
                commands.push(set(content, "map"));
            }
        }
        commands
    }

    /// One line for each thing that is not as it was written.
    pub(super) fn faults(&self, listed: &[Value]) -> Vec<String> {
        let mut wanted: BTreeMap<String, usize> =
            self.chains.iter().map(|(name, rules)| (name.clone(), rules.exprs.len())).collect();
        wanted.extend(PRIORITIES.map(|(chain, _)| (chain.to_owned(), always(chain).len())));
        let (mut faults, mut found) = (Vec::new(), BTreeMap::<String, usize>::new());
        let mut elements = BTreeMap::new();
        for item in listed {
            if item.pointer("/table/flags").is_some() {
                faults.push("the table is put to sleep".to_owned());
            } else if let Some(chain) = item.get("chain") {
                let place = chain.get("hook").map(|_| place(chain));
                if place != PRIORITIES.iter().find(|(name, _)| text(chain, "name") == *name).map(expected) {
                    faults.push(format!("{} stands elsewhere", text(chain, "name")));
                }
                found.entry(text(chain, "name").to_owned()).or_default();
            } else if let Some(rule) = item.get("rule") {
                *found.entry(text(rule, "chain").to_owned()).or_default() += 1;
            } else if let Some(set) = item.get("set").or_else(|| item.get("map")) {
                let of_set = set.get("elem").and_then(Value::as_array).into_iter().flatten();
                elements.extend(of_set.map(|element| ((text(set, "name"), element.to_string()), ())));
            }
        }
        let differs = |one: &BTreeMap<String, usize>, other: &BTreeMap<String, usize>, what: &str| {
            let lines = one.iter().filter(|(name, count)| other.get(*name) != Some(count));
            lines.map(|(name, count)| format!("{what}: {count} rules in {name}")).collect::<Vec<_>>()
        };
        faults.extend(differs(&wanted, &found, "missing"));
        faults.extend(differs(&found, &wanted, "foreign"));
        let is_there = |(set, text): &&(&'static str, String)| elements.contains_key(&(*set, text.clone()));
        let missing = self.elements.keys().filter(|key| !is_there(key));
        faults.extend(missing.map(|(set, text)| format!("missing: {text} in {set}")));
        let own: &BTreeMap<(&str, String), Value> = &self.elements;
        let foreign = elements.keys().filter(|key| !own.contains_key(*key));
        faults.extend(foreign.map(|(set, text)| format!("foreign: {text} in {set}")));
        faults
    }

    /// Keeps networks apart: of the organisation they reach themselves and the nodes.
    fn set_apart(&mut self, apart: &Apart) {
        if apart.pools.is_empty() {
            return;
        }
        for net in IpNet::aggregate(&apart.own) {
            self.element(family(net.addr()).own, one_or_prefix(&net));
        }
        for node in &apart.nodes {
            self.element(family(*node).nodes, json!(node));
        }
        for pool in &apart.pools {
            let of = family(pool.addr());
            for (map, other) in [(of.from, "daddr"), (of.to, "saddr")] {
                let mut rules = Rules::default();
                let other = || field(of.protocol, other);
                let expr = vec![
                    is(other(), members(of.own)),
                    is_not(other(), prefix_of(pool)),
                    is_not(other(), members(of.nodes)),
                    counted(APART),
                    drop(),
                ];
                rules.push(expr, 0);
                let name = chain_name("pool", &rules);
                self.element(map, json!([one_or_prefix(pool), jump(&name)]));
                self.chains.insert(name, Arc::new(rules));
            }
        }
    }

    fn restrict(&mut self, link: &str, restriction: &Restriction) {
        self.element(RESTRICTED, json!(link));
        self.element(ITSELF, concat(json!(link), json!(link)));
        let sides = [
            (&restriction.egress, [(FROM, "original"), (TO, "reply")]),
            (&restriction.ingress, [(FROM, "reply"), (TO, "original")]),
        ];
        for (allowances, places) in sides {
            let Some(allowances) = allowances else { continue };
            let mut rules = Rules::default();
            for allowance in allowances {
                rules.push(vec![jump(&allowance.name)], 0);
                let chains = allowance.chains.iter().map(|(name, rules)| (name.clone(), Arc::clone(rules)));
                self.chains.extend(chains);
            }
            rules.push(vec![counted(DENIED), drop()], 0);
            self.met_max = self.met_max.max(rules.met(&self.chains));
            let name = chain_name("endpoint", &rules);
            for (map, direction) in places {
                let key = concat(json!(link), json!(direction));
                self.element(map, json!([key, jump(&name)]));
            }
            self.chains.insert(name, Arc::new(rules));
        }
    }

    fn element(&mut self, set: &'static str, value: Value) {
        self.elements.insert((set, value.to_string()), value);
    }
}

/// A fingerprint of the rules of each chain, without what they have counted. The name that the kernel has for a rule
/// does not tell enough: it stays when the rule is replaced.
pub(super) fn fingerprints(listed: &[Value]) -> BTreeMap<String, u64> {
    let mut chains: BTreeMap<String, DefaultHasher> = BTreeMap::new();
    for rule in listed.iter().filter_map(|item| item.get("rule")) {
        let hasher = chains.entry(text(rule, "chain").to_owned()).or_default();
        rule.get("handle").and_then(Value::as_u64).hash(hasher);
        for statement in rule.get("expr").and_then(Value::as_array).into_iter().flatten() {
            let counts = statement.get("counter").is_some_and(Value::is_object);
            (!counts).then(|| statement.to_string()).hash(hasher);
        }
    }
    chains.into_iter().map(|(name, hasher)| (name, hasher.finish())).collect()
}

/// Where a chain stands, and what becomes of what it says nothing about.
fn place(chain: &Value) -> [String; 4] {
    ["type", "hook", "prio", "policy"].map(|key| chain.get(key).map_or_else(String::new, Value::to_string))
}

fn expected((name, priority): &(&str, i32)) -> [String; 4] {
    place(base(TABLE, name, "filter", "forward", *priority).pointer("/add/chain").unwrap_or(&Value::Null))
}

/// A name that says what is in a chain.
pub(super) fn chain_name(kind: &str, rules: &Rules) -> String {
    let hash = Sha256::digest(json!(rules.exprs).to_string());
    hash.iter().take(NAME_BYTES).fold(format!("{kind}_"), |mut name, byte| {
        // Writing to a text can't fail.
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// What changes one set, for each set.
fn batches<'a>(elements: impl Iterator<Item = (&'a (&'static str, String), &'a Value)>) -> Vec<Value> {
    let mut by_set: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for ((set, _), value) in elements {
        by_set.entry(set).or_default().push(value);
    }
    let batch = |(set, elements): (&str, Vec<&Value>)| json!({ "element": within(TABLE, json!({ "name": set, "elem": elements })) });
    by_set.into_iter().map(batch).collect()
}

/// Rules that are there for no endpoint at all, too: they make the kernel follow connections before the first policy
/// comes, so that it knows who opened which.
fn always(chain: &str) -> Vec<Vec<Value>> {
    let lookup = |key: Value, map: &str| vec![json!({ "vmap": { "key": key, "data": members(map) } })];
    let (link, map) = match chain {
        APART => {
            let places = [V4, V6]
                .map(|of| [("saddr", of.from), ("daddr", of.to)].map(|(end, map)| (of.protocol, end, map)));
            return places.concat().into_iter().map(|(of, end, map)| lookup(field(of, end), map)).collect();
        }
        LEAVING => ("iifname", FROM),
        _ => ("oifname", TO),
    };
    let ct = |key: &str| json!({ "ct": { "key": key } });
    let opening =
        ["syn", "rst", "ack"].iter().fold(json!("fin"), |flags, flag| json!({ "|": [flags, flag] }));
    let in_state = |states: Value| json!({ "match": { "op": "in", "left": ct("state"), "right": states } });
    vec![
        vec![is(concat(meta("iifname"), meta("oifname")), members(ITSELF)), accept()],
        vec![
            is(meta(link), members(RESTRICTED)),
            in_state(json!(["invalid", "untracked"])),
            counted(DENIED),
            drop(),
        ],
        // Who opened a connection that is met half-way is unknown: it began when nobody looked.
        vec![
            is(meta(link), members(RESTRICTED)),
            in_state(json!("new")),
            is_not(json!({ "&": [field("tcp", "flags"), opening] }), json!("syn")),
            counted(DENIED),
            drop(),
        ],
        lookup(concat(meta(link), ct("direction")), map),
    ]
}

fn chain(name: &str) -> Value {
    json!({ "chain": within(TABLE, json!({ "name": name })) })
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { V4 } else { V6 }
}

/// A prefix as it is listed.
fn one_or_prefix(net: &IpNet) -> Value {
    if net.prefix_len() == net.max_prefix_len() { json!(net.addr()) } else { prefix_of(net) }
}
