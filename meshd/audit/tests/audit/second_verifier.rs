//! The verifier in Python, which somebody else wrote from the format documents, says what this one says.

#![expect(clippy::disallowed_types, reason = "the second verifier is another program")]

use std::path::{Path, PathBuf};
use std::process::Command;

use meshd_wire::MeshId;

use crate::faults::{fixtures, verdict};
use crate::fixtures::all;

#[test]
fn both_verifiers_say_the_same_of_every_bundle() {
    let dir = tempfile::tempdir().expect("a directory");
    fixtures(dir.path());
    let python = python();
    let mut differing = Vec::new();
    for fixture in all() {
        let first = verdict(&fixture.bytes, fixture.mesh);
        let file = dir.path().join(format!("{}.bundle", fixture.name));
        let second = second_verdict(python, &file, fixture.mesh);
        if first != second {
            differing.push(format!("{}: {first:?} says the first, {second:?} the second", fixture.name));
        }
    }
    assert!(differing.is_empty(), "the verifiers differ\n{}", differing.join("\n"));
}

#[test]
fn the_second_verifier_passes_its_own_tests() {
    let tests = docs().join("test_verify.py");
    let said = Command::new(python()).arg("-B").arg(tests).output().expect("python3 starts");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// What the second verifier says: its exit code and the codes of all findings, sorted, each once.
fn second_verdict(python: &str, file: &Path, mesh: MeshId) -> (u8, Vec<String>) {
    let mut command = Command::new(python);
    command.arg("-B").arg(docs().join("verify.py")).arg(file).args(["--mesh", &mesh.to_string(), "--json"]);
    let said = command.output().expect("python3 starts");
    let talk = String::from_utf8_lossy(&said.stderr);
    assert!(!talk.contains("Traceback"), "{}: {talk}", file.display());
    let exit = said.status.code().and_then(|code| u8::try_from(code).ok()).expect("an exit code");
    if said.stdout.is_empty() {
        return (exit, Vec::new());
    }
    let report: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings");
    let mut codes: Vec<String> =
        findings.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned()).collect();
    codes.sort();
    codes.dedup();
    (exit, codes)
}

/// The first Python that has what the verifier needs; a developer's own may not.
fn python() -> &'static str {
    let able = |python: &&str| {
        let tried = Command::new(python).args(["-c", "import cryptography"]).output();
        tried.is_ok_and(|said| said.status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(able).expect(
        "the second verifier needs python3 and its package `cryptography`; Debian has it as python3-cryptography",
    )
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit")
}
