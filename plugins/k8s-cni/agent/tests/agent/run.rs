//! `meshd-k8s run`.

use std::fs;

use meshd_api::{ApiError, ErrorCode};
use meshd_stand_in::Mood;
use serde_json::{Value, json};

use crate::rig::{Rig, entry, pod, policy};

fn peers(told: &Value) -> Vec<String> {
    let Some(entry) = entry(told, "u-web") else { return Vec::new() };
    let peers = entry["ingress"][0]["peers"].as_array().expect("peers");
    peers.iter().map(|peer| peer["net"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn meshd_is_told_what_there_is_and_what_changes() {
    let mut rig = Rig::new();
    let meshd = rig.meshd();
    rig.api.put("pods", pod("web", "10.0.0.1"));
    rig.api.put("networkpolicies", policy());
    rig.agent(&[]);
    let told = rig.told(&meshd, "the first set", |_| true);
    assert_eq!((&told["runtime"], &told["network"]), (&json!("cni"), &json!("meshd")));
    assert_eq!(peers(&told), ["10.0.0.1/32"]);
    rig.until("the agent is ready", || rig.is_ready());

    rig.api.put("pods", pod("client", "10.0.0.9"));
    rig.told(&meshd, "another pod", |told| peers(told) == ["10.0.0.1/32", "10.0.0.9/32"]);
    rig.api.delete("pods", pod("client", "10.0.0.9"));
    rig.told(&meshd, "its end", |told| peers(told) == ["10.0.0.1/32"]);
    rig.api.delete("networkpolicies", policy());
    rig.told(&meshd, "the end of the policy", |told| {
        told["policies"] == json!([{"select": {"k8s.namespace": "shop"}, "ingress": null, "egress": null}])
    });
    assert!(rig.stop(), "{}", rig.log());
    assert!(!rig.is_ready(), "nobody keeps meshd told any more");
}

#[test]
fn nothing_is_said_before_all_was_seen() {
    let mut rig = Rig::new();
    let meshd = rig.meshd();
    rig.api.put("networkpolicies", policy());
    rig.api.refuse(Some("pods"));
    rig.agent(&[]);
    rig.until("the refusal is logged", || rig.log().contains("failed to watch the cluster"));
    assert_eq!(meshd.asked(), []);
    assert!(!rig.is_ready());
    rig.api.refuse(None);
    rig.told(&meshd, "the first set", |_| true);
}

#[test]
fn what_was_missed_while_the_api_server_was_away_is_caught_up_with() {
    let mut rig = Rig::new();
    let meshd = rig.meshd();
    rig.api.put("pods", pod("web", "10.0.0.1"));
    rig.api.put("pods", pod("client", "10.0.0.9"));
    rig.api.put("networkpolicies", policy());
    rig.agent(&[]);
    rig.told(&meshd, "the first set", |told| peers(told).len() == 2);
    rig.api.restart();
    rig.api.delete("pods", pod("client", "10.0.0.9"));
    rig.told(&meshd, "what is there now", |told| peers(told) == ["10.0.0.1/32"]);
}

#[test]
fn meshd_that_refuses_is_told_again_and_the_agent_is_not_ready_until_then() {
    let mut rig = Rig::new();
    let meshd = rig.meshd();
    meshd.set_mood(Mood::Refusing(
        "/v1/policies/set",
        ApiError::new(ErrorCode::StorageFailed, "the disk is full"),
    ));
    rig.agent(&[]);
    rig.until("the refusal is logged", || rig.log().contains("the disk is full"));
    assert!(!rig.is_ready());
    meshd.set_mood(Mood::Well);
    rig.until("the agent is ready", || rig.is_ready());
}

#[test]
fn meshd_that_comes_late_is_waited_for() {
    let mut rig = Rig::new();
    rig.agent(&[]);
    rig.until("its absence is logged", || rig.log().contains("can't reach the daemon"));
    let _meshd = rig.meshd();
    rig.until("the agent is ready", || rig.is_ready());
}

#[test]
fn the_command_is_run_once_meshd_knows_the_policies_and_until_it_succeeds() {
    let mut rig = Rig::new();
    let meshd = rig.meshd();
    let (gate, runs) = (rig.path("gate"), rig.path("runs"));
    let script = format!("echo run >>{}; test -e {}", runs.display(), gate.display());
    rig.agent(&["--", "sh", "-c", &script]);
    let count = || fs::read_to_string(&runs).unwrap_or_default().lines().count();
    rig.until("it is run again", || count() >= 2);
    assert!(meshd.asked().iter().any(|(path, _)| path == "/v1/policies/set"));
    assert!(!rig.is_ready());
    fs::write(&gate, []).expect("a file");
    rig.until("the agent is ready", || rig.is_ready());
    let before = count();
    rig.api.put("namespaces", json!({"metadata": {"name": "other"}}));
    rig.told(&meshd, "a change", |told| told["policies"].as_array().is_some_and(|all| all.len() == 2));
    rig.until("the agent is ready", || rig.is_ready());
    assert_eq!(count(), before);
}

#[test]
fn only_a_node_that_is_marked_as_without_a_network_is_changed() {
    let mut rig = Rig::new();
    let meshd = rig.meshd();
    let node = |status: &str| {
        let condition = json!({"type": "NetworkUnavailable", "status": status, "lastTransitionTime": null});
        json!({"metadata": {"name": "one"}, "status": {"conditions": [condition]}})
    };
    rig.api.put("nodes", node("False"));
    rig.agent(&[]);
    rig.told(&meshd, "the first set", |_| true);
    rig.until("the agent is ready", || rig.is_ready());
    assert_eq!(rig.api.patches(), []);
    rig.api.put("nodes", node("True"));
    rig.until("the mark is taken away", || !rig.api.patches().is_empty());
    let (path, patch) = rig.api.patches().swap_remove(0);
    assert_eq!(path, "/api/v1/nodes/one/status");
    let condition = &patch["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["status"]), (&json!("NetworkUnavailable"), &json!("False")));
    let time = condition["lastTransitionTime"].as_str().expect("a time");
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
}

#[test]
fn a_policy_that_cannot_be_read_is_logged_and_the_others_hold() {
    let mut rig = Rig::new();
    let meshd = rig.meshd();
    let mut odd = policy();
    odd["metadata"]["name"] = json!("odd");
    odd["spec"]["policyTypes"] = json!(["Both"]);
    rig.api.put("networkpolicies", odd);
    rig.api.put("pods", pod("web", "10.0.0.1"));
    rig.agent(&[]);
    let told = rig.told(&meshd, "the first set", |_| true);
    assert_eq!(told["policies"][0]["egress"], json!([]));
    rig.until("the fault is logged", || rig.log().contains(r#"shop/odd: unknown policy type "Both""#));
}

#[test]
fn policies_that_meshd_has_no_room_for_are_shut_until_it_has() {
    let mut rig = Rig::new();
    let meshd = rig.meshd();
    meshd.set_mood(Mood::Refusing("/v1/policies/set", ApiError::new(ErrorCode::TooMany, "no room")));
    rig.api.put("pods", pod("web", "10.0.0.1"));
    rig.api.put("networkpolicies", policy());
    rig.agent(&[]);
    rig.told(&meshd, "a set without what weighs most", |told| entry(told, "u-web").is_none());
    rig.until("the refusal of what can't be less is logged", || rig.log().contains("no room"));
    assert!(!rig.is_ready());
    meshd.set_mood(Mood::Well);
    rig.until("the agent is ready", || rig.is_ready());
    let asked = meshd.asked();
    let (_, last) = asked.iter().rfind(|(path, _)| path == "/v1/policies/set").expect("a set");
    assert_eq!(peers(last), ["10.0.0.1/32"], "all of it is tried again");
}
