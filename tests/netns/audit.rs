//! The audit log of a mesh that lives: what its steward wrote is verified by who was not there.

use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, story, wait};
use serde_json::Value;

/// Keys live two seconds.
const STORM: &str = "[keys]\nperiod_s = 2\n";
const DEADLINE: Duration = Duration::from_secs(60);
/// Rotations of one node before its log is read.
const ROTATIONS: u64 = 5;
/// Times that the steward is killed in the middle of what it writes.
const KILLS: u32 = 6;
const KILL_STEP: Duration = Duration::from_millis(310);

/// Codes of `meshctl audit`.
const CLEAN: i32 = 0;
const FAILED: i32 = 1;
const TAMPERED: i32 = 3;

#[test]
fn every_key_of_a_mesh_that_rotates_is_in_the_log_and_whatever_is_changed_is_found() {
    story("audit", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mesh = lab.mesh_with("clinics", &[&a, &b, &c], STORM)?;
        mesh.everyone_reaches_all()?;
        wait::until(DEADLINE, "b has replaced its key a few times", || {
            a.epoch("b").is_ok_and(|epoch| epoch > ROTATIONS)
        })?;
        a.ctl(&["revoke", "c"])?.ok()?;
        wait::until(DEADLINE, "b has heard of it", || {
            b.peers().is_ok_and(|peers| peers.iter().all(|peer| peer["name"] != "c"))
        })?;
        let of_c = mesh.member("c")?.addr4.to_string();
        ensure!(!b.pings(&of_c, 3)? && !a.pings(&of_c, 3)?, "c is still reached");

        // While the steward goes on writing.
        let report = audit(&a, &["verify"], &a.audit_log(), CLEAN)?;
        let log = report.pointer("/logs/0").context("one log")?;
        let nodes = log["nodes"].as_array().context("nodes")?;
        ensure!(nodes.len() == 3, "{nodes:?}");
        let is_c = |node: &&Value| node["name"] == "c";
        let revoked = nodes.iter().find(is_c).context("c is named")?["revoked"].is_u64();
        ensure!(revoked, "the revocation of c is logged");
        let keys = log["keys"].as_array().context("keys")?;
        let of_b: Vec<&Value> = keys.iter().filter(|key| key["name"] == "b").collect();
        ensure!(of_b.len() as u64 > ROTATIONS, "{} keys of b", of_b.len());
        let used: Vec<&&Value> = of_b.iter().filter(|key| key["destroyed"].is_u64()).collect();
        ensure!(used.len() as u64 >= ROTATIONS - 1, "{} keys of b are destroyed", used.len());
        ensure!(used.iter().all(|key| key["active_from"].is_u64()), "each was logged before it was used");

        let bundle = a.dir().join("clinics.bundle");
        audit(&a, &["bundle", "--out", text(&bundle)?], &a.audit_log(), CLEAN)?;
        let mesh_id = report["mesh"].as_str().context("the mesh")?;
        verify_bundle(&b, &bundle, mesh_id, CLEAN)?;
        // Another mesh's id, and a bundle in which one bit differs.
        verify_bundle(&b, &bundle, &other(mesh_id), FAILED)?;
        let whole = fs::read(&bundle)?;
        // Behind the head of the last file of leaves in the archive, which has 512 bytes.
        let leaf = find_last(&whole, b"/tile/entries/").context("entries")? + 600;
        let mut flipped = whole.clone();
        flipped[leaf] ^= 1;
        fs::write(&bundle, &flipped)?;
        verify_bundle(&b, &bundle, mesh_id, TAMPERED)
    });
}

#[test]
fn a_steward_that_is_killed_while_it_logs_loses_no_leaf_that_anybody_heard_of() {
    story("audit-kill", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b], STORM)?;
        mesh.everyone_reaches_all()?;
        let mut heard = 0;
        for kill in 0..KILLS {
            thread::sleep(Duration::from_secs(1) + KILL_STEP * kill);
            let member = mesh.member_mut("a")?;
            member.daemon.kill()?;
            let report = audit(&a, &["verify"], &a.audit_log(), CLEAN)?;
            let leaves = report.pointer("/logs/0/leaves").and_then(Value::as_u64).context("leaves")?;
            ensure!(leaves >= heard, "{leaves} leaves, {heard} were logged before");
            heard = leaves;
            member.daemon = a.meshd(STORM)?;
            let before = b.epoch("b")?;
            wait::until(DEADLINE, "b goes on to replace its key", || {
                b.epoch("b").is_ok_and(|epoch| epoch > before)
            })?;
        }
        mesh.everyone_reaches_all()
    });
}

#[test]
fn without_the_steward_no_key_is_used_that_is_not_logged_and_nothing_is_lost() {
    story("audit-away", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b, &c], STORM)?;
        mesh.everyone_reaches_all()?;
        mesh.member_mut("a")?.daemon.kill()?;
        // The rotation that was under way may end by what is proven already.
        thread::sleep(Duration::from_secs(3));
        let before = b.epoch("b")?;
        let of_c = mesh.member("c")?.addr4.to_string();
        ensure!(b.pings(&of_c, 100)?, "traffic goes on under the key in use");
        ensure!(b.epoch("b")? == before, "b uses a key that nobody can have logged");
        mesh.member_mut("a")?.daemon = a.meshd(STORM)?;
        wait::until(DEADLINE, "b goes on to replace its key", || {
            b.epoch("b").is_ok_and(|epoch| epoch > before)
        })?;
        audit(&a, &["verify"], &a.audit_log(), CLEAN).map(drop)
    });
}

/// Audits a directory.
fn audit(host: &Host, words: &[&str], log: &Path, code: i32) -> Result<Value> {
    let mut line = vec!["audit"];
    line.extend(words);
    line.extend(["--log", text(log)?]);
    let reply = host.ctl(&line)?;
    ensure!(reply.code == code, "{line:?} ended with {}: {:?}", reply.code, reply.output);
    Ok(reply.json)
}

fn verify_bundle(host: &Host, bundle: &Path, mesh: &str, code: i32) -> Result<()> {
    let reply = host.ctl(&["audit", "verify-bundle", text(bundle)?, "--mesh", mesh])?;
    ensure!(reply.code == code, "verify-bundle ended with {}: {:?}", reply.code, reply.output);
    Ok(())
}

/// An id that differs in its first letter.
fn other(id: &str) -> String {
    let first = if id.starts_with('a') { 'b' } else { 'a' };
    id.char_indices().map(|(at, letter)| if at == 0 { first } else { letter }).collect()
}

fn find_last(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}
