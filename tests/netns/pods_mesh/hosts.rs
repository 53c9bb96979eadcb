//! Pods of several hosts.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use mesh_lab::{Containerd, Host, Pod, story, wait};
use serde_json::Value;

use crate::pools::Pools;

const DEADLINE: Duration = Duration::from_secs(30);

/// Serves one measurement after the other and keeps what was seen of each.
const SERVE: &str = "while iperf3 --server --one-off --json >>/tmp/seen; do :; done";

/// Seconds of one measurement, and what it must carry at least: a slow machine is no defect of the mesh.
const MEASURE_S: &str = "1";
const BYTES_MIN: u64 = 1024 * 1024;

/// Seconds of a flow over which a daemon dies and comes back.
const FLOW_S: &str = "8";

#[test]
fn pods_of_two_hosts_reach_each_other_under_their_own_addresses() {
    story("pods-hosts", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let pools = Pools::of(&mesh)?;
        // Runtimes of two releases, as in a cluster that is being upgraded.
        let containerds = [Containerd::start(&a)?, Containerd::start_later(&b)?];
        for containerd in &containerds {
            ensure!(!containerd.network_is_ready()?, "no network is configured yet");
            pools.install(containerd.host(), &[])?;
            wait::until(DEADLINE, "pods can be run", || containerd.network_is_ready().unwrap_or(false))?;
        }
        let [one, two] = [("one", &containerds[0]), ("two", &containerds[1])]
            .map(|(name, containerd)| Pod::run(containerd, name, &[], &["sh", "-c", SERVE]));
        let (one, two) = (one?, two?);
        for pod in [&one, &two] {
            ensure!(pod.addresses().len() == 2, "both families: {:?}", pod.addresses());
        }
        for (from, to) in [(&one, &two), (&two, &one)] {
            for target in to.addresses() {
                wait::until(DEADLINE, &format!("a pod pings {target}"), || {
                    from.exec(&["ping", "-c", "1", "-W", "2", target]).is_ok_and(|ping| ping.code == 0)
                })?;
                sends(from, target)?;
            }
            ensure!(peers_seen(to)? == from.addresses(), "seen are the addresses of the other pod alone");
        }
        // As its probes do, a node reaches its pods, and those of other nodes.
        for host in [&a, &b] {
            for target in one.addresses().iter().chain(two.addresses()) {
                ensure!(host.pings(target, 1)?, "{} pings {target}", host.name());
            }
        }
        one.remove()?;
        two.remove()?;
        [&a, &b].into_iter().try_for_each(nothing_is_attached)
    });
}

#[test]
fn an_established_flow_outlives_the_death_of_a_daemon() {
    story("pods-flow", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let pools = Pools::of(&mesh)?;
        let containerds = [Containerd::start(&a)?, Containerd::start(&b)?];
        for containerd in &containerds {
            pools.install(containerd.host(), &[])?;
            wait::until(DEADLINE, "pods can be run", || containerd.network_is_ready().unwrap_or(false))?;
        }
        let one = Pod::run(&containerds[0], "one", &[], &[])?;
        let two = Pod::run(&containerds[1], "two", &[], &["sh", "-c", SERVE])?;
        let target = two.addresses()[0].as_str();
        sends(&one, target)?;
        let client = ["iperf3", "--client", target, "--time", FLOW_S, "--interval", "0.1", "--json"];
        let told = thread::scope(|scope| {
            let flow = scope.spawn(|| one.exec(&client));
            let before = received(&two)?;
            wait::until(DEADLINE, "data flows", || received(&two).is_ok_and(|now| now > before + BYTES_MIN))?;
            let daemon = &mut mesh.member_mut("b")?.daemon;
            daemon.kill()?;
            *daemon = b.meshd("")?;
            flow.join().map_err(|_| anyhow!("the client panicked"))?
        })?;
        let told: Value = serde_json::from_str(&told.ok()?).context("read what the client tells")?;
        let intervals = told["intervals"].as_array().context("intervals")?.iter();
        let moved: Vec<u64> = intervals.filter_map(|interval| interval["sum"]["bytes"].as_u64()).collect();
        let rests = moved.split(|bytes| *bytes > 0).map(<[u64]>::len).max().unwrap_or_default();
        println!("the flow rested for {rests} tenths of a second");
        ensure!(moved.last().is_some_and(|bytes| *bytes > 0), "the flow goes on to its end: {moved:?}");
        ensure!(two.addresses()[0] == target && b.pings(target, 1)?, "the address stays");
        Ok(())
    });
}

/// Bytes that came to a pod until now.
fn received(pod: &Pod) -> Result<u64> {
    let text = pod.exec(&["cat", "/sys/class/net/eth0/statistics/rx_bytes"])?.ok()?;
    text.trim().parse().with_context(|| format!("read {text}"))
}

fn sends(from: &Pod, target: &str) -> Result<()> {
    let client = ["iperf3", "--client", target, "--time", MEASURE_S, "--json"];
    let mut arrived = 0;
    // The server of the measurement before may not be back yet.
    wait::until(DEADLINE, &format!("a pod sends data to {target}"), || {
        let told =
            from.exec(&client).ok().and_then(|output| serde_json::from_str::<Value>(&output.stdout).ok());
        arrived = told.and_then(|told| told["end"]["sum_received"]["bytes"].as_u64()).unwrap_or_default();
        arrived > 0
    })?;
    ensure!(arrived >= BYTES_MIN, "{arrived} bytes came to {target}");
    Ok(())
}

/// Under which addresses others came to a pod's server, IPv4 first.
fn peers_seen(pod: &Pod) -> Result<Vec<String>> {
    let seen = pod.exec(&["cat", "/tmp/seen"])?.ok()?;
    let mut peers = Vec::new();
    for measured in serde_json::Deserializer::from_str(&seen).into_iter::<Value>() {
        let measured = measured.context("read what a server has seen")?;
        if let Some(peer) = measured["start"]["accepted_connection"]["host"].as_str() {
            peers.push(peer.to_owned());
        }
    }
    peers.sort_by_key(|peer| peer.contains(':'));
    peers.dedup();
    Ok(peers)
}

fn nothing_is_attached(host: &Host) -> Result<()> {
    let left = host.ctl(&["endpoints"])?.ok()?;
    ensure!(left["endpoints"].as_array().is_some_and(Vec::is_empty), "{left}");
    let links = host.run(&["ip", "-o", "link"])?.ok()?;
    ensure!(!links.contains("msh"), "{links}");
    Ok(())
}
