//! Together with other plugins.

use serde_json::{Value, json};

use crate::rig::{Daemon, Mood, Rig, configuration, with};

#[test]
fn a_first_plugin_hands_on_only_its_own() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Well);
    let result = rig.call("ADD", &configuration("1.1.0")).result();
    assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(2));
    let keys: Vec<&String> = result.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["cniVersion", "dns", "interfaces", "ips", "routes"]);
}

#[test]
fn a_later_plugin_hands_on_what_came_before_word_for_word() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Well);
    let previous = previous("1.1.0");
    let result = rig.call("ADD", &with(configuration("1.1.0"), &json!({"prevResult": previous}))).result();
    assert_eq!(result["interfaces"][0], previous["interfaces"][0]);
    assert_eq!(result["ips"][0], previous["ips"][0]);
    assert_eq!(result["routes"][0], previous["routes"][0]);
    assert_eq!(result["dns"], previous["dns"]);
    assert_eq!(result["some-later-key"], previous["some-later-key"]);
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert_eq!(result["ips"][1]["interface"], 2, "indices count what came before");
    assert_eq!(result["ips"][2]["interface"], 2);
}

#[test]
fn a_default_route_of_another_plugin_stays() {
    for (routes, expected) in [
        (json!([{"dst": "0.0.0.0/0", "gw": "192.0.2.1"}]), false),
        (json!([{"dst": "::/0"}]), false),
        (json!([{"dst": "192.0.2.0/24"}]), true),
        (json!([]), true),
    ] {
        let rig = Rig::new();
        let daemon = Daemon::start(&rig.socket(), Mood::Well);
        let previous = with(previous("1.1.0"), &json!({"routes": routes}));
        rig.call("ADD", &with(configuration("1.1.0"), &json!({"prevResult": previous}))).result();
        let (_, attach) =
            daemon.asked().into_iter().find(|(path, _)| path.ends_with("/attach")).expect("one");
        assert_eq!(attach["is_default_route"], expected, "{routes}");
    }
}

#[test]
fn resolvers_of_this_container_come_in_where_nobody_named_others() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Well);
    let more = json!({
        "prevResult": with(previous("1.1.0"), &json!({"dns": {}})),
        "runtimeConfig": {"dns": {"Servers": ["10.96.0.10"]}},
    });
    let result = rig.call("ADD", &with(configuration("1.1.0"), &more)).result();
    assert_eq!(result["dns"], json!({"nameservers": ["10.96.0.10"]}));
}

#[test]
fn an_earlier_result_that_makes_no_sense_is_refused_before_anything_is_asked() {
    let rig = Rig::new();
    let daemon = Daemon::start(&rig.socket(), Mood::Well);
    for bad in [json!(7), json!([]), json!({"interfaces": {}}), json!({"ips": "x"}), json!({"routes": 1})] {
        let (code, words) =
            rig.call("ADD", &with(configuration("1.1.0"), &json!({"prevResult": bad}))).refusal();
        assert_eq!(code, 7, "{words}");
        assert!(words.starts_with("prevResult"), "{words}");
    }
    assert_eq!(daemon.asked(), []);
}

fn previous(version: &str) -> Value {
    json!({
        "cniVersion": version,
        "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:77", "sandbox": "/var/run/netns/x", "pciID": "0000:00:1f.6"}],
        "ips": [{"address": "192.0.2.7/24", "interface": 0}],
        "routes": [{"dst": "192.0.2.0/24", "table": 7}],
        "dns": {"nameservers": ["192.0.2.53"]},
        "some-later-key": [1, 2],
    })
}
