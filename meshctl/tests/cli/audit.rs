//! Audits: of directories, of bundles, and what is written for others.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::files;
use crate::made::{Dir, Mesh, PERIOD, START};
use crate::observed::journal;
use crate::{Daemon, Run, meshctl_in};

#[test]
fn every_fixture_ends_with_its_code() {
    let dir = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files() {
        fs::write(dir.path().join(name), bytes).expect("written");
    }
    let index = fs::read_to_string(dir.path().join("index.json")).expect("an index");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    let index = index.as_array().expect("a list");
    assert!(index.len() > 40, "{}", index.len());
    for fixture in index {
        let word = |name: &str| fixture[name].as_str().expect("a word");
        let run = meshctl_in(
            dir.path(),
            &["audit", "verify-bundle", word("file"), "--mesh", word("mesh"), "--json"],
        );
        assert_eq!(Some(i64::from(run.code)), fixture["exit"].as_i64(), "{fixture}: {run:?}");
        let codes = fixture["codes"].as_array().expect("a list");
        if codes.is_empty() && run.code != 0 {
            assert!(run.stderr.starts_with("error: "), "{fixture}: {run:?}");
            continue;
        }
        let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
        let logs = report["logs"].as_array().expect("logs").iter().flat_map(|log| log["findings"].as_array());
        let findings = report["findings"].as_array().into_iter().chain(logs).flatten();
        let mut found: Vec<&Value> = findings.map(|finding| &finding["code"]).collect();
        found.sort_by_key(|code| code.to_string());
        found.dedup();
        assert_eq!(found, codes.iter().collect::<Vec<_>>(), "{fixture}");
    }
}

#[test]
fn a_directory_is_verified() {
    let (dir, mesh) = steward();
    let at = mesh.now.to_string();
    let run = meshctl_in(dir.path(), &["audit", "verify", "--log", "care.log", "--at", &at]);
    insta::assert_snapshot!("audit-verify", run.to_text());
    let id = mesh.id.to_string();
    let same = ["audit", "verify", "--state-dir", "state", "--at", &at, "--mesh", &id];
    let run = meshctl_in(dir.path(), &same);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(!run.stdout.contains("not compared"), "{run:?}");
    let other = Mesh::lived(2, 0).id.to_string();
    let run = meshctl_in(dir.path(), &["audit", "verify", "--log", "care.log", "--mesh", &other]);
    assert_eq!(run.code, 1, "{run:?}");
}

#[test]
fn what_a_log_tells_is_shown_in_parts() {
    let (dir, mesh) = steward();
    let at = mesh.now.to_string();
    for (name, words) in [
        ("key", &["key", "scanner"][..]),
        ("overdue", &["overdue"]),
        ("as-of", &["as-of", "2027-01-15T22:00:00Z"]),
    ] {
        let mut args = vec!["audit"];
        args.extend(words);
        args.extend(["--log", "care.log", "--at", &at]);
        insta::assert_snapshot!(format!("audit-{name}"), meshctl_in(dir.path(), &args).to_text());
        args.push("--json");
        let run = meshctl_in(dir.path(), &args);
        assert!(
            serde_json::from_str::<Value>(&run.stdout).is_ok_and(|json| json["verdict"] == "clean"),
            "{run:?}"
        );
    }
    let late = (mesh.now + 2 * PERIOD).to_string();
    let run = meshctl_in(dir.path(), &["audit", "overdue", "--log", "care.log", "--at", &late]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stdout.contains("OVERDUE"), "{run:?}");
    let run =
        meshctl_in(dir.path(), &["audit", "overdue", "--log", "care.log", "--at", &late, "--period", "2d"]);
    assert_eq!(run.code, 0, "{run:?}");
    let run = meshctl_in(dir.path(), &["audit", "key", "nobody", "--log", "care.log"]);
    assert_eq!(run.code, 1, "{run:?}");
}

#[test]
fn a_directory_that_lost_or_changed_files_is_told_apart() {
    let (dir, mesh) = steward();
    let at = mesh.now.to_string();
    let log = dir.path().join("care.log");
    let size = mesh.orgs[0].leaves.len();
    let verify = || meshctl_in(dir.path(), &["audit", "verify", "--log", "care.log", "--at", &at]);
    for path in
        [format!("tile/0/000.p/{size}"), format!("tile/entries/000.p/{size}"), format!("record/000.p/{size}")]
    {
        let honest = fs::read(log.join(&path)).expect("a file");
        fs::write(log.join(&path), &honest[..honest.len() / 2]).expect("cut");
        let run = verify();
        assert_eq!(run.code, 3, "{path} cut: {run:?}");
        assert!(run.stdout.contains(&path), "{run:?}");
        fs::remove_file(log.join(&path)).expect("removed");
        let run = verify();
        assert_eq!(run.code, 4, "{path} gone: {run:?}");
        assert!(run.stdout.contains(&path), "{run:?}");
        fs::write(log.join(&path), honest).expect("back");
    }
    assert_eq!(verify().code, 0);
    fs::remove_file(log.join("checkpoint")).expect("removed");
    assert_eq!(verify().code, 4);
    fs::remove_file(log.join("chain")).expect("removed");
    let run = verify();
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("hint: name the directory of a log"), "{run:?}");
}

#[test]
fn a_wrong_call_is_no_finding() {
    let dir = tempfile::tempdir().expect("a directory");
    for args in [
        &["audit"][..],
        &["audit", "fly"],
        &["--socket", "x", "audit", "verify", "--log", "a", "--bundle", "b"],
        &["--json", "audit", "key"],
        &["audit", "verify", "--mesh", "short"],
        &["audit", "as-of", "yesterday"],
        &["audit", "verify", "--log", "nowhere"],
        &["audit", "verify", "--bundle", "nowhere"],
        &["audit", "verify-bundle", "nowhere"],
        &["audit", "export", "--format", "pdf"],
        &["audit", "split-view", "nowhere"],
        &["audit", "observed", "--at", "yesterday"],
        &["audit", "watch", "--for", "ever"],
    ] {
        let run = meshctl_in(dir.path(), args);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{args:?}: {run:?}");
    }
}

#[test]
fn a_bundle_is_made_once_and_says_what_the_log_says() {
    let (dir, mesh) = steward();
    let at = mesh.now.to_string();
    let make = ["audit", "bundle", "--log", "care.log", "--at", &at, "-o", "made.bundle"];
    let run = meshctl_in(dir.path(), &make);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    assert_eq!(fs::read(dir.path().join("made.bundle")).expect("a bundle"), mesh.bundle());
    let run = meshctl_in(dir.path(), &make);
    assert_eq!(run.code, 1, "never overwritten: {run:?}");
    let id = mesh.id.to_string();
    let run = meshctl_in(dir.path(), &["audit", "verify-bundle", "made.bundle", "--mesh", &id]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn logs_of_several_organisations_go_into_one_bundle() {
    let dir = tempfile::tempdir().expect("a directory");
    let mesh = Mesh::lived(2, 1);
    for (name, org) in [("a", 0), ("b", 1)] {
        put_log(&dir.path().join(name), &mesh, org);
    }
    let (at, id) = (mesh.now.to_string(), mesh.id.to_string());
    let make = |also: &[&str]| {
        let mut args = vec!["audit", "bundle", "--log", "a", "--at", &at, "--mesh", &id];
        args.extend(also);
        meshctl_in(dir.path(), &args)
    };
    let run = make(&["-o", "one"]);
    assert_eq!(run.code, 4, "the other log is not there: {run:?}");
    let run = meshctl_in(dir.path(), &["audit", "verify", "--log", "a", "--at", &at]);
    assert_eq!(run.code, 0, "nobody expects it in a directory: {run:?}");
    let run = make(&["-o", "both", "--also", "b"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(fs::read(dir.path().join("both")).expect("a bundle"), mesh.bundle());
    let run = make(&["-o", "twice", "--also", "a"]);
    assert_eq!(run.code, 1, "{run:?}");
}

#[test]
fn an_audit_is_written_for_programs_and_for_people() {
    let (dir, mesh) = steward();
    let late = (mesh.now + 2 * PERIOD).to_string();
    let export = |format: &str| -> Run {
        let run = meshctl_in(
            dir.path(),
            &["audit", "export", "--format", format, "--log", "care.log", "--at", &late],
        );
        assert_eq!((run.code, run.stderr.as_str()), (2, ""), "{run:?}");
        run
    };
    let json: Value = serde_json::from_str(&export("json").stdout).expect("JSON");
    assert_eq!((&json["schema"], &json["verdict"]), (&"meshctl.audit/1".into(), &"findings".into()));
    let lines = export("jsonl").stdout;
    let types: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["type"].clone())
        .collect();
    assert_eq!(types[0], "audit");
    for one in ["finding", "checkpoint", "node", "key"] {
        assert!(types.contains(&one.into()), "{one}");
    }
    let csv = export("csv").stdout;
    assert!(csv.lines().all(|line| line.split(',').count() == 14), "{csv}");
    assert_eq!(csv.lines().count(), 1 + json["logs"][0]["keys"].as_array().expect("keys").len());
    let html = export("html").stdout;
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    for wanted in [
        "Exceptions",
        "OVERDUE",
        "<svg",
        "A.8.24",
        "NEN 7510",
        "SP 800-57",
        "164.312",
        "PCI DSS",
        "@media print",
        "verify-bundle",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
    for unwanted in ["<script", "http:", "https:", "src="] {
        assert!(!html.contains(unwanted), "{unwanted}");
    }
    let first = html.find("Exceptions</h2>").zip(html.find("Keys</h3>"));
    assert!(first.is_some_and(|(exceptions, keys)| exceptions < keys), "exceptions come first");
}

#[test]
fn two_faces_of_a_log_are_written_down() {
    let dir = tempfile::tempdir().expect("a directory");
    auditor(dir.path());
    let run = meshctl_in(dir.path(), &["audit", "split-view", "care.bundle", "forked.bundle"]);
    assert_eq!(run.code, 3, "{run:?}");
    let evidence = fs::read_to_string(dir.path().join("evidence")).expect("evidence");
    assert!(evidence.starts_with("meshd-evidence 1\nnote "), "{evidence}");
    let run = meshctl_in(dir.path(), &["audit", "split-view", "checkpoint.of-another-node"]);
    assert_eq!(run.code, 1, "nobody says by which key: {run:?}");
    let run = meshctl_in(dir.path(), &["audit", "split-view", "care.bundle", "checkpoint.of-nobody"]);
    assert_eq!(run.code, 4, "{run:?}");
}

#[test]
fn the_document_for_auditors_does_what_it_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let mesh = auditor(dir.path());
    let daemon = Daemon::new().answer("/v1/observed", 200, &journal(&mesh).to_string());
    let socket = daemon.socket().display().to_string();
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/auditing.md");
    let document = fs::read_to_string(document).expect("a document");
    let (mut is_block, mut typed) = (false, 0);
    for line in document.lines() {
        if line.starts_with("```") {
            is_block = line == "```sh";
            continue;
        }
        if !is_block {
            continue;
        }
        let (command, code) = line.split_once(" # exits ").unwrap_or((line, "0"));
        let id = mesh.id.to_string();
        let words: Vec<&str> =
            command.split(' ').map(|word| if word == "MESH" { &id } else { word }).collect();
        assert_eq!(words[0], "meshctl", "{line}");
        // A directory is audited as of now, which for this log is long ago or far away.
        let at = mesh.now.to_string();
        let mut args = [&["--socket", &socket], &words[1..]].concat();
        if args.contains(&"--log") {
            args.extend(["--at", &at]);
        }
        let run = meshctl_in(dir.path(), &args);
        assert_eq!(run.code.to_string(), code, "{line}: {run:?}");
        typed += 1;
    }
    assert!(typed > 10, "{typed}");
}

/// A log of one organisation as a steward has it, twice: as a copy and in a state directory.
pub fn steward() -> (TempDir, Mesh) {
    let dir = tempfile::tempdir().expect("a directory");
    let mesh = Mesh::lived(1, 2);
    put(&dir.path().join("care.log"), &mesh);
    put(&dir.path().join("state/steward/log"), &mesh);
    (dir, mesh)
}

/// What an auditor has before the eyes in the document.
fn auditor(dir: &Path) -> Mesh {
    let mesh = Mesh::lived(1, 2);
    put(&dir.join("care.log"), &mesh);
    put(&dir.join("mirror/ID"), &mesh);
    let write = |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).expect("written");
    let mut seen = journal(&mesh);
    write("scanner.observed", seen.to_string().as_bytes());
    seen["keys"][0]["epoch"] = 9.into();
    write("rogue.observed", seen.to_string().as_bytes());
    write("care.bundle", &mesh.bundle());
    write("other.bundle", &Mesh::lived(2, 0).bundle());
    let mut changed = mesh.bundle();
    let middle = changed.len() / 2;
    let letter = changed[middle..].iter().position(|byte| *byte == 0x01).expect("a byte") + middle;
    changed[letter] ^= 2;
    write("changed.bundle", &changed);
    let note = mesh.orgs[0].notes.values().next().expect("a note");
    write("checkpoint.of-another-node", note.as_bytes());
    write(
        "checkpoint.of-nobody",
        Mesh::lived(2, 0).orgs[0].notes.values().next().expect("a note").as_bytes(),
    );
    let mut later = mesh.clone();
    later.now += PERIOD / 2;
    later.renew(0);
    later.checkpoint();
    write("later.bundle", &later.bundle());
    let mut forked = Mesh::lived(1, 1);
    forked.now = START + 2 * PERIOD;
    forked.rotate_all();
    forked.renew(0);
    forked.renew(0);
    forked.renew(0);
    forked.renew(0);
    forked.renew(0);
    forked.renew(0);
    forked.checkpoint();
    write("forked.bundle", &forked.bundle());
    mesh
}

fn put(dir: &Path, mesh: &Mesh) {
    put_log(dir, mesh, 0);
}

pub fn put_log(dir: &Path, mesh: &Mesh, org: usize) {
    let Dir(files) = mesh.orgs[org].dir();
    for (path, bytes) in files.into_iter().chain([("chain".to_owned(), mesh.chain())]) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, bytes).expect("written");
    }
}
