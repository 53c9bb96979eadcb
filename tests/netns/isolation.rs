//! What a container may not do to others, to its host and to the mesh, with every right over its own network.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Capture, Captured, Host, IMAGE, Podman, repository, story, wait};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(30);

/// The port that stewards and embedded registries listen at, and that of the tunnels.
const CONTROL_PORT: u16 = 51820;
const UNDERLAY_PORT: u16 = 51820;

/// The gateway of every endpoint.
const GATEWAY: &str = "169.254.1.1";

/// What nobody but the container itself may send arrives under these words.
const FORBIDDEN: [&[u8]; 2] = [b"canary-spoofed", b"canary-tunnelled"];

/// The system's programs and libraries, which the image does not have.
const VOLUMES: [&str; 3] =
    ["--volume=/usr:/usr:ro", "--volume=/usr/lib:/lib:ro", "--volume=/usr/lib64:/lib64:ro"];

/// A container of podman in the mesh.
struct Container<'a> {
    podman: &'a Podman<'a>,
    name: &'static str,
    /// IPv4, then IPv6.
    addresses: Vec<String>,
}

impl<'a> Container<'a> {
    fn run(podman: &'a Podman<'a>, name: &'static str, options: &[&str]) -> Result<Self> {
        let run = ["run", "--detach", "--network=meshd", "--name", name];
        podman.ok(&[&run[..], options, &[IMAGE]].concat())?;
        let form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}";
        let told = podman.ok(&["inspect", "--format", form, name])?;
        let addresses: Vec<String> = told.split_whitespace().map(str::to_owned).collect();
        ensure!(addresses.len() == 2, "{name} has {addresses:?}");
        Ok(Self { podman, name, addresses })
    }

    fn watch(&self) -> Result<Capture> {
        let pid = self.podman.ok(&["inspect", "--format", "{{.State.Pid}}", self.name])?;
        Capture::start_inside(self.podman.host(), self.name, &format!("/proc/{pid}/ns/net"), "eth0")
    }

    /// What its host has of it.
    fn endpoint(&self) -> Result<Value> {
        let listed = self.podman.host().ctl(&["endpoints"])?.ok()?;
        let mut listed = listed["endpoints"].as_array().context("endpoints")?.iter();
        let own = listed.find(|one| one["addresses"][0] == self.addresses[0].as_str());
        own.cloned().with_context(|| format!("{} is no endpoint", self.name))
    }
}

#[test]
fn a_container_can_not_speak_for_others_hide_packets_or_ask_what_is_not_its_business() {
    story("isolation", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let node = mesh.member("a")?;
        let ([p, q, ..], [r, s, t, u, ..]) = (node.addr4.octets(), node.addr6.segments());
        let (pool4, pool6) = (format!("{p}.{q}.128.0/20"), format!("{r:x}:{s:x}:{t:x}:{u:x}:d0c::/80"));
        for host in [&a, &b] {
            host.install_cni(&["--pool4", &pool4, "--pool6", &pool6])?;
        }
        let podmans = [Podman::new(&a)?, Podman::new(&b)?];
        let rights = [&VOLUMES[..], &["--cap-add=NET_ADMIN", "--cap-add=NET_RAW"]].concat();
        let rogue = Container::run(&podmans[0], "rogue", &rights)?;
        let victims =
            [Container::run(&podmans[0], "neighbour", &[])?, Container::run(&podmans[1], "remote", &[])?];
        for victim in &victims {
            for address in &victim.addresses {
                wait::until(DEADLINE, &format!("{address} is reached"), || {
                    let ping = podmans[0].run(&["exec", "rogue", "ping", "-c", "1", "-W", "2", address]);
                    ping.is_ok_and(|ping| ping.code == 0)
                })?;
            }
        }
        let endpoint = rogue.endpoint()?;
        let status = a.ctl(&["status"])?.ok()?;
        let name = status["node"]["dns_name"].as_str().context("the name of its node")?;
        let host_mac = endpoint["host_mac"].as_str().context("the MAC address of its host")?;
        let targets: Vec<&String> = victims.iter().flat_map(|victim| &victim.addresses).collect();
        let (targets4, targets6): (Vec<&String>, Vec<&String>) =
            targets.iter().partition(|address| !address.contains(':'));
        let (node4, node6) = (node.addr4.to_string(), node.addr6.to_string());
        let outside = ["192.0.2.7", "2001:db8::7"].map(str::to_owned);
        let sources: Vec<&String> = targets.iter().copied().chain([&node4, &node6]).chain(&outside).collect();
        let plan = json!({
            "own": rogue.addresses, "host_mac": host_mac, "gateway": GATEWAY, "name": name,
            "targets": targets, "targets4": targets4, "targets6": targets6, "sources": sources,
            "node4": node4, "node6": node6, "nodes": [&node4, &node6, &a.addr4().to_string()],
            "control_port": CONTROL_PORT, "underlay_port": UNDERLAY_PORT,
            "sockets": ["/run/meshd/api.sock", "/run/meshd/plugin.sock", a.socket(), a.run_dir().join("plugin.sock")],
        });

        let captures = [victims[0].watch()?, victims[1].watch()?];
        let before = drops(&a)?;
        let script = std::fs::read_to_string(repository()?.join("tests/netns/isolation/attack.py"))?;
        let attack = ["exec", "rogue", "/usr/bin/python3", "-c", &script, &plan.to_string()];
        let answers = podmans[0].ok(&attack)?;
        let answers: Value = serde_json::from_str(&answers).with_context(|| format!("read {answers}"))?;

        // Every attempt is counted, and none is seen by who it was meant for.
        let after = drops(&a)?;
        for counter in ["spoofed", "rogue", "tunnelled"] {
            let counted = after[counter] - before[counter];
            ensure!(Some(counted) >= answers[counter].as_u64(), "{counted} {counter}: {answers}");
        }
        ensure!(after["uninvited"] > before["uninvited"], "{after:?}");
        for (capture, victim) in captures.into_iter().zip(&victims) {
            let seen = wait::until_some(DEADLINE, "the last packets, which are its own, arrive", || {
                let is_last =
                    |seen: &Captured| seen.contains(b"canary-last4") && seen.contains(b"canary-last6");
                capture.so_far().ok().filter(is_last)
            })?;
            for words in FORBIDDEN {
                ensure!(!seen.contains(words), "{} saw {}", victim.name, String::from_utf8_lossy(words));
            }
            let _all = capture.finish()?;
        }
        let mac = endpoint["container_mac"].as_str().context("its MAC address")?;
        let believed = believed_at(&a, mac)?;
        ensure!(
            believed.iter().all(|address| rogue.addresses.contains(address)),
            "{believed:?} are at {mac}"
        );
        for address in targets {
            ensure!(a.pings(address, 1)? && b.pings(address, 1)?, "{address} is where it was");
        }

        let none =
            |key: &str| answers[key].as_array().is_some_and(|all| all.iter().all(|one| one != "connected"));
        ensure!(none("sockets"), "a socket of the daemon is reached: {answers}");
        ensure!(none("control"), "stewards and registries are no business of a container: {answers}");
        ensure!(answers["names"] == json!([5, 5]), "only names of the mesh, one by one: {answers}");
        ensure!(answers["own_name"] == 0, "names of the mesh are answered: {answers}");
        Ok(())
    });
}

/// Packets dropped by a host, by the reason.
fn drops(host: &Host) -> Result<BTreeMap<String, u64>> {
    let listed = host.run(&["nft", "-j", "list", "counters", "table", "inet", "meshd"])?.ok()?;
    let listed: Value = serde_json::from_str(&listed).context("read counters")?;
    let listed = listed["nftables"].as_array().context("counters")?.iter();
    let counters = listed.filter_map(|item| {
        let counter = &item["counter"];
        Some((counter["name"].as_str()?.to_owned(), counter["packets"].as_u64()?))
    });
    Ok(counters.collect())
}

/// Addresses that a host believes to be at a hardware address, but those of its link alone.
fn believed_at(host: &Host, mac: &str) -> Result<Vec<String>> {
    let listed = host.run(&["ip", "-j", "neighbour"])?.ok()?;
    let listed: Value = serde_json::from_str(&listed).context("read neighbours")?;
    let listed = listed.as_array().context("neighbours")?.iter();
    let there = listed.filter(|one| one["lladdr"].as_str().is_some_and(|at| at.eq_ignore_ascii_case(mac)));
    let addresses = there.filter_map(|one| one["dst"].as_str());
    Ok(addresses.filter(|address| !address.starts_with("fe80:")).map(str::to_owned).collect())
}
