//! Verbs that talk to the daemon: what they ask and what they print.

use crate::canned::{
    ADMIT, CONFIG, DELEGATION, EVENTS, INVITE, JOIN_REQUEST, LEAVE, MEMBER, OUTSIDE, PEERS, PONG, PONG_LATE,
    SILENCE, STATUS,
};
use crate::{Daemon, meshctl};

#[test]
fn status_shows_node_mesh_and_warnings() {
    let daemon = Daemon::new().answer("/v1/status", 200, STATUS);
    insta::assert_snapshot!(meshctl(&daemon, &["status"]).to_text());
}

#[test]
fn status_of_a_node_outside_any_mesh_is_short() {
    let daemon = Daemon::new().answer("/v1/status", 200, OUTSIDE);
    insta::assert_snapshot!(meshctl(&daemon, &["status"]).to_text());
}

#[test]
fn json_is_handed_out_as_it_came() {
    let daemon = Daemon::new().answer("/v1/status", 200, STATUS).answer("/v1/peers", 200, PEERS);
    assert_eq!(meshctl(&daemon, &["status", "--json"]).stdout, format!("{STATUS}\n"));
    assert_eq!(meshctl(&daemon, &["--json", "peers"]).stdout, format!("{PEERS}\n"));
}

#[test]
fn peers_are_a_table() {
    let daemon = Daemon::new().answer("/v1/peers", 200, PEERS);
    insta::assert_snapshot!(meshctl(&daemon, &["peers"]).to_text());
}

#[test]
fn peers_are_a_wide_table_when_asked() {
    let daemon = Daemon::new().answer("/v1/peers", 200, PEERS);
    insta::assert_snapshot!(meshctl(&daemon, &["peers", "--long"]).to_text());
}

#[test]
fn ping_prints_a_line_a_reply_and_a_summary() {
    let daemon = Daemon::new()
        .answer("/v1/ping", 200, PONG)
        .answer("/v1/ping", 504, SILENCE)
        .answer("/v1/ping", 200, PONG_LATE);
    insta::assert_snapshot!(meshctl(&daemon, &["ping", "b", "-c", "3", "-i", "1"]).to_text());
    assert_eq!(daemon.asked("/v1/ping"), r#"{"target":"b","payload_len":56}"#);
}

#[test]
fn ping_without_any_reply_has_timed_out() {
    let daemon = Daemon::new().answer("/v1/ping", 504, SILENCE);
    insta::assert_snapshot!(meshctl(&daemon, &["ping", "b", "-c", "2", "-i", "1"]).to_text());
}

#[test]
fn a_steward_says_until_when_it_may_act() {
    let daemon = Daemon::new().answer("/v1/steward", 200, DELEGATION);
    insta::assert_snapshot!(meshctl(&daemon, &["steward", "show"]).to_text());
}

#[test]
fn invite_prints_the_token_alone() {
    let daemon = Daemon::new().answer("/v1/invite", 200, INVITE);
    let run = meshctl(&daemon, &["invite", "--ttl", "1h", "--label", "role=worker", "--name", "b"]);
    insta::assert_snapshot!(run.to_text());
    assert_eq!(daemon.asked("/v1/invite"), r#"{"ttl_s":3600,"labels":{"role":"worker"},"name":"b"}"#);
}

#[test]
fn join_shows_what_the_node_has_become() {
    let daemon = Daemon::new().answer("/v1/join", 200, MEMBER);
    insta::assert_snapshot!(meshctl(&daemon, &["join", "TOKEN", "--name", "b"]).to_text());
    assert_eq!(daemon.asked("/v1/join"), r#"{"token":"TOKEN","name":"b"}"#);
}

#[test]
fn joining_by_files_carries_request_and_answer() {
    let daemon = Daemon::new()
        .answer("/v1/join/request", 200, JOIN_REQUEST)
        .answer("/v1/admit", 200, ADMIT)
        .answer("/v1/join/import", 200, MEMBER);
    let id = "a".repeat(52);
    let run = meshctl(&daemon, &["join", "--request", "b.request", "--mesh", &id, "--org", &id]);
    insta::assert_snapshot!("join-request", run.to_text());
    let run = meshctl(&daemon, &["admit", "b.request", "--label", "role=worker", "--out", "b.admission"]);
    insta::assert_snapshot!("admit", run.to_text());
    assert_eq!(daemon.asked("/v1/admit"), r#"{"request":"dGhlIHJlcXVlc3Q=","labels":{"role":"worker"}}"#);
    let run = meshctl(&daemon, &["join", "--import", "b.admission"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(daemon.asked("/v1/join/import"), r#"{"response":"dGhlIGFuc3dlcg=="}"#);
}

#[test]
fn files_go_through_standard_output_as_well() {
    let daemon = Daemon::new().answer("/v1/join/request", 200, JOIN_REQUEST).answer("/v1/admit", 200, ADMIT);
    let id = "a".repeat(52);
    let request = meshctl(&daemon, &["join", "--request", "-", "--mesh", &id, "--org", &id]).stdout;
    std::fs::write(daemon.dir().join("r"), request).expect("a file");
    let answer = meshctl(&daemon, &["admit", "r"]).stdout;
    assert_eq!(answer, "-----BEGIN MESHD ADMISSION-----\ndGhlIGFuc3dlcg==\n-----END MESHD ADMISSION-----\n");
}

#[test]
fn leave_tells_when_nobody_heard_it() {
    let daemon = Daemon::new().answer("/v1/leave", 200, LEAVE);
    insta::assert_snapshot!(meshctl(&daemon, &["leave", "--force"]).to_text());
    assert_eq!(daemon.asked("/v1/leave"), r#"{"force":true}"#);
}

#[test]
fn watch_prints_a_line_an_event() {
    let daemon = Daemon::new().answer("/v1/events", 200, EVENTS);
    insta::assert_snapshot!(meshctl(&daemon, &["watch", "--count", "14"]).to_text());
}

#[test]
fn watch_hands_out_json_lines_as_they_came() {
    let daemon = Daemon::new().answer("/v1/events", 200, EVENTS);
    assert_eq!(meshctl(&daemon, &["watch", "--count", "14", "--json"]).stdout, EVENTS);
}

#[test]
fn watch_fails_when_the_daemon_ends() {
    let daemon = Daemon::new().answer("/v1/events", 200, EVENTS);
    let run = meshctl(&daemon, &["watch"]);
    assert_eq!(run.code, 3);
    assert_eq!(run.stderr, "error: the daemon has ended the stream of events\n");
}

#[test]
fn wait_ends_when_the_node_is_connected() {
    let connecting = PEERS.replace("\"connected\"", "\"connecting\"");
    let daemon = Daemon::new().answer("/v1/peers", 200, &connecting).answer("/v1/peers", 200, PEERS).answer(
        "/v1/events",
        200,
        EVENTS,
    );
    let run = meshctl(&daemon, &["wait", "b.uva"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "b is connected via udp 198.51.100.7:51820\n"));
    for name in ["b", "10.91.0.2", "fd12:3456:789a:1::6"] {
        assert_eq!(meshctl(&daemon, &["wait", name]).code, 0, "{name}");
    }
    assert_eq!(meshctl(&daemon, &["wait", "--peers", "1"]).stdout, "1 of 2 connected\n");
}

#[test]
fn wait_ends_when_this_node_is_a_member() {
    let daemon = Daemon::new().answer("/v1/status", 200, OUTSIDE).answer("/v1/status", 200, STATUS).answer(
        "/v1/events",
        200,
        "",
    );
    let run = meshctl(&daemon, &["wait"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "a is a member, at 10.91.0.1, fd12:3456:789a:1::5\n"));
}

#[test]
fn wait_says_what_was_still_missing() {
    let daemon = Daemon::new().answer("/v1/peers", 200, PEERS).answer("/v1/status", 200, OUTSIDE);
    for (args, error) in [
        (&["wait", "c\u{1b}[2J"][..], "error: timed out: c?[2J is stale\n"),
        (&["wait", "z"], "error: timed out: no node z is known\n"),
        (&["wait", "--peers", "2"], "error: timed out: 1 of 2 connected, 2 wanted\n"),
        (&["wait"], "error: timed out: membership of this node is outside\n"),
    ] {
        let mut all = args.to_vec();
        all.extend(["--timeout", "300ms"]);
        let run = meshctl(&daemon, &all);
        assert_eq!((run.code, run.stderr.as_str()), (6, error));
    }
}

#[test]
fn config_is_shown_in_the_shape_of_the_file() {
    let daemon = Daemon::new().answer("/v1/config", 200, CONFIG);
    insta::assert_snapshot!(meshctl(&daemon, &["config", "show"]).to_text());
}
