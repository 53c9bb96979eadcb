//! Endpoints on a host whose disk has no room.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Daemon, Host, Namespace, Reply, story, wait};
use serde_json::Value;

use crate::exit::FAILED;
use crate::full_disk::{DISK_BYTES, fill};
use crate::watch::{DEADLINE, refused};

/// Longest time until others may have an address that was given back: it rests for a minute.
const RESTED_WITHIN: Duration = Duration::from_secs(90);

#[test]
fn an_attachment_on_a_full_disk_leaves_nothing_and_may_be_repeated() {
    story("full-attach", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        b.small_disk(DISK_BYTES)?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let node = mesh.member("a")?.addr4.to_string();
        let [one, two] = [Space::new(&b, "one")?, Space::new(&b, "two")?];
        let kept = one.attach(&b, &[])?.ok()?;
        let address = kept["addresses"][0].as_str().context("an address")?.to_owned();
        let other = sibling(&address)?;
        let named = ["--ip", &other, "--name", "two"];
        let links = b.run(&["ip", "-o", "link"])?.ok()?.lines().count();

        let ballast = fill(&b)?;
        for _again in 0..2 {
            refused(&two.attach(&b, &named)?, FAILED, &["can't be stored", "No space left"])?;
            ensure!(only(&b)? == kept["addresses"], "something is left");
            ensure!(two.is_as_before()?, "an interface is left inside");
            ensure!(b.run(&["ip", "-o", "link"])?.ok()?.lines().count() == links, "a link is left");
        }
        refused(&one.detach(&b)?, FAILED, &["can't be stored", "No space left"])?;
        ensure!(only(&b)? == kept["addresses"], "it is still attached");
        ensure!(one.pings(&node)?, "what could not be detached goes on");
        mesh.member_mut("b")?.daemon.kill()?;
        mesh.member_mut("b")?.daemon = b.meshd("")?;
        ensure!(only(&b)? == kept["addresses"], "a restart on the full disk brings back what there was");
        wait::until(DEADLINE, "it is reached again", || one.pings(&node).unwrap_or(false))?;

        fs::remove_file(ballast)?;
        two.attach(&b, &named)?.ok()?;
        wait::until(DEADLINE, "the second one reaches a node", || two.pings(&node).unwrap_or(false))?;
        for space in [&one, &two] {
            ensure!(space.detach(&b)?.ok()?["detached"] == 1, "it is detached");
        }
        // Nobody claims the address or the name any more.
        let far = Space::new(&a, "far")?;
        wait::until(RESTED_WITHIN, "another host has the address", || {
            far.attach(&a, &named).is_ok_and(|reply| reply.code == 0)
        })
    });
}

#[test]
fn a_disk_that_fills_up_while_an_endpoint_is_wired_leaves_nothing_of_it() {
    story("full-wiring", |lab| {
        let [a, b] = lab.hosts(["a", "b"])?;
        b.small_disk(DISK_BYTES)?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        mesh.member_mut("b")?.daemon.kill()?;
        let gate = Gate::new(&b)?;
        mesh.member_mut("b")?.daemon = gate.meshd(&b)?;
        let [one, two] = [Space::new(&b, "one")?, Space::new(&b, "two")?];
        let kept = one.attach(&b, &[])?.ok()?;

        gate.close()?;
        let (ballast, reply) = std::thread::scope(|scope| -> Result<(PathBuf, Reply)> {
            let attached = scope.spawn(|| two.attach(&b, &["--name", "two"]));
            let is_wiring = |one: &Value| one["state"] == "wiring";
            let wiring = wait::until(DEADLINE, "the second one is being wired", || {
                endpoints(&b).is_ok_and(|all| all.iter().any(is_wiring))
            });
            let filled = wiring.and_then(|()| fill(&b));
            gate.open()?;
            let reply = attached.join().map_err(|_| anyhow::anyhow!("who attaches panicked"))?;
            Ok((filled?, reply?))
        })?;
        refused(&reply, FAILED, &["can't be stored", "No space left"])?;
        wait::until(DEADLINE, "nothing is left of it", || {
            only(&b).is_ok_and(|addresses| addresses == kept["addresses"])
                && two.is_as_before().unwrap_or(false)
        })?;
        fs::remove_file(ballast)?;
        two.attach(&b, &["--name", "two"])?.ok()?;
        let node = mesh.member("a")?.addr4.to_string();
        wait::until(DEADLINE, "it reaches a node", || two.pings(&node).unwrap_or(false))
    });
}

/// A network namespace on a host.
struct Space {
    namespace: Namespace,
    path: String,
    /// What it has before anything is attached.
    links_before: usize,
}

impl Space {
    fn new(host: &Host, name: &str) -> Result<Self> {
        let namespace = Namespace::create(&format!("{}-{name}", host.namespace().name()))?;
        let path = format!("/run/netns/{}", namespace.name());
        let links_before = links(&namespace)?;
        Ok(Self { namespace, path, links_before })
    }

    fn attach(&self, host: &Host, options: &[&str]) -> Result<Reply> {
        host.ctl(&[&["attach", "--netns", &self.path], options].concat())
    }

    fn detach(&self, host: &Host) -> Result<Reply> {
        host.ctl(&["detach", "--netns", &self.path])
    }

    fn pings(&self, target: &str) -> Result<bool> {
        let mut ping = Command::new("ping");
        ping.args(["-n", "-q", "-c", "1", "-W", "2", target]).stdout(std::process::Stdio::null());
        Ok(self.namespace.run(move || ping.status())??.success())
    }

    fn is_as_before(&self) -> Result<bool> {
        Ok(links(&self.namespace)? == self.links_before)
    }
}

/// Holds back the packet filter's program, and with it the wiring of endpoints.
struct Gate {
    dir: PathBuf,
}

impl Gate {
    fn new(host: &Host) -> Result<Self> {
        let dir = host.dir().join("gate");
        fs::create_dir(&dir)?;
        let path = std::env::var("PATH")?;
        let real = std::env::split_paths(&path).map(|dir| dir.join("nft")).find(|nft| nft.exists());
        let real = real.unwrap_or_else(|| PathBuf::from("/usr/sbin/nft"));
        let closed = dir.join("closed");
        let script = format!(
            "#!/bin/sh\nwhile [ -e {} ]; do sleep 0.02; done\nexec {} \"$@\"\n",
            closed.display(),
            real.display()
        );
        let nft = dir.join("nft");
        fs::write(&nft, script)?;
        fs::set_permissions(&nft, fs::Permissions::from_mode(0o755))?;
        Ok(Self { dir })
    }

    /// Starts the daemon behind it.
    fn meshd(&self, host: &Host) -> Result<Daemon> {
        let mut path = self.dir.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = host.meshd_command("")?;
        command.env("PATH", path);
        host.meshd_from(command)
    }

    fn close(&self) -> Result<()> {
        File::create(self.dir.join("closed"))?;
        Ok(())
    }

    fn open(&self) -> Result<()> {
        fs::remove_file(self.dir.join("closed"))?;
        Ok(())
    }
}

fn links(namespace: &Namespace) -> Result<usize> {
    let listed = namespace.run(|| Command::new("ip").args(["-o", "link"]).output())??;
    Ok(String::from_utf8(listed.stdout)?.lines().count())
}

fn endpoints(host: &Host) -> Result<Vec<Value>> {
    let listed = host.ctl(&["endpoints"])?.ok()?;
    Ok(listed["endpoints"].as_array().context("endpoints")?.clone())
}

/// Addresses of the one endpoint of a host, which is attached.
fn only(host: &Host) -> Result<Value> {
    let all = endpoints(host)?;
    ensure!(all.len() == 1 && all[0]["state"] == "attached", "{all:?}");
    Ok(all[0]["addresses"].clone())
}

/// Another address near one, of the same block.
fn sibling(address: &str) -> Result<String> {
    let (start, last) = address.rsplit_once('.').context("an IPv4 address")?;
    let last: u8 = last.parse()?;
    Ok(format!("{start}.{}", last ^ 16))
}
