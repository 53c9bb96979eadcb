//! Keys on the wire against the log: of a daemon, and of a file.

use std::fs;

use serde_json::{Value, json};

use crate::audit::steward;
use crate::made::{Mesh, PERIOD, START, tunnel_key};
use crate::{Daemon, Run, meshctl, meshctl_in};

#[test]
fn a_journal_is_held_against_a_log() {
    let (dir, mesh) = steward();
    let mut journal = journal(&mesh);
    let keys = journal["keys"].as_array_mut().expect("keys");
    let mut unlogged = keys[0].clone();
    unlogged["epoch"] = 9.into();
    unlogged["key"] = tunnel_key(&mesh.nodes[0].id, 9).to_string().into();
    let mut plain = keys[0].clone();
    for (name, value) in [
        ("node", json!(mesh.orgs[0].id.to_string())),
        ("name", "phone".into()),
        ("external", true.into()),
        ("epoch", 0.into()),
        ("psk", true.into()),
    ] {
        plain[name] = value;
    }
    keys.extend([unlogged, plain]);
    journal["forgotten"] = 3.into();
    fs::write(dir.path().join("scanner.observed"), journal.to_string()).expect("written");
    let at = mesh.now.to_string();
    let args = ["audit", "observed", "--journal", "scanner.observed", "--log", "care.log", "--at", &at];
    insta::assert_snapshot!("audit-observed", meshctl_in(dir.path(), &args).to_text());
    let run = meshctl_in(dir.path(), &[&args[..], &["--json"]].concat());
    let json: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((&json["schema"], &json["verdict"]), (&"meshctl.audit-observed/1".into(), &"findings".into()));
    assert_eq!((&json["audit"], &json["findings"][0]["code"]), (&"clean".into(), &"UNLOGGED".into()));
    let states: Vec<&Value> =
        json["keys"].as_array().expect("keys").iter().map(|key| &key["state"]).collect();
    assert_eq!(states, ["logged", "logged", "logged", "logged", "logged", "logged", "unlogged", "external"]);
}

#[test]
fn without_a_journal_the_daemon_is_asked() {
    let (dir, mesh) = steward();
    let (at, log) = (mesh.now.to_string(), dir.path().join("care.log").display().to_string());
    let args = ["audit", "observed", "--log", &log, "--at", &at];
    let daemon = Daemon::new().answer("/v1/observed", 200, &journal(&mesh).to_string());
    let run = meshctl(&daemon, &args);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    assert!(run.stdout.ends_with("verdict: clean\n"), "{run:?}");
    let outside =
        r#"{"schema":"meshd.error/1","code":"not-member","error":"this host is not a member of a mesh"}"#;
    let run = meshctl(&Daemon::new().answer("/v1/observed", 409, outside), &args);
    refused(&run, "not a member");
    let run = meshctl_in(dir.path(), &[&["--socket", "nobody.sock"], &args[..]].concat());
    refused(&run, "--journal");
}

#[test]
fn an_exported_journal_is_that_of_the_daemon_and_is_never_written_over() {
    let (dir, mesh) = steward();
    let daemon = Daemon::new().answer("/v1/observed", 200, &journal(&mesh).to_string());
    let export = ["audit", "observed", "--export", "scanner.observed"];
    let run = meshctl(&daemon, &export);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    assert_eq!(
        run.stdout,
        "6 keys that scanner has seen since 2027-01-15 08:00:00 UTC, in scanner.observed\n"
    );
    assert_eq!(meshctl(&daemon, &export).code, 1, "never overwritten");
    let file = daemon.dir().join("scanner.observed").display().to_string();
    let (at, id) = (mesh.now.to_string(), mesh.id.to_string());
    fs::write(dir.path().join("care.bundle"), mesh.bundle()).expect("written");
    let source = ["--bundle", "care.bundle", "--mesh", &id];
    let run = meshctl_in(dir.path(), &[&["audit", "observed", "--journal", &file], &source[..]].concat());
    assert_eq!(run.code, 0, "{run:?}");
    let log = ["--log", "care.log", "--at", &at];
    let run = meshctl_in(dir.path(), &[&["audit", "observed", "--journal", &file], &log[..]].concat());
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn what_is_no_journal_is_refused_with_one_error_and_a_hint() {
    let (dir, mesh) = steward();
    let whole = journal(&mesh).to_string();
    let with = |field: &str, value: Value| {
        let mut journal = journal(&mesh);
        journal[field] = value;
        journal.to_string()
    };
    let mut bad_key = journal(&mesh);
    bad_key["keys"][2]["key"] = "short".into();
    let cases = [
        ("", "is no journal"),
        ("no JSON", "is no journal"),
        (&whole[..whole.len() / 2], "is no journal"),
        ("{}", "is no journal"),
        ("[1]", "is no journal"),
        (&with("schema", "meshd.keys/1".into()), "is no journal"),
        (&with("schema", "meshd.observed/2".into()), "journal of another release: meshd.observed/2"),
        (&with("keys", Value::Null), "is no journal"),
        (&with("node", "short".into()), "is no journal"),
        (&bad_key.to_string(), "is no journal"),
        (&with("mesh", Mesh::lived(2, 0).id.to_string().into()), "can't compare the journal with the log"),
    ];
    for (text, error) in cases {
        fs::write(dir.path().join("bad"), text).expect("written");
        let run = meshctl_in(dir.path(), &["audit", "observed", "--journal", "bad", "--log", "care.log"]);
        refused(&run, error);
        assert!(run.stderr.contains("\nhint: "), "{text}: {run:?}");
    }
    let run = meshctl_in(dir.path(), &["audit", "observed", "--journal", "nowhere", "--log", "care.log"]);
    refused(&run, "can't read nowhere");
    let run = meshctl_in(dir.path(), &["audit", "observed", "--journal", "a", "--export", "b"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
}

/// The journal of the first node of [`steward`]: three keys of each node, while they were in use.
pub fn journal(mesh: &Mesh) -> Value {
    let keys = (0..2).flat_map(|node| (1..=3).map(move |epoch| (node, epoch)));
    let key = |(node, epoch): (usize, u32)| {
        let id = mesh.nodes[node].id;
        let first = START + u64::from(epoch - 1) * (PERIOD + 360) + 60;
        json!({
            "node": id.to_string(), "name": mesh.nodes[node].name, "org": mesh.orgs[0].id.to_string(),
            "external": false, "epoch": epoch, "key": tunnel_key(&id, epoch).to_string(),
            "suite": "aes", "psk": false, "first": first, "last": first + 120, "handshakes": 3,
        })
    };
    json!({
        "schema": "meshd.observed/1", "mesh": mesh.id.to_string(), "node": mesh.nodes[0].id.to_string(),
        "name": "scanner", "at": mesh.now, "since": START, "forgotten": 0,
        "keys": keys.map(key).collect::<Vec<Value>>(),
    })
}

fn refused(run: &Run, error: &str) {
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
    assert!(run.stderr.starts_with("error: ") && run.stderr.contains(error), "{run:?}");
    assert_eq!(run.stderr.matches("error: ").count(), 1, "{run:?}");
}
