//! Certificates renew themselves in the second half of their life.

use std::time::Duration;

use anyhow::Result;
use mesh_lab::{Daemon, Host, clock, story, wait};

const DEADLINE: Duration = Duration::from_secs(40);
/// Certificates live seven days, so the second half has begun.
const PAST_HALF: &str = "+4d";
/// Longer than that life: nobody holds a certificate that is still good.
const PAST_END: &str = "+8d";

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

fn started_at(host: &Host, offset: &str) -> Result<Daemon> {
    let mut command = host.meshd_command("")?;
    clock::shift(&mut command, offset)?;
    host.meshd_from(command)
}

fn expiry(host: &Host) -> Result<u64> {
    let status = host.ctl(&["status"])?.ok()?;
    Ok(status["node"]["cert_expires_at"].as_u64().unwrap_or_default())
}
