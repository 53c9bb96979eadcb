//! How meshctl fails: error, cause, hint and exit code.

use meshd_api::ErrorCode;

use crate::canned::JOIN_REQUEST;
use crate::{Daemon, meshctl, meshctl_in};

#[test]
fn no_daemon_is_told_with_a_hint() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = meshctl_in(dir.path(), &["--socket", "nobody.sock", "status"]);
    insta::assert_snapshot!(run.to_text());
}

#[test]
fn the_environment_names_the_socket() {
    let daemon = Daemon::new().answer("/v1/status", 200, crate::canned::OUTSIDE);
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_meshctl"))
        .arg("status")
        .env("MESHD_SOCKET", daemon.socket())
        .output()
        .expect("meshctl runs")
        .status;
    assert!(status.success());
}

#[test]
fn an_error_of_the_daemon_is_printed_with_cause_and_hint() {
    let json = r#"{"schema":"meshd.error/1","code":"token-expired","error":"the token has expired","cause":"it was valid until 2026-11-21 04:45:00 UTC","hint":"ask for another: meshctl invite"}"#;
    let daemon = Daemon::new().answer("/v1/join", 403, json);
    insta::assert_snapshot!(meshctl(&daemon, &["join", "TOKEN"]).to_text());
}

#[test]
fn every_code_of_the_daemon_ends_with_its_exit_code() {
    for code in ErrorCode::ALL {
        let json = format!(r#"{{"schema":"meshd.error/1","code":"{code}","error":"no"}}"#);
        let daemon = Daemon::new().answer("/v1/leave", code.http_status(), &json);
        let run = meshctl(&daemon, &["leave"]);
        assert_eq!(run.code, i32::from(code.exit().code()), "{code}");
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", "error: no\n"), "{code}");
    }
}

#[test]
fn garbage_from_the_daemon_is_told() {
    for body in ["", "{", "null", r#"{"schema":"meshd.peers/1"}"#, r#"{"schema":"meshd.moon/1","peers":[]}"#]
    {
        let daemon = Daemon::new().answer("/v1/peers", 200, body);
        let run = meshctl(&daemon, &["peers"]);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.starts_with("error: can't understand the daemon's answer\ncause: "), "{run:?}");
    }
}

#[test]
fn a_file_that_is_no_request_is_told_before_the_daemon_is_asked() {
    let daemon = Daemon::new();
    std::fs::write(daemon.dir().join("words"), "hello\n").expect("a file");
    insta::assert_snapshot!("not-a-request", meshctl(&daemon, &["admit", "words"]).to_text());
    insta::assert_snapshot!("no-such-file", meshctl(&daemon, &["admit", "nothing"]).to_text());
}

#[test]
fn a_place_that_can_not_be_written_is_told() {
    let daemon = Daemon::new().answer("/v1/join/request", 200, JOIN_REQUEST);
    let id = "a".repeat(52);
    let run = meshctl(&daemon, &["join", "--request", "no/such/dir", "--mesh", &id, "--org", &id]);
    insta::assert_snapshot!(run.to_text());
}
