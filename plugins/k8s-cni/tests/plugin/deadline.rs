//! A meshd or a runtime that does not go on. That a test ends shows that somebody gave up.

use serde_json::json;

use crate::rig::{Daemon, Mood, Rig, Run, configuration, with};

#[test]
fn a_slow_meshd_holds_no_verb_up() {
    for (verb, path, waited) in
        [("ADD", "/attach", "4500 ms"), ("CHECK", "/check", "4500 ms"), ("GC", "/keep", "4500 ms")]
    {
        let rig = Rig::new();
        let _daemon = Daemon::start(&rig.socket(), Mood::Silent(path));
        let more = json!({"prevResult": {}, "cni.dev/attachments": []});
        let (code, words) = rig.call(verb, &with(configuration("1.1.0"), &more)).refusal();
        assert_eq!((code, words), (11, format!("no answer from meshd within {waited}")), "{verb}");
    }
}

#[test]
fn a_slow_meshd_is_not_available() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Silent(""));
    let (code, words) = rig.call("STATUS", &configuration("1.1.0")).refusal();
    assert_eq!((code, words.as_str()), (50, "no answer from meshd within 1500 ms"));
}

#[test]
fn del_does_not_wait_for_a_slow_meshd() {
    let rig = Rig::new();
    let _daemon = Daemon::start(&rig.socket(), Mood::Silent(""));
    let run = rig.call("DEL", &configuration("1.1.0"));
    run.is_silent_success();
    assert!(run.stderr.contains("no answer from meshd within 1500 ms"), "{run:?}");
}

#[test]
fn a_runtime_that_never_ends_its_input_gets_an_error() {
    let rig = Rig::new();
    let mut child = rig.spawn(&rig.environment("STATUS"));
    let stdin = child.stdin.take();
    let (code, words) = Run::of(child).refusal();
    assert_eq!((code, words.as_str()), (5, "standard input has no end after 1500 ms"));
    drop(stdin);
}

#[test]
fn versions_are_told_to_a_runtime_that_never_ends_its_input() {
    let rig = Rig::new();
    let mut child = rig.spawn(&rig.environment("VERSION"));
    let stdin = child.stdin.take();
    assert_eq!(Run::of(child).result()["cniVersion"], "1.1.0");
    drop(stdin);
}
