//! Records travel from node to node while no registry answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_lab::{Etcd, Mesh, story, wait};

const DEADLINE: Duration = Duration::from_secs(60);
/// Keys live two seconds.
const STORM: &str = "[keys]\nperiod_s = 2\n";
/// Rotations of one node: it was away for all of them, or they pass under traffic.
const ROTATIONS: u64 = 4;
/// Echo requests, a hundred a second.
const ECHOES: &str = "1500";
const ECHO_EVERY_S: &str = "0.01";
/// Addresses that hosts move to; no link of a lab has them.
const MOVED: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 19, 0, 7), Ipv4Addr::new(198, 19, 0, 8)];

#[test]
fn keys_are_replaced_under_traffic_while_the_registry_is_gone() {
    story("channel-rotation", |lab| {
        let [store, a, b, c] = lab.hosts(["store", "a", "b", "c"])?;
        let etcd = Etcd::start(&store)?;
        let mesh = lab.mesh_with("clinics", &[&a, &b, &c], &format!("{STORM}{}", etcd.config()))?;
        mesh.everyone_reaches_all()?;
        drop(etcd);
        let before = [a.epoch("b")?, a.epoch("c")?];
        let mut echoes = Vec::new();
        for (from, to) in [(&a, "b"), (&b, "c"), (&c, "a")] {
            let target = mesh.member(to)?.addr4.to_string();
            let line = ["ping", "-q", "-n", "-i", ECHO_EVERY_S, "-c", ECHOES, "-W", "5", &target];
            echoes.push((from, from.start(&line)?));
        }
        for (from, mut echo) in echoes {
            echo.wait(DEADLINE)?;
            let log = std::fs::read_to_string(from.log("ping"))?;
            ensure!(log.contains(" 0% packet loss"), "{}: {log}", from.name());
        }
        for (name, before) in ["b", "c"].into_iter().zip(before) {
            wait::until(DEADLINE, &format!("a knows the {ROTATIONS}th next key of {name}"), || {
                a.epoch(name).is_ok_and(|now| now >= before + ROTATIONS)
            })?;
        }
        Ok(())
    });
}

#[test]
fn a_node_that_was_away_while_keys_were_replaced_is_reached_without_a_registry() {
    story("channel-away", |lab| {
        let [store, a, b, c] = lab.hosts(["store", "a", "b", "c"])?;
        let etcd = Etcd::start(&store)?;
        let config = format!("{STORM}{}", etcd.config());
        let mut mesh = lab.mesh_with("clinics", &[&a, &b, &c], &config)?;
        mesh.everyone_reaches_all()?;
        mesh.member_mut("c")?.daemon.kill()?;
        drop(etcd);
        let before = a.epoch("b")?;
        wait::until(DEADLINE, "b has replaced the keys that c knows", || {
            a.epoch("b").is_ok_and(|now| now >= before + ROTATIONS)
        })?;
        mesh.member_mut("c")?.daemon = c.meshd(&config)?;
        let returned = std::time::Instant::now();
        for other in ["a", "b"] {
            let target = mesh.member(other)?.addr4.to_string();
            mesh.member("c")?.reaches(DEADLINE, &target)?;
            println!("c reaches {other} after {:.1} s", returned.elapsed().as_secs_f64());
        }
        Ok(())
    });
}

#[test]
fn a_common_neighbour_tells_two_that_moved_where_they_are() {
    story("channel-moved", |lab| {
        let [a, b, c, d] = lab.hosts(["a", "b", "c", "d"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b, &c, &d])?;
        mesh.everyone_reaches_all()?;
        // Registry and steward live in the daemon of a.
        mesh.member_mut("a")?.daemon.kill()?;
        mesh.member_mut("b")?.daemon.kill()?;
        mesh.member_mut("c")?.daemon.kill()?;
        for (host, to) in [&b, &c].into_iter().zip(MOVED) {
            host.move_to(to)?;
        }
        for (name, host) in [("b", &b), ("c", &c)] {
            mesh.member_mut(name)?.daemon = host.meshd("")?;
        }
        reach(&mesh, "b", "c")?;
        reach(&mesh, "c", "d")
    });
}

#[test]
fn who_is_revoked_while_the_registry_is_gone_is_cut_off_everywhere() {
    story("channel-revoked", |lab| {
        let [store, a, b, c] = lab.hosts(["store", "a", "b", "c"])?;
        let etcd = Etcd::start(&store)?;
        let mesh = lab.mesh_with("clinics", &[&a, &b, &c], &etcd.config())?;
        mesh.everyone_reaches_all()?;
        drop(etcd);
        a.ctl(&["revoke", "c"])?.ok()?;
        wait::until(DEADLINE, "b has heard of it", || {
            b.peers().is_ok_and(|peers| peers.iter().all(|peer| peer["name"] != "c"))
        })?;
        let target = mesh.member("c")?.addr4.to_string();
        ensure!(!b.pings(&target, 3)?, "b still reaches c");
        reach(&mesh, "a", "b")
    });
}

fn reach(mesh: &Mesh<'_>, from: &str, to: &str) -> Result<()> {
    let target = mesh.member(to)?.addr4.to_string();
    mesh.member(from)?.reaches(DEADLINE, &target)
}
