//! Endpoints and networks: what is asked of the daemon and what is printed.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::canned::{COLLECTED, ENDPOINT, ENDPOINTS, NETWORK, NETWORKS};
use crate::{Daemon, meshctl};

fn asked(daemon: &Daemon, path: &str) -> Value {
    serde_json::from_str(&daemon.asked(path)).expect("JSON")
}

fn attaching() -> Daemon {
    Daemon::new().answer("/v1/endpoints/attach", 200, ENDPOINT)
}

#[test]
fn a_namespace_is_attached_by_its_path() {
    let daemon = attaching();
    // Any file has a device and an inode; whether it is a namespace is for the daemon to say.
    let path = daemon.dir().join("web");
    std::fs::write(&path, "").expect("a file");
    let file = std::fs::metadata(&path).expect("a file");
    let line = ["attach", "--netns", "web", "--network", "lab", "--name", "web", "--label", "app=web"];
    let more = ["--ip", "10.91.128.5", "--ip", "fd12:3456:789a:1::a5b:8005", "--ifname", "eth7"];
    let run = meshctl(&daemon, &[&line[..], &more[..], &["--default-route"]].concat());
    insta::assert_snapshot!(run.to_text());
    let expected = json!({
        "attachment": {"runtime": "meshctl", "network": "lab", "container": path, "ifname": "eth7"},
        "namespace": {"path": path, "dev": file.dev(), "ino": file.ino()},
        "addresses": ["10.91.128.5", "fd12:3456:789a:1::a5b:8005"],
        "mac": null,
        "mtu": null,
        "name": "web",
        "labels": {"app": "web"},
        "image": null,
        "is_default_route": true,
    });
    assert_eq!(asked(&daemon, "/v1/endpoints/attach"), expected);
}

#[test]
fn a_process_is_attached_by_its_number() {
    let daemon = attaching();
    let path = format!("/proc/{}/ns/net", std::process::id());
    let file = std::fs::metadata(&path).expect("a namespace");
    let run = meshctl(&daemon, &["attach", "--pid", &std::process::id().to_string()]);
    assert_eq!(run.code, 0, "{run:?}");
    let asked = asked(&daemon, "/v1/endpoints/attach");
    let attachment =
        json!({"runtime": "meshctl", "network": "default", "container": path, "ifname": "mesh0"});
    assert_eq!(asked["attachment"], attachment);
    assert_eq!(asked["namespace"], json!({"path": path, "dev": file.dev(), "ino": file.ino()}));
    assert_eq!((&asked["addresses"], &asked["name"]), (&json!([]), &json!(null)));
}

#[test]
fn a_namespace_that_is_not_there_is_told_before_the_daemon_is_asked() {
    let run = meshctl(&Daemon::new(), &["attach", "--netns", "/no/such/namespace"]);
    insta::assert_snapshot!(run.to_text());
}

#[test]
fn what_is_gone_is_detached_by_the_same_path() {
    let gone = r#"{"schema":"meshd.detached/1","detached":1}"#;
    let none = r#"{"schema":"meshd.detached/1","detached":0}"#;
    let path = "/v1/endpoints/detach";
    let daemon = Daemon::new().answer(path, 200, gone).answer(path, 200, none);
    let run = meshctl(&daemon, &["detach", "--netns", "web", "--network", "lab", "--ifname", "eth7"]);
    assert_eq!((run.stdout.as_str(), run.code), ("detached one endpoint\n", 0));
    let container = daemon.dir().join("web");
    let attachment =
        json!({"runtime": "meshctl", "network": "lab", "container": container, "ifname": "eth7"});
    assert_eq!(asked(&daemon, path), json!({ "attachment": attachment }));

    let run = meshctl(&daemon, &["detach", "--pid", "7"]);
    assert_eq!((run.stdout.as_str(), run.code), ("nothing was attached\n", 0));
    let attachment =
        json!({"runtime": "meshctl", "network": "default", "container": "/proc/7/ns/net", "ifname": ""});
    assert_eq!(asked(&daemon, path), json!({ "attachment": attachment }), "all of its interfaces");
}

#[test]
fn endpoints_are_a_table() {
    let daemon = Daemon::new().answer("/v1/endpoints", 200, ENDPOINTS);
    insta::assert_snapshot!("endpoints", meshctl(&daemon, &["endpoints"]).to_text());
    insta::assert_snapshot!("endpoints-long", meshctl(&daemon, &["endpoints", "--long"]).to_text());
    assert_eq!(meshctl(&daemon, &["endpoints", "--json"]).stdout, format!("{ENDPOINTS}\n"));
    let none = Daemon::new().answer("/v1/endpoints", 200, r#"{"schema":"meshd.endpoints/1","endpoints":[]}"#);
    assert_eq!(meshctl(&none, &["endpoints"]).stdout, "no endpoints\n");
}

#[test]
fn what_ended_by_itself_is_removed_and_told() {
    let path = "/v1/endpoints/gc";
    let none = r#"{"schema":"meshd.endpoints-collected/1","collected":[]}"#;
    let daemon = Daemon::new().answer(path, 200, COLLECTED);
    insta::assert_snapshot!("endpoints-gc", meshctl(&daemon, &["endpoints", "gc"]).to_text());
    assert_eq!(asked(&daemon, path), json!({"dry_run": false}));
    let daemon = Daemon::new().answer(path, 200, COLLECTED).answer(path, 200, COLLECTED);
    let dry = meshctl(&daemon, &["endpoints", "gc", "--dry-run"]);
    assert!(dry.stdout.lines().all(|line| line.starts_with("would remove ")), "{}", dry.stdout);
    assert_eq!(asked(&daemon, path), json!({"dry_run": true}));
    assert_eq!(meshctl(&daemon, &["endpoints", "gc", "--json"]).stdout, format!("{COLLECTED}\n"));
    let daemon = Daemon::new().answer(path, 200, none);
    assert_eq!(meshctl(&daemon, &["endpoints", "gc"]).stdout, "nothing to remove\n");
}

#[test]
fn a_network_is_made_of_subnets_and_options() {
    let daemon = Daemon::new().answer("/v1/networks/put", 200, NETWORK);
    let line = ["network", "create", "lab", "--subnet", "10.91.128.0/20,fd12:3456:789a:1::/96"];
    let more = [
        "--alloc",
        "sequential",
        "--egress",
        "mesh",
        "--mtu",
        "1300",
        "--range",
        "10.91.128.0/24",
        "--reach",
        "network",
    ];
    insta::assert_snapshot!(meshctl(&daemon, &[&line[..], &more[..]].concat()).to_text());
    let answer: Value = serde_json::from_str(NETWORK).expect("JSON");
    assert_eq!(asked(&daemon, "/v1/networks/put"), json!({"network": answer["network"]}));

    let run = meshctl(&daemon, &["network", "create", "six", "--subnet", "fd12:3456:789a:1::/96"]);
    assert_eq!(run.code, 0, "{run:?}");
    let six = json!({
        "runtime": "meshctl",
        "network": "six",
        "pool4": null,
        "pool6": "fd12:3456:789a:1::/96",
        "allocation": "blocks",
        "egress": "runtime",
        "mtu": null,
        "ranges": [],
        "reach": "mesh",
        "policy": "optional",
    });
    assert_eq!(asked(&daemon, "/v1/networks/put"), json!({ "network": six }));
}

#[test]
fn networks_are_a_table_with_the_room_for_more() {
    let daemon = Daemon::new().answer("/v1/networks", 200, NETWORKS);
    insta::assert_snapshot!("networks", meshctl(&daemon, &["network", "list"]).to_text());
    assert_eq!(meshctl(&daemon, &["network", "list", "--json"]).stdout, format!("{NETWORKS}\n"));
    let none =
        r#"{"schema":"meshd.networks/1","networks":[],"own_prefixes":["10.91.0.0/16"],"mesh_prefixes":[]}"#;
    let none = Daemon::new().answer("/v1/networks", 200, none);
    assert_eq!(meshctl(&none, &["network", "list"]).stdout, "no networks\n");
}

#[test]
fn a_network_is_removed_by_its_name() {
    let path = "/v1/networks/remove";
    let gone = r#"{"schema":"meshd.network-removed/1","existed":true}"#;
    let daemon = Daemon::new().answer(path, 200, gone).answer(path, 200, &gone.replace("true", "false"));
    assert_eq!(meshctl(&daemon, &["network", "remove", "lab"]).stdout, "removed lab\n");
    assert_eq!(asked(&daemon, path), json!({"runtime": "meshctl", "network": "lab"}));
    assert_eq!(meshctl(&daemon, &["network", "remove", "lab"]).stdout, "there was no lab\n");
}
