//! Every verb in every version.

use serde_json::{Value, json};

use crate::rig::{Daemon, Mood, Rig, Run, configuration, with};

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[test]
fn a_verb_is_there_from_its_version_on() {
    for (verb, since) in [
        ("ADD", "0.3.0"),
        ("CHECK", "0.4.0"),
        ("GC", "1.1.0"),
        ("STATUS", "1.1.0"),
        ("DEL", "0.3.0"),
        ("VERSION", "0.3.0"),
    ] {
        for version in VERSIONS {
            let rig = Rig::new();
            let _daemon = Daemon::start(&rig.socket(), Mood::Well);
            let run = lead_up(&rig, verb, version);
            if version >= since {
                assert_eq!(run.exit, Some(0), "{verb} of {version}: {run:?}");
            } else {
                let error = run.error();
                assert_eq!(
                    (&error["code"], &error["cniVersion"]),
                    (&json!(1), &json!(version)),
                    "{verb}: {error}"
                );
                let message = format!("CNI {version} has no {verb}");
                assert_eq!(error["msg"], message);
            }
        }
    }
}

/// Calls a verb after what must come before it.
fn lead_up(rig: &Rig, verb: &str, version: &str) -> Run {
    let configuration = configuration(version);
    match verb {
        "CHECK" => {
            let result = rig.call("ADD", &configuration).result();
            rig.call("CHECK", &with(configuration, &json!({"prevResult": result})))
        }
        "GC" => rig.call("GC", &with(configuration, &json!({"cni.dev/valid-attachments": []}))),
        _ => rig.call(verb, &configuration),
    }
}

#[test]
fn a_result_has_the_shape_of_the_version_asked_for() {
    for version in VERSIONS {
        let rig = Rig::new();
        let _daemon = Daemon::start(&rig.socket(), Mood::Well);
        let result = rig.call("ADD", &configuration(version)).result();
        assert_eq!(result["cniVersion"], version);
        let family = |at: usize| result["ips"][at].get("version").and_then(Value::as_str);
        let is_old = version < "1.0.0";
        assert_eq!(
            (family(0), family(1)),
            if is_old { (Some("4"), Some("6")) } else { (None, None) },
            "{version}"
        );
        for interface in result["interfaces"].as_array().expect("a list") {
            let mtu = interface.get("mtu").and_then(Value::as_u64);
            assert_eq!(mtu, (version == "1.1.0").then_some(1420), "{version}");
        }
        assert_eq!(result["interfaces"][0].get("sandbox"), None, "the host's end is in no container");
        assert_eq!(result["interfaces"][1]["sandbox"], rig.namespace());
        assert_eq!(result["ips"][1]["interface"], 1);
    }
}

#[test]
fn versions_that_are_not_spoken_are_refused_with_those_that_are() {
    let rig = Rig::new();
    for version in [json!("0.2.0"), json!("1.2.0"), json!("1.0"), json!(""), Value::Null] {
        let (code, words) =
            rig.call("ADD", &with(configuration(""), &json!({"cniVersion": version}))).refusal();
        assert_eq!(code, 1, "{words}");
        assert!(words.ends_with("spoken are 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{words}");
    }
}

#[test]
fn of_several_versions_the_one_chosen_counts() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Well);
    let several = json!(["0.4.0", "1.0.0", "9.0.0"]);
    let chosen = rig.call("ADD", &with(configuration("0.4.0"), &json!({"cniVersions": several}))).result();
    assert_eq!(chosen["cniVersion"], "0.4.0");
    rig.call("DEL", &configuration("0.4.0")).is_silent_success();
    let left = rig.call("ADD", &with(configuration(""), &json!({"cniVersions": several}))).result();
    assert_eq!(left["cniVersion"], "1.0.0");
}

#[test]
fn versions_are_told_to_who_says_nothing() {
    let rig = Rig::new();
    for stdin in ["", "{", "[]", "7", r#"{"cniVersion":"9.9.9"}"#, r#"{"cniVersion":"1.1.0"}"#] {
        let environment = [("CNI_COMMAND".to_owned(), "VERSION".into())];
        let result = rig.run(&environment, stdin.as_bytes()).result();
        assert_eq!(result, json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS}), "{stdin}");
    }
}
