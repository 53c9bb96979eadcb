//! Founding organisations and meshes: root keys, drafts, signatures.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};
use meshd_trust::{Floor, Roster};
use meshd_wire::{MeshId, Timestamp};
use serde_json::Value;

use crate::canned::{MEMBER, OUTSIDE, STATUS, STEWARD};
use crate::{Daemon, meshctl, meshctl_in};

#[test]
fn a_mesh_of_one_organisation_is_signed_by_a_new_root() {
    let daemon = ready();
    let run = meshctl(&daemon, &["mesh", "create", "lab", "--org", "uva", "--node", "a"]);
    insta::assert_snapshot!(run.to_text());
    let key = daemon.dir().join("uva.root.key");
    assert_eq!(mode(&key), 0o600);
    assert_verifies(&daemon.asked("/v1/mesh"), 1);
}

#[test]
fn a_root_key_is_never_overwritten() {
    let daemon = ready();
    let key = daemon.dir().join("lab.root.key");
    fs::write(&key, "precious").expect("a file");
    let run = meshctl(&daemon, &["mesh", "create", "lab"]);
    assert_eq!(run.code, 7, "{run:?}");
    let run = meshctl(&daemon, &["org", "create", "lab"]);
    assert_eq!(run.code, 7, "{run:?}");
    assert_eq!(fs::read_to_string(&key).expect("a file"), "precious");
    assert!(!daemon.dir().join("lab.root").exists());
}

#[test]
fn a_refusal_of_the_daemon_leaves_no_root_key_behind() {
    let conflict =
        r#"{"schema":"meshd.error/1","code":"prefix-conflict","error":"10.91.0.0/16 overlaps a route"}"#;
    let daemon = Daemon::new()
        .answer("/v1/status", 200, OUTSIDE)
        .answer("/v1/steward", 200, &steward())
        .answer("/v1/mesh", 409, conflict);
    let run = meshctl(&daemon, &["mesh", "create", "lab"]);
    assert_eq!((run.code, run.stderr.as_str()), (7, "error: 10.91.0.0/16 overlaps a route\n"));
    assert!(!daemon.dir().join("lab.root.key").exists());
}

#[test]
fn an_answer_that_tells_nothing_keeps_the_root_key() {
    let daemon = Daemon::new()
        .answer("/v1/status", 200, OUTSIDE)
        .answer("/v1/steward", 200, &steward())
        .answer("/v1/mesh", 200, "garbage");
    let run = meshctl(&daemon, &["mesh", "create", "lab"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("lab.root.key"), "{run:?}");
    assert!(daemon.dir().join("lab.root.key").exists());
}

#[test]
fn a_member_of_a_mesh_founds_no_other() {
    let daemon = Daemon::new().answer("/v1/status", 200, STATUS);
    let run = meshctl(&daemon, &["mesh", "create", "lab"]);
    assert_eq!(run.code, 7, "{run:?}");
    assert!(!daemon.dir().join("lab.root.key").exists());
}

#[test]
fn several_organisations_found_a_mesh_together() {
    let daemon = ready();
    let dir = daemon.dir();
    fs::write(dir.join("passphrase"), "correct horse\n").expect("a file");
    for args in [
        &["org", "create", "uva"][..],
        &["org", "create", "surf", "--passphrase-file", "passphrase"],
        &["mesh", "draft", "lab", "--org", "uva.root=10.91.0.0/16", "--org", "surf.root=10.92.0.0/16"],
    ] {
        let run = meshctl_in(dir, args);
        assert_eq!(run.code, 0, "{run:?}");
    }
    assert_eq!((mode(&dir.join("uva.root.key")), mode(&dir.join("surf.root.key"))), (0o600, 0o600));

    let create = ["mesh", "create", "--root-key", "uva.root.key", "--genesis", "lab.draft"];
    let unsigned = meshctl(&daemon, &create);
    assert_eq!(unsigned.code, 4, "{unsigned:?}");

    // Each signs a copy of its own; the copies are united at the end.
    fs::copy(dir.join("lab.draft"), dir.join("copy.draft")).expect("a copy");
    let run = meshctl_in(dir, &["mesh", "sign", "lab.draft", "--root-key", "uva.root.key"]);
    assert_eq!(run.code, 0, "{run:?}");
    let half = meshctl(&daemon, &create);
    assert!(half.code == 4 && half.stderr.contains("not signed by surf"), "{half:?}");
    let run = meshctl_in(
        dir,
        &["mesh", "sign", "copy.draft", "--root-key", "surf.root.key", "--passphrase-file", "passphrase"],
    );
    assert_eq!(run.code, 0, "{run:?}");

    let mut both = create.to_vec();
    both.extend(["--genesis", "copy.draft"]);
    let run = meshctl(&daemon, &both);
    let registry = format!("--registry meshd://{}@192.0.2.11:51820", steward_keys()[3]);
    assert!(run.code == 0 && run.stderr.contains(&registry), "{run:?}");
    both.extend(["--registry", "http://192.0.2.1:2379"]);
    let run = meshctl(&daemon, &both);
    assert_eq!(run.code, 0, "{run:?}");
    let request = daemon.asked("/v1/mesh");
    assert_verifies(&request, 2);
    assert!(request.contains(r#""registries":["http://192.0.2.1:2379"]"#), "{request}");
}

#[test]
fn a_draft_signed_by_a_stranger_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for args in [
        &["org", "create", "uva"][..],
        &["org", "create", "stranger"],
        &["mesh", "draft", "lab", "--org", "uva.root=10.91.0.0/16"],
    ] {
        assert_eq!(meshctl_in(dir, args).code, 0, "{args:?}");
    }
    let before = fs::read(dir.join("lab.draft")).expect("a draft");
    let run = meshctl_in(dir, &["mesh", "sign", "lab.draft", "--root-key", "stranger.root.key"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert_eq!(fs::read(dir.join("lab.draft")).expect("a draft"), before);
}

#[test]
fn overlapping_prefixes_are_no_draft() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for org in ["uva", "surf"] {
        assert_eq!(meshctl_in(dir, &["org", "create", org]).code, 0);
    }
    let run = meshctl_in(
        dir,
        &["mesh", "draft", "lab", "--org", "uva.root=10.0.0.0/8", "--org", "surf.root=10.92.0.0/16"],
    );
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("overlap"), "{run:?}");
    assert!(!dir.join("lab.draft").exists());
}

#[test]
fn a_changed_root_or_draft_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    for args in [&["org", "create", "uva"][..], &["mesh", "draft", "lab", "--org", "uva.root=10.91.0.0/16"]] {
        assert_eq!(meshctl_in(dir, args).code, 0, "{args:?}");
    }
    let whole = fs::read(dir.join("uva.root")).expect("a root");
    for at in (0..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        fs::write(dir.join("bad.root"), &changed).expect("a file");
        let run = meshctl_in(dir, &["mesh", "draft", "bad", "--org", "bad.root=10.91.0.0/16"]);
        assert!(matches!(run.code, 2 | 4), "byte {at}: {run:?}");
    }
    let draft = fs::read_to_string(dir.join("lab.draft")).expect("a draft");
    for len in (0..draft.len()).step_by(53) {
        fs::write(dir.join("cut.draft"), &draft[..len]).expect("a file");
        let run = meshctl_in(dir, &["mesh", "sign", "cut.draft", "--root-key", "uva.root.key"]);
        assert!(matches!(run.code, 2 | 4), "cut at {len}: {run:?}");
    }
}

#[test]
fn a_wrong_passphrase_opens_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path();
    fs::write(dir.join("right"), "right\n").expect("a file");
    fs::write(dir.join("wrong"), "wrong\n").expect("a file");
    for args in [
        &["org", "create", "uva", "--passphrase-file", "right"][..],
        &["mesh", "draft", "lab", "--org", "uva.root=10.91.0.0/16"],
    ] {
        assert_eq!(meshctl_in(dir, args).code, 0, "{args:?}");
    }
    let sign = ["mesh", "sign", "lab.draft", "--root-key", "uva.root.key", "--passphrase-file"];
    let with = |file| meshctl_in(dir, &[&sign[..], &[file]].concat());
    insta::assert_snapshot!(with("wrong").to_text());
    assert_eq!(with("right").code, 0);
}

#[test]
fn what_is_made_offline_has_json_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = meshctl_in(dir.path(), &["--json", "org", "create", "uva"]);
    let made: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(
        (made["schema"].as_str(), made["name"].as_str()),
        (Some("meshctl.organisation/1"), Some("uva"))
    );
    let run = meshctl_in(dir.path(), &["--json", "mesh", "draft", "lab", "--org", "uva.root=10.91.0.0/16"]);
    let drafted: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(drafted["schema"], "meshctl.draft/1");
    assert_eq!(drafted["founders"][0]["id"], made["id"]);
    assert_eq!(drafted["founders"][0]["signed"], false);
}

/// A daemon outside any mesh that takes what it is given.
fn ready() -> Daemon {
    Daemon::new()
        .answer("/v1/status", 200, OUTSIDE)
        .answer("/v1/steward", 200, &steward())
        .answer("/v1/mesh", 200, MEMBER)
}

fn steward() -> String {
    let [record, log, witness, tls] = steward_keys();
    format!(
        r#"{{"schema":"meshd.steward/1","record_key":"{record}","log_key":"{log}","witness_key":"{witness}","tls_key":"{tls}"}}"#
    )
}

fn steward_keys() -> [String; 4] {
    STEWARD.map(|hex| BASE32_NOPAD.encode(&HEXLOWER.decode(hex.as_bytes()).expect("hex")).to_lowercase())
}

/// Has a node verify what the daemon was given, as the daemon would.
fn assert_verifies(request: &str, founders: usize) {
    let request: Value = serde_json::from_str(request).expect("JSON");
    let list = |name: &str| request[name].as_array().cloned().unwrap_or_default();
    let mut records = list("roots");
    assert_eq!(records.len(), founders);
    records.push(request["genesis"].clone());
    records.extend(list("delegations"));
    let envelopes: Vec<Vec<u8>> = records
        .iter()
        .map(|record| BASE64.decode(record.as_str().expect("text").as_bytes()).expect("base64"))
        .collect();
    let genesis = meshd_wire::Envelope::from_bytes(&envelopes[founders]).expect("an envelope");
    let mesh = MeshId(genesis.record_id(&MeshId([0; 32])).expect("an id").0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let mut roster = Roster::new(mesh, Floor::none());
    let refused = roster.accept_all(&envelopes, Timestamp(now));
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(roster.orgs().count(), founders);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o777
}
