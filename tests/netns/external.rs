//! Plain WireGuard peers: a phone that knows nothing of meshd uses the mesh through its gateway node.

#[path = "external/phone.rs"]
mod phone;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Host, Mesh, story, wait};
use serde_json::Value;

use phone::Phone;

const DEADLINE: Duration = Duration::from_secs(20);
/// Seconds of one iperf3 run, and what it must carry at least: a slow machine is no defect of the mesh.
const IPERF_S: &str = "1";
const IPERF_BYTES_MIN: u64 = 1024 * 1024;

#[test]
fn a_phone_reaches_the_whole_mesh_until_it_is_removed() {
    story("external", |lab| {
        let [a, b, c, p] = lab.hosts(["a", "b", "c", "phone"])?;
        let mesh = lab.mesh("clinics", &[&a, &b, &c])?;
        mesh.everyone_reaches_all()?;
        let made = b.ctl(&["peer", "add-external", "phone"])?.ok()?;
        let phone = Phone::start(&p, config(&made)?)?;
        phone_and_mesh_reach_each_other(&mesh, &phone)?;

        let server = c.start(&["iperf3", "--server", "--one-off"])?;
        let target = mesh.member("c")?.addr4.to_string();
        let mut carried = 0;
        wait::until(DEADLINE, "the phone moves data to c", || {
            carried = moved(&p, &target).unwrap_or(0);
            carried > 0
        })?;
        drop(server);
        assert!(carried >= IPERF_BYTES_MIN, "{carried} bytes");
        assert_eq!(b.peers()?.len(), 2, "the phone is no node");
        let row = only_external(&b)?;
        assert_eq!((row["name"].as_str(), row["certified"].as_bool()), (Some("phone"), Some(true)));
        let has_spoken = row["rx_bytes"].as_u64() > Some(0) && row["tx_bytes"].as_u64() > Some(0);
        assert!(row["last_handshake_s"].is_u64() && has_spoken, "{row}");

        b.ctl(&["peer", "remove-external", "phone"])?.ok()?;
        assert!(!c.pings(&phone.addr4, 1)? && !b.pings(&phone.addr4, 1)?, "nothing gets to the phone");
        for host in ["a", "b", "c"] {
            let member = mesh.member(host)?;
            assert!(!p.pings(&member.addr4.to_string(), 1)?, "nothing of the phone gets to {host}");
            assert!(!p.pings(&member.addr6.to_string(), 1)?, "nothing of the phone gets to {host}");
        }
        mesh.everyone_reaches_all()
    });
}

#[test]
fn a_phone_is_served_again_after_its_gateway_was_killed() {
    story("external-restart", |lab| {
        let [a, b, p] = lab.hosts(["a", "b", "phone"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let made = b.ctl(&["peer", "add-external", "phone"])?.ok()?;
        let phone = Phone::start(&p, config(&made)?)?;
        phone_and_mesh_reach_each_other(&mesh, &phone)?;
        mesh.member_mut("b")?.daemon.kill()?;
        mesh.member_mut("b")?.daemon = b.meshd("")?;
        phone_and_mesh_reach_each_other(&mesh, &phone)
    });
}

#[test]
fn a_router_with_a_key_of_its_own_and_without_a_preshared_key_is_served_by_the_steward() {
    story("external-router", |lab| {
        let [a, b, r] = lab.hosts(["a", "b", "router"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let (private, public) = phone::new_key(&r)?;
        let endpoint = format!("[{}]:51820", a.addr6());
        let line =
            ["peer", "add-external", "router", "--no-psk", "--public-key", &public, "--endpoint", &endpoint];
        let made = a.ctl(&line)?.ok()?;
        let config = config(&made)?;
        assert!(!config.contains("\nPrivateKey = ") && !config.contains("PresharedKey"), "{config}");
        let config = config.replace("[Interface]\n", &format!("[Interface]\nPrivateKey = {private}\n"));
        let router = Phone::start(&r, &config)?;
        phone_and_mesh_reach_each_other(&mesh, &router)?;
        // Asking again with the same key is the same answer.
        assert_eq!(a.ctl(&line)?.ok()?["config"], made["config"]);
        its_keys_are_no_finding(&a)
    });
}

/// The keys between a node and a plain peer are in no log, and audits know that.
fn its_keys_are_no_finding(steward: &Host) -> Result<()> {
    let log = steward.state_dir().join("steward/log").display().to_string();
    let mut seen = Value::Null;
    wait::until(DEADLINE, "the keys on the wire are those of the log", || {
        let reply = steward.ctl(&["audit", "observed", "--log", &log]);
        reply.is_ok_and(|reply| {
            seen = reply.json;
            reply.code == 0
        })
    })?;
    let keys = seen["keys"].as_array().context("keys")?;
    let external: Vec<&Value> = keys.iter().filter(|key| key["state"] == "external").collect();
    ensure!(external.len() == 2 && external.iter().any(|key| key["name"] == "router"), "{seen}");
    ensure!(keys.iter().filter(|key| key["state"] == "logged").count() >= 2, "{seen}");
    Ok(())
}

#[test]
fn what_can_not_be_served_is_refused_with_its_reason() {
    story("external-refused", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let _daemon = a.meshd("")?;
        a.ctl(&["peer", "add-external", "phone"])?.refused(7)?;
        a.ctl(&["peer", "list-external"])?.refused(7)?;
        drop(_daemon);
        a.reboot()?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        b.ctl(&["peer", "add-external", "phone"])?.ok()?;
        let key = only_external(&b)?["public_key"].as_str().context("a key")?.to_owned();
        b.ctl(&["peer", "add-external", "phone"])?.refused(7)?;
        a.ctl(&["peer", "add-external", "phone"])?.refused(7)?;
        b.ctl(&["peer", "add-external", "a"])?.refused(7)?;
        b.ctl(&["peer", "add-external", "tablet", "--public-key", &key])?.refused(7)?;
        b.ctl(&["peer", "add-external", "tablet", "--allowed", "0.0.0.0/0"])?.refused(2)?;
        let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        b.ctl(&["peer", "add-external", "tablet", "--public-key", zero])?.refused(2)?;
        b.ctl(&["peer", "remove-external", "tablet"])?.refused(5)?;
        assert_eq!(only_external(&b)?["public_key"], key, "what was refused has changed nothing");
        Ok(())
    });
}

#[test]
fn without_the_steward_nobody_is_added_and_anybody_is_removed() {
    story("external-no-steward", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        b.ctl(&["peer", "add-external", "phone"])?.ok()?;
        mesh.member_mut("a")?.daemon.stop()?;
        b.ctl(&["peer", "add-external", "tablet"])?.refused(1)?;
        b.ctl(&["peer", "remove-external", "phone"])?.ok()?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        // The steward hears of it, and the name is free for another node.
        wait::until(2 * DEADLINE, "the name is given back", || {
            a.ctl(&["peer", "add-external", "phone"]).is_ok_and(|reply| reply.code == 0)
        })?;
        b.ctl(&["peer", "add-external", "tablet"])?.ok()?;
        Ok(())
    });
}

fn phone_and_mesh_reach_each_other(mesh: &Mesh<'_>, phone: &Phone<'_>) -> Result<()> {
    for member in &mesh.members {
        for target in [member.addr4.to_string(), member.addr6.to_string()] {
            let what = format!("{} reaches {target}", phone.host.name());
            wait::until(DEADLINE, &what, || phone.host.pings(&target, 1).unwrap_or(false))?;
        }
        member.reaches(DEADLINE, &phone.addr4)?;
        member.reaches(DEADLINE, &phone.addr6)?;
    }
    Ok(())
}

fn config(made: &Value) -> Result<&str> {
    made["config"].as_str().with_context(|| format!("no configuration in {made}"))
}

fn only_external(host: &Host) -> Result<Value> {
    let reply = host.ctl(&["peer", "list-external"])?.ok()?;
    match reply["externals"].as_array().map(Vec::as_slice) {
        Some([one]) => Ok(one.clone()),
        _ => anyhow::bail!("not one external in {reply}"),
    }
}

/// Bytes that one iperf3 run moves.
fn moved(from: &Host, target: &str) -> Result<u64> {
    let output = from.run(&["iperf3", "--client", target, "--time", IPERF_S, "--json"])?.ok()?;
    let report: Value = serde_json::from_str(&output)?;
    report["end"]["sum_received"]["bytes"].as_u64().with_context(|| format!("no bytes in {report}"))
}
