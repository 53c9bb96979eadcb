//! The manual page against the program.

use crate::rig::{Rig, configuration};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn the_manual_has_every_option_and_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("meshd-cni.8");
    let manual = fs::read_to_string(path).expect("the manual").replace("\\-", "-");
    let help = Command::new(env!("CARGO_BIN_EXE_meshd-cni")).arg("--help").output().expect("the plugin");
    let help = String::from_utf8(help.stdout).expect("text");
    let options: Vec<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    assert!(options.len() >= 13);
    for option in options {
        assert!(manual.contains(option), "{option}");
    }
    let mut unknown = configuration("1.1.0");
    unknown["x"] = 7.into();
    let (_, words) = Rig::new().call("ADD", &unknown).refusal();
    let keys = words.split("meshd has ").nth(1).expect("the keys known");
    for key in keys.split(", ") {
        assert!(manual.contains(&format!(".B {key}\n")), "{key}");
    }
}
