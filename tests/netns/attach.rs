//! Plain network namespaces attached to the mesh, as a container or pod is.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Etcd, Host, Mesh, Namespace, story, wait};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(20);
/// Deadline for a node to hear that it was revoked: two looks at the registry.
const REVOKED_WITHIN: Duration = Duration::from_secs(80);

/// A namespace on a host of the lab; it goes with the lab.
struct Place {
    namespace: Namespace,
    path: String,
    addresses: Vec<String>,
}

impl Place {
    fn new(host: &Host, name: &str) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{name}", host.namespace().name()))?;
        let path = format!("/run/netns/{}", namespace.name());
        Ok(Self { namespace, path, addresses: Vec::new() })
    }

    /// Makes one and attaches it.
    fn attached(host: &Host, name: &str, options: &[&str]) -> Result<Self> {
        let mut place = Self::new(host, name)?;
        place.attach(host, options)?;
        Ok(place)
    }

    fn attach(&mut self, host: &Host, options: &[&str]) -> Result<Value> {
        let endpoint = host.ctl(&[&["attach", "--netns", &self.path], options].concat())?.ok()?;
        let addresses = endpoint["addresses"].as_array().context("addresses")?;
        self.addresses = addresses.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        ensure!(self.addresses.len() == 2, "{endpoint}");
        Ok(endpoint)
    }

    fn pings(&self, target: &str) -> Result<bool> {
        let mut ping = Command::new("ping");
        ping.args(["-n", "-q", "-c", "1", "-W", "2", target]).stdout(std::process::Stdio::null());
        Ok(self.namespace.run(move || ping.status())??.success())
    }

    fn reaches(&self, target: &str) -> Result<()> {
        wait::until(DEADLINE, &format!("{} reaches {target}", self.path), || {
            self.pings(target).unwrap_or(false)
        })
    }

    fn reaches_all(&self, others: &[&Self]) -> Result<()> {
        others.iter().flat_map(|other| &other.addresses).try_for_each(|address| self.reaches(address))
    }
}

/// What `meshctl endpoints gc` removes.
fn gc(host: &Host, options: &[&str]) -> Result<Vec<Value>> {
    let reply = host.ctl(&[&["endpoints", "gc"], options].concat())?.ok()?;
    Ok(reply["collected"].as_array().context("collected")?.clone())
}

fn links(host: &Host) -> Result<String> {
    host.run(&["ip", "-o", "link"])?.ok()
}

fn endpoints(host: &Host) -> Result<Vec<Value>> {
    let listed = host.ctl(&["endpoints"])?.ok()?;
    Ok(listed["endpoints"].as_array().context("endpoints")?.clone())
}

fn pool(mesh: &Mesh<'_>, third: u8, len: u8) -> Result<String> {
    let IpAddr::V4(addr) = IpAddr::from(mesh.member("a")?.addr4) else { unreachable!("an IPv4 address") };
    let [a, b, ..] = addr.octets();
    Ok(format!("{a}.{b}.{third}.0/{len}"))
}

#[test]
fn namespaces_of_several_hosts_reach_each_other_and_every_node() {
    story("attach", |lab| {
        let [a, b, c] = lab.hosts(["a", "b", "c"])?;
        let mesh = lab.mesh("clinics", &[&a, &b, &c])?;
        mesh.everyone_reaches_all()?;
        let one = Place::attached(&a, "one", &["--name", "one"])?;
        let two = Place::attached(&a, "two", &[])?;
        let three = Place::attached(&b, "three", &[])?;
        for (from, to) in [(&one, [&two, &three]), (&two, [&one, &three]), (&three, [&one, &two])] {
            from.reaches_all(&to)?;
        }
        for member in &mesh.members {
            one.reaches(&member.addr4.to_string())?;
            one.reaches(&member.addr6.to_string())?;
        }
        for address in &one.addresses {
            wait::until(DEADLINE, "a node without endpoints reaches one", || {
                c.pings(address, 1).unwrap_or(false)
            })?;
        }
        let known = endpoints(&a)?;
        ensure!(known.len() == 2 && known.iter().all(|one| one["state"] == "attached"), "{known:?}");

        a.ctl(&["detach", "--netns", &one.path])?.ok()?;
        ensure!(endpoints(&a)?.len() == 1, "one is left");
        wait::until(DEADLINE, "nobody answers for an endpoint that was detached", || {
            !three.pings(&one.addresses[0]).unwrap_or(true)
        })?;
        three.reaches_all(&[&two])
    });
}

#[test]
fn an_endpoint_outlives_its_daemon() {
    story("attach-restart", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let mut one = Place::attached(&a, "one", &["--name", "one"])?;
        let two = Place::attached(&b, "two", &[])?;
        two.reaches_all(&[&one])?;
        let before = one.addresses.clone();
        mesh.member_mut("a")?.daemon.kill()?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        two.reaches_all(&[&one])?;
        one.reaches_all(&[&two])?;
        // Who asks again has the same answer.
        let again = one.attach(&a, &["--name", "one"])?;
        ensure!(one.addresses == before && again["state"] == "attached", "{again}");
        ensure!(endpoints(&a)?.len() == 1, "one endpoint");
        let three = Place::attached(&a, "three", &[])?;
        ensure!(three.addresses.iter().all(|address| !before.contains(address)), "an address given twice");

        // Outside of the blocks of its node an endpoint is found by its own record alone.
        let ip = pool(&mesh, 255, 32)?.replace("0/32", "77");
        let fixed = Place::attached(&a, "fixed", &["--ip", &ip])?;
        mesh.member_mut("a")?.daemon.kill()?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        two.reaches_all(&[&fixed])
    });
}

#[test]
fn what_ended_by_itself_is_removed_at_once_when_somebody_asks() {
    story("attach-gc", |lab| {
        let a = lab.host("a")?;
        let mut mesh = lab.mesh("clinics", &[&a])?;
        ensure!(gc(&a, &[])?.is_empty(), "nothing was ever attached");
        let mut stays = Place::attached(&a, "stays", &[])?;
        let gone = Place::attached(&a, "gone", &["--name", "gone"])?;
        ensure!(gc(&a, &[])?.is_empty(), "both live");
        let (path, addresses) = (gone.path.clone(), gone.addresses.clone());
        gone.namespace.remove()?;
        // As a daemon leaves it whose state was lost, and whose container gave the link back.
        let id = "c0ffee".repeat(10) + "c0de";
        let orphan = format!("msh{}", &id[..12]);
        a.namespace().ip(&format!(
            "link add {orphan} type veth peer name orphan\nlink set {orphan} alias meshd:1:docker:{id}\n"
        ))?;
        let found = wait::until_some(DEADLINE, "the namespace is gone", || {
            let found = gc(&a, &["--dry-run"]).ok()?;
            (found.len() == 2).then_some(found)
        })?;
        ensure!(found[0]["addresses"] == serde_json::json!(addresses), "{found:?}");
        ensure!(found[0]["attachment"]["container"] == path.as_str(), "{found:?}");
        ensure!(found[1]["host_link"] == orphan.as_str() && found[1]["attachment"].is_null(), "{found:?}");
        ensure!(endpoints(&a)?.len() == 2, "nothing went in the dry run");
        ensure!(links(&a)?.contains(&orphan), "nothing went in the dry run");

        let said = a.ctl_text(&["endpoints", "gc"])?;
        let line =
            format!("removed mesh0 of {path} at {}: its network namespace is gone", addresses.join(", "));
        ensure!(said.contains(&line) && said.contains(&format!("removed link {orphan}")), "{said}");
        let left = endpoints(&a)?;
        ensure!(left.len() == 1 && left[0]["addresses"] == serde_json::json!(stays.addresses), "{left:?}");
        ensure!(!links(&a)?.contains(&orphan), "{}", links(&a)?);
        ensure!(gc(&a, &[])?.is_empty(), "all is removed");
        // Its address and its name can be had again at once.
        let mut next = Place::new(&a, "gone")?;
        next.attach(&a, &["--ip", &addresses[0], "--name", "gone"])?;

        // A link is found as well where nothing else was left.
        mesh.member_mut("a")?.daemon.kill()?;
        for place in [&mut stays, &mut next] {
            place.namespace.ip("link del mesh0\n")?;
        }
        for copy in ["endpoints.a", "endpoints.b"] {
            fs::remove_file(a.state_dir().join(copy))?;
        }
        a.namespace().ip(&format!(
            "link add {orphan} type veth peer name orphan\nlink set {orphan} alias meshd:1:docker:{id}\n"
        ))?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        let found = gc(&a, &[])?;
        ensure!(found.iter().any(|one| one["host_link"] == orphan.as_str()), "{found:?}");
        ensure!(!links(&a)?.contains(&orphan), "{}", links(&a)?);
        Ok(())
    });
}

#[test]
fn endpoints_that_come_while_the_kernel_is_looked_at_are_neither_broken_nor_removed() {
    story("attach-looked-at", |lab| {
        let a = lab.host("a")?;
        let _mesh = lab.mesh("clinics", &[&a])?;
        let first = Place::attached(&a, "first", &[])?;
        let mut places = (0..16).map(|n| Place::new(&a, &n.to_string())).collect::<Result<Vec<_>>>()?;
        let are_done = AtomicBool::new(false);
        let look = || -> Result<()> {
            while !are_done.load(Ordering::Relaxed) {
                let removed = gc(&a, &[])?;
                ensure!(removed.is_empty(), "{removed:?}");
                let listed = endpoints(&a)?;
                ensure!(listed.iter().all(|one| one["state"] != "broken"), "{listed:?}");
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            // One look follows the other, and most of what comes falls into one.
            let looks = [scope.spawn(look), scope.spawn(look)];
            let came = places.iter_mut().try_for_each(|place| place.attach(&a, &[]).map(drop));
            are_done.store(true, Ordering::Relaxed);
            let seen = looks.map(|one| one.join().unwrap_or_else(|_| anyhow::bail!("who looks panicked")));
            seen.into_iter().collect::<Result<()>>().and(came)
        })?;
        let listed = endpoints(&a)?;
        ensure!(listed.len() == 17 && listed.iter().all(|one| one["state"] == "attached"), "{listed:?}");
        first.reaches_all(&places.iter().collect::<Vec<_>>())
    });
}

#[test]
fn a_daemon_that_lost_its_state_takes_its_living_endpoints_over() {
    story("attach-lost-state", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let one = Place::attached(&a, "one", &[])?;
        let two = Place::attached(&b, "two", &[])?;
        two.reaches_all(&[&one])?;
        // What it has said to the mesh is stored within a second.
        let id = endpoints(&a)?[0]["id"].as_str().context("an id")?.to_owned();
        let id = data_encoding::HEXLOWER.decode(id.as_bytes())?;
        wait::until(DEADLINE, "the claim of the endpoint is stored", || {
            fs::read(a.state_dir().join("roster.a"))
                .is_ok_and(|roster| roster.windows(id.len()).any(|part| part == id))
        })?;
        mesh.member_mut("a")?.daemon.kill()?;
        for copy in ["endpoints.a", "endpoints.b"] {
            fs::remove_file(a.state_dir().join(copy))?;
        }
        // Somebody flushed it: that is no reason to give the address to another one.
        a.run(&["ip", "route", "del", &one.addresses[0]])?.ok()?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        let found = endpoints(&a)?;
        let [found] = &found[..] else { anyhow::bail!("{found:?}") };
        ensure!(found["state"] == "attached", "{found}");
        ensure!(found["addresses"] == serde_json::json!(one.addresses), "{found}");
        two.reaches_all(&[&one])?;
        one.reaches_all(&[&two])?;
        let three = Place::attached(&a, "three", &[])?;
        ensure!(three.addresses.iter().all(|address| !one.addresses.contains(address)), "given twice");
        // It is found by all its words together, as runtimes say them.
        let detached = a.ctl(&["detach", "--netns", &one.path, "--ifname", "mesh0"])?.ok()?;
        ensure!(detached["detached"] == 1, "{detached}");
        let left = endpoints(&a)?;
        ensure!(left.len() == 1 && left[0]["addresses"] == serde_json::json!(three.addresses), "{left:?}");
        Ok(())
    });
}

#[test]
fn endpoints_of_a_revoked_node_are_isolated_and_live_on() {
    story("attach-revoked", |lab| {
        let [a, b, copy, store] = lab.hosts(["a", "b", "copy", "store"])?;
        // Who is revoked hears of it from a registry of others: that of a steward lets it in no more.
        let etcd = Etcd::start(&store)?;
        let mut mesh = lab.mesh_with("clinics", &[&a, &b], &etcd.config())?;
        mesh.everyone_reaches_all()?;
        let one = Place::attached(&b, "one", &[])?;
        let node = mesh.member("a")?.addr4.to_string();
        one.reaches(&node)?;
        // Somebody takes the node's secrets away, and leaves the mesh with them.
        mesh.member_mut("b")?.daemon.kill()?;
        copy.run(&["cp", "-a", &format!("{}/.", path(&b)), &path(&copy)])?.ok()?;
        let daemon = copy.meshd(&etcd.config())?;
        copy.ctl(&["leave"])?.ok()?;
        drop(daemon);
        mesh.member_mut("b")?.daemon = b.meshd(&etcd.config())?;
        let link = endpoints(&b)?[0]["host_link"].as_str().context("a link")?.to_owned();
        wait::until(REVOKED_WITHIN, "the endpoint is isolated", || {
            let state = endpoints(&b).ok().map(|found| found[0]["state"].clone());
            let shown = b.run(&["ip", "-o", "link", "show", "dev", &link]).and_then(|shown| shown.ok());
            state.is_some_and(|state| state == "broken")
                && shown.is_ok_and(|shown| shown.contains("state DOWN"))
        })?;
        ensure!(!one.pings(&node)?, "it reaches the mesh");
        let routes = b.run(&["ip", "route", "show", "dev", &link])?.ok()?;
        ensure!(!routes.contains(&one.addresses[0]), "{routes}");
        let again = b.ctl(&["attach", "--netns", &one.path])?;
        ensure!(again.ok().is_err_and(|error| error.to_string().contains("revoked")), "it is attached again");
        let inside = one.namespace.run(|| Command::new("ip").args(["-o", "address"]).output())??;
        let inside = String::from_utf8_lossy(&inside.stdout).into_owned();
        ensure!(one.addresses.iter().all(|address| inside.contains(address)), "{inside}");
        Ok(())
    });
}

#[test]
fn who_leaves_while_endpoints_come_leaves_nothing_of_them() {
    story("attach-leave", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let places = (0..12).map(|n| Place::new(&b, &n.to_string())).collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            for place in &places {
                // Some come too late.
                scope.spawn(|| b.ctl(&["attach", "--netns", &place.path]));
            }
            wait::until(DEADLINE, "the first one is on its way", || {
                endpoints(&b).is_ok_and(|all| !all.is_empty())
            })?;
            b.ctl(&["leave"])?.ok()
        })?;
        let links = b.run(&["ip", "-o", "link"])?.ok()?;
        ensure!(!links.contains("msh") && !links.contains("msc"), "{links}");
        let tables = b.run(&["nft", "list", "tables"])?.ok()?;
        ensure!(!tables.contains("meshd"), "{tables}");
        let stored = b.run(&["ls", &path(&b)])?.ok()?;
        ensure!(!stored.contains("endpoints"), "{stored}");
        Ok(())
    });
}

fn path(host: &Host) -> String {
    host.state_dir().display().to_string()
}

#[test]
fn what_was_given_back_can_be_had_again_by_its_node_at_once() {
    story("attach-again", |lab| {
        let [a] = lab.hosts(["a"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let mut place = Place::new(&a, "one")?;
        let ip = pool(&mesh, 255, 32)?.replace("0/32", "77");
        for _ in 0..3 {
            place.attach(&a, &["--ip", &ip, "--name", "one"])?;
            ensure!(place.addresses[0] == ip, "{:?}", place.addresses);
            a.ctl(&["detach", "--netns", &place.path])?.ok()?;
        }
        // A pool is given back with its network, and others may overlap it then.
        for len in [22, 24, 22] {
            a.ctl(&["network", "create", "jobs", "--subnet", &pool(&mesh, 200, len)?])?.ok()?;
            a.ctl(&["attach", "--netns", &place.path, "--network", "jobs"])?.ok()?;
            a.ctl(&["detach", "--netns", &place.path, "--network", "jobs"])?.ok()?;
            a.ctl(&["network", "remove", "jobs"])?.ok()?;
        }
        Ok(())
    });
}

#[test]
fn a_sequential_network_counts_over_all_hosts() {
    story("attach-sequential", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let pool = pool(&mesh, 200, 24)?;
        let create = ["network", "create", "sum", "--subnet", &pool, "--alloc", "sequential"];
        for host in [&a, &b] {
            host.ctl(&create)?.ok()?;
        }
        let mut last = Vec::new();
        for (n, host) in [&a, &b, &a, &b].into_iter().enumerate() {
            let place = Place::new(host, &format!("p{n}"))?;
            let made = host.ctl(&["attach", "--netns", &place.path, "--network", "sum"])?.ok()?;
            let address: IpAddr = made["addresses"][0].as_str().context("an address")?.parse()?;
            let IpAddr::V4(address) = address else { anyhow::bail!("{address}") };
            last.push(address.octets()[3]);
        }
        let first = last[0];
        ensure!(last == vec![first, first + 1, first + 2, first + 3], "{last:?}");
        Ok(())
    });
}

#[test]
fn what_can_not_be_attached_is_refused_and_leaves_nothing() {
    story("attach-refused", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let place = Place::new(&a, "one")?;
        let attach = ["attach", "--netns", &place.path];
        let refused = |more: &[&str], code| a.ctl(&[&attach, more].concat())?.refused(code);
        refused(&["--network", "none"], 5)?;
        refused(&["--ip", "192.0.2.1"], 2)?;
        let labels: Vec<String> = (0..257).map(|n| format!("--label=k{n}=v")).collect();
        refused(&labels.iter().map(String::as_str).collect::<Vec<_>>(), 2)?;
        a.ctl(&["attach", "--netns", "/etc/hostname"])?.refused(2)?;
        a.ctl(&["attach", "--netns", "/run/netns/absent"])?.refused(2)?;
        place.namespace.ip("link add mesh0 type veth peer name mesh1\n")?;
        refused(&[], 7)?;
        place.namespace.ip("link del mesh0\n")?;
        ensure!(endpoints(&a)?.is_empty(), "{:?}", endpoints(&a)?);
        let links = a.run(&["ip", "-o", "link"])?.ok()?;
        ensure!(!links.contains("msh"), "{links}");

        let other = Place::attached(&b, "other", &["--name", "db"])?;
        wait::until(DEADLINE, "a hears of b's endpoint", || {
            refused(&["--name", "db"], 7).is_ok() || {
                let _gone = a.ctl(&["detach", "--netns", &place.path]);
                false
            }
        })?;
        refused(&["--ip", &other.addresses[0]], 7)?;
        ensure!(endpoints(&a)?.is_empty(), "{:?}", endpoints(&a)?);
        for outside in ["192.0.2.0/24", "10.0.0.0/33", "nonsense"] {
            a.ctl(&["network", "create", "x", "--subnet", outside])?.refused(2)?;
        }
        let (wide, narrow) = (pool(&mesh, 200, 22)?, pool(&mesh, 200, 24)?);
        a.ctl(&["network", "create", "wide", "--subnet", &wide])?.ok()?;
        a.ctl(&["network", "create", "narrow", "--subnet", &narrow])?.refused(7)
    });
}
