//! Containers of real dockerds on networks of the mesh, without a swarm.

use std::time::Duration;

use anyhow::{Result, ensure};
use mesh_lab::{Docker, Host, IMAGE, Process, story, wait};

const DEADLINE: Duration = Duration::from_secs(30);

/// A machine with dockerd, meshd and the plugin between them.
struct Station<'lab> {
    docker: Docker<'lab>,
    plugin: Process,
}

impl<'lab> Station<'lab> {
    fn start(host: &'lab Host) -> Result<Self> {
        let plugin = host.docker_plugin()?;
        Ok(Self { docker: Docker::start(host)?, plugin })
    }

    fn network(&self, name: &str, subnets: &[&str], options: &[&str]) -> Result<()> {
        let mut line = vec!["network", "create", "--driver", "meshd", "--ipam-driver", "meshd"];
        if subnets.len() > 1 {
            line.push("--ipv6");
        }
        line.extend(subnets.iter().flat_map(|subnet| ["--subnet", subnet]));
        line.extend(options);
        line.push(name);
        self.docker.ok(&line).map(drop)
    }

    fn start_container(&self, network: &str, name: &str, options: &[&str]) -> Result<()> {
        let mut line = vec!["run", "--detach", "--network", network, "--name", name];
        line.extend(options);
        line.extend([IMAGE, "sleep", "1000000"]);
        self.docker.ok(&line).map(drop)
    }

    /// The addresses that Docker has been given for a container.
    fn addresses(&self, container: &str) -> Result<Vec<String>> {
        let form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}";
        let told = self.docker.ok(&["inspect", "--format", form, container])?;
        Ok(told.split_whitespace().map(str::to_owned).collect())
    }

    fn pings(&self, container: &str, target: &str) -> bool {
        let line = ["exec", container, "ping", "-c", "1", "-W", "2", target];
        self.docker.run(&line).is_ok_and(|output| output.code == 0)
    }

    fn reaches(&self, container: &str, target: &str) -> Result<()> {
        wait::until(DEADLINE, &format!("{container} reaches {target}"), || self.pings(container, target))
    }
}

/// A part of the mesh's prefix, which is a /16 here.
fn subnet(addr: std::net::Ipv4Addr, third: u8, len: u8) -> String {
    let [a, b, ..] = addr.octets();
    format!("{a}.{b}.{third}.0/{len}")
}

#[test]
fn containers_on_two_hosts_reach_each_other_over_the_mesh() {
    story("docker-network", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let addr4 = mesh.member("a")?.addr4;
        let addr6 = mesh.member("a")?.addr6.segments();
        let (pool4, pool6) = (
            subnet(addr4, 128, 20),
            format!("{:x}:{:x}:{:x}:{:x}:d0c::/80", addr6[0], addr6[1], addr6[2], addr6[3]),
        );
        let mut stations = [Station::start(&a)?, Station::start(&b)?];
        for (station, name) in stations.iter().zip(["one", "two"]) {
            station.network("net", &[&pool4, &pool6], &[])?;
            station.start_container("net", name, &[])?;
        }
        let addresses = [stations[0].addresses("one")?, stations[1].addresses("two")?];
        for own in &addresses {
            ensure!(own.len() == 2, "{addresses:?}");
        }
        for (from, name, to) in [(0, "one", 1), (1, "two", 0)] {
            for target in &addresses[to] {
                stations[from].reaches(name, target)?;
            }
            for member in &mesh.members {
                stations[from].reaches(name, &member.addr4.to_string())?;
            }
        }

        // What is killed comes back without an address lost.
        mesh.member_mut("a")?.daemon.kill()?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        stations[1].reaches("two", &addresses[0][0])?;
        stations[0].plugin.kill()?;
        stations[0].plugin = a.docker_plugin()?;
        ensure!(stations[0].addresses("one")? == addresses[0], "an address changed");

        stations[0].start_container("net", "fixed", &["--ip", &format!("{}.200", prefix24(&pool4))])?;
        let refused = stations[1].docker.run(&[
            "run",
            "--rm",
            "--network",
            "net",
            "--ip",
            &format!("{}.200", prefix24(&pool4)),
            IMAGE,
            "true",
        ])?;
        ensure!(refused.code != 0 && refused.stderr.contains("taken"), "{}", refused.stderr);

        for (station, names) in stations.iter().zip([&["one", "fixed"][..], &["two"]]) {
            station.docker.ok(&[&["rm", "--force"], names].concat())?;
            station.docker.ok(&["network", "rm", "net"])?;
            let left = station.docker.host().ctl(&["endpoints"])?.ok()?;
            ensure!(left["endpoints"].as_array().is_some_and(Vec::is_empty), "{left}");
            let links = station.docker.host().run(&["ip", "-o", "link"])?.ok()?;
            ensure!(!links.contains("msh") && !links.contains("msc"), "{links}");
        }
        Ok(())
    });
}

fn prefix24(pool: &str) -> &str {
    pool.rsplit_once('.').map_or(pool, |(first, _)| first)
}

#[test]
fn docker_is_told_in_one_line_what_it_may_not_do() {
    story("docker-refused", |lab| {
        let [a] = lab.machines(["a"])?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let station = Station::start(&a)?;
        let addr4 = mesh.member("a")?.addr4;
        let inside = subnet(addr4, 128, 20);
        let refused = |line: &[&str], word: &str| {
            let output = station.docker.run(line)?;
            ensure!(output.code != 0 && output.stderr.contains(word), "{line:?}: {}", output.stderr);
            ensure!(output.stderr.trim_end().lines().count() <= 2, "{}", output.stderr);
            Ok(())
        };
        let create = ["network", "create", "--driver", "meshd"];
        let ours = [&create[..], &["--ipam-driver", "meshd"]].concat();
        refused(&[&create[..], &["--subnet", &inside, "net"]].concat(), "--ipam-driver meshd")?;
        refused(&[&ours[..], &["net"]].concat(), "--subnet")?;
        refused(&[&ours[..], &["--subnet", "192.0.2.0/24", "net"]].concat(), "192.0.2.0/24")?;
        refused(&[&ours[..], &["--subnet", &inside, "-o", "meshd.colour=blue", "net"]].concat(), "colour")?;
        station.network("net", &[&inside], &[])?;
        refused(&[&ours[..], &["--subnet", &subnet(addr4, 128, 24), "narrow"]].concat(), "overlap")?;
        ensure!(
            station.docker.ok(&["network", "ls", "--quiet", "--filter", "driver=meshd"])?.lines().count()
                == 1
        );
        Ok(())
    });
}
