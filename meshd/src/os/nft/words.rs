//! Words of libnftables-json(5).

use ipnet::IpNet;
use serde_json::{Value, json};

/// Of all our tables: both families at once.
pub const FAMILY: &str = "inet";

/// Adds something; that it is there already is a success, but for rules.
pub fn add(what: Value) -> Value {
    json!({ "add": what })
}

/// A table.
pub fn table(name: &str) -> Value {
    json!({ "table": { "family": FAMILY, "name": name } })
}

/// Takes a table away, there or not.
pub fn removal(name: &str) -> Vec<Value> {
    vec![add(table(name)), json!({ "delete": table(name) })]
}

/// A thing of a table.
pub fn within(table: &str, mut content: Value) -> Value {
    content["family"] = json!(FAMILY);
    content["table"] = json!(table);
    content
}

/// A set with its first members; an empty list of them would be refused.
pub fn set(table: &str, mut content: Value, members: Vec<Value>) -> Value {
    if !members.is_empty() {
        content["elem"] = json!(members);
    }
    add(json!({ "set": within(table, content) }))
}

/// A chain of packets on their way.
pub fn base(table: &str, chain: &str, kind: &str, hook: &str, priority: i32) -> Value {
    let base = json!({ "name": chain, "type": kind, "hook": hook, "prio": priority, "policy": "accept" });
    add(json!({ "chain": within(table, base) }))
}

/// A rule at the end of a chain.
pub fn rule(table: &str, chain: &str, expr: &[Value]) -> Value {
    add(json!({ "rule": within(table, json!({ "chain": chain, "expr": expr })) }))
}

/// Holds where two things are equal, or one is in the other.
pub fn is(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right } })
}

/// Holds where they are not.
pub fn is_not(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "!=", "left": left, "right": right } })
}

/// What is known of a packet.
pub fn meta(key: &str) -> Value {
    json!({ "meta": { "key": key } })
}

/// A field in a packet.
pub fn field(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

/// Two things as one.
pub fn concat(one: Value, other: Value) -> Value {
    json!({ "concat": [one, other] })
}

/// What is in a set.
pub fn members(set: &str) -> Value {
    json!(format!("@{set}"))
}

/// A prefix.
pub fn prefix(address: &str, len: u8) -> Value {
    json!({ "prefix": { "addr": address, "len": len } })
}

/// A prefix.
pub fn prefix_of(net: &IpNet) -> Value {
    prefix(&net.network().to_string(), net.prefix_len())
}

/// Goes on in another chain, and comes back.
pub fn jump(chain: &str) -> Value {
    json!({ "jump": { "target": chain } })
}

/// Ends this chain.
pub fn accept() -> Value {
    json!({ "accept": null })
}

/// Ends the packet.
pub fn drop() -> Value {
    json!({ "drop": null })
}

/// Counts the packet.
pub fn counted(counter: &str) -> Value {
    json!({ "counter": counter })
}

/// A text in what was listed.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Packets by counter in a listed table.
pub fn counters(listed: &[Value]) -> std::collections::BTreeMap<String, u64> {
    let counters = listed.iter().filter_map(|item| item.get("counter"));
    let packets = |counter: &Value| counter.get("packets").and_then(Value::as_u64).unwrap_or_default();
    counters.map(|counter| (text(counter, "name").to_owned(), packets(counter))).collect()
}
