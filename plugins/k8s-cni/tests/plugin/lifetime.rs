//! What a runtime may rely on from the first ADD to the last DEL.

use meshd_api::{ApiError, ErrorCode};
use serde_json::{Value, json};

use crate::rig::{Daemon, Mood, Rig, configuration, with};

#[test]
fn a_second_add_of_the_same_interface_is_an_error() {
    let (rig, daemon) = attached();
    let (code, words) = rig.call("ADD", &configuration("1.1.0")).refusal();
    assert_eq!(code, 101);
    assert_eq!(words, "eth0 of c1 is attached to meshd already; DEL comes before another ADD");
    assert!(daemon.asked().iter().all(|(path, _)| path != "/v1/endpoints/attach"));
}

#[test]
fn an_add_that_broke_off_is_resumed() {
    let (rig, daemon) = attached();
    daemon.set_mood(Mood::Faulty(vec!["eth0 is missing".to_owned()]));
    let result = rig.call("ADD", &configuration("1.1.0")).result();
    assert_eq!(result["ips"][0]["address"], "10.202.0.66/32");
}

#[test]
fn del_is_a_success_as_often_as_it_is_called() {
    let (rig, daemon) = attached();
    for _ in 0..4 {
        rig.call("DEL", &configuration("1.1.0")).is_silent_success();
        assert_eq!(daemon.attached(), []);
    }
}

#[test]
fn del_needs_neither_namespace_nor_earlier_result_nor_a_good_configuration() {
    for (more, namespace) in [
        (json!({}), ""),
        (json!({}), "/var/run/netns/gone"),
        (json!({"prevResult": null}), ""),
        (json!({"prevResult": "corrupt"}), ""),
        (json!({"prevResult": {"interfaces": 7, "ips": [[]]}}), ""),
        (json!({"cniVersion": "9.9.9"}), ""),
        (json!({"cniVersion": 7, "mtu": "x", "pools": [], "runtimeConfig": 7}), ""),
    ] {
        let (rig, daemon) = attached();
        let mut environment = rig.environment("DEL");
        environment.retain(|(name, _)| name != "CNI_NETNS");
        environment.push(("CNI_NETNS".to_owned(), namespace.into()));
        let stdin = with(configuration("1.1.0"), &more).to_string();
        rig.run(&environment, stdin.as_bytes()).is_silent_success();
        assert_eq!(daemon.attached(), [], "{more}");
    }
}

#[test]
fn del_is_a_success_whatever_meshd_says_or_if_it_is_down() {
    let rig = Rig::new();
    let run = rig.call("DEL", &configuration("1.1.0"));
    run.is_silent_success();
    assert!(run.stderr.contains("left to meshd: meshd is not running"), "{run:?}");
    let daemon =
        Daemon::start(&rig.socket(), Mood::Garbage(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{"));
    rig.call("DEL", &configuration("1.1.0")).is_silent_success();
    daemon.set_mood(Mood::Refusing("/detach", ApiError::new(ErrorCode::StorageFailed, "the disk is full")));
    let run = rig.call("DEL", &configuration("1.1.0"));
    run.is_silent_success();
    assert!(run.stderr.contains("the disk is full"), "{run:?}");
}

#[test]
fn check_wants_an_earlier_result_that_is_as_things_are() {
    let (rig, _daemon) = attached();
    let good = rig_result(&rig);
    rig.call("CHECK", &with(configuration("1.1.0"), &json!({"prevResult": good}))).is_silent_success();
    let (code, words) = rig.call("CHECK", &configuration("1.1.0")).refusal();
    assert_eq!((code, words.as_str()), (7, "prevResult is missing"));
    for (pointer, value, complaint) in [
        ("/ips/0/address", json!("10.202.0.67/32"), "prevResult has no address 10.202.0.66/32"),
        ("/ips/0/address", json!("10.202.0.67/32"), "eth0 has no address 10.202.0.67/32"),
        ("/ips", json!([]), "prevResult has no address fd77:202::42/128"),
        ("/interfaces/1/mac", json!("02:00:00:00:00:99"), "eth0 has the MAC address 02:00:0a:ca:00:42"),
        ("/interfaces/1/name", json!("eth7"), "prevResult has no interface eth0 in a container"),
        (
            "/interfaces/1/sandbox",
            json!("/var/run/netns/other"),
            "prevResult has eth0 in /var/run/netns/other",
        ),
        ("/interfaces/0/name", json!("veth0"), "prevResult has no interface msh1f0c9d2b7a4c"),
        (
            "/interfaces/0/mac",
            json!("02:00:00:00:00:99"),
            "msh1f0c9d2b7a4c has the MAC address 02:00:00:00:00:01",
        ),
        ("/interfaces", json!([]), "prevResult has no interface eth0 in a container"),
    ] {
        let mut other = good.clone();
        *other.pointer_mut(pointer).expect(pointer) = value;
        let (code, words) =
            rig.call("CHECK", &with(configuration("1.1.0"), &json!({"prevResult": other}))).refusal();
        assert_eq!(code, 103, "{words}");
        assert!(words.contains(complaint), "{words}");
    }
}

#[test]
fn check_leaves_alone_what_other_plugins_added() {
    let (rig, _daemon) = attached();
    let mut result = rig_result(&rig);
    result["interfaces"].as_array_mut().expect("a list").push(json!({"name": "ifb0"}));
    result["ips"].as_array_mut().expect("a list").push(json!({"address": "192.0.2.9/24", "interface": 2}));
    result["routes"] = json!([{"dst": "192.0.2.0/24"}]);
    rig.call("CHECK", &with(configuration("1.1.0"), &json!({"prevResult": result}))).is_silent_success();
}

#[test]
fn check_tells_what_meshd_finds_and_knows_a_container_that_is_gone() {
    let (rig, daemon) = attached();
    let configuration = with(configuration("1.1.0"), &json!({"prevResult": rig_result(&rig)}));
    daemon.set_mood(Mood::Faulty(vec!["10.202.0.66 is missing".to_owned(), "a route is missing".to_owned()]));
    let (code, words) = rig.call("CHECK", &configuration).refusal();
    assert_eq!(code, 103);
    assert_eq!(words, "eth0 of c1 is not as it was attached; 10.202.0.66 is missing; a route is missing");
    daemon.set_mood(Mood::Well);
    rig.call("DEL", &configuration).is_silent_success();
    assert_eq!(rig.call("CHECK", &configuration).refusal().0, 3);
}

#[test]
fn gc_keeps_what_is_listed_and_an_empty_list_keeps_nothing() {
    let (rig, daemon) = attached();
    let mut other = rig.environment("ADD");
    other.push(("CNI_IFNAME".to_owned(), "eth1".into()));
    assert_eq!(rig.run(&other, configuration("1.1.0").to_string().as_bytes()).exit, Some(0));
    let list = |list: Value| with(configuration("1.1.0"), &json!({"cni.dev/valid-attachments": list}));
    rig.call("GC", &list(json!([{"containerID": "c1", "ifname": "eth1"}]))).is_silent_success();
    let left: Vec<_> = daemon.attached().into_iter().map(|one| one.ifname).collect();
    assert_eq!(left, ["eth1"]);
    let (code, _) = rig.call("GC", &configuration("1.1.0")).refusal();
    assert_eq!((code, daemon.attached().len()), (7, 1), "no list is not an empty list");
    rig.call("GC", &list(json!([]))).is_silent_success();
    assert_eq!(daemon.attached(), []);
}

#[test]
fn status_tells_whether_containers_could_be_attached() {
    let rig = Rig::new();
    let (code, words) = rig.call("STATUS", &configuration("1.1.0")).refusal();
    assert_eq!(code, 50);
    assert!(words.contains("start it with: systemctl start meshd"), "{words}");
    let daemon = Daemon::start(&rig.socket(), Mood::NotReady { questions: 1, is_connected: true });
    let (code, words) = rig.call("STATUS", &configuration("1.1.0")).refusal();
    assert_eq!((code, words.contains("the node has not joined a mesh")), (50, true), "{words}");
    daemon.set_mood(Mood::NotReady { questions: 1, is_connected: false });
    assert_eq!(rig.call("STATUS", &configuration("1.1.0")).refusal().0, 51);
    rig.call("STATUS", &configuration("1.1.0")).is_silent_success();
    assert_eq!(rig.call("STATUS", &with(configuration("1.1.0"), &json!({"pool": 7}))).refusal().0, 2);
}

/// A container that is attached.
fn attached() -> (Rig, Daemon) {
    let rig = Rig::new();
    let daemon = Daemon::start(&rig.socket(), Mood::Well);
    rig.call("ADD", &configuration("1.1.0")).result();
    assert_eq!(daemon.attached().len(), 1);
    daemon.asked();
    (rig, daemon)
}

/// The result of that ADD, as a runtime remembers it.
fn rig_result(rig: &Rig) -> Value {
    json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "msh1f0c9d2b7a4c", "mac": "02:00:00:00:00:01", "mtu": 1420},
            {"name": "eth0", "mac": "02:00:0A:CA:00:42", "mtu": 1420, "sandbox": rig.namespace()},
        ],
        "ips": [
            {"address": "10.202.0.66/32", "gateway": "169.254.1.1", "interface": 1},
            {"address": "fd77:202::42/128", "gateway": "fe80::1", "interface": 1},
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}, {"dst": "::/0", "gw": "fe80::1"}],
        "dns": {},
    })
}
