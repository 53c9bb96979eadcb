//! A mesh of one organisation, made the way a person makes it: two commands a host.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::host::Host;
use crate::lab::Lab;
use crate::wait;

/// Time until everyone has to know everyone; generous, because a loaded machine is no defect of the mesh.
const MEETING_DEADLINE: Duration = Duration::from_secs(60);

/// A host that belongs to a mesh.
#[derive(Debug)]
pub struct Member<'lab> {
    /// The host.
    pub host: &'lab Host,
    /// Its daemon.
    pub daemon: Daemon,
    /// Its overlay IPv4 address.
    pub addr4: Ipv4Addr,
    /// Its overlay IPv6 address.
    pub addr6: Ipv6Addr,
}

/// Hosts of one organisation that form a mesh; the first is steward and registry.
#[derive(Debug)]
pub struct Mesh<'lab> {
    /// Its members, in the order in which they came.
    pub members: Vec<Member<'lab>>,
    /// Its name.
    pub name: String,
}

impl Lab {
    /// Starts meshd on each host, and makes a mesh of them.
    pub fn mesh<'lab>(&self, name: &str, hosts: &[&'lab Host]) -> Result<Mesh<'lab>> {
        self.mesh_with(name, hosts, "")
    }

    /// As [`Lab::mesh`], with a configuration for each daemon.
    pub fn mesh_with<'lab>(&self, name: &str, hosts: &[&'lab Host], config: &str) -> Result<Mesh<'lab>> {
        let (first, others) = hosts.split_first().context("a mesh needs a host")?;
        let daemon = first.meshd(config)?;
        let mut mesh = Mesh { members: vec![create(name, first, daemon)?], name: name.to_owned() };
        for host in others {
            let daemon = host.meshd(config)?;
            mesh.join(host, daemon)?;
        }
        Ok(mesh)
    }
}

impl<'lab> Mesh<'lab> {
    /// Lets a host with a running daemon join.
    pub fn join(&mut self, host: &'lab Host, daemon: Daemon) -> Result<()> {
        let token = self.token()?;
        let reply = host.ctl(&["join", &token, "--name", host.name()])?.ok()?;
        self.members.push(member(host, daemon, &reply)?);
        Ok(())
    }

    /// A fresh token of the steward.
    pub fn token(&self) -> Result<String> {
        let reply = self.steward()?.host.ctl(&["invite"])?.ok()?;
        Ok(text(&reply, "/token")?.to_owned())
    }

    /// The first member.
    pub fn steward(&self) -> Result<&Member<'lab>> {
        self.members.first().context("the mesh has no member")
    }

    /// The member on the host of this name.
    pub fn member(&self, name: &str) -> Result<&Member<'lab>> {
        let found = self.members.iter().find(|member| member.host.name() == name);
        found.with_context(|| format!("no member {name}"))
    }

    /// The member on the host of this name, to stop or replace its daemon.
    pub fn member_mut(&mut self, name: &str) -> Result<&mut Member<'lab>> {
        let found = self.members.iter_mut().find(|member| member.host.name() == name);
        found.with_context(|| format!("no member {name}"))
    }

    /// Waits until each member knows all others.
    pub fn everyone_sees_all(&self) -> Result<()> {
        let others = self.members.len() - 1;
        for member in &self.members {
            let what = format!("{} sees {others} peers", member.host.name());
            wait::until(MEETING_DEADLINE, &what, || {
                member.host.peers().is_ok_and(|seen| seen.len() == others)
            })?;
        }
        Ok(())
    }

    /// Waits until each member reaches all others, over both families.
    pub fn everyone_reaches_all(&self) -> Result<()> {
        for from in &self.members {
            for to in &self.members {
                from.reaches(MEETING_DEADLINE, &to.addr4.to_string())?;
                from.reaches(MEETING_DEADLINE, &to.addr6.to_string())?;
            }
        }
        Ok(())
    }
}

impl Member<'_> {
    /// Waits until an address answers to an echo request.
    pub fn reaches(&self, deadline: Duration, target: &str) -> Result<()> {
        let what = format!("{} reaches {target}", self.host.name());
        wait::until(deadline, &what, || self.host.pings(target, 1).unwrap_or(false))
    }
}

fn create<'lab>(name: &str, host: &'lab Host, daemon: Daemon) -> Result<Member<'lab>> {
    let key = host.dir().join("root.key");
    let key = key.to_str().context("the path of a root key is no text")?;
    let line = ["mesh", "create", name, "--root-key", key, "--node", host.name(), "--lab"];
    let reply = host.ctl(&line)?.ok()?;
    member(host, daemon, &reply)
}

fn member<'lab>(host: &'lab Host, daemon: Daemon, reply: &Value) -> Result<Member<'lab>> {
    let addr4 = text(reply, "/node/addr4")?.parse().context("read the overlay IPv4 address")?;
    let addr6 = text(reply, "/node/addr6")?.parse().context("read the overlay IPv6 address")?;
    Ok(Member { host, daemon, addr4, addr6 })
}

fn text<'a>(reply: &'a Value, pointer: &str) -> Result<&'a str> {
    match reply.pointer(pointer).and_then(Value::as_str) {
        Some(text) => Ok(text),
        None => bail!("no text at {pointer} in {reply}"),
    }
}
