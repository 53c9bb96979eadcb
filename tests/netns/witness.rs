//! Two organisations that witness each other's audit logs: nothing is rewritten that the other steward has seen.

#[path = "federation/founders.rs"]
mod founders;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Backup, Host, story, wait};
use serde_json::Value;

use founders::found;

/// Keys live six seconds, so that the log stands still between two checkpoints.
const ROTATING: &str = "[keys]\nperiod_s = 6\n";
const DEADLINE: Duration = Duration::from_secs(90);
/// An audit as of then has no patience left: a witness has ten minutes.
const LATER_S: u64 = 11 * 60;

/// Codes of `meshctl audit`.
const CLEAN: i32 = 0;
const FOUND: i32 = 2;
const TAMPERED: i32 = 3;

#[test]
fn each_steward_cosigns_the_log_of_the_other_and_an_auditor_sees_who_did_not() {
    story("witness", |around| {
        let [c1, l1] = around.hosts(["c1", "l1"])?;
        let mut daemons = found(around, &c1, &l1, ROTATING, &["--lab"])?;
        for host in [&c1, &l1] {
            wait::until(DEADLINE, "the log is cosigned as far as it goes", || is_witnessed(host))?;
        }
        let whole = c1.dir().join("joint.bundle");
        wait::until(DEADLINE, "a bundle of both logs is cosigned as far as they go", || {
            let _none = fs::remove_file(&whole);
            bundle(&c1, &[&c1, &l1], &whole).is_ok_and(|code| code == CLEAN)
        })?;

        let copy = l1.state_dir().join("steward/mirror").join(org_id(&c1, "clinic")?);
        wait::until(DEADLINE, "l1 has a copy of the log of c1 that an auditor finds whole", || {
            verify_dir(&l1, &copy).is_ok_and(|(code, report)| {
                let leaves = report.pointer("/logs/0/leaves").and_then(Value::as_u64);
                code == CLEAN && report["logs"][0]["org_name"] == "clinic" && leaves > Some(10)
            })
        })?;

        daemons[1].kill()?;
        let before = c1.epoch("c1")?;
        wait::until(DEADLINE, "c1 goes on to replace its key", || {
            c1.epoch("c1").is_ok_and(|epoch| epoch > before + 1)
        })?;
        let (code, report) = verify(&c1)?;
        ensure!(code == FOUND, "ended with {code}: {report}");
        let findings = report.pointer("/logs/0/findings").and_then(Value::as_array).context("findings")?;
        ensure!(findings.iter().all(|one| one["code"] == "UNWITNESSED"), "{findings:?}");
        ensure!(findings.iter().all(|one| one["name"] == "lab"), "{findings:?}");
        ensure!(findings.len() == 1, "{findings:?}");

        daemons[1] = l1.meshd(ROTATING)?;
        for host in [&c1, &l1] {
            wait::until(DEADLINE, "the log is cosigned again as far as it goes", || is_witnessed(host))?;
        }
        Ok(())
    });
}

#[test]
fn a_steward_that_forgets_what_it_signed_is_convicted_by_the_witness() {
    story("witness-fork", |around| {
        let [c1, l1, c2] = around.hosts(["c1", "l1", "c2"])?;
        let mut daemons = found(around, &c1, &l1, "", &[])?;
        wait::until(DEADLINE, "the log is cosigned as far as it goes", || is_witnessed(&c1))?;
        let copy = l1.state_dir().join("steward/mirror").join(org_id(&c1, "clinic")?).join("checkpoint");
        wait::until(DEADLINE, "l1 has a copy", || copy.exists())?;
        daemons[0].stop()?;
        let backup = Backup::take(c1.state_dir().join("steward"), c1.dir().join("backup"))?;

        // One leaf that the witness sees, and another one in its place.
        daemons[0] = c1.meshd("")?;
        c1.ctl(&["invite"])?.ok()?;
        wait::until(DEADLINE, "the log is cosigned as far as it goes", || is_witnessed(&c1))?;
        daemons[0].kill()?;
        backup.restore()?;
        daemons[0] = c1.meshd("")?;
        c1.ctl(&["invite"])?.ok()?;

        let convicted = l1.state_dir().join("evidence").join(org_id(&c1, "clinic")?);
        wait::until(DEADLINE, "the witness has evidence", || convicted.exists())?;
        let code = split_view(&l1, &[&l1.audit_log(), &convicted])?;
        ensure!(code == TAMPERED, "split-view ended with {code}");
        let warnings = l1.ctl(&["status"])?.ok()?["warnings"].to_string();
        ensure!(warnings.contains("log-forked"), "{warnings}");
        ensure!(!is_witnessed(&c1), "the other tree is cosigned");
        let copied = fs::read(&copy)?;

        // Whom it lets in from here on, other organisations do not know; what is there goes on.
        let token = c1.ctl(&["invite"])?.ok()?["token"].as_str().context("a token")?.to_owned();
        let _newcomer = c2.meshd("")?;
        c2.ctl(&["join", &token, "--name", "c2"])?.ok()?;
        wait::until(DEADLINE, "c1 knows c2", || knows(&c1, "c2"))?;
        wait::until(DEADLINE, "l1 has refused c2", || {
            fs::read_to_string(l1.log("meshd")).is_ok_and(|log| log.contains("reason=\"shut\""))
        })?;
        ensure!(!knows(&l1, "c2"), "l1 has taken c2 in");
        ensure!(fs::read(&copy)? == copied, "l1 goes on to copy the log");
        let steward = c1.ctl(&["status"])?.ok()?["node"]["addr4"].as_str().context("an address")?.to_owned();
        wait::until(DEADLINE, "l1 reaches c1", || l1.pings(&steward, 1).unwrap_or(false))
    });
}

/// Whether an auditor without patience finds nothing missing.
fn is_witnessed(host: &Host) -> bool {
    verify(host).is_ok_and(|(code, _)| code == CLEAN)
}

fn org_id(host: &Host, name: &str) -> Result<String> {
    let status = host.ctl(&["status"])?.ok()?;
    let orgs = status["mesh"]["organisations"].as_array().context("organisations")?;
    let org = orgs.iter().find(|org| org["name"] == name).context("the organisation")?;
    org["id"].as_str().map(str::to_owned).context("an id")
}

fn knows(host: &Host, node: &str) -> bool {
    host.peers().is_ok_and(|peers| peers.iter().any(|peer| peer["name"] == node))
}

fn verify(host: &Host) -> Result<(i32, Value)> {
    verify_dir(host, &host.audit_log())
}

fn verify_dir(host: &Host, log: &Path) -> Result<(i32, Value)> {
    let reply = host.ctl(&["audit", "verify", "--log", text(log)?, "--at", &later()])?;
    Ok((reply.code, reply.json))
}

fn bundle(host: &Host, logs: &[&Host], out: &Path) -> Result<i32> {
    let logs: Vec<PathBuf> = logs.iter().map(|host| host.audit_log()).collect();
    let [own, other] = logs.as_slice() else { anyhow::bail!("two logs") };
    let made =
        host.ctl(&["audit", "bundle", "--log", text(own)?, "--also", text(other)?, "--out", text(out)?])?;
    let mesh = made.json["mesh"].as_str().context("the mesh")?.to_owned();
    let at = later();
    Ok(host.ctl(&["audit", "verify-bundle", text(out)?, "--mesh", &mesh, "--at", &at])?.code)
}

fn split_view(host: &Host, files: &[&Path]) -> Result<i32> {
    let out = host.dir().join("shown");
    let mut line = vec!["audit", "split-view", "--out", text(&out)?];
    for file in files {
        line.push(text(file)?);
    }
    Ok(host.ctl(&line)?.code)
}

fn later() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    (now + LATER_S).to_string()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is text")
}
