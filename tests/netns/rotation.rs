//! Tunnel keys that are replaced every few seconds while packets flow.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Backup, Host, SeenKeys, story, wait};
use serde_json::Value;

/// Keys live two seconds.
const STORM: &str = "[keys]\nperiod_s = 2\n";
/// Keys that nobody replaces within a test.
const SLOW: &str = "[keys]\nperiod_s = 120\n";
const DEADLINE: Duration = Duration::from_secs(60);
/// Echo requests, a hundred a second each way.
const ECHOES: &str = "1500";
const ECHO_EVERY_S: &str = "0.01";
/// Seconds of one TCP connection.
const FLOW_S: &str = "15";
/// Times that a daemon is killed.
const KILLS: u32 = 8;
/// The kills come at moments that differ, over all of a rotation.
const KILL_STEP: Duration = Duration::from_millis(270);

#[test]
fn no_packet_is_lost_while_keys_are_replaced_every_two_seconds() {
    story("rotation", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mesh = lab.mesh_with("clinics", &[&a, &b, &c], STORM)?;
        mesh.everyone_reaches_all()?;
        let before = a.epochs()?;
        let addr = |name: &str| Ok::<_, anyhow::Error>(mesh.member(name)?.addr4.to_string());
        let (at_a, at_b, at_c) = (addr("a")?, addr("b")?, addr("c")?);
        let _server = b.start(&["iperf3", "--server", "--bind", &at_b])?;
        wait::until(DEADLINE, "iperf3 listens", || {
            b.run(&["ss", "-lnt"]).is_ok_and(|listening| listening.stdout.contains(":5201"))
        })?;
        let echo = |host: &Host, target: &str| {
            host.start(&["ping", "-q", "-n", "-i", ECHO_EVERY_S, "-c", ECHOES, "-W", "5", target])
        };
        let mut echoes = [echo(&a, &at_c)?, echo(&b, &at_a)?, echo(&c, &at_b)?];
        let flow = a.run(&["iperf3", "--client", &at_b, "--time", FLOW_S, "--json"])?;
        let flow: Value = serde_json::from_str(&flow.ok()?).context("read what iperf3 measured")?;
        let received = flow.pointer("/end/sum_received/bytes").and_then(Value::as_u64);
        ensure!(received.is_some_and(|bytes| bytes > 1 << 20), "the connection lives: {}", flow["error"]);
        for echo in &mut echoes {
            // It ends with 1 if an answer is missing.
            ensure!(echo.wait(DEADLINE)?.success(), "an echo request was not answered");
        }
        for host in [&a, &b, &c] {
            let log = fs::read_to_string(host.log("ping"))?;
            ensure!(log.contains(" 0% packet loss"), "{}: {log}", host.name());
        }
        for (name, epoch) in a.epochs()? {
            println!("the key of {name} was replaced {} times", epoch - before[&name]);
        }
        wait::until(DEADLINE, "each key was replaced a few times", || {
            a.epochs().is_ok_and(|epochs| epochs.iter().all(|(name, epoch)| *epoch >= before[name] + 4))
        })
    });
}

#[test]
fn a_node_that_is_killed_at_any_moment_of_a_rotation_comes_back_and_uses_no_key_twice() {
    story("rotation-kill", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b], STORM)?;
        mesh.everyone_reaches_all()?;
        let mut seen = SeenKeys::default();
        for kill in 0..KILLS {
            seen.note(&a)?;
            seen.note(&b)?;
            std::thread::sleep(KILL_STEP * kill);
            let member = mesh.member_mut("b")?;
            member.daemon.kill()?;
            member.daemon = b.meshd(STORM)?;
            mesh.everyone_reaches_all()?;
        }
        let before = a.epoch("b")?;
        wait::until(DEADLINE, "b goes on to replace its key", || {
            seen.note(&a).is_ok() && a.epoch("b").is_ok_and(|now| now > before + 1)
        })?;
        let log = fs::read_to_string(a.log("meshd"))?;
        ensure!(!log.contains("equivocation"), "b has signed two records under one number");
        Ok(())
    });
}

#[test]
fn a_key_is_replaced_when_somebody_says_so_and_at_once_when_it_was_stolen() {
    story("rotation-now", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        // Half a minute: the rotation below is not one that was due.
        let mesh = lab.mesh_with("clinics", &[&a, &b], "[keys]\nperiod_s = 30\n")?;
        mesh.everyone_reaches_all()?;
        for verb in ["rotate", "compromised"] {
            let before = a.epoch("b")?;
            let answer = b.ctl(&["key", verb])?.ok()?;
            ensure!(answer["schema"] == "meshd.keys/1", "{answer}");
            wait::until(DEADLINE, &format!("a knows the key of b after {verb}"), || {
                a.epoch("b").is_ok_and(|now| now > before)
            })?;
            mesh.everyone_reaches_all()?;
        }
        Ok(())
    });
}

#[test]
fn a_node_that_lost_its_tunnel_keys_makes_another_and_is_reached_again() {
    story("rotation-lost", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let before = a.epoch("b")?;
        let member = mesh.member_mut("b")?;
        member.daemon.kill()?;
        for copy in ["keys.a", "keys.b"] {
            fs::remove_file(b.state_dir().join(copy))?;
        }
        member.daemon = b.meshd("")?;
        wait::until(DEADLINE, "a knows another key of b", || a.epoch("b").is_ok_and(|now| now > before))?;
        mesh.everyone_reaches_all()
    });
}

#[test]
fn a_node_that_went_on_from_a_backup_before_anybody_could_tell_it_is_heard_again() {
    story("rotation-restored", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b], STORM)?;
        mesh.everyone_reaches_all()?;
        mesh.member_mut("b")?.daemon.stop()?;
        let backup = Backup::take(b.state_dir(), b.dir().join("backup"))?;
        mesh.member_mut("b")?.daemon = b.meshd(STORM)?;
        let saved = a.epoch("b")?;
        wait::until(DEADLINE, "b has replaced its key", || a.epoch("b").is_ok_and(|now| now > saved + 1))?;
        mesh.member_mut("b")?.daemon.stop()?;
        backup.restore()?;

        // Alone, with the key of the backup, for longer than it looks for what it has signed.
        b.unplug()?;
        let known = a.epoch("b")?;
        let signed = records_signed(&b)?;
        mesh.member_mut("b")?.daemon = b.meshd(SLOW)?;
        wait::until(DEADLINE, "b signs a record by its old state", || {
            records_signed(&b).is_ok_and(|now| now > signed)
        })?;
        b.plug()?;
        wait::until(DEADLINE, "a knows a key of b that is new", || {
            a.epoch("b").is_ok_and(|now| now > known)
        })?;
        mesh.everyone_reaches_all()
    });
}

/// Records of its keys that a host has signed.
fn records_signed(host: &Host) -> Result<usize> {
    Ok(fs::read_to_string(host.log("meshd"))?.matches("tunnel keys signed").count())
}
