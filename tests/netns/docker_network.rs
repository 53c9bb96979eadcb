//! Containers of real dockerds on networks of the mesh, without a swarm.

#[path = "docker_network/cycles.rs"]
mod cycles;
#[path = "docker_network/leftovers.rs"]
mod leftovers;
#[path = "docker_network/names.rs"]
mod names;
#[path = "docker_network/restarts.rs"]
mod restarts;
#[path = "docker_network/several.rs"]
mod several;
#[path = "docker_network/station.rs"]
mod station;

use anyhow::ensure;
use mesh_lab::{IMAGE, story};

use station::{ADDRESSES, Station, nothing_is_left, pools, subnet};

#[test]
fn containers_on_two_hosts_reach_each_other_over_the_mesh() {
    story("docker-network", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mut mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let [pool4, pool6] = pools(&mesh, 128)?;
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
            nothing_is_left(station.docker.host())?;
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
        let mut mesh = lab.mesh("clinics", &[&a])?;
        let station = Station::start(&a)?;
        let inside = subnet(&mesh, 128, 20)?;
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
        refused(&[&ours[..], &["--subnet", &subnet(&mesh, 128, 24)?, "narrow"]].concat(), "overlap")?;
        ensure!(
            station.docker.ok(&["network", "ls", "--quiet", "--filter", "driver=meshd"])?.lines().count()
                == 1
        );

        station.network("small", &[&subnet(&mesh, 160, 28)?], &["-o", "meshd.alloc=sequential"])?;
        for _ in 0..ADDRESSES {
            station.docker.ok(&["run", "--detach", "--network", "small", IMAGE])?;
        }
        let run = |network: &'static str, name: &'static str| {
            ["create", "--network", network, "--name", name, IMAGE, "true"]
        };
        station.docker.ok(&run("small", "one-too-many"))?;
        refused(&["start", "one-too-many"], "no address of the pool is free")?;
        station.docker.ok(&run("net", "alone"))?;
        mesh.member_mut("a")?.daemon.kill()?;
        refused(&["start", "alone"], "meshd is not running")?;
        mesh.member_mut("a")?.daemon = a.meshd("")?;
        station.docker.ok(&["start", "alone"])?;
        let all = station.docker.ok(&["ps", "--all", "--quiet"])?;
        let line: Vec<&str> = ["rm", "--force"].into_iter().chain(all.lines()).collect();
        station.docker.ok(&line)?;
        nothing_is_left(&a)
    });
}
