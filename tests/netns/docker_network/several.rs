//! A container in several networks of the mesh.

use anyhow::{Context, Result, ensure};
use mesh_lab::{Mesh, story};

use crate::station::{Station, nothing_is_left, pools, subnet};

#[test]
fn a_container_in_two_networks_reaches_both_and_keeps_the_one_that_it_does_not_leave() {
    story("docker-two-networks", |lab| {
        let [a, b] = lab.machines(["a", "b"])?;
        let mesh = lab.mesh("clinics", &[&a, &b])?;
        mesh.everyone_reaches_all()?;
        let stations = [Station::start(&a)?, Station::start(&b)?];
        for station in &stations {
            both_networks(station, &mesh)?;
        }
        let [here, there] = &stations;
        for network in NETWORKS {
            there.start_container(network, network, &[])?;
        }
        let of = |network: &str| there.addresses(network);
        let is_reached = |networks: &[&str]| -> Result<()> {
            for network in networks {
                let addresses = of(network)?;
                ensure!(addresses.len() == 2, "{network} has {addresses:?}");
                for address in addresses {
                    here.reaches("both", &address)?;
                }
            }
            Ok(())
        };
        here.start_container("red", "both", &[])?;
        here.docker.ok(&["network", "connect", "blue", "both"])?;
        is_reached(&NETWORKS)?;
        let node = mesh.member("b")?;
        for address in [node.addr4.to_string(), node.addr6.to_string()] {
            here.reaches("both", &address)?;
        }
        // All of it goes and comes again, and the first to come leads to the mesh.
        here.docker.ok(&["restart", "both"])?;
        is_reached(&NETWORKS)?;
        here.reaches("both", &node.addr4.to_string())?;

        here.docker.ok(&["network", "disconnect", "red", "both"])?;
        is_reached(&["blue"])?;
        let gone = of("red")?.into_iter().next().context("an address")?;
        ensure!(!here.pings("both", &gone), "a container reaches a network that it has left");
        here.docker.ok(&["network", "connect", "red", "both"])?;
        is_reached(&NETWORKS)?;
        here.docker.ok(&["network", "disconnect", "blue", "both"])?;
        is_reached(&["red"])?;
        here.docker.ok(&["rm", "--force", "both"])?;
        nothing_is_left(&a)
    });
}

#[test]
fn a_compose_file_puts_a_service_into_two_networks() {
    story("compose-two-networks", |lab| {
        let a = lab.machine("a")?;
        let mesh = lab.mesh("clinics", &[&a])?;
        let station = Station::start(&a)?;
        let file = mesh_lab::repository()?.join("tests/netns/docker_network/compose.yml");
        let file = file.to_str().context("the path of a compose file")?;
        let subnets = [("RED", 128), ("BLUE", 144)];
        let subnets = subnets.map(|(name, third)| Ok(format!("{name}={}", subnet(&mesh, third, 20)?)));
        let [red, blue]: [Result<String>; 2] = subnets;
        let (red, blue) = (red?, blue?);
        let start = ["env", &red, &blue, "/usr/bin/docker-compose", "--project-name=study", "--file", file];
        let compose = |line: &[&str]| station.docker.client(&[&start[..], line].concat())?.ok();
        compose(&["up", "--detach"])?;
        for target in ["red", "blue"] {
            compose(&["exec", "-T", "both", "ping", "-c", "1", "-W", "2", target])?;
        }
        let apart = compose(&["exec", "-T", "red", "ping", "-c", "1", "-W", "1", "blue"]);
        ensure!(apart.is_err(), "a container resolves a name of a network that it is not in");
        compose(&["down"])?;
        nothing_is_left(&a)
    });
}

const NETWORKS: [&str; 2] = ["red", "blue"];

fn both_networks(station: &Station<'_>, mesh: &Mesh<'_>) -> Result<()> {
    for (network, third) in NETWORKS.into_iter().zip([128, 144]) {
        let [pool4, pool6] = pools(mesh, third)?;
        station.network(network, &[&pool4, &pool6], &[])?;
    }
    Ok(())
}
