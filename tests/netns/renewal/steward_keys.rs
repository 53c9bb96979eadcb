//! A steward whose keys are replaced: those it signs with, and that of the registry it serves.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Backup, Daemon, Host, story, wait};
use serde_json::Value;

use crate::founders::found;

const DEADLINE: Duration = Duration::from_secs(90);
/// Echo requests, a hundred a second.
const ECHOES: &str = "800";
/// Bytes before a secret in the file of a steward's keys: the CBOR head of 32 bytes.
const SEED_HEAD: [u8; 2] = [0x58, 32];

#[test]
fn the_keys_of_a_steward_are_replaced_and_nothing_stops() {
    story("renewal-keys", |around| {
        let [c1, l1, c2, c3] = around.hosts(["c1", "l1", "c2", "c3"])?;
        let mut daemons = found(around, &c1, &l1, "", &[])?;
        let away = join(&c1, &c2)?;
        let peer = address(&l1)?;
        wait::until(DEADLINE, "c1 reaches l1", || c1.pings(&peer, 1).unwrap_or(false))?;
        let seeds = seeds(&c1)?;
        let before = c1.ctl(&["steward", "show"])?.ok()?;

        // One node is away meanwhile, and traffic goes on.
        drop(away);
        let mut echo = c1.start(&["ping", "-q", "-n", "-i", "0.01", "-c", ECHOES, "-W", "5", &peer])?;
        let after = renew(&c1, &["--new-keys"])?;
        ensure!(after == c1.ctl(&["steward", "show"])?.ok()?, "{after}");
        for key in ["record_key", "log_key", "witness_key", "tls_key"] {
            ensure!(after["keys"][key] != before["keys"][key], "{key} is still {}", after["keys"][key]);
        }
        for seed in &seeds {
            ensure!(!is_kept(&c1.state_dir().join("steward"), seed)?, "a secret key is still there");
        }
        ensure!(echo.wait(DEADLINE)?.success(), "an echo request was not answered");

        // Who was away, who starts anew, and who is new: all know the old key of the registry at most.
        let _c2 = c2.meshd("")?;
        daemons[1].stop()?;
        daemons[1] = l1.meshd("")?;
        let _c3 = join(&c1, &c3)?;
        let everyone = [&c1, &l1, &c2, &c3];
        for host in everyone {
            wait::until(DEADLINE, "everyone reaches everyone by the registry", || {
                is_connected(host)
                    && host.peers().is_ok_and(|peers| {
                        peers.len() == 3 && peers.iter().all(|peer| peer["state"] == "connected")
                    })
            })?;
        }

        // The new keys can do what those before did: witness, take back, and follow a new root.
        for host in [&c1, &l1] {
            wait::until(DEADLINE, "the log is cosigned as far as it goes", || is_clean(host))?;
        }
        c1.ctl(&["revoke", "c3"])?.ok()?;
        let heir = c1.dir().join("heir.key").display().to_string();
        let root = renew(&c1, &["--new-root-key", &heir])?;
        ensure!(root["root_version"] == 2 && root["keys"] == after["keys"], "{root}");
        // From here on nobody believes the keys before, and c1 has not been started anew since it had them.
        daemons[1].stop()?;
        daemons[1] = l1.meshd("")?;
        wait::until(DEADLINE, "l1 is in the registry again", || is_connected(&l1))?;
        daemons[0].stop()?;
        daemons[0] = c1.meshd("")?;
        wait::until(DEADLINE, "c2 is in the registry again", || is_connected(&c2))?;
        for host in [&c1, &l1, &c2] {
            wait::until(DEADLINE, "those who are left reach each other", || connected(host) == 2)?;
        }
        wait::until(DEADLINE, "the log is cosigned as far as it goes", || is_clean(&c1))
    });
}

#[test]
fn a_steward_whose_log_has_two_faces_begins_anew_with_keys_of_a_new_root() {
    story("renewal-convict", |around| {
        let [c1, l1, c2] = around.hosts(["c1", "l1", "c2"])?;
        let mut daemons = found(around, &c1, &l1, "", &[])?;
        wait::until(DEADLINE, "the log is cosigned as far as it goes", || is_clean(&c1))?;
        daemons[0].stop()?;
        let backup = Backup::take(c1.state_dir().join("steward"), c1.dir().join("backup"))?;
        daemons[0] = c1.meshd("")?;
        c1.ctl(&["invite"])?.ok()?;
        wait::until(DEADLINE, "the log is cosigned as far as it goes", || is_clean(&c1))?;
        daemons[0].kill()?;
        backup.restore()?;
        daemons[0] = c1.meshd("")?;
        c1.ctl(&["invite"])?.ok()?;
        wait::until(DEADLINE, "l1 has convicted c1", || warns(&l1, "log-forked"))?;

        let heir = c1.dir().join("heir.key").display().to_string();
        renew(&c1, &["--new-keys", "--new-root-key", &heir])?;
        wait::until(DEADLINE, "l1 lets it begin anew", || !warns(&l1, "log-forked"))?;
        let _c2 = join(&c1, &c2)?;
        wait::until(DEADLINE, "l1 takes in whom it admits", || connected(&l1) == 2)
    });
}

/// Has the root of the clinic sign again.
fn renew(steward: &Host, how: &[&str]) -> Result<Value> {
    let key = steward.dir().join("clinic.root.key").display().to_string();
    steward.ctl(&[&["steward", "renew", "--root-key", &key], how].concat())?.ok()
}

fn join(steward: &Host, host: &Host) -> Result<Daemon> {
    let token = steward.ctl(&["invite"])?.ok()?["token"].as_str().context("a token")?.to_owned();
    let daemon = host.meshd("")?;
    host.ctl(&["join", &token, "--name", host.name()])?.ok()?;
    Ok(daemon)
}

fn address(host: &Host) -> Result<String> {
    let status = host.ctl(&["status"])?.ok()?;
    status["node"]["addr4"].as_str().map(str::to_owned).context("an address")
}

/// The secret keys of a steward.
fn seeds(steward: &Host) -> Result<Vec<Vec<u8>>> {
    let bytes = fs::read(steward.state_dir().join("steward/keys.a"))?;
    let heads = bytes.windows(2).enumerate().filter(|(_, two)| *two == SEED_HEAD);
    let seeds: Vec<Vec<u8>> =
        heads.filter_map(|(at, _)| bytes.get(at + 2..at + 34).map(<[u8]>::to_vec)).collect();
    ensure!(seeds.len() >= 4, "{} secrets are in the file", seeds.len());
    Ok(seeds)
}

/// Whether a file below a directory has these bytes in it.
fn is_kept(dir: &Path, seed: &[u8]) -> Result<bool> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            is_kept(&path, seed)?
        } else {
            // A file may be replaced meanwhile.
            fs::read(&path).is_ok_and(|bytes| bytes.windows(seed.len()).any(|part| part == seed))
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Other nodes that a host reaches.
fn connected(host: &Host) -> usize {
    let peers = host.peers().unwrap_or_default();
    peers.iter().filter(|peer| peer["state"] == "connected").count()
}

fn is_connected(host: &Host) -> bool {
    host.ctl(&["status"]).is_ok_and(|status| status.json["registry"]["connected"] == true)
}

/// Whether an auditor finds nothing wrong or missing.
fn is_clean(steward: &Host) -> bool {
    let log = steward.audit_log().display().to_string();
    let verified = steward.ctl(&["audit", "verify", "--log", &log]);
    verified.is_ok_and(|reply| reply.code == 0 && is_cosigned(&reply.json))
}

/// Whether the newest checkpoint has a cosignature.
fn is_cosigned(report: &Value) -> bool {
    report
        .pointer("/logs/0/checkpoints/0/cosigned")
        .and_then(Value::as_array)
        .is_some_and(|witnesses| !witnesses.is_empty())
}

fn warns(host: &Host, code: &str) -> bool {
    host.ctl(&["status"]).is_ok_and(|status| status.json["warnings"].to_string().contains(code))
}
