//! Certificates renew themselves in the second half of their life; what stewards and roots have is renewed by people.

#[path = "federation/founders.rs"]
mod founders;
#[path = "renewal/steward_keys.rs"]
mod steward_keys;

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_lab::{Daemon, Host, clock, program, story, wait};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(40);
/// Certificates live seven days, so the second half has begun.
const PAST_HALF: &str = "+4d";
/// Longer than that life: nobody holds a certificate that is still good.
const PAST_END: &str = "+8d";
/// Longer than the root lets a steward act.
const PAST_DELEGATION: &str = "+91d";
/// Echo requests, a hundred a second.
const ECHOES: &str = "500";
/// Exit code of what the daemon refuses.
const REFUSED: i32 = 4;

#[test]
fn past_half_of_their_life_certificates_are_renewed_without_a_command() {
    story("renewal", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let before = [expiry(&a)?, expiry(&b)?];
        for (name, host) in [("a", &a), ("b", &b)] {
            mesh.member_mut(name)?.daemon.stop()?;
            mesh.member_mut(name)?.daemon = started_at(host, PAST_HALF)?;
        }
        for (host, before) in [(&a, before[0]), (&b, before[1])] {
            let what = format!("the certificate of {} is renewed", host.name());
            // Four days later by the shifted clock, less the minutes a steward dates back.
            wait::until(DEADLINE, &what, || expiry(host).is_ok_and(|now| now > before + 3 * 24 * 3600))?;
        }
        wait::until(DEADLINE, "a knows b's new certificate", || {
            a.peers().is_ok_and(|peers| {
                peers.iter().any(|peer| peer["cert_expires_at"].as_u64() > Some(before[1]))
            })
        })?;
        mesh.everyone_reaches_all()
    });
}

#[test]
fn a_node_whose_certificate_is_over_reaches_nobody_until_its_steward_renews_it() {
    story("renewal-late", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let steward4 = mesh.member("a")?.addr4.to_string();
        for name in ["a", "b"] {
            mesh.member_mut(name)?.daemon.stop()?;
        }
        mesh.member_mut("b")?.daemon = started_at(&b, PAST_END)?;
        assert_eq!(b.ctl(&["status"])?.ok()?["membership"], "expired");
        assert!(!b.pings(&steward4, 1)?, "an expired node reaches nobody");
        mesh.member_mut("a")?.daemon = started_at(&a, PAST_END)?;
        mesh.everyone_reaches_all()
    });
}

#[test]
fn a_mesh_whose_delegation_is_over_goes_on_once_the_root_has_signed_again() {
    story("renewal-steward", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        for (name, host) in [("a", &a), ("b", &b)] {
            mesh.member_mut(name)?.daemon.stop()?;
            mesh.member_mut(name)?.daemon = started_at(host, PAST_DELEGATION)?;
        }
        let warnings = a.ctl(&["status"])?.ok()?["warnings"].to_string();
        ensure!(warnings.contains("delegation-ends"), "{warnings}");
        ensure!(b.ctl(&["steward", "show"])?.code != 0, "b is no steward");
        let before = a.ctl(&["steward", "show"])?.ok()?;
        let after = renew_at(&a, PAST_DELEGATION)?;
        ensure!(after["serial"].as_u64() > before["serial"].as_u64(), "{before} {after}");
        ensure!(after["keys"] == before["keys"], "{before} {after}");
        mesh.everyone_reaches_all()?;
        let warnings = a.ctl(&["status"])?.ok()?["warnings"].to_string();
        ensure!(!warnings.contains("delegation-ends"), "{warnings}");

        mesh.member_mut("a")?.daemon.stop()?;
        mesh.member_mut("a")?.daemon = started_at(&a, PAST_DELEGATION)?;
        ensure!(a.ctl(&["steward", "show"])?.ok()? == after, "a restart forgets nothing");
        mesh.everyone_reaches_all()
    });
}

#[test]
fn a_root_key_is_replaced_and_nothing_stops() {
    story("renewal-root", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let target = mesh.member("b")?.addr4.to_string();
        let mut echo = a.start(&["ping", "-q", "-n", "-i", "0.01", "-c", ECHOES, "-W", "5", &target])?;
        let [old, new] = ["root.key", "new.root.key"].map(|name| a.dir().join(name).display().to_string());
        let renew = ["steward", "renew", "--root-key"];
        let after = a.ctl(&[&renew[..], &[&old, "--new-root-key", &new]].concat())?.ok()?;
        ensure!(after["root_version"] == 2, "{after}");
        a.ctl(&[&renew[..], &[&old]].concat())?.refused(REFUSED)?;
        let again = a.ctl(&[&renew[..], &[&new]].concat())?.ok()?;
        ensure!(again["serial"].as_u64() > after["serial"].as_u64(), "{again}");

        // Members go on, and a newcomer follows the chain from the mesh id to the new root.
        let daemon = c.meshd("")?;
        mesh.join(&c, daemon)?;
        mesh.everyone_reaches_all()?;
        ensure!(echo.wait(DEADLINE)?.success(), "an echo request was not answered");
        let log = a.audit_log().display().to_string();
        let audit = a.ctl(&["audit", "verify", "--log", &log])?;
        ensure!(audit.code == 0, "{:?}", audit.output);
        Ok(())
    });
}

/// Has the root of the lab's mesh sign again, at the time of the steward.
fn renew_at(steward: &Host, offset: &str) -> Result<Value> {
    let mut command = Command::new(program("meshctl")?);
    command.arg("--socket").arg(steward.socket()).args(["--json", "steward", "renew", "--root-key"]);
    command.arg(steward.dir().join("root.key"));
    clock::shift(&mut command, offset)?;
    let output = command.output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn started_at(host: &Host, offset: &str) -> Result<Daemon> {
    let mut command = host.meshd_command("")?;
    clock::shift(&mut command, offset)?;
    host.meshd_from(command)
}

fn expiry(host: &Host) -> Result<u64> {
    let status = host.ctl(&["status"])?.ok()?;
    Ok(status["node"]["cert_expires_at"].as_u64().unwrap_or_default())
}
