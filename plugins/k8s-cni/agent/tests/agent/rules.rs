//! `meshd-k8s rules`.

use std::fs;

use serde_json::{Value, json};

use crate::rig::{Rig, pod, policy};

fn file(rig: &Rig, name: &str, text: &str) -> String {
    let path = rig.path(name);
    fs::write(&path, text).expect("a file");
    path.display().to_string()
}

fn object(kind: &str, mut object: Value) -> String {
    object["kind"] = json!(kind);
    object.to_string()
}

#[test]
fn files_in_yaml_and_json_are_read_as_one() {
    let rig = Rig::new();
    let yaml = format!(
        "{}\n---\n---\nkind: Deployment\nspec: {{}}\n",
        "kind: PodList\nitems:\n- metadata: {name: web, namespace: shop, uid: u-web, labels: {app: web}}\n  spec: {containers: [], nodeName: one}\n  status: {podIP: 10.0.0.1}"
    );
    let (yaml, json) =
        (file(&rig, "pods.yaml", &yaml), file(&rig, "policy.json", &object("NetworkPolicy", policy())));
    let output = rig.rules(&["--file", &yaml, "--file", &json, "--node", "one", "--network", "pods"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        said,
        json!({"runtime": "cni", "network": "pods", "policies": [
            {"select": {"k8s.namespace": "shop"}, "ingress": [], "egress": null},
            {"select": {"k8s.namespace": "shop", "k8s.pod-uid": "u-web"},
             "ingress": [{"peers": [{"net": "10.0.0.1/32", "except": []}], "ports": null}], "egress": null},
        ]})
    );
}

#[test]
fn what_is_applied_reaches_meshd_as_it_was_printed() {
    let rig = Rig::new();
    let meshd = rig.meshd();
    let (pods, policies) = (
        file(&rig, "pod.json", &object("Pod", pod("web", "10.0.0.1"))),
        file(&rig, "policy.json", &object("NetworkPolicy", policy())),
    );
    let socket = rig.path("plugin.sock").display().to_string();
    let output = rig.rules(&["--file", &pods, "--file", &policies, "--apply", "--socket", &socket]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(meshd.asked(), [("/v1/policies/set".to_owned(), said)]);
}

#[test]
fn what_cannot_be_read_is_refused_with_the_reason_and_nothing_is_applied() {
    let rig = Rig::new();
    let meshd = rig.meshd();
    let socket = rig.path("plugin.sock").display().to_string();
    for (text, reason) in [
        ("a: [", "the text is no YAML"),
        ("{\"a\": ", "the text starts as JSON but is none"),
        ("7", "7 is no object"),
        ("a: b", "an object without a kind"),
        ("kind: Pod\nmetadata: {}", "a Pod without a name"),
        ("kind: Pod\nmetadata: {name: x}\nspec: 7", "a Pod that is none"),
        (
            "kind: NetworkPolicy\nmetadata: {name: x}\nspec: {policyTypes: [Both]}",
            r#"default/x: unknown policy type "Both""#,
        ),
        (
            "kind: List\nitems: [{kind: List, items: [{kind: List, items: [{kind: List, items: [{kind: List, items: []}]}]}]}]",
            "lists in lists",
        ),
    ] {
        let path = file(&rig, "objects", text);
        let output = rig.rules(&["--file", &path, "--apply", "--socket", &socket]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}: {said}");
        assert!(said.starts_with("error: ") && said.contains(reason), "{text}: {said}");
        assert_eq!(output.stdout, b"");
    }
    let output = rig.rules(&["--file", "/nowhere/objects"]);
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: failed to read /nowhere/objects"));
    assert_eq!(meshd.asked(), []);
}
