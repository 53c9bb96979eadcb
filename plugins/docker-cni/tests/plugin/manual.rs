//! The manual page and the unit against the program.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::rig::{Rig, network};

fn file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

#[test]
fn the_manual_has_every_option_of_the_program_and_of_a_network() {
    let manual = file("meshd-docker.8").replace("\\-", "-");
    let help = Command::new(env!("CARGO_BIN_EXE_meshd-docker")).arg("--help").output().expect("the plugin");
    let help = String::from_utf8(help.stdout).expect("text");
    let options: Vec<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    assert_eq!(options.len(), 5);
    for option in options {
        assert!(manual.contains(option), "{option}");
    }
    let unknown = network(&json!({"meshd.speed": "high"}));
    let line = Rig::new().refusal("NetworkDriver.CreateNetwork", &unknown);
    let known = line.split("known are ").nth(1).expect("the options known");
    let keys: Vec<&str> = known.split_whitespace().filter(|word| word.contains('.')).collect();
    assert_eq!(keys.len(), 4, "{known}");
    for key in keys {
        assert!(manual.contains(&format!(".B {key}\n")), "{key}");
    }
}

#[test]
fn docker_is_led_to_the_socket_that_the_unit_keeps() {
    let help = Command::new(env!("CARGO_BIN_EXE_meshd-docker")).arg("--help").output().expect("the plugin");
    let help = String::from_utf8(help.stdout).expect("text");
    let socket = "/run/docker/plugins/meshd.sock";
    assert!(help.contains(&format!("--socket PATH          where Docker asks [{socket}]")));
    assert_eq!(file("meshd.spec").trim(), format!("unix://{socket}"));
    let unit = file("systemd/meshd-docker.service");
    for line in ["RuntimeDirectory=docker/plugins", "RuntimeDirectoryPreserve=yes", "Before=docker.service"] {
        assert!(unit.lines().any(|one| one == line), "{line}");
    }
}
