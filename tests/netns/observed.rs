//! Keys on the wire against the audit log, on hosts that replace them every two seconds.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use mesh_lab::{Host, Process, program, story, wait};
use serde_json::{Value, json};

/// Keys live two seconds.
const STORM: &str = "[keys]\nperiod_s = 2\n";
const DEADLINE: Duration = Duration::from_secs(60);
/// Keys of one node that are seen before anything is compared.
const KEYS: usize = 4;

/// Codes of `meshctl audit`.
const CLEAN: i32 = 0;
const FINDINGS: i32 = 2;
const TAMPERED: i32 = 3;
const INCOMPLETE: i32 = 4;

#[test]
fn keys_on_the_wire_are_in_the_log_and_one_that_is_not_is_found() {
    story("observed", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b], STORM)?;
        mesh.everyone_reaches_all()?;
        let log = a.state_dir().join("steward/log");
        wait::until(DEADLINE, "a has seen a few keys of both", || {
            ["a", "b"].iter().all(|node| keys_of(&a, &log, node).is_ok_and(|keys| keys >= KEYS))
        })?;
        let of_a = audit(&a, &log, &[], CLEAN)?;
        ensure!(states(&of_a).iter().all(|state| state == "logged"), "{of_a}");

        // The journal of b outlives its daemon, and is compared elsewhere.
        let first = of(&of_a, "b")[0]["key"].clone();
        let member = mesh.member_mut("b")?;
        member.daemon.stop()?;
        member.daemon = b.meshd(STORM)?;
        mesh.everyone_reaches_all()?;
        let journal = b.dir().join("b.observed");
        b.ctl(&["audit", "observed", "--export", text(&journal)?])?.ok()?;
        let of_b = audit(&a, &log, &["--journal", text(&journal)?], CLEAN)?;
        ensure!(of_b["observer_name"] == "b", "{of_b}");
        ensure!(of(&of_b, "b").iter().any(|key| key["key"] == first), "{first} is not in {of_b}");

        // A key that was used and is in no log.
        let mut forged: Value = serde_json::from_slice(&std::fs::read(&journal)?)?;
        forged["keys"][0]["key"] = json!(other(forged["keys"][0]["key"].as_str().context("a key")?));
        std::fs::write(&journal, forged.to_string())?;
        let young = audit(&a, &log, &["--journal", text(&journal)?], INCOMPLETE)?;
        ensure!(codes(&young) == ["RECENT"], "it may still be logged: {young}");
        let first = forged["keys"][0]["first"].as_u64().context("a time")?;
        forged["keys"][0]["first"] = json!(first - 1000);
        std::fs::write(&journal, forged.to_string())?;
        let old = audit(&a, &log, &["--journal", text(&journal)?], FINDINGS)?;
        ensure!(codes(&old) == ["UNLOGGED"], "{old}");

        // A log that says nothing of keys that are used: one that has ended before.
        let ended = a.dir().join("ended");
        let is_whole =
            |log: &str| a.ctl(&["audit", "verify", "--log", log]).is_ok_and(|reply| reply.code == CLEAN);
        wait::until(DEADLINE, "a copy is made while the log stands still", || {
            let _none = std::fs::remove_dir_all(&ended);
            let (Ok(log), Ok(ended)) = (text(&log), text(&ended)) else { return false };
            a.run(&["cp", "-r", log, ended]).is_ok_and(|copied| copied.ok().is_ok()) && is_whole(ended)
        })?;
        let before = keys_of(&a, &log, "b")?;
        wait::until(DEADLINE, "b has replaced its key", || {
            keys_of(&a, &log, "b").is_ok_and(|keys| keys > before)
        })?;
        let late = (now()? + 1000).to_string();
        let found = audit(&a, &ended, &["--at", &late], FINDINGS)?;
        ensure!(codes(&found).iter().all(|code| code == "UNLOGGED") && !codes(&found).is_empty(), "{found}");
        audit(&a, &log, &["--at", &late], CLEAN).map(drop)
    });
}

#[test]
fn a_log_is_watched_while_it_grows_and_what_somebody_changes_ends_it() {
    story("observed-watch", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b], STORM)?;
        mesh.everyone_reaches_all()?;
        let log = a.state_dir().join("steward/log");
        let mut watch = watch(&a, &log)?;
        let is_of_b = |line: &Value| line["kind"] == "rotate-activate" && line["name"] == "b";
        wait::until(DEADLINE, "b is seen to replace its key", || {
            lines(&a).is_ok_and(|lines| lines.iter().filter(|line| is_of_b(line)).count() >= 2)
        })?;
        let status = watch.stop(DEADLINE)?;
        let all = lines(&a)?;
        ensure!(status.code() == Some(CLEAN), "{status}: {all:?}");
        let (begin, end) = (all.first().context("a line")?, all.last().context("a line")?);
        ensure!(begin["type"] == "begin", "{begin}");
        let first = begin["leaves"].as_u64().context("a number")?;
        let told: Vec<Option<u64>> =
            all.iter().filter(|line| line["type"] == "leaf").map(|line| line["index"].as_u64()).collect();
        let expected: Vec<Option<u64>> = (first..).map(Some).take(told.len()).collect();
        ensure!(told == expected, "each leaf once and in order: {told:?}");
        ensure!(end["leaves"] == first + told.len() as u64 && end["verdict"] == "clean", "{end}");
        ensure!(all.len() == told.len() + 2, "nothing else: {all:?}");

        let mut watch = self::watch(&a, &log)?;
        wait::until(DEADLINE, "it watches again", || {
            lines(&a).is_ok_and(|lines| lines.iter().filter(|line| line["type"] == "begin").count() == 2)
        })?;
        // Nobody else writes to the log.
        mesh.member_mut("a")?.daemon.stop()?;
        let checkpoint = std::fs::read_to_string(log.join("checkpoint"))?;
        let text = checkpoint.split_once("\n\n").context("a note")?.0;
        let root = text.lines().nth(2).context("a root")?;
        std::fs::write(log.join("checkpoint"), checkpoint.replacen(root, &other(root), 1))?;
        let status = watch.wait(DEADLINE)?;
        ensure!(status.code() == Some(TAMPERED), "{status}: {:?}", lines(&a)?.last());
        Ok(())
    });
}

/// Follows a log.
fn watch(host: &Host, log: &Path) -> Result<Process> {
    let program = program("meshctl")?;
    host.start(&[text(&program)?, "--json", "audit", "watch", "--log", text(log)?])
}

/// What was printed so far.
fn lines(host: &Host) -> Result<Vec<Value>> {
    let printed = std::fs::read_to_string(host.log("meshctl"))?;
    printed.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{line:?}"))).collect()
}

fn keys_of(host: &Host, log: &Path, node: &str) -> Result<usize> {
    Ok(of(&audit(host, log, &[], CLEAN)?, node).len())
}

/// Compares the keys on the wire with a log.
fn audit(host: &Host, log: &Path, options: &[&str], code: i32) -> Result<Value> {
    let mut line = vec!["audit", "observed", "--log", text(log)?];
    line.extend(options);
    let reply = host.ctl(&line)?;
    ensure!(reply.code == code, "{line:?} ended with {}: {:?}", reply.code, reply.output);
    Ok(reply.json)
}

/// Keys of a node, by their numbers.
fn of(compared: &Value, node: &str) -> Vec<Value> {
    let keys = compared["keys"].as_array().cloned().unwrap_or_default();
    keys.into_iter().filter(|key| key["name"] == node).collect()
}

fn states(compared: &Value) -> Vec<String> {
    words(&compared["keys"], "state")
}

fn codes(compared: &Value) -> Vec<String> {
    words(&compared["findings"], "code")
}

fn words(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|one| one[field].as_str().map(str::to_owned)).collect()
}

/// A key that differs in its first letter.
fn other(key: &str) -> String {
    let first = if key.starts_with('a') { 'b' } else { 'a' };
    key.char_indices().map(|(at, letter)| if at == 0 { first } else { letter }).collect()
}

fn now() -> Result<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}
