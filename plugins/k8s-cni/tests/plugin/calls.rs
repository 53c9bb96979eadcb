//! What real runtimes send, one file a call: the environment, standard input, what meshd is asked, what comes out.
//!
//! A network namespace stands there as NETNS_PATH; device and inode of it are left out.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::rig::{Daemon, Mood, Rig};

#[test]
fn containerd_2_1_starts_a_pod() {
    replay(&["containerd-2.1-add"]);
}

#[test]
fn containerd_2_1_ends_a_pod_with_several_calls() {
    replay(&[
        "containerd-2.1-add",
        "containerd-2.1-del",
        "containerd-2.1-del-again",
        "containerd-2.1-del-again",
    ]);
}

#[test]
fn containerd_2_1_asks_whether_the_network_is_ready() {
    replay(&["containerd-2.1-status"]);
}

#[test]
fn containerd_1_6_starts_and_ends_a_pod() {
    replay(&["containerd-1.6-add", "containerd-1.6-del"]);
}

#[test]
fn ctr_runs_a_container() {
    replay(&["ctr-add", "ctr-del"]);
}

#[test]
fn podman_runs_a_container_with_addresses_of_its_own() {
    replay(&["podman-add", "podman-del"]);
}

#[test]
fn podman_connects_a_container_to_a_second_network() {
    replay(&["podman-add-second"]);
}

#[test]
fn cnitool_uses_every_verb() {
    replay(&["cnitool-version", "cnitool-add", "cnitool-check", "cnitool-gc", "cnitool-del"]);
}

/// Replays calls one after the other against one daemon.
fn replay(names: &[&str]) {
    let rig = Rig::new();
    let daemon = Daemon::start(&rig.socket(), Mood::Well);
    for name in names {
        let call = load(name, &rig.namespace());
        let environment: Vec<_> = call["environment"]
            .as_object()
            .expect("variables")
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().expect("a text").into()))
            .collect();
        let run = rig.run(&environment, call["stdin"].to_string().as_bytes());
        assert_eq!(run.exit, Some(0), "{name}: {run:?}");
        let stdout = if run.stdout.is_empty() { Value::Null } else { run.result() };
        assert_eq!(stdout, call["stdout"], "{name}: {stdout:#}");
        let asked: Vec<Value> = daemon
            .asked()
            .into_iter()
            .map(|(path, body)| json!({"path": path, "body": without_inode(body)}))
            .collect();
        assert_eq!(Value::from(asked.clone()), call["asked"], "{name}: {:#}", Value::from(asked));
    }
}

fn load(name: &str, namespace: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/plugin/calls/{name}.json"));
    let text = fs::read_to_string(&path).expect(name).replace("NETNS_PATH", namespace);
    serde_json::from_str(&text).expect(name)
}

fn without_inode(mut body: Value) -> Value {
    if let Some(namespace) = body.get_mut("namespace").and_then(Value::as_object_mut) {
        assert!(namespace.remove("dev").is_some_and(|dev| dev.is_u64()));
        assert!(namespace.remove("ino").is_some_and(|ino| ino.as_u64() > Some(0)));
    }
    body
}
