//! The manifests: base, chart and rendered file say the same, and what they name is there.
//!
//! Helm is in no registry of packages that tests use. The chart's templates use three things of it, a value, a value
//! as JSON and the namespace of the release; those are rendered here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Objects by kind and name.
type Objects = BTreeMap<String, Value>;

const NAMESPACE: &str = "kube-system";

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a directory").join("deploy")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn objects(texts: &[String]) -> Objects {
    let mut found = Objects::new();
    for text in texts {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("YAML");
        for object in documents {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            assert_eq!(found.insert(name.clone(), object), None, "{name} stands there twice");
        }
    }
    found
}

fn base() -> Objects {
    let dir = deploy().join("base");
    let kustomization: Value = serde_saphyr::from_str(&text(&dir.join("kustomization.yaml"))).expect("YAML");
    let files = kustomization["resources"].as_array().expect("a list").iter();
    objects(&files.map(|file| text(&dir.join(file.as_str().expect("a name")))).collect::<Vec<_>>())
}

fn chart(change: impl FnOnce(&mut Value)) -> Objects {
    let dir = deploy().join("helm");
    let mut values: Value = serde_saphyr::from_str(&text(&dir.join("values.yaml"))).expect("YAML");
    change(&mut values);
    let files =
        fs::read_dir(dir.join("templates")).expect("a directory").map(|entry| entry.expect("a file").path());
    objects(&files.map(|file| render(&text(&file), &values)).collect::<Vec<_>>())
}

fn render(template: &str, values: &Value) -> String {
    let mut parts = template.split("{{");
    let mut rendered = parts.next().expect("a beginning").to_owned();
    for part in parts {
        let (expression, rest) = part.split_once("}}").expect("an end");
        rendered.push_str(&evaluate(expression.trim(), values));
        rendered.push_str(rest);
    }
    rendered
}

fn evaluate(expression: &str, values: &Value) -> String {
    if expression == ".Release.Namespace" {
        return NAMESPACE.to_owned();
    }
    let path = expression.strip_prefix(".Values.").and_then(|rest| rest.strip_suffix(" | toJson"));
    let path = path.unwrap_or_else(|| panic!("{expression} is not rendered here"));
    let value = values.pointer(&format!("/{}", path.replace('.', "/")));
    value.unwrap_or_else(|| panic!("values.yaml has no {path}")).to_string()
}

#[test]
fn the_rendered_file_is_the_base() {
    let rendered = objects(&[text(&deploy().join("rendered.yaml"))]);
    assert_eq!(rendered.keys().collect::<Vec<_>>(), base().keys().collect::<Vec<_>>());
    for (name, object) in base() {
        assert_eq!(rendered[&name], object, "{name}");
    }
}

#[test]
fn the_chart_with_its_own_values_is_the_base() {
    let chart = chart(|_| {});
    assert_eq!(chart.keys().collect::<Vec<_>>(), base().keys().collect::<Vec<_>>());
    for (name, object) in base() {
        assert_eq!(chart[&name], object, "{name}");
    }
}

#[test]
fn every_value_of_the_chart_reaches_an_object() {
    let values: Value = serde_saphyr::from_str(&text(&deploy().join("helm/values.yaml"))).expect("YAML");
    for key in values.as_object().expect("values").keys() {
        let changed = chart(|values| values[key] = Value::from("changed"));
        assert!(serde_json::to_string(&changed).expect("JSON").contains("changed"), "{key}");
    }
}

#[test]
fn commands_of_the_containers_are_understood_by_the_programs() {
    let daemon_set = &base()["\"DaemonSet\" \"meshd\""];
    let containers = &daemon_set["spec"]["template"]["spec"]["containers"];
    let agent = containers.as_array().expect("containers").iter().find(|one| one["name"] == "agent");
    let agent = agent.expect("the agent");
    let words = |list: &Value| -> Vec<String> {
        list.as_array()
            .expect("a command")
            .iter()
            .map(|word| word.as_str().expect("text").to_owned())
            .collect()
    };
    for command in [words(&agent["command"]), words(&agent["readinessProbe"]["exec"]["command"])] {
        assert_eq!(command[0], "meshd-k8s");
        // Help is told before anything is done, but only after every option before it was understood.
        let until = command.iter().position(|word| word == "--").unwrap_or(command.len());
        let mut line = command[1..until].to_vec();
        line.extend(["--node".to_owned(), "x".to_owned()].into_iter().filter(|_| command[1] == "run"));
        let output =
            Command::new(env!("CARGO_BIN_EXE_meshd-k8s")).args(line).arg("--help").output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_agent_may_do_what_it_does_and_no_more() {
    let role = &base()["\"ClusterRole\" \"meshd\""];
    let mut rights = Vec::new();
    for rule in role["rules"].as_array().expect("rules") {
        let list = |key: &str| -> Vec<String> {
            rule[key]
                .as_array()
                .expect("a list")
                .iter()
                .map(|one| one.as_str().expect("text").to_owned())
                .collect()
        };
        rights.push(format!(
            "{} {}: {}",
            list("apiGroups").join(","),
            list("resources").join(","),
            list("verbs").join(",")
        ));
    }
    assert_eq!(
        rights,
        [
            " nodes,namespaces,pods: get,list,watch",
            "networking.k8s.io networkpolicies: get,list,watch",
            " nodes/status: patch",
        ]
    );
}
