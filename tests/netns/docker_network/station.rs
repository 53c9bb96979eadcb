//! A machine with dockerd, meshd and the plugin between them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mesh_lab::{Docker, Host, IMAGE, Mesh, Process, Reply, wait};

/// Time until what was done is seen everywhere; generous, because a loaded machine is no defect of the mesh.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Addresses that the smallest pool has for containers, a /28.
pub const ADDRESSES: usize = 13;

pub struct Station<'lab> {
    pub docker: Docker<'lab>,
    pub plugin: Process,
}

impl<'lab> Station<'lab> {
    pub fn start(host: &'lab Host) -> Result<Self> {
        Self::start_with(host, &[])
    }

    /// The same with options of dockerd.
    pub fn start_with(host: &'lab Host, options: &[&str]) -> Result<Self> {
        let plugin = host.docker_plugin()?;
        Ok(Self { docker: Docker::start_with(host, options)?, plugin })
    }

    pub fn network(&self, name: &str, subnets: &[&str], options: &[&str]) -> Result<()> {
        let mut line = vec!["network", "create", "--driver", "meshd", "--ipam-driver", "meshd"];
        if subnets.len() > 1 {
            line.push("--ipv6");
        }
        line.extend(subnets.iter().flat_map(|subnet| ["--subnet", subnet]));
        line.extend(options);
        line.push(name);
        self.docker.ok(&line).map(drop)
    }

    pub fn start_container(&self, network: &str, name: &str, options: &[&str]) -> Result<()> {
        let mut line = vec!["run", "--detach", "--network", network, "--name", name];
        line.extend(options);
        line.push(IMAGE);
        self.docker.ok(&line).map(drop)
    }

    /// The addresses that Docker has been given for a container in all its networks.
    pub fn addresses(&self, container: &str) -> Result<Vec<String>> {
        let form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}} {{end}}";
        let told = self.docker.ok(&["inspect", "--format", form, container])?;
        Ok(told.split_whitespace().map(str::to_owned).collect())
    }

    pub fn pings(&self, container: &str, target: &str) -> bool {
        let line = ["exec", container, "ping", "-c", "1", "-W", "2", target];
        self.docker.run(&line).is_ok_and(|output| output.code == 0)
    }

    pub fn reaches(&self, container: &str, target: &str) -> Result<()> {
        wait::until(DEADLINE, &format!("{container} reaches {target}"), || self.pings(container, target))
    }
}

/// A part of the mesh's prefix, which is a /16 here.
pub fn subnet(mesh: &Mesh<'_>, third: u8, len: u8) -> Result<String> {
    let [a, b, ..] = mesh.steward()?.addr4.octets();
    Ok(format!("{a}.{b}.{third}.0/{len}"))
}

/// A pool of each family.
pub fn pools(mesh: &Mesh<'_>, third: u8) -> Result<[String; 2]> {
    let [a, b, c, d, ..] = mesh.steward()?.addr6.segments();
    Ok([subnet(mesh, third, 20)?, format!("{a:x}:{b:x}:{c:x}:{d:x}:{third:x}::/80")])
}

/// Waits until no endpoint and no link of one is on a host.
pub fn nothing_is_left(host: &Host) -> Result<()> {
    wait::until(DEADLINE, "nothing is attached", || {
        let listed = host.ctl(&["endpoints"]).and_then(Reply::ok);
        listed.is_ok_and(|listed| listed["endpoints"].as_array().is_some_and(Vec::is_empty))
    })?;
    let links = host.run(&["ip", "-o", "link"])?.ok().context("list links")?;
    ensure!(!links.contains("msh") && !links.contains("msc"), "links are left: {links}");
    Ok(())
}
