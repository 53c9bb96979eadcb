//! What Docker sends, one file for each thing a user does: the calls, what meshd is asked, what comes back.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::rig::Rig;

#[test]
fn docker_20_10_creates_a_network_runs_a_container_and_removes_both() {
    replay(&["activate", "create-20.10", "run-20.10", "stop-20.10", "remove"]);
}

#[test]
fn docker_28_5_creates_a_network_runs_a_container_and_removes_both() {
    replay(&["activate", "create-28.5", "activate", "run-28.5", "stop-28.5", "remove"]);
}

#[test]
fn a_container_restarts_with_a_new_endpoint() {
    replay(&["create-28.5", "run-28.5", "stop-28.5", "run-28.5-again"]);
}

#[test]
fn docker_connects_a_running_container_to_an_internal_network() {
    replay(&["create-internal", "connect-internal"]);
}

#[test]
fn docker_tells_of_a_swarm() {
    replay(&["swarm"]);
}

/// Replays calls one after the other against one plugin and one daemon.
fn replay(names: &[&str]) {
    let (rig, daemon) = Rig::with_meshd();
    for name in names {
        for call in load(name).as_array().expect("calls") {
            let path = call["call"].as_str().expect("a path");
            let body = match &call["body"] {
                Value::Null => String::new(),
                body => body.to_string(),
            };
            let (status, answer) = rig.send(path, body.as_bytes());
            let answer: Value = serde_json::from_str(&answer).expect("a document");
            assert_eq!((status, &answer), (200, &call["answer"]), "{name} {path}: {answer:#}");
            let asked: Vec<Value> =
                daemon.asked().into_iter().map(|(path, body)| json!({"path": path, "body": body})).collect();
            assert_eq!(Value::from(asked.clone()), call["asked"], "{name} {path}: {:#}", Value::from(asked));
        }
    }
}

fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/plugin/calls/{name}.json"));
    serde_json::from_str(&fs::read_to_string(&path).expect(name)).expect(name)
}
